"""Kept evaluations of the same samples, opened side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np

from grounding.boxes import Box
from grounding.compared.chance import Exchange, exchange
from grounding.compared.columns import Answers, Columns, Samples, read_columns
from grounding.compared.pairing import align
from grounding.compared.seen import Seen, seen_in_training
from grounding.errors import RecordError
from grounding.measures import STATUSES, Flags, Floats
from grounding.records import Status
from grounding.reports import KeptReport, read_report
from grounding.workspace import Workspace, find_workspace

LETTERS = "abcdefghij"


@dataclass(frozen=True, eq=False)
class Side:
    """One evaluation. `letter` names it in files ("a", "b", ...), `name` for people. `answers` are to the samples that
    all have in common; `only` holds the ids of those that stand in it and not in all others. `seen`: None for a base.
    `kept` is None where the folder holds samples without a report."""

    letter: str
    name: str
    folder: Path
    kept: KeptReport | None
    answers: Answers
    only: tuple[str, ...] = ()
    seen: Seen | None = None


@dataclass(frozen=True)
class AnswerRecord:
    """One model's answer to a sample. `is_right`: IoU >= 0.5, or "nothing there" where nothing is."""

    letter: str
    name: str
    status: Status
    boxes_xyxy_px: tuple[Box, ...]
    box_confidences: tuple[float, ...]
    iou: float
    is_right: bool
    confidence: float | None
    seconds: float
    raw_text: str


@dataclass(frozen=True)
class SampleRecord:
    """One sample with every answer to it, to be shown. `row` is its number in the comparison. `image_size_wh` is in
    pixels, (0, 0) where it is not known. `seen` names the adapters that saw it or its picture in training."""

    row: int
    id: str
    phrase: str
    category: str
    split: str
    source: str
    image: Path
    image_sha256: str
    image_size_wh: tuple[int, int]
    truth_xyxy_px: tuple[Box, ...]
    answers: tuple[AnswerRecord, ...]
    seen: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Comparison:
    """The samples that all sides have in common, in the order of the first, with each side's answers. At least one."""

    samples: Samples
    sides: tuple[Side, ...]

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def a(self) -> Side:
        return self.sides[0]

    @property
    def b(self) -> Side | None:
        """The second, which is compared with the first; None with one alone."""
        return self.sides[1] if len(self.sides) > 1 else None

    @property
    def newest(self) -> Side:
        """The side that orders and filters are about: b, or a where it stands alone."""
        return self.b or self.a

    def side(self, letter: str) -> Side:
        """Raises `RecordError` when there is none of this letter."""
        found = next((side for side in self.sides if side.letter == letter), None)
        if found is None:
            there = ", ".join(side.letter for side in self.sides)
            raise RecordError(f"There is no side {letter!r} in this comparison. Sides: {there}.")
        return found

    @cached_property
    def seen(self) -> Flags:
        """[samples]: an adapter among the sides saw the sample or its picture in training."""
        return self._any_of([side.seen.any for side in self.sides if side.seen is not None])

    @cached_property
    def sample_seen(self) -> Flags:
        """[samples]: an adapter among the sides saw the very sample in training."""
        return self._any_of([side.seen.sample for side in self.sides if side.seen is not None])

    def _any_of(self, marked: Sequence[Flags]) -> Flags:
        return np.logical_or.reduce(marked) if marked else np.zeros(len(self), dtype=bool)

    @property
    def counted(self) -> Flags:
        """[samples]: what the figures are over unless somebody asks otherwise: all that no adapter saw in training."""
        return ~self.seen

    @cached_property
    def exchanges(self) -> Mapping[str, Exchange]:
        """{letter of a side: what its answers score when they are exchanged}; see `chance`."""
        return MappingProxyType({side.letter: exchange(self.samples, side.answers) for side in self.sides})

    @property
    def notes(self) -> tuple[str, ...]:
        """What one has to know beside the figures: samples that not all have, and what adapters saw in training."""
        found = [_only(side, len(self)) for side in self.sides if side.only]
        for side in self.sides:
            if side.seen is not None:
                found += [sentence for sentence in (side.seen.sentence, side.seen.optimistic) if sentence]
        return tuple(found)

    def record(self, row: int) -> SampleRecord:
        """One sample with its answers. Raises `RecordError` for a number that no row has."""
        if not 0 <= row < len(self):
            raise RecordError(f"There is no row {row}: expected one from 0 to {len(self) - 1}.")
        samples = self.samples
        width, height = samples.image_size_wh[row].tolist()
        return SampleRecord(
            row=int(row),
            id=samples.id[row],
            phrase=samples.phrase[row],
            category=samples.category[row],
            split=samples.split[row],
            source=samples.source[row],
            image=Path(samples.image_file[row]),
            image_sha256=samples.image_sha256[row],
            image_size_wh=(width, height),
            truth_xyxy_px=_boxes(samples.truth.row(row)),
            answers=tuple(_answer(side, row) for side in self.sides),
            seen=tuple(side.name for side in self.sides if side.seen is not None and side.seen.any[row]),
        )

    def row_of(self, sample_id: str) -> int | None:
        """The row of the first sample with this id; None where it isn't among the common ones."""
        found = np.flatnonzero(self.samples.id == sample_id)
        return int(found[0]) if len(found) else None


def open_comparison(
    folders: Sequence[str | Path], *, names: Sequence[str] = (), workspace: Workspace | str | Path | None = None
) -> Comparison:
    """Open one or more kept evaluations, the one to compare with first.

    `names` says what each is called; by default an adapter's name, or "base". What adapters saw in training is looked
    up in `workspace`. Raises `WorkspaceError` when one can't be read, `RecordError` when they have no sample in common.
    """
    if not 1 <= len(folders) <= len(LETTERS):
        raise RecordError(f"{len(folders)} evaluations can't be compared: give 1 to {len(LETTERS)} folders.")
    place = workspace if isinstance(workspace, Workspace) else find_workspace(workspace)
    paths = [Path(folder) for folder in folders]
    read = [read_columns(path) for path in paths]
    kept = [read_report(path) for path in paths]
    titles = list(names) if names else _names(kept)
    if len(titles) != len(paths):
        raise RecordError(f"{len(titles)} names were given for {len(paths)} evaluations: give each one, or none.")
    return _compare(read, kept, paths, titles, place)


def _compare(
    read: Sequence[Columns],
    kept: Sequence[KeptReport | None],
    paths: Sequence[Path],
    names: Sequence[str],
    workspace: Workspace,
) -> Comparison:
    aligned = align([columns.samples for columns in read])
    if not len(aligned.rows[0]):
        of_which = ", ".join(f"{len(columns.samples):,} in {path}" for columns, path in zip(read, paths, strict=True))
        raise RecordError(f"The evaluations have no sample in common ({of_which}). Evaluate them on the same file.")
    common = [columns.take(rows) for columns, rows in zip(read, aligned.rows, strict=True)]
    samples = common[0].samples
    sides = [
        Side(
            letter=LETTERS[k],
            name=names[k],
            folder=paths[k],
            kept=kept[k],
            answers=common[k].answers,
            only=tuple(read[k].samples.id[aligned.only[k]]),
            seen=seen_in_training(samples, kept[k], workspace),
        )
        for k in range(len(read))
    ]
    return Comparison(samples, tuple(sides))


def _names(kept: Sequence[KeptReport | None]) -> list[str]:
    """What each evaluation is called: as short as it can be while all are told apart."""
    ways = [
        [_named(report, "{adapter}", "base") for report in kept],
        [_named(report, "{adapter} on {model_id}", "{model_id}") for report in kept],
        [_named(report, "{adapter} on {model_id}, {id}", "{model_id}, {id}") for report in kept],
    ]
    last = [f"{name} ({LETTERS[k]})" for k, name in enumerate(ways[-1])]
    return next((names for names in ways if len(set(names)) == len(names)), last)


def _named(report: KeptReport | None, adapter: str, base: str) -> str:
    if report is None:
        return "no report"
    short = Path(report.adapter).name if report.adapter else ""
    return (adapter if short else base).format(adapter=short, model_id=report.model_id, id=report.id)


def _only(side: Side, common: int) -> str:
    named = ", ".join(repr(name) for name in side.only[:3]) + (", …" if len(side.only) > 3 else "")
    stand = "1 sample stands" if len(side.only) == 1 else f"{len(side.only):,} samples stand"
    return f"{stand} only in {side.name} ({named}); {common:,} stand in all."


def _answer(side: Side, row: int) -> AnswerRecord:
    answers, measures = side.answers, side.answers.measures
    start, end = answers.boxes.starts[row : row + 2]
    confidence = float(measures.confidence[row])
    confidences = answers.box_confidences[start:end]
    return AnswerRecord(
        letter=side.letter,
        name=side.name,
        status=STATUSES[measures.status[row]],
        boxes_xyxy_px=_boxes(answers.boxes.row(row)),
        box_confidences=() if np.isnan(confidences).any() else tuple(confidences.tolist()),
        iou=float(measures.iou[row]),
        is_right=bool(measures.right[row]),
        confidence=None if np.isnan(confidence) else confidence,
        seconds=float(answers.seconds[row]),
        raw_text=answers.raw_text[row],
    )


def _boxes(boxes_xyxy_px: Floats) -> tuple[Box, ...]:
    return tuple(Box(*numbers) for numbers in boxes_xyxy_px.tolist())
