"""What pre-flight finds: frozen records that the page, the command line and the run's folder share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlencode

from grounding.errors import JobError

FILE = "preflight.json"
MOST_LISTED = 200
# With these, a run can't even take a step.
HOPELESS = ("nothing_to_learn", "untrainable")
"""Samples that a finding names; `count` says how many there are."""

Numbers = tuple[float, float, float, float]


def annotate_address(sample_id: str) -> str:
    """Where the page shows this sample in Annotate, as the part of the address behind the `#`."""
    return f"#queue=all&sample={quote(sample_id, safe='')}"


@dataclass(frozen=True)
class Finding:
    """One thing that was found. `kind` is a word for programs, `sentence` what it means and what to do about it.

    `blocking`: a run that starts all the same teaches nothing, or something wrong. `samples` are ids, the first
    `MOST_LISTED` of `count`. `queue` is what shows them together in Annotate, as the part behind the `#`; "" where
    there is no such queue.
    """

    kind: str
    blocking: bool
    sentence: str
    samples: tuple[str, ...] = ()
    count: int = 0
    queue: str = ""

    @classmethod
    def of(cls, kind: str, sentence: str, samples: Sequence[str], *, blocking: bool, queue: str = "") -> Finding:
        """A finding about these samples, of which the first are named."""
        return cls(kind, blocking, sentence, tuple(samples[:MOST_LISTED]), len(samples), queue)


def queue_address(queue: str, split: str = "train") -> str:
    """Where the page shows a queue of Annotate, as the part of the address behind the `#`."""
    return f"#{urlencode({'queue': queue, 'split': split})}"


@dataclass(frozen=True)
class BoxLoss:
    """A box and what is left of it when it is written in the model's numbers and read again: the IoU, 0.0 to 1.0."""

    sample: str
    box_xyxy_px: Numbers
    iou: float


@dataclass(frozen=True)
class Rounding:
    """What writing boxes in the model's numbers costs. `mean_loss` is the mean of 1 - IoU over `boxes` boxes, 0.0 to
    1.0; `below` counts those with an IoU under 0.9, and `worst` are the worst, worst first."""

    boxes: int
    mean_loss: float
    below: int
    worst: tuple[BoxLoss, ...]


@dataclass(frozen=True)
class Piece:
    """Neighbouring tokens of one part of a sequence: `part` is "image", "prompt" or "answer", which alone is
    supervised. `weight` is the loss weight of each of the `count` tokens (0.0 where nothing is learned)."""

    text: str
    part: str
    count: int
    weight: float = 0.0


@dataclass(frozen=True)
class Seen:
    """A sample as the model is fed it, read back from the tensors of a step.

    `why` says why this one is shown. `picture` is a `data:` address of the picture un-normalised from the pixel
    values, `seen_size_wh` its size in pixels, `image_size_wh` that of the original. `answer` is the supervised text,
    `boxes_xyxy_px` what the format reads in it, `true_boxes_xyxy_px` what the sample says; `iou` of the two (1.0 for
    none). `image_tokens`, `prompt_tokens` (without those) and `supervised_tokens` count this phrase's sequence;
    `shared_by` phrases share the picture's pass in the step.
    """

    sample: str
    phrase: str
    why: str
    picture: str
    seen_size_wh: tuple[int, int]
    image_size_wh: tuple[int, int]
    answer: str
    boxes_xyxy_px: tuple[Numbers, ...]
    true_boxes_xyxy_px: tuple[Numbers, ...]
    iou: float
    pieces: tuple[Piece, ...]
    image_tokens: int
    prompt_tokens: int
    supervised_tokens: int
    shared_by: int


@dataclass(frozen=True)
class Probe:
    """One forward and backward pass over the largest step there is. `changes` are settings other than those asked for
    (empty: as asked). `peak_bytes` with the optimiser's memory, of `limit_bytes` (None: not known). `seconds` of
    a step after the first; None where it did not fit. `tokens` is the longest packed sequence of the step."""

    fits: bool
    changes: Mapping[str, Any]
    peak_bytes: int
    limit_bytes: int | None
    seconds: float | None
    tokens: int
    samples: tuple[str, ...]


@dataclass(frozen=True)
class Cost:
    """What a run takes: `seconds` for its steps and scorings (None: not measured), `adapter_bytes` on disk,
    `phrases` shown in all, `rounds` how often each train phrase comes round on average."""

    phrases: int
    rounds: float
    seconds: float | None = None
    adapter_bytes: int | None = None


@dataclass(frozen=True)
class Preflight:
    """Everything that was found about one run before it began. `counts` are train and validation samples and the
    train pictures; `seconds` is how long the look took; `forced` says that a person let it start all the
    same; `busy` that the machine had other work while the pace was measured."""

    snapshot: str
    snapshot_sha256: str
    counts: Mapping[str, int]
    findings: tuple[Finding, ...]
    rounding: Rounding | None = None
    seen: tuple[Seen, ...] = ()
    probes: tuple[Probe, ...] = ()
    cost: Cost | None = None
    seconds: float = 0.0
    forced: bool = False
    busy: bool = False
    notes: tuple[str, ...] = field(default=())

    @property
    def blocking(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.blocking)

    @property
    def may_be_forced(self) -> bool:
        """Whether something blocks of which a person may decide to train all the same."""
        return bool(self.blocking) and not any(finding.kind in HOPELESS for finding in self.blocking)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if not finding.blocking)

    def with_findings(self, findings: Sequence[Finding]) -> Preflight:
        """The same with further findings behind those there are."""
        return replace(self, findings=(*self.findings, *findings))

    def check(self) -> None:
        """Raises `PreflightError` when something blocks and nobody forced the run."""
        if self.blocking and not self.forced:
            raise PreflightError(self)

    def to_json(self) -> dict[str, Any]:
        """As one JSON document."""
        plain = replace(self, counts=dict(self.counts), probes=())
        probes = [asdict(replace(probe, changes=dict(probe.changes))) for probe in self.probes]
        return {**asdict(plain), "probes": probes, "blocked": bool(self.blocking)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Preflight:
        """What `to_json` wrote. Raises `TypeError`, `KeyError` or `ValueError` for anything else."""
        known = {key: value for key, value in values.items() if key != "blocked"}
        rounding = known["rounding"]
        return cls(
            **known
            | {
                "counts": MappingProxyType(dict(known["counts"])),
                "findings": tuple(Finding(**f | {"samples": tuple(f["samples"])}) for f in known["findings"]),
                "rounding": rounding and _rounding(rounding),
                "seen": tuple(_seen(seen) for seen in known["seen"]),
                "probes": tuple(Probe(**p | {"samples": tuple(p["samples"])}) for p in known["probes"]),
                "cost": known["cost"] and Cost(**known["cost"]),
                "notes": tuple(known["notes"]),
            }
        )

    def save(self, folder: Path) -> None:
        """Write it as `preflight.json` into a run's folder, whole or not at all; the pictures stay out."""
        folder.mkdir(parents=True, exist_ok=True)
        plain = replace(self, seen=tuple(replace(seen, picture="") for seen in self.seen))
        partial = folder / f".{FILE}"
        partial.write_text(json.dumps(plain.to_json(), indent=1) + "\n", encoding="utf-8")
        partial.replace(folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> Preflight | None:
        """What stands in a run's folder; None where nothing readable does."""
        try:
            return cls.from_json(json.loads((folder / FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None


class PreflightError(JobError):
    """A run that is not to begin; `preflight` says why at length."""

    def __init__(self, preflight: Preflight) -> None:
        first, *more = preflight.blocking
        kinds = ", ".join(finding.kind.replace("_", " ") for finding in more)
        rest = f" Also in the way: {kinds}." if more else ""
        way = ' To train all the same, choose "Train anyway" (--force).' if preflight.may_be_forced else ""
        super().__init__(f"{first.sentence}{rest}{way}")
        self.preflight = preflight


def _rounding(values: Mapping[str, Any]) -> Rounding:
    worst = tuple(BoxLoss(w["sample"], tuple(w["box_xyxy_px"]), w["iou"]) for w in values["worst"])
    return Rounding(**{**values, "worst": worst})


def _seen(values: Mapping[str, Any]) -> Seen:
    boxes = {key: tuple(tuple(box) for box in values[key]) for key in ("boxes_xyxy_px", "true_boxes_xyxy_px")}
    sizes = {key: tuple(values[key]) for key in ("seen_size_wh", "image_size_wh")}
    return Seen(**{**values, **boxes, **sizes, "pieces": tuple(Piece(**piece) for piece in values["pieces"])})
