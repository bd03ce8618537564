"""What the API gives back, as plain values. Boxes are x1, y1, x2, y2 in pixels of the original image."""

# No postponed annotations here: gradio shows these types on its API page, and wants them as they are.

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TypedDict

from grounding.adapters import AdapterInfo
from grounding.arena import Pair, Tally
from grounding.boxes import Box
from grounding.compared import Report
from grounding.compared.chance import Chance
from grounding.compared.columns import DIMENSIONS
from grounding.compared.comparison import AnswerRecord, SampleRecord, Side
from grounding.compared.curves import Bin
from grounding.compared.suspects import Suspect
from grounding.compared.tables import figure_rows, headline_json
from grounding.probes import ProbeResult
from grounding.records import Prediction, Sample
from grounding.reports import KeptReport
from grounding.ui.kept import id_of
from grounding.ui.pictures import picture_url
from grounding.ui.sources import picture_id

Boxes = list[list[float]]


class Answer(TypedDict):
    """One model's answer to a phrase; `status`: ok, no_box, unreadable or degenerate; `adapter` None: the base."""

    boxes_xyxy_px: Boxes
    status: str
    raw_text: str
    confidence: float | None
    box_confidences: list[float]
    seconds: float
    adapter: str | None


class ProbeAnswer(TypedDict):
    """The answer to one changed wording; `iou` with the answer to the phrase itself, `truth_iou` with what the wording
    means, None where nobody knows."""

    kind: str
    phrase: str
    iou: float
    moved: bool
    truth_iou: float | None
    answer: Answer


class Probed(TypedDict):
    """Whether a box follows the words; `verdict`: follows, moves (to where nobody knows), in part, strays, stays or
    unknown; `truth_iou` of the original answer with what the phrase means, None where nobody knows."""

    verdict: str
    sentence: str
    mean_iou: float | None
    truth_iou: float | None
    original: Answer
    probes: list[ProbeAnswer]


class AdapterEntry(TypedDict):
    """An adapter that fits the app's model; `snapshot` is what it learned from."""

    name: str
    created_at: str
    base: str
    profile: str
    snapshot: str
    steps: int


class SampleEntry(TypedDict):
    """One sample; `image` is the opaque id of its picture, `image_url` its address relative to the page."""

    id: str
    phrase: str
    boxes_xyxy_px: Boxes
    split: str
    category: str
    image: str
    image_url: str


class EvaluationEntry(TypedDict):
    """A kept evaluation; `samples` counts those with a target, `no_target_samples` the others. Neither they nor the
    figures hold the `seen_left_out` that the adapter saw in training; None: that isn't known, so they may."""

    id: str
    created_at: str
    model_id: str
    adapter: str | None
    split: str
    samples: int
    no_target_samples: int
    seen_left_out: int | None
    accuracy_50: float
    mean_iou: float


class SideAnswer(TypedDict):
    """The answer of one side, a or b."""

    side: str
    name: str
    status: str
    boxes_xyxy_px: Boxes
    iou: float
    is_right: bool
    confidence: float | None
    raw_text: str


class ComparedSample(TypedDict):
    """One sample of a comparison with every answer to it; `seen_by`: adapters that saw it or its picture in training;
    `image` is the opaque id of its picture, "" where it is not known."""

    id: str
    phrase: str
    category: str
    split: str
    image: str
    image_size_wh: list[int]
    truth_xyxy_px: Boxes
    seen_by: list[str]
    answers: list[SideAnswer]


class SuspectEntry(TypedDict):
    """A label that may be wrong; `kind`: box_elsewhere, nothing_there or box_where_none."""

    kind: str
    score: float
    sentence: str
    suggested_xyxy_px: Boxes
    sample: ComparedSample


class SideEntry(TypedDict):
    """One side of a comparison."""

    side: str
    name: str
    evaluation: str
    model_id: str | None
    adapter: str | None


class CurvePoint(TypedDict):
    """The share of a side's samples with a target whose IoU is at least `threshold`."""

    side: str
    threshold: float
    accuracy: float


class CalibrationBin(TypedDict):
    """A side's answers with confidence above `low` and at most `high`; mean and share are None where there are none."""

    side: str
    low: float
    high: float
    count: int
    mean_confidence: float | None
    share_right: float | None


class ChanceEntry(TypedDict):
    """Acc@0.5 of a side against what it is `by_chance`, with its answers exchanged; `low` and `high`: the 95% interval
    of the difference, None of one picture alone; `basis`: whose answers, those of the same picture or size."""

    side: str
    accuracy_50: float
    by_chance: float
    low: float | None
    high: float | None
    is_better: bool | None
    samples: int
    pictures: int
    basis: str
    sentence: str


class ReportDocument(TypedDict):
    """The figures of a comparison; `headline` as in the export "json". A record of `breakdowns` is a row of the export
    "csv": dimension, bucket, figure, samples, a, b, difference, low and high; one side alone has neither b nor these.
    `chances` leaves out sides of which it can't be told."""

    sides: list[SideEntry]
    notes: list[str]
    headline: dict[str, Any]
    breakdowns: list[dict[str, Any]]
    curves: list[CurvePoint]
    calibrations: list[CalibrationBin]
    chances: list[ChanceEntry]


class ArenaTally(TypedDict):
    """Blind votes on two models; `share_b`: of those for one of the two, None without any; `interval`: 95%."""

    a: str
    b: str
    a_votes: int
    b_votes: int
    both_good: int
    neither: int
    people: int
    share_b: float | None
    interval: list[float] | None


def arena_tally(pair: Pair, tally: Tally) -> ArenaTally:
    return {
        "a": pair.a,
        "b": pair.b,
        "a_votes": tally.a,
        "b_votes": tally.b,
        "both_good": tally.both,
        "neither": tally.neither,
        "people": tally.people,
        "share_b": tally.share_b,
        "interval": list(tally.interval) if tally.interval else None,
    }


def probed(result: ProbeResult) -> Probed:
    return {
        "verdict": str(result.verdict),
        "sentence": result.sentence,
        "mean_iou": result.mean_iou,
        "truth_iou": result.truth_iou,
        "original": answer(result.original),
        "probes": [
            {
                "kind": str(one.probe.kind),
                "phrase": one.probe.phrase,
                "iou": one.iou,
                "moved": one.moved,
                "truth_iou": one.truth_iou,
                "answer": answer(one.prediction),
            }
            for one in result.answers
        ],
    }


def answer(prediction: Prediction) -> Answer:
    return Answer(**prediction.to_json())  # type: ignore[typeddict-item]


def adapter_entry(info: AdapterInfo) -> AdapterEntry:
    names = ("name", "created_at", "base", "profile", "snapshot", "steps")
    return AdapterEntry(**{name: getattr(info, name) for name in names})  # type: ignore[typeddict-item]


def sample_entry(sample: Sample) -> SampleEntry:
    return {
        "id": sample.id,
        "phrase": sample.phrase,
        "boxes_xyxy_px": _boxes(sample.boxes_xyxy_px),
        "split": sample.split,
        "category": sample.category,
        "image": picture_id(sample),
        "image_url": picture_url(picture_id(sample)),
    }


def evaluation_entry(kept: KeptReport) -> EvaluationEntry:
    return {
        "id": id_of(kept),
        "created_at": kept.created_at,
        "model_id": kept.model_id,
        "adapter": kept.adapter,
        "split": kept.split,
        "samples": kept.scores.count,
        "no_target_samples": kept.scores.no_target_count,
        "seen_left_out": kept.seen_left_out,
        "accuracy_50": kept.scores.accuracy[0.5],
        "mean_iou": kept.scores.mean_iou,
    }


def report_document(report: Report) -> ReportDocument:
    return {
        "sides": [_side(side) for side in report.comparison.sides],
        "notes": list(report.notes),
        "headline": headline_json(report.headline),
        "breakdowns": [row for row in figure_rows(report) if row["dimension"] in DIMENSIONS],
        "curves": [
            {"side": curve.letter, "threshold": threshold, "accuracy": accuracy}
            for curve in report.curves()
            for threshold, accuracy in zip(curve.thresholds, curve.accuracy, strict=True)
        ],
        "calibrations": [_bin(side.letter, one) for side in report.calibrations() for one in side.bins],
        "chances": [
            _chance(side.letter, chance)
            for side, chance in zip(report.comparison.sides, report.chances, strict=True)
            if chance is not None
        ],
    }


def _bin(letter: str, one: Bin) -> CalibrationBin:
    return {"side": letter, **asdict(one)}  # type: ignore[typeddict-item]


def _chance(letter: str, chance: Chance) -> ChanceEntry:
    return {
        "side": letter,
        "accuracy_50": chance.gain.b,
        "by_chance": chance.share,
        "low": chance.gain.low,
        "high": chance.gain.high,
        "is_better": chance.is_better,
        "samples": chance.count,
        "pictures": chance.pictures,
        "basis": chance.basis,
        "sentence": chance.sentence,
    }


def suspect_entry(suspect: Suspect) -> SuspectEntry:
    return {
        "kind": suspect.kind,
        "score": suspect.score,
        "sentence": suspect.sentence,
        "suggested_xyxy_px": _boxes(suspect.suggested_xyxy_px),
        "sample": compared_sample(suspect.record),
    }


def compared_sample(record: SampleRecord) -> ComparedSample:
    return {
        "id": record.id,
        "phrase": record.phrase,
        "category": record.category,
        "split": record.split,
        "image": record.image_sha256,
        "image_size_wh": list(record.image_size_wh),
        "truth_xyxy_px": _boxes(record.truth_xyxy_px),
        "seen_by": list(record.seen),
        "answers": [_side_answer(one) for one in record.answers],
    }


def _side_answer(one: AnswerRecord) -> SideAnswer:
    return {
        "side": one.letter,
        "name": one.name,
        "status": str(one.status),
        "boxes_xyxy_px": _boxes(one.boxes_xyxy_px),
        "iou": one.iou,
        "is_right": one.is_right,
        "confidence": one.confidence,
        "raw_text": one.raw_text,
    }


def _side(side: Side) -> SideEntry:
    kept = side.kept
    return {
        "side": side.letter,
        "name": side.name,
        "evaluation": side.folder.name,
        "model_id": kept.model_id if kept else None,
        "adapter": kept.adapter if kept else None,
    }


def _boxes(boxes_xyxy_px: Sequence[Box]) -> Boxes:
    return [list(box.rounded()) for box in boxes_xyxy_px]
