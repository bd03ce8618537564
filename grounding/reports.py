"""Keep evaluations: a per-sample log as Parquet and the figures as JSON, shown again on the next visit."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from grounding.boxes import Box
from grounding.errors import WorkspaceError
from grounding.evaluation import Report
from grounding.metrics import ScoredSample, Scores
from grounding.records import Sample

_FORMAT = "boxwright-report/1"


@dataclass(frozen=True)
class KeptReport:
    """The figures of a kept evaluation. `path` holds report.json and samples.parquet."""

    id: str
    path: Path
    created_at: str
    model_id: str
    adapter: str | None
    split: str
    samples_sha256: str
    scores: Scores


def samples_digest(samples: Iterable[Sample]) -> str:
    """SHA-256 over id, picture, phrase and boxes of every sample in order: equal when the same questions were asked."""
    digest = hashlib.sha256()
    for sample in samples:
        boxes = [list(box.rounded()) for box in sample.boxes_xyxy_px]
        digest.update(json.dumps([sample.id, sample.image.name, sample.phrase, boxes]).encode())
    return digest.hexdigest()


class ReportStore:
    """The evaluations of a workspace."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, report: Report, *, split: str) -> KeptReport:
        """Write the per-sample log and the figures, the figures last: their presence means complete.

        Raises `WorkspaceError` when the folder can't be written.
        """
        created_at = datetime.now(UTC).isoformat(timespec="seconds")
        name = f"{created_at[:19].replace(':', '').replace('-', '')}-{secrets.token_hex(3)}"
        path = self.folder / name
        kept = KeptReport(
            id=name,
            path=path,
            created_at=created_at,
            model_id=report.model_id,
            adapter=report.adapter,
            split=split,
            samples_sha256=samples_digest(row.sample for row in report.rows),
            scores=report.scores,
        )
        try:
            path.mkdir(parents=True)
            write_parquet(path / "samples.parquet", report.rows)
            (path / "report.partial").write_text(json.dumps(report_json(kept), indent=1) + "\n", encoding="utf-8")
            (path / "report.partial").replace(path / "report.json")
        except OSError as error:
            raise WorkspaceError(
                f"The evaluation can't be kept in {path}: {error}. Free space or rights there."
            ) from error
        return kept

    def latest(self, model_id: str, adapter: str | None, *, split: str | None = None) -> KeptReport | None:
        """The newest kept evaluation of this model and adapter, on this split if one is named."""
        for kept in self.list():
            if (kept.model_id, kept.adapter) == (model_id, adapter) and split in (None, kept.split):
                return kept
        return None

    def find(self, model_id: str, adapter: str | None, samples_sha256: str) -> KeptReport | None:
        """The newest evaluation of this model and adapter on exactly these samples (see `samples_digest`)."""
        for kept in self.list():
            if (kept.model_id, kept.adapter, kept.samples_sha256) == (model_id, adapter, samples_sha256):
                return kept
        return None

    def list(self) -> list[KeptReport]:
        """Every complete evaluation, newest first. A damaged one is left out."""
        found = []
        for path in self.folder.glob("*/report.json"):
            try:
                found.append(_read(path))
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue
        return sorted(found, key=lambda kept: (kept.created_at, kept.path.stat().st_mtime_ns), reverse=True)


def report_json(kept: KeptReport) -> dict[str, Any]:
    """The figures as the JSON document of report.json and of `python -m grounding evaluate --json`."""
    return {
        "format": _FORMAT,
        "id": kept.id,
        "created_at": kept.created_at,
        "model_id": kept.model_id,
        "adapter": kept.adapter,
        "split": kept.split,
        "samples_sha256": kept.samples_sha256,
        "scores": scores_json(kept.scores),
    }


def scores_json(scores: Scores) -> dict[str, Any]:
    """Scores with plain JSON keys."""
    return {
        "count": scores.count,
        "detection_rate": scores.detection_rate,
        "mean_iou": scores.mean_iou,
        "median_iou": scores.median_iou,
        "accuracy": {str(threshold): value for threshold, value in scores.accuracy.items()},
        "no_target_count": scores.no_target_count,
        "no_target_accuracy": scores.no_target_accuracy,
    }


def _read(path: Path) -> KeptReport:
    values: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    datetime.fromisoformat(values["created_at"])  # raises for what can't be put in order
    scores = dict(values["scores"])
    accuracy = MappingProxyType({float(threshold): value for threshold, value in scores.pop("accuracy").items()})
    return KeptReport(
        id=values["id"],
        path=path.parent,
        created_at=values["created_at"],
        model_id=values["model_id"],
        adapter=values["adapter"],
        split=values["split"],
        samples_sha256=values["samples_sha256"],
        scores=Scores(accuracy=accuracy, **scores),
    )


def write_parquet(path: Path, rows: Sequence[ScoredSample]) -> None:
    """The per-sample log: one row a sample, boxes as lists of x1, y1, x2, y2 in pixels of the original image."""
    import pyarrow
    from pyarrow import parquet

    # Named rather than guessed from the rows, so that the logs of several evaluations can be read as one table.
    text, number, boxes = pyarrow.string(), pyarrow.float64(), pyarrow.list_(pyarrow.list_(pyarrow.float64()))
    columns = dict.fromkeys(("id", "image", "phrase", "category", "split"), text)
    columns |= {"truth_xyxy_px": boxes, "answer_xyxy_px": boxes, "iou": number, "status": text, "raw_text": text}
    columns |= {"confidence": number, "seconds": number}
    table = pyarrow.Table.from_pylist(
        [
            {
                "id": row.sample.id,
                "image": row.sample.image.name,
                "phrase": row.sample.phrase,
                "category": row.sample.category,
                "split": row.sample.split,
                "truth_xyxy_px": _numbers(row.sample.boxes_xyxy_px),
                "answer_xyxy_px": _numbers(row.prediction.boxes_xyxy_px),
                "iou": row.iou,
                "status": str(row.prediction.status),
                "raw_text": row.prediction.raw_text,
                "confidence": row.prediction.confidence,
                "seconds": row.prediction.seconds,
            }
            for row in rows
        ],
        schema=pyarrow.schema(columns),
    )
    parquet.write_table(table, path)


def _numbers(boxes_xyxy_px: Sequence[Box]) -> list[list[float]]:
    return [list(box.rounded()) for box in boxes_xyxy_px]
