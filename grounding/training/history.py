"""What a run did, kept as it goes and beside the adapter: every step, every scoring, every answer.

In the run's folder `training_steps.jsonl` and `training_samples.jsonl` grow line by line. Beside the finished adapter
stand `training_history.json`, with the steps as columns, and `training_samples.jsonl`. A run that goes on from a
checkpoint takes back what its first half wrote after it.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from grounding.errors import JobError
from grounding.metrics import ScoredSample
from grounding.training.events import NoteEvent, ScoreEvent, StepEvent

log = logging.getLogger(__name__)

HISTORY = "training_history.json"
SAMPLES = "training_samples.jsonl"
_STEPS = "training_steps.jsonl"
_FORMAT = "boxwright-history/1"
_MOST_STEPS = 50_000  # in the history; of a longer run every second, third ... step


@dataclass(frozen=True)
class SampleRow:
    """One validation sample as answered after `step` steps. Boxes are xyxy_px of the original picture; `iou` 0.0 to
    1.0; `loss` the mean of the true answer's tokens in nats."""

    step: int
    id: str
    image: str
    phrase: str
    truth: tuple[tuple[float, ...], ...]
    boxes: tuple[tuple[float, ...], ...]
    status: str
    iou: float
    loss: float | None = None


class History:
    """The logs of one run in its folder. Writing them never ends a run: what can't be written is told once."""

    def __init__(self, folder: Path, tell: Callable[[str], None]) -> None:
        self.folder = folder
        self.tell = tell
        self.scores: list[ScoreEvent] = []
        self.notes: list[NoteEvent] = []
        self._told = False

    def add_step(self, event: StepEvent) -> None:
        """One more step."""
        self._append(_STEPS, [asdict(event)])

    def add_score(self, event: ScoreEvent, rows: Iterable[SampleRow]) -> None:
        """One more scoring, with every answer."""
        self.scores.append(event)
        self._append(SAMPLES, (asdict(row) for row in rows))

    def rewind(self, step: int, scores: Sequence[Mapping[str, Any]], notes: Sequence[Mapping[str, Any]] = ()) -> None:
        """As it was after `step` steps: later lines go. `scores` and `notes` are those of the checkpoint."""
        self.scores = [ScoreEvent(**score) for score in scores]
        self.notes = [NoteEvent(**note) for note in notes]
        known = {score.step for score in self.scores}
        self._keep(_STEPS, lambda line: line["step"] <= step)
        self._keep(SAMPLES, lambda line: line["step"] in known)

    def begin(self) -> None:
        """Nothing yet: what an earlier try left behind goes."""
        for name in (_STEPS, SAMPLES, HISTORY):
            (self.folder / name).unlink(missing_ok=True)

    def write(self, about: Mapping[str, Any]) -> None:
        """`training_history.json`, with `about` at its head, written whole."""
        steps = list(read_lines(self.folder / _STEPS))
        every = -(-len(steps) // _MOST_STEPS) or 1
        document = {
            "format": _FORMAT,
            **about,
            "scores": [{**asdict(score), "perplexity": score.perplexity} for score in self.scores],
            "notes": [asdict(note) for note in self.notes],
            "steps": _columns(steps[every - 1 :: every]),
        }
        partial = self.folder / f"{HISTORY}.partial"
        partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        partial.replace(self.folder / HISTORY)

    def copy_to(self, folder: Path) -> None:
        """Put both files beside an adapter."""
        for name in (HISTORY, SAMPLES):
            if (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, folder / name)

    def _append(self, name: str, lines: Iterable[Mapping[str, Any]]) -> None:
        path = self.folder / name
        bytes_before = path.stat().st_size if path.is_file() else 0
        try:
            with path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)
        except OSError as error:
            with suppress(OSError):  # half a line would spoil the next one
                os.truncate(path, bytes_before)
            log.warning("could not write %s: %s", name, error)
            if not self._told:
                self._told = True
                self.tell(f"The log {name} could not be written ({error.strerror or error}); the run goes on.")

    def _keep(self, name: str, wanted: Callable[[Mapping[str, Any]], bool]) -> None:
        path = self.folder / name
        if not path.is_file():
            return
        partial = path.with_name(f"{name}.partial")
        try:
            with partial.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(line) + "\n" for line in read_lines(path) if wanted(line))
            partial.replace(path)
        except OSError as error:
            log.warning("could not rewind %s: %s", name, error)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a log, but for what was torn when the machine went down; none when there is no file."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                continue


def read_history(folder: Path) -> dict[str, Any]:
    """`training_history.json` in an adapter's or a run's folder. Raises `JobError` when it is missing or damaged."""
    path = folder / HISTORY
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != _FORMAT:
            raise ValueError(f"its format is {document['format']!r}")
        return dict(document)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JobError(f"There is no readable training history at {path} ({error}).") from error


def read_rows(folder: Path, step: int) -> list[SampleRow]:
    """The answers after `step` steps, in the order of the validation split."""
    return [_row(line) for line in read_lines(folder / SAMPLES) if line["step"] == step]


def sample_row(step: int, scored: ScoredSample, loss: float | None) -> SampleRow:
    """A scored sample as it is logged."""
    sample = scored.sample
    return SampleRow(
        step=step,
        id=sample.id,
        image=str(sample.image),
        phrase=sample.phrase,
        truth=tuple(tuple(box) for box in sample.boxes_xyxy_px),
        boxes=tuple(tuple(box) for box in scored.prediction.boxes_xyxy_px),
        status=scored.prediction.status.value,
        iou=scored.iou,
        loss=loss,
    )


def _row(line: Mapping[str, Any]) -> SampleRow:
    boxes = {name: tuple(tuple(box) for box in line[name]) for name in ("truth", "boxes")}
    return SampleRow(**{**line, **boxes})


def _columns(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = ("step", "loss", "learning_rate", "phrases", "seconds")
    terms = sorted({name for step in steps for name in step.get("terms", {})})
    return {
        **{name: [step[name] for step in steps] for name in names},
        "terms": {name: [step.get("terms", {}).get(name) for step in steps] for name in terms},
    }
