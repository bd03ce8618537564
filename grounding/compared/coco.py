"""Answers as COCO results, and the truth in COCO's format, so that they can be scored by COCO's own tools.

Every sample is an "image" of its own, as one phrase is one question: two phrases on one picture are two of them with
the same `file_name`. Boxes are COCO's x, y, width, height in pixels; a category is the sample's own.
Format: cocodataset.org/#format-data and #format-results.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from grounding.boxes import Box
from grounding.buckets import NO_CATEGORY
from grounding.compared.comparison import AnswerRecord, SampleRecord
from grounding.compared.report import Report

TRUTH = "annotations.json"


def write_coco(report: Report, folder: Path) -> Sequence[str]:
    """annotations.json, and a results_LETTER.json for each side."""
    records = [report.comparison.record(int(row)) for row in np.flatnonzero(report.listed)]
    names = sorted({record.category or NO_CATEGORY for record in records})
    categories = {name: number for number, name in enumerate(names, start=1)}
    truth = [
        _with_box({"image_id": record.row + 1, "category_id": categories[record.category or NO_CATEGORY]}, box)
        | {"area": box.area_px, "iscrowd": 0}
        for record in records
        for box in record.truth_xyxy_px
    ]
    document = {
        "info": {"description": "Boxwright: one image is one sample, a picture with a phrase"},
        "images": [_image(record) for record in records],
        "annotations": [{"id": number, **one} for number, one in enumerate(truth, start=1)],
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
    }
    write_json(folder / TRUTH, document)
    for k, side in enumerate(report.comparison.sides):
        results = [
            _with_box({"image_id": record.row + 1, "category_id": categories[record.category or NO_CATEGORY]}, box)
            | {"score": score}
            for record in records
            for box, score in scored_boxes(record.answers[k])
        ]
        write_json(folder / f"results_{side.letter}.json", results)
    return ()


def scored_boxes(answer: AnswerRecord) -> list[tuple[Box, float]]:
    """The boxes with how sure the model is of each: of all alike where it says so only once, 1.0 where it doesn't."""
    whole = 1.0 if answer.confidence is None else answer.confidence
    scores = answer.box_confidences or (whole,) * len(answer.boxes_xyxy_px)
    return list(zip(answer.boxes_xyxy_px, scores, strict=True))


def _image(record: SampleRecord) -> dict[str, Any]:
    width, height = record.image_size_wh
    if not width:  # a picture that can't be read: large enough for its boxes
        width = math.ceil(max((box.x2 for box in record.truth_xyxy_px), default=0.0))
        height = math.ceil(max((box.y2 for box in record.truth_xyxy_px), default=0.0))
    named = {"sample_id": record.id, "phrase": record.phrase, "split": record.split, "seen_by": list(record.seen)}
    return {"id": record.row + 1, "file_name": record.image.name, "width": width, "height": height, **named}


def _with_box(of: dict[str, Any], box: Box) -> dict[str, Any]:
    return {**of, "bbox": [box.x1, box.y1, box.width_px, box.height_px]}


def write_json(path: Path, document: Any) -> None:
    """One line of JSON. Raises `ValueError` for a number that is none."""
    path.write_text(json.dumps(document, allow_nan=False) + "\n", encoding="utf-8")
