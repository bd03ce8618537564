"""Labels that may be wrong: where all models agree with each other and none with the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from grounding.boxes import Box, set_iou
from grounding.compared.comparison import AnswerRecord, Comparison, SampleRecord
from grounding.errors import RecordError
from grounding.measures import Flags
from grounding.records import Status

AGREE_MIN_IOU = 0.7
AGAINST_MAX_IOU = 0.3
SURE_MIN_CONFIDENCE = 0.8
_UNKNOWN_CONFIDENCE = 0.5  # in the ranking, where a model doesn't say how sure it is

BOX_ELSEWHERE, NOTHING_THERE, BOX_WHERE_NONE = "box_elsewhere", "nothing_there", "box_where_none"


@dataclass(frozen=True)
class Suspect:
    """A sample whose label may be wrong, with the evidence.

    `kind`: "box_elsewhere" (all find the same other box), "nothing_there" (all say surely that the phrase refers to
    nothing), "box_where_none" (all find the same box for a phrase that is said to refer to nothing). `agreement`, 0.7
    to 1.0: the lowest IoU between two models' answers, 1.0 for "nothing there". `confidence`: the models' mean, None
    where none says one. `score`, 0.0 to 1.0: their product, what suspects are ranked by. `record` holds boxes, IoUs
    with the truth and confidences; `suggested_xyxy_px` are the boxes of the surest model.
    """

    kind: str
    score: float
    agreement: float
    confidence: float | None
    sentence: str
    suggested_xyxy_px: tuple[Box, ...]
    record: SampleRecord


def suspects(comparison: Comparison, mask: Flags | None = None, *, most: int | None = None) -> tuple[Suspect, ...]:
    """The samples whose label all models contradict, the likeliest first, among those that `mask` holds for (by default
    all: what an adapter learned and yet contradicts is no less suspect).

    Two boxes agree with IoU >= `AGREE_MIN_IOU`; a model is against the truth with IoU < `AGAINST_MAX_IOU`, and sure of
    "nothing there" with confidence >= `SURE_MIN_CONFIDENCE`. Raises `RecordError` with one model alone: it agrees with
    itself whatever it says.
    """
    if len(comparison.sides) < 2:
        raise RecordError("One model alone can't cast doubt on a label: open the evaluations of two or more.")
    found = [
        suspect
        for row in np.flatnonzero(_against_all(comparison) if mask is None else mask & _against_all(comparison))
        if (suspect := _suspect(comparison.record(int(row)))) is not None
    ]
    found.sort(key=lambda suspect: (-suspect.score, suspect.record.row))
    return tuple(found[:most])


def _against_all(comparison: Comparison) -> Flags:
    """[samples]: every model contradicts the truth, in the same way."""
    measures = [side.answers.measures for side in comparison.sides]
    has_target = measures[0].has_target
    boxes = np.all([m.is_status(Status.OK) & (m.iou < AGAINST_MAX_IOU) for m in measures], axis=0)
    sure = [m.is_status(Status.NO_BOX) & (m.confidence >= SURE_MIN_CONFIDENCE) for m in measures]
    return boxes | (has_target & np.all(sure, axis=0))


def _suspect(record: SampleRecord) -> Suspect | None:
    answers = record.answers
    agreement = min(_agreement(a, b) for a, b in combinations(answers, 2))
    if agreement < AGREE_MIN_IOU:
        return None
    known = [answer.confidence for answer in answers if answer.confidence is not None]
    confidence = sum(known) / len(known) if known else None
    score = agreement * (_UNKNOWN_CONFIDENCE if confidence is None else confidence)
    kind = _kind(record)
    surest = max(answers, key=lambda answer: answer.confidence or 0.0)
    sentence = _sentence(kind, answers, agreement, confidence)
    return Suspect(kind, score, agreement, confidence, sentence, surest.boxes_xyxy_px, record)


def _agreement(a: AnswerRecord, b: AnswerRecord) -> float:
    """How far two answers are the same, 0.0 to 1.0, whichever is held against the other."""
    return min(
        set_iou(a.boxes_xyxy_px, b.boxes_xyxy_px),
        set_iou(b.boxes_xyxy_px, a.boxes_xyxy_px),
    )


def _kind(record: SampleRecord) -> str:
    if not record.truth_xyxy_px:
        return BOX_WHERE_NONE
    return BOX_ELSEWHERE if record.answers[0].boxes_xyxy_px else NOTHING_THERE


def _sentence(kind: str, answers: Sequence[AnswerRecord], agreement: float, confidence: float | None) -> str:
    who = "Both models" if len(answers) == 2 else f"All {len(answers)} models"
    sure = "; none says how sure it is" if confidence is None else f", on average {confidence:.0%} sure"
    if kind == NOTHING_THERE:
        return f"{who} say that the phrase refers to nothing here{sure}, but the sample has a box."
    if kind == BOX_WHERE_NONE:
        found = f"{who} find the same box (IoU {agreement:.2f} with each other{sure})"
        return f"{found}, but the sample says that the phrase refers to nothing."
    best = max(answer.iou for answer in answers)
    return (
        f"{who} find the same other box (IoU {agreement:.2f} with each other{sure}); with the true one they have "
        f"IoU {best:.2f} at most."
    )
