"""RefCOCO as lmms-lab publishes it, as Parquet or saved by `datasets`; also such tables with the columns of our JSONL.

There `question` holds one instruction for every row: a placeholder. The real phrases are in `answer`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from annotate.carried import KEY, restore
from annotate.importers.picture_folders import PictureFolders
from annotate.importers.splits import split_in
from annotate.importers.tables import Table, columns_of, find_tables, rows_of
from annotate.importers.unpacked import Unpacked
from annotate.items import BadRow
from annotate.xywh import box_from_xywh
from grounding.boxes import Box
from grounding.errors import BoxError, RecordError
from grounding.records import Sample

_OF_REFCOCO = frozenset({"image", "bbox", "answer"})
_OF_OURS = frozenset({"image", "boxes_xyxy_px", "phrase"})
_DATASET = re.compile(r"(?<![a-z])refcoco(?:\+|-?plus|g)?(?![a-z])", re.IGNORECASE)
_COCO_NAME = re.compile(r"COCO_[A-Za-z]+\d{4}_(\d{12})(?!\d)")
_PATH_PARTS_LOOKED_AT = 5
_TAKEN_COLUMNS = frozenset(
    {"id", "image", "phrase", "question", "answer", "alternatives", "bbox", "boxes_xyxy_px", "split", "category"}
    | {"image_id", KEY}
)
OWN_KEYS = frozenset({"question_id", "iscrowd", "segmentation", "file_name", "source_split", "dataset"})


class Importer:
    """Reads a .parquet file, a folder of them, or a folder of `save_to_disk`."""

    name = "refcoco"
    expects = "Parquet, or a folder of `save_to_disk`, with the columns image, bbox, question and answer"
    recognise_order = 20

    def recognises(self, source: Path) -> bool:
        try:
            return any(_is_known(columns_of(table)) for table in find_tables(source)[:1])
        except (OSError, RecordError):
            return False

    def read(self, source: Path, scratch: Path) -> Iterator[Sample | BadRow]:
        tables = find_tables(source)
        if not tables:
            raise RecordError(f"{source} holds no Parquet or Arrow file. Expected {self.expects}.")
        reading = _Reading(source.resolve(), scratch)
        for table in tables:
            yield from reading.rows(table)


def _is_known(columns: frozenset[str]) -> bool:
    return columns >= _OF_REFCOCO or columns >= _OF_OURS


class _Reading:
    """One import: the ids and pictures it has met."""

    def __init__(self, source: Path, scratch: Path) -> None:
        self._dataset = _dataset_name(source)
        self._pictures = PictureFolders((source if source.is_dir() else source.parent,))
        self._unpacked = Unpacked(scratch)
        self._met: Counter[str] = Counter()

    def rows(self, table: Table) -> Iterator[Sample | BadRow]:
        columns = columns_of(table)
        if columns and not _is_known(columns):
            raise RecordError(
                f"{table.path} has the columns {', '.join(sorted(columns))[:300]}. "
                "Expected image, bbox, question and answer, or image, phrase and boxes_xyxy_px."
            )
        for number, row in enumerate(rows_of(table), start=1):
            where = f"{table.path.name}, row {number}"
            if isinstance(row, str):
                yield BadRow(where, row)
                continue
            try:
                yield self._sample(row, table, number)
            except (RecordError, BoxError) as error:
                yield BadRow(where, str(error))

    def _sample(self, row: dict[str, Any], table: Table, number: int) -> Sample:
        split, source_split = _split(row, table)
        phrase, alternatives = _phrases(row)
        boxes_xyxy_px = _boxes(row)
        extra = {key: value for key, value in row.items() if key not in _TAKEN_COLUMNS and value is not None}
        if source_split and "id" not in row:
            extra |= {"source_split": source_split, "dataset": self._dataset}
        seen = Sample(
            id=self._id(row, source_split or split, number),
            image=self._picture(row["image"]),
            phrase=phrase,
            boxes_xyxy_px=boxes_xyxy_px,
            split=split,
            category=_text_or(row.get("category"), ""),
            image_id=_text_or(row.get("image_id"), _coco_id(row.get("file_name"))),
            alternatives=alternatives,
            extra=extra,
        )
        return restore(seen, _decoded(row.get(KEY)), OWN_KEYS)

    def _id(self, row: dict[str, Any], source_split: str, number: int) -> str:
        """The row's own id; `question_id` counts within its split only, and may come several times there."""
        if row.get("id") is not None:
            return str(row["id"])
        question_id = _text_or(row.get("question_id"), f"row-{number}")
        wanted = f"{self._dataset}/{source_split}/{question_id}"
        self._met[wanted] += 1
        return wanted if self._met[wanted] == 1 else f"{wanted}~{self._met[wanted]}"

    def _picture(self, image: object) -> Path:
        held = image.get("bytes") if isinstance(image, dict) else image
        if isinstance(held, bytes) and held:
            return self._unpacked.path_of(held)
        named = image.get("path") if isinstance(image, dict) else image
        if not isinstance(named, str) or not named:
            raise RecordError("it has no picture. Expected its bytes, or a path relative to the table.")
        return self._pictures.find(named)


def _dataset_name(source: Path) -> str:
    """refcoco, refcoco+ or refcocog where the path says so; else the name of the folder."""
    parts = source.parts[-_PATH_PARTS_LOOKED_AT:]
    for part in reversed(parts):
        if found := _DATASET.search(part):
            return re.sub("-?plus", "+", found.group().lower())
    folder = source if source.is_dir() else source.parent
    return folder.parent.name if folder.name == "data" else folder.name


def _split(row: dict[str, Any], table: Table) -> tuple[str, str]:
    """(our split, the word of the source). Raises `RecordError` when the row names one that is unknown."""
    if row.get("split") is None:
        return table.split or "test", table.source_split
    found = split_in(str(row["split"]))
    if found is None:
        raise RecordError(
            f"its split {str(row['split'])[:80]!r} is unknown. Expected train, val, test, testA or testB."
        )
    return found


def _phrases(row: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """(the phrase, other phrases for the same box)."""
    others = row.get("alternatives", row.get("answer"))
    others = [others] if isinstance(others, str) else [] if others is None else others
    if not isinstance(others, list) or not all(isinstance(other, str) for other in others):
        raise RecordError(f"its answer {str(others)[:80]} is no list of texts.")
    phrase = row.get("phrase", row.get("question"))
    if phrase is None:
        phrase = others[0] if others else ""
    if not isinstance(phrase, str):
        raise RecordError(f"its phrase {str(phrase)[:80]!r} is no text.")
    return phrase, tuple(others)


def _boxes(row: dict[str, Any]) -> tuple[Box, ...]:
    """Its boxes: four numbers of `bbox` each, or `boxes_xyxy_px`. Raises `RecordError` when the row has neither."""
    if row.get("boxes_xyxy_px") is not None:
        return tuple(
            Box.from_numbers(_sequence(box, "box")) for box in _sequence(row["boxes_xyxy_px"], "boxes_xyxy_px")
        )
    numbers = _sequence(row.get("bbox"), "bbox")
    if len(numbers) % 4:
        raise RecordError(f"its bbox has {len(numbers)} numbers. Expected x, y, width, height in pixels for each box.")
    return tuple(box_from_xywh(numbers[start : start + 4]) for start in range(0, len(numbers), 4))


def _sequence(value: object, name: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise RecordError(f"its {name} is {str(value)[:80]}. Expected a list of numbers of pixels.")
    return value


def _coco_id(file_name: object) -> str:
    """The id of the picture in COCO, which all of RefCOCO's data sets share, as their file names hold it."""
    found = _COCO_NAME.search(file_name) if isinstance(file_name, str) else None
    return str(int(found.group(1))) if found else ""


def _text_or(value: object, default: str) -> str:
    return default if value is None else str(value)


def _decoded(kept: object) -> object:
    try:
        return json.loads(kept) if isinstance(kept, str) else None
    except (ValueError, RecursionError):
        return None
