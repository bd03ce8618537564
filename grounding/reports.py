"""Keep evaluations: a per-sample log as Parquet, the figures as JSON and Markdown, shown again on the next visit."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from grounding.boxes import Box
from grounding.buckets import Buckets, bucket_scores
from grounding.decoding.settings import Decoding
from grounding.errors import PictureError, WorkspaceError
from grounding.evaluation import Report
from grounding.journal import JOURNAL, EvaluationSettings, Journal, picture_sha256, samples_digest
from grounding.markdown import report_markdown
from grounding.metrics import ScoredSample, Scores
from grounding.pictures import picture_size_wh
from grounding.records import Prediction, Sample, Status, source_of
from grounding.seen import SeenCount

__all__ = [
    "KeptReport",
    "ReportStore",
    "as_utf8",
    "finished_report",
    "read_report",
    "read_rows",
    "report_json",
    "samples_digest",
    "scores_json",
    "write_parquet",
]

REPORT, SAMPLES, MARKDOWN = "report.json", "samples.parquet", "report.md"
_FORMAT = "boxwright-report/1"
_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError)


def _no_buckets() -> Buckets:
    return MappingProxyType({})


def _no_settings() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True)
class KeptReport:
    """The figures of a kept evaluation. `path` holds report.json, report.md and samples.parquet.

    `buckets` are `buckets.bucket_scores` of its rows; `settings` is `EvaluationSettings` in its JSON form, empty
    where the evaluation kept no log. Reports of earlier versions have neither. `seen` says what the adapter saw in
    training, which `scores` and `buckets` leave out, one that was merged into the model too; None for another base, and
    in reports of earlier versions, which count all (`counted.counted_report` knows more).
    """

    id: str
    path: Path
    created_at: str
    model_id: str
    adapter: str | None
    split: str
    samples_sha256: str
    scores: Scores
    buckets: Buckets = field(default_factory=_no_buckets)
    settings: Mapping[str, Any] = field(default_factory=_no_settings)
    seen: SeenCount | None = None

    @property
    def total(self) -> int:
        """How many samples were asked, those that `scores` leave out too."""
        return self.scores.count + self.scores.no_target_count + (self.seen_left_out or 0)

    @property
    def seen_left_out(self) -> int | None:
        """How many samples that the adapter saw in training `scores` leave out; None where nobody knew what it saw."""
        if self.adapter is None and self.seen is None:
            return 0
        return self.seen.left_out if self.seen is not None and self.seen.known else None

    @property
    def seen_words(self) -> str:
        """What stands beside a figure in a list, such as "12 seen left out"; "" where there is nothing to say."""
        left_out = self.seen_left_out
        if left_out is None:
            return "may count seen samples"
        return f"{left_out:,} seen left out" if left_out else ""


class ReportStore:
    """The evaluations of a workspace."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, report: Report, *, split: str, folder: Path | None = None) -> KeptReport:
        """Write samples.parquet, report.md and report.json, the last one last: its presence means complete.

        They go into `folder`, where one is given, else into a new folder of the store. The evaluation's log
        (`journal.JOURNAL`), if it stands there, is removed: samples.parquet holds all of it.
        Raises `WorkspaceError` when the folder can't be written or holds a report already.
        """
        path = folder or self.new_folder()
        if (path / REPORT).exists():
            raise WorkspaceError(f"{path} holds a report already. Choose another folder (--out).")
        settings = report.settings.to_json() if report.settings else {}
        kept = KeptReport(
            id=path.resolve().name,
            path=path,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            model_id=report.model_id,
            adapter=report.adapter,
            split=split,
            samples_sha256=samples_digest(row.sample for row in report.rows),
            scores=report.scores,
            buckets=bucket_scores(report.counted),
            settings=MappingProxyType(settings),
            seen=report.seen.count if report.seen else None,
        )
        document = json.dumps(report_json(kept), indent=1) + "\n"
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_parquet(path / SAMPLES, report.rows, _marks(report))
            said = [kept.seen.sentence] if kept.seen else []
            told = report_markdown(_title(kept), kept.scores, kept.buckets, report.counted, said)
            _write_text(path / MARKDOWN, told)
            _write_text(path / REPORT, document)
            (path / JOURNAL).unlink(missing_ok=True)
        except OSError as error:
            raise WorkspaceError(
                f"The evaluation can't be kept in {path}: {error}. Free space or rights there."
            ) from error
        return kept

    def new_folder(self) -> Path:
        """A folder for one evaluation, named after the time; not made yet."""
        return self.folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"

    def unfinished(self, settings: EvaluationSettings) -> Path | None:
        """The newest folder of the store in which an evaluation under these settings was interrupted."""
        for path in sorted(self.folder.glob(f"*/{JOURNAL}"), reverse=True):
            try:
                journal = Journal(path, settings)
                if not (path.parent / REPORT).exists() and journal.read():
                    with journal.held():  # another program may be at it
                        return path.parent
            except WorkspaceError:
                continue  # of other settings, damaged, or in use
        return None

    def latest(self, model_id: str, adapter: str | None, *, split: str | None = None) -> KeptReport | None:
        """The newest kept evaluation of this model and adapter asked in the default way, on this split if named."""
        for kept in self.list():
            asked = (kept.model_id, kept.adapter) == (model_id, adapter) and asked_plainly(kept)
            if asked and split in (None, kept.split):
                return kept
        return None

    def find(self, model_id: str, adapter: str | None, samples_sha256: str) -> KeptReport | None:
        """The newest evaluation of this model and adapter, asked in the default way, on exactly these samples (see
        `samples_digest`)."""
        for kept in self.list():
            same = (kept.model_id, kept.adapter, kept.samples_sha256) == (model_id, adapter, samples_sha256)
            if same and asked_plainly(kept):
                return kept
        return None

    def list(self) -> list[KeptReport]:
        """Every complete evaluation, newest first. A damaged one is left out, and one that is removed meanwhile."""
        found = []
        for path in self.folder.glob(f"*/{REPORT}"):
            try:
                kept = _read(path)
                found.append((kept.created_at, path.parent.stat().st_mtime_ns, kept))
            except _DAMAGE:
                continue
        return [kept for *_, kept in sorted(found, key=lambda one: one[:2], reverse=True)]


def weights_of(kept: KeptReport) -> str:
    """How the model's weights were quantised: "none", "4bit" or "8bit", by what was asked for, else by what the model
    said of itself, as in an evaluation from Python."""
    conditions = kept.settings.get("conditions") or {}
    return str(conditions.get("quantize") or conditions.get("weights") or "none")


def asked_plainly(kept: KeptReport, quantize: str = "none") -> bool:
    """Whether the model was asked as the page of an app with `--quantize` asks it: its own profile, plain decoding,
    nothing else about it.

    Reports without settings were made by the page of an earlier version.
    """
    settings = kept.settings
    if not settings:
        return True
    conditions = settings.get("conditions", {})
    decoding = settings.get("decoding", {}) in ({}, Decoding().to_json())
    return decoding and weights_of(kept) == quantize and not conditions.keys() & {"rerank", "profile"}


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
        "settings": dict(kept.settings),
        "seen": kept.seen.to_json() if kept.seen else None,
        "scores": scores_json(kept.scores),
        "buckets": {
            dimension: {bucket: scores_json(scores) for bucket, scores in inside.items()}
            for dimension, inside in kept.buckets.items()
        },
    }


def scores_json(scores: Scores) -> dict[str, Any]:
    """Scores with plain JSON keys."""
    accuracy = {str(threshold): value for threshold, value in scores.accuracy.items()}
    statuses = {str(status): count for status, count in scores.statuses.items()}
    return {**vars(scores), "accuracy": accuracy, "statuses": statuses}


def _read_scores(values: Mapping[str, Any]) -> Scores:
    """The scores of a report; those of an older one lack the younger figures."""
    accuracy = {float(threshold): value for threshold, value in values["accuracy"].items()}
    read = {**values, "accuracy": MappingProxyType(accuracy)}
    if "statuses" in values:
        read["statuses"] = MappingProxyType({Status(name): count for name, count in values["statuses"].items()})
    return Scores(**read)


def _read(path: Path) -> KeptReport:
    values: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    datetime.fromisoformat(values["created_at"])  # raises for what can't be put in order
    return KeptReport(
        id=values["id"],
        path=path.parent,
        created_at=values["created_at"],
        model_id=values["model_id"],
        adapter=values["adapter"],
        split=values["split"],
        samples_sha256=values["samples_sha256"],
        scores=_read_scores(values["scores"]),
        buckets=MappingProxyType(
            {
                dimension: MappingProxyType({bucket: _read_scores(scores) for bucket, scores in inside.items()})
                for dimension, inside in values.get("buckets", {}).items()
            }
        ),
        settings=MappingProxyType(dict(values.get("settings", {}))),
        seen=SeenCount.from_json(values["seen"]) if values.get("seen") else None,
    )


def read_report(folder: Path) -> KeptReport | None:
    """The finished report in a folder, None where there is none. Raises `WorkspaceError` for a damaged one."""
    try:
        return _read(folder / REPORT)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except _DAMAGE as error:
        raise WorkspaceError(
            f"{folder / REPORT} is damaged ({error}). Evaluate into another folder (--out)."
        ) from error


def finished_report(folder: Path, settings: EvaluationSettings) -> KeptReport | None:
    """The finished report of these settings in a folder, None where there is none.

    Raises `WorkspaceError` when there is one of other settings.
    """
    kept = read_report(folder)
    if kept is not None and (differences := settings.differences(kept.settings)):
        raise WorkspaceError(
            f"{folder} holds the report of another evaluation: {'; '.join(differences)}. Choose another --out."
        )
    return kept


def _marks(report: Report) -> Sequence[str | None]:
    """What stands in the column "seen": null where it isn't known."""
    if report.seen is not None and report.seen.known:
        return report.seen.marks
    return [None if report.adapter or report.seen else ""] * len(report.rows)


def write_parquet(path: Path, rows: Sequence[ScoredSample], seen: Sequence[str | None] | None = None) -> None:
    """The per-sample log: one row a sample, boxes as lists of x1, y1, x2, y2 in pixels of the original image.

    Boxes stand there to the last digit, so that every figure can be computed from the file again. `image` is the
    picture's file name, `image_file` its whole path, `image_sha256` that of its content. Content and size are null
    where the picture can't be read (any more). `source` is `records.source_of` the sample. `seen` [samples] is what the
    adapter saw in training when the report was made, one of `seen.MARKS`, null where that isn't known.
    """
    import pyarrow
    from pyarrow import parquet

    # Named rather than guessed from the rows, so that the logs of several evaluations can be read as one table.
    text, number, whole = pyarrow.string(), pyarrow.float64(), pyarrow.int32()
    boxes, numbers = pyarrow.list_(pyarrow.list_(number)), pyarrow.list_(number)
    columns = dict.fromkeys(("id", "image", "image_file", "image_sha256", "image_id"), text)
    columns |= dict.fromkeys(("image_width_px", "image_height_px"), whole)
    columns |= dict.fromkeys(("phrase", "category", "split", "source"), text)
    columns |= {"truth_xyxy_px": boxes, "answer_xyxy_px": boxes, "iou": number, "status": text, "raw_text": text}
    columns |= {"confidence": number, "box_confidences": numbers, "seconds": number, "seen": text}
    marks = [None] * len(rows) if seen is None else seen
    pictures = {path: _picture(path) for path in dict.fromkeys(row.sample.image for row in rows)}
    table = pyarrow.Table.from_pylist(
        [_record(row) | pictures[row.sample.image] | {"seen": mark} for row, mark in zip(rows, marks, strict=True)],
        schema=pyarrow.schema(columns),
    )
    parquet.write_table(table, path)


def _record(row: ScoredSample) -> dict[str, Any]:
    sample, prediction = row.sample, row.prediction
    return {
        "id": as_utf8(sample.id),
        "image_id": as_utf8(sample.image_id),
        "phrase": as_utf8(sample.phrase),
        "category": as_utf8(sample.category),
        "split": sample.split,
        "source": as_utf8(source_of(sample)),
        "truth_xyxy_px": _numbers(sample.boxes_xyxy_px),
        "answer_xyxy_px": _numbers(prediction.boxes_xyxy_px),
        "iou": row.iou,
        "status": str(prediction.status),
        "raw_text": as_utf8(prediction.raw_text),
        "confidence": prediction.confidence,
        "box_confidences": list(prediction.box_confidences),
        "seconds": prediction.seconds,
    }


def _picture(path: Path) -> dict[str, Any]:
    size_wh: tuple[int | None, int | None] = (None, None)
    with suppress(PictureError):
        size_wh = picture_size_wh(path)
    return {
        "image": as_utf8(path.name),
        "image_file": as_utf8(str(path)),
        "image_sha256": picture_sha256(path),
        "image_width_px": size_wh[0],
        "image_height_px": size_wh[1],
    }


def read_rows(folder: Path) -> tuple[ScoredSample, ...]:
    """The rows of a kept evaluation in their order. Reports of earlier versions have boxes in hundredths of a pixel.

    Raises `WorkspaceError` when there is no samples.parquet or it is damaged.
    """
    import pyarrow
    from pyarrow import parquet

    path = folder / SAMPLES
    try:
        # Opened here: pyarrow would take a text such as "a:b" for an address.
        with path.open("rb") as file:
            records = parquet.read_table(file).to_pylist()
        return tuple(_row(record) for record in records)
    except FileNotFoundError as error:
        raise WorkspaceError(
            f"There is no {SAMPLES} in {folder}. Give the folder of a finished `python -m grounding evaluate`."
        ) from error
    except (*_DAMAGE, pyarrow.ArrowException) as error:
        raise WorkspaceError(f"{path} can't be read as a report's samples ({error}). Evaluate anew.") from error


def _row(record: Mapping[str, Any]) -> ScoredSample:
    sample = Sample(
        id=record["id"],
        image=Path(record.get("image_file") or record["image"]),  # reports of earlier versions have the name only
        phrase=record["phrase"],
        boxes_xyxy_px=_boxes(record["truth_xyxy_px"]),
        split=record["split"],
        category=record["category"],
        image_id=record.get("image_id") or "",
    )
    prediction = Prediction(
        boxes_xyxy_px=_boxes(record["answer_xyxy_px"]),
        status=Status(record["status"]),
        raw_text=record["raw_text"],
        confidence=record["confidence"],
        seconds=record["seconds"],
        box_confidences=tuple(record.get("box_confidences") or ()),
    )
    return ScoredSample(sample, prediction, record["iou"])


def _boxes(numbers: Sequence[Sequence[float]]) -> tuple[Box, ...]:
    return tuple(Box.from_numbers(four) for four in numbers)


def _numbers(boxes_xyxy_px: Sequence[Box]) -> list[list[float]]:
    return [list(box) for box in boxes_xyxy_px]


def as_utf8(text: str) -> str:
    """The text with half characters (lone surrogates), which no Parquet file can hold, in their backslash form."""
    return text.encode("utf-8", "backslashreplace").decode()


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8", errors="backslashreplace")
    partial.replace(path)


def _title(kept: KeptReport) -> str:
    who = f"adapter {kept.adapter} on {kept.model_id}" if kept.adapter else f"base {kept.model_id}"
    return f"{who}, {kept.split}"
