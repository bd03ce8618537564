"""The samples and figures of a report as plain tables: what CSV, Parquet and JSON hold."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from grounding.compared.comparison import Comparison, Side
from grounding.compared.figures import FIGURES, Bucket, Headline, figure_of
from grounding.compared.filters import outcome_mask
from grounding.compared.report import Report
from grounding.compared.suspects import Suspect
from grounding.measures import STATUSES, Floats, RaggedBoxes, Wholes
from grounding.reports import scores_json

if TYPE_CHECKING:
    import pyarrow

FORMAT = "boxwright-comparison/1"


def sample_table(comparison: Comparison, rows: Wholes) -> pyarrow.Table:
    """One row a sample: what was asked, then what each side answered, its columns beginning with the side's letter.

    Boxes are lists of x1, y1, x2, y2 in pixels of the original image. `seen` is "sample" or "picture" where an adapter
    saw that in training, else "". `outcome` is that of b against a: "win", "loss", "both_right" or "both_wrong".
    """
    import pyarrow

    samples = comparison.samples.take(rows)
    names = ("id", "image", "image_file", "image_sha256", "image_id", "phrase", "category", "split", "source")
    columns: dict[str, Any] = {name: pyarrow.array(list(getattr(samples, name)), pyarrow.string()) for name in names}
    for k, side in enumerate(("width", "height")):
        sizes = samples.image_size_wh[:, k]
        columns[f"image_{side}_px"] = pyarrow.array(sizes, pyarrow.int32(), mask=sizes == 0)
    columns["truth_xyxy_px"] = _box_lists(samples.truth)
    columns["seen"] = pyarrow.array(_seen(comparison)[rows].tolist(), pyarrow.string())
    if comparison.b is not None:
        columns["outcome"] = pyarrow.array(_outcomes(comparison)[rows].tolist(), pyarrow.string())
    for side_ in comparison.sides:
        columns |= {f"{side_.letter}_{name}": column for name, column in _answer_columns(side_, rows).items()}
    return pyarrow.table(columns)


def _answer_columns(side: Side, rows: Wholes) -> dict[str, Any]:
    import pyarrow

    answers = side.answers.take(rows)
    measures = answers.measures
    return {
        "status": pyarrow.array([str(STATUSES[code]) for code in measures.status], pyarrow.string()),
        "iou": pyarrow.array(measures.iou),
        "confidence": pyarrow.array(measures.confidence, mask=np.isnan(measures.confidence)),
        "answer_xyxy_px": _box_lists(answers.boxes),
        "box_confidences": _number_lists(answers.box_confidences, answers.boxes.starts),
        "seconds": pyarrow.array(answers.seconds),
        "raw_text": pyarrow.array(list(answers.raw_text), pyarrow.string()),
    }


def _box_lists(boxes: RaggedBoxes) -> Any:
    import pyarrow

    numbers = pyarrow.array(boxes.xyxy_px.ravel())
    fours = pyarrow.ListArray.from_arrays(np.arange(0, 4 * len(boxes.xyxy_px) + 1, 4, dtype=np.int32), numbers)
    return pyarrow.ListArray.from_arrays(boxes.starts.astype(np.int32), fours)


def _number_lists(values: Floats, starts: Wholes) -> Any:
    """Lists of numbers, empty where they are not known."""
    import pyarrow

    known = ~np.isnan(values)
    ends = np.concatenate([[0], np.cumsum(known)])[starts]
    return pyarrow.ListArray.from_arrays(ends.astype(np.int32), pyarrow.array(values[known]))


def _seen(comparison: Comparison) -> np.ndarray:
    return np.select([comparison.sample_seen, comparison.seen], ["sample", "picture"], "").astype(object)


def _outcomes(comparison: Comparison) -> np.ndarray:
    named = ("win", "loss", "both_right")
    return np.select([outcome_mask(comparison, name) for name in named], named, "both_wrong").astype(object)


def figure_rows(report: Report) -> list[dict[str, Any]]:
    """One row a figure of `FIGURES`: of all, and of each bucket of each dimension.

    `low` and `high` are the 95% interval: of the difference of two, whose `p` stands there too (see
    `paired.Difference`), of the figure itself where one stands alone. None where there is none, as of a breakdown's
    figures that have none.
    """
    rows = _figure_rows("all", "all", report.headline)
    for dimension, buckets in report.breakdowns().items():
        for bucket in buckets:
            rows += _figure_rows(dimension, bucket.name, bucket)
    return rows


def _figure_rows(dimension: str, bucket: str, found: Headline | Bucket) -> list[dict[str, Any]]:
    scores = found.scores
    rows = []
    for name in FIGURES:
        values = [figure_of(one, name) for one in scores]
        if all(value is None for value in values):
            continue
        count = scores[0].no_target_count if name == "no_target_accuracy" else scores[0].count
        row: dict[str, Any] = {"dimension": dimension, "bucket": bucket, "figure": name, "samples": count}
        row |= {chr(ord("a") + k): value for k, value in enumerate(values)}
        if len(scores) > 1:
            difference = found.differences.get(name)
            row |= {key: getattr(difference, key, None) for key in ("difference", "low", "high", "p")}
        else:
            estimate = found.estimates.get(name)
            row |= {key: getattr(estimate, key, None) for key in ("low", "high")}
        rows.append(row)
    return rows


def report_json(report: Report) -> dict[str, Any]:
    """All figures of a report as one JSON document, without its samples."""
    comparison = report.comparison
    return {
        "format": FORMAT,
        "sides": [_side_json(side) for side in comparison.sides],
        "notes": list(report.notes),
        "filter": asdict(report.filter),
        "headline": headline_json(report.headline),
        "chances": [asdict(chance) if chance else None for chance in report.chances],
        "breakdowns": {name: [_bucket_json(one) for one in rows] for name, rows in report.breakdowns().items()},
        "iou_counts": {name: list(counts) for name, counts in report.iou_counts().items()},
        "curves": [asdict(curve) for curve in report.curves()],
        "calibrations": [asdict(one) for one in report.calibrations()],
        "suspects": [_suspect_json(suspect) for suspect in report.suspects(None)],
    }


def headline_json(found: Headline) -> dict[str, Any]:
    """A headline with plain JSON keys."""
    plain = {**vars(found), "scores": [scores_json(scores) for scores in found.scores]}
    plain["differences"] = {name: asdict(difference) for name, difference in found.differences.items()}
    plain["chances"] = [asdict(chance) if chance else None for chance in found.chances]
    plain["estimates"] = {name: estimate._asdict() for name, estimate in found.estimates.items()}
    for name in ("outcomes", "no_target_outcomes"):
        plain[name] = asdict(plain[name]) if plain[name] is not None else None
    return plain


def _side_json(side: Side) -> dict[str, Any]:
    kept = side.kept
    return {
        "letter": side.letter,
        "name": side.name,
        "folder": str(side.folder),
        "report": kept.id if kept else None,
        "created_at": kept.created_at if kept else None,
        "model_id": kept.model_id if kept else None,
        "adapter": kept.adapter if kept else None,
        "samples_only_here": list(side.only),
    }


def _bucket_json(bucket: Bucket) -> dict[str, Any]:
    return {
        "name": bucket.name,
        "count": bucket.count,
        "no_target_count": bucket.no_target_count,
        "scores": [scores_json(scores) for scores in bucket.scores],
        "differences": {name: asdict(difference) for name, difference in bucket.differences.items()},
        "estimates": {name: estimate._asdict() for name, estimate in bucket.estimates.items()},
    }


def _suspect_json(suspect: Suspect) -> dict[str, Any]:
    record = suspect.record
    return {
        "id": record.id,
        "phrase": record.phrase,
        "image": str(record.image),
        "kind": suspect.kind,
        "score": suspect.score,
        "agreement": suspect.agreement,
        "confidence": suspect.confidence,
        "sentence": suspect.sentence,
        "truth_xyxy_px": [list(box) for box in record.truth_xyxy_px],
        "suggested_xyxy_px": [list(box) for box in suspect.suggested_xyxy_px],
        "answers": [
            {
                "letter": answer.letter,
                "status": str(answer.status),
                "boxes_xyxy_px": [list(box) for box in answer.boxes_xyxy_px],
                "iou": answer.iou,
                "confidence": answer.confidence,
            }
            for answer in record.answers
        ],
    }
