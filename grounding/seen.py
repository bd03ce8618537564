"""What the adapter that was evaluated saw of the samples in training, as an evaluation keeps it.

Which samples those are is decided by `grounding.compared.seen` alone, here as in every comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grounding.records import Sample
from grounding.workspace import Workspace

if TYPE_CHECKING:
    from grounding.compared.columns import Samples
    from grounding.compared.seen import Seen

MARKS = ("", "sample", "picture")
"""Not seen; the very sample was learned from; its picture was, with another phrase."""


@dataclass(frozen=True)
class SeenCount:
    """How many samples of an evaluation its adapter saw in training: `samples` themselves, of `pictures` more only the
    picture. Its figures are over the others. Where it isn't `known`, both are 0 and the figures are over all.
    `sentence` says it in words."""

    known: bool
    samples: int
    pictures: int
    sentence: str

    @property
    def left_out(self) -> int:
        """How many samples the figures leave out."""
        return self.samples + self.pictures

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SeenCount:
        """Raises `KeyError` and `ValueError` for what isn't one."""
        samples, pictures = int(values["samples"]), int(values["pictures"])
        return cls(bool(values["known"]), samples, pictures, str(values["sentence"]))


@dataclass(frozen=True)
class SeenMarks:
    """The same sample by sample: `marks` [samples], each one of `MARKS`. Where it isn't `known`, all are ""."""

    known: bool
    marks: tuple[str, ...]
    sentence: str

    @property
    def count(self) -> SeenCount:
        of_each = (self.marks.count("sample"), self.marks.count("picture"))
        left = f" The figures are over the other {self.marks.count(''):,}." if any(of_each) else ""
        return SeenCount(self.known, *of_each, self.sentence + left)


def marks_of(found: Seen) -> SeenMarks:
    """What `seen_in_training` found, as it is kept."""
    both = zip(found.sample.tolist(), found.any.tolist(), strict=True)
    marks = ("sample" if itself else "picture" if seen else "" for itself, seen in both)
    return SeenMarks(found.known, tuple(marks), found.sentence)


def seen_by(model_id: str, adapter: str | None, samples: Sequence[Sample], workspace: Workspace) -> SeenMarks | None:
    """What an adapter, by its name or folder, or one that was merged into its base has seen of samples that it has just
    answered; None for a base, which wasn't trained here."""
    from grounding.compared.seen import is_merged, seen_in_training
    from grounding.metrics import summarise
    from grounding.reports import KeptReport

    if adapter is None and not is_merged(model_id):
        return None
    now = datetime.now(UTC).isoformat(timespec="seconds")
    report = KeptReport("", Path(), now, model_id, adapter, "", "", summarise(()))
    found = seen_in_training(_columns(samples), report, workspace)
    return marks_of(found) if found is not None else None


def _columns(samples: Sequence[Sample]) -> Samples:
    """The samples as the columns that their evaluation will be read back as."""
    import numpy as np

    from grounding.compared.columns import Samples
    from grounding.journal import picture_sha256
    from grounding.measures import RaggedBoxes
    from grounding.reports import as_utf8

    def texts(values: Sequence[str]) -> np.ndarray:
        found = np.empty(len(values), dtype=object)
        found[:] = [as_utf8(value) for value in values]
        return found

    return Samples(
        id=texts([one.id for one in samples]),
        image=texts([one.image.name for one in samples]),
        image_file=texts([str(one.image) for one in samples]),
        image_sha256=texts([picture_sha256(one.image) or "" for one in samples]),
        image_id=texts([one.image_id for one in samples]),
        phrase=texts([one.phrase for one in samples]),
        category=texts([one.category for one in samples]),
        split=texts([one.split for one in samples]),
        source=texts(["" for _ in samples]),
        image_size_wh=np.zeros((len(samples), 2), dtype=np.int64),
        truth=RaggedBoxes.of([one.boxes_xyxy_px for one in samples]),
    )
