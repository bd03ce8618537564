"""A comparison as a data set that FiftyOne opens, pictures included.

    import fiftyone as fo

    dataset = fo.Dataset.from_dir("build/comparison", dataset_type=fo.types.FiftyOneDataset)

It is FiftyOne's older data set format in JSON, read back with the importer of 1.22.1: samples.json with a path relative
to the folder and labels by class name; metadata.json without a "version" says that it is this one. Boxes there are x,
y, width, height as shares of the picture. A sample is a picture with a phrase, so a picture may stand there several
times.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from grounding.boxes import Box
from grounding.compared.coco import scored_boxes, write_json
from grounding.compared.comparison import AnswerRecord, SampleRecord
from grounding.compared.report import Report
from grounding.compared.wording import comparison_title
from grounding.errors import WorkspaceError

_DATA = "data"


def write_fiftyone(report: Report, folder: Path) -> Sequence[str]:
    """samples.json, metadata.json and data/ with the pictures. Samples whose picture is gone are left out and counted.

    Raises `WorkspaceError` when all are.
    """
    records = [report.comparison.record(int(row)) for row in np.flatnonzero(report.listed)]
    there = [record for record in records if all(record.image_size_wh) and record.image.is_file()]
    if records and not there:
        raise WorkspaceError(
            f"None of the {len(records):,} pictures can be read any more, such as {records[0].image}. Put them back "
            "where they were evaluated; the formats csv, parquet, json, markdown and coco need no picture."
        )
    (folder / _DATA).mkdir()
    names = {record.image: _file_name(record) for record in there}
    for image, name in names.items():
        shutil.copyfile(image, folder / _DATA / name)
    samples = [_sample(record, f"{_DATA}/{names[record.image]}") for record in there]
    info = {"description": comparison_title(report.comparison), "notes": list(report.notes)}
    info["sides"] = {side.letter: side.name for side in report.comparison.sides}  # type: ignore[assignment]
    write_json(folder / "metadata.json", {"name": "boxwright-comparison", "media_type": "image", "info": info})
    write_json(folder / "samples.json", {"samples": samples})
    gone = len(records) - len(there)
    return (f"{gone:,} samples are left out, as their picture can't be read any more.",) if gone else ()


def _file_name(record: SampleRecord) -> str:
    return f"{record.image_sha256 or f'{record.row:07d}'}{record.image.suffix}"


def _sample(record: SampleRecord, path: str) -> dict[str, Any]:
    width, height = record.image_size_wh
    label = record.category or record.phrase
    sample: dict[str, Any] = {
        "filepath": path,
        "tags": [record.split, *(["seen in training"] if record.seen else [])],
        "metadata": {"_cls": "ImageMetadata", "width": width, "height": height},
        "sample_id": record.id,
        "phrase": record.phrase,
        "category": record.category,
        "ground_truth": _detections([_detection(label, box, (width, height)) for box in record.truth_xyxy_px]),
    }
    for answer in record.answers:
        sample |= _answer(answer, label, (width, height))
    return sample


def _answer(answer: AnswerRecord, label: str, image_size_wh: tuple[int, int]) -> dict[str, Any]:
    found = [{**_detection(label, box, image_size_wh), "confidence": score} for box, score in scored_boxes(answer)]
    named = {"status": str(answer.status), "iou": answer.iou, "right": answer.is_right, "raw_text": answer.raw_text}
    return {answer.letter: _detections(found), **{f"{answer.letter}_{name}": value for name, value in named.items()}}


def _detections(detections: list[dict[str, Any]]) -> dict[str, Any]:
    return {"_cls": "Detections", "detections": detections}


def _detection(label: str, box: Box, image_size_wh: tuple[int, int]) -> dict[str, Any]:
    width, height = image_size_wh
    place = [box.x1 / width, box.y1 / height, box.width_px / width, box.height_px / height]
    return {"_cls": "Detection", "label": label, "bounding_box": place, "tags": []}
