"""Rows of the database as the frozen records of `annotate.items`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from annotate.items import Change, Item
from grounding.boxes import Box
from grounding.errors import StoreError
from grounding.records import Sample, source_of

BATCH_ROWS = 500
_ITEMS = "SELECT s.*, p.file, p.width_px, p.height_px FROM samples s JOIN pictures p ON p.sha256 = s.picture_sha256"


def one_item(connection: sqlite3.Connection, sample_id: str, pictures_folder: Path) -> Item:
    """The sample with this id. Raises `StoreError` when there is none."""
    row = connection.execute(f"{_ITEMS} WHERE s.id = ?", (sample_id,)).fetchone()
    if row is None:
        raise StoreError(f"There is no sample {sample_id[:80]!r} in this workspace. Reload the page, or import it.")
    return to_items(connection, [row], pictures_folder)[0]


def select_items(
    connection: sqlite3.Connection, pictures_folder: Path, tail_sql: str, parameters: Iterable[object] = ()
) -> Iterator[Item]:
    """Items streamed in batches; `tail_sql` is what follows FROM (WHERE, ORDER BY, LIMIT on table s)."""
    cursor = connection.execute(f"{_ITEMS} {tail_sql}", tuple(parameters))
    while rows := cursor.fetchmany(BATCH_ROWS):
        yield from to_items(connection, rows, pictures_folder)


def to_items(connection: sqlite3.Connection, rows: list[sqlite3.Row], pictures_folder: Path) -> list[Item]:
    """The items of rows that `select_items` read, in their order, with their boxes."""
    boxes = boxes_of(connection, [row["id"] for row in rows])
    return [_to_item(row, tuple(boxes.get(row["id"], ())), pictures_folder) for row in rows]


def sourced(item: Item) -> Sample:
    """The sample with what it is from in its `extra`: the name of the import, where it says nothing itself."""
    if source_of(item.sample):
        return item.sample
    return replace(item.sample, extra=MappingProxyType({**item.sample.extra, "source": item.source}))


def boxes_of(connection: sqlite3.Connection, ids: list[str]) -> dict[str, list[Box]]:
    """The boxes of these samples, by id; samples without a box are left out."""
    marks = ", ".join("?" * len(ids))
    found: dict[str, list[Box]] = {}
    for sample_id, *coordinates_px in connection.execute(
        f"SELECT sample_id, x1_px, y1_px, x2_px, y2_px FROM boxes WHERE sample_id IN ({marks}) "
        "ORDER BY sample_id, ordinal",
        ids,
    ):
        found.setdefault(sample_id, []).append(Box(*coordinates_px))
    return found


def boxes_on_picture(connection: sqlite3.Connection, picture_sha256: str) -> dict[str, list[Box]]:
    """The boxes of every sample of the picture that has any, by id, in import order."""
    found: dict[str, list[Box]] = {}
    for sample_id, *coordinates_px in connection.execute(
        "SELECT id, x1_px, y1_px, x2_px, y2_px FROM samples INDEXED BY samples_of_picture "
        "CROSS JOIN boxes ON sample_id = id WHERE picture_sha256 = ? ORDER BY position, ordinal",
        (picture_sha256,),
    ):
        found.setdefault(sample_id, []).append(Box(*coordinates_px))
    return found


def _to_item(row: sqlite3.Row, boxes_xyxy_px: tuple[Box, ...], pictures_folder: Path) -> Item:
    sample = Sample(
        id=row["id"],
        image=pictures_folder / row["file"],
        phrase=row["phrase"],
        boxes_xyxy_px=boxes_xyxy_px,
        split=row["split"],
        category=row["category"],
        image_id=row["image_id"],
        alternatives=tuple(json.loads(row["alternatives"])),
        extra=MappingProxyType(json.loads(row["extra"])),
    )
    return Item(
        sample=sample,
        revision=row["revision"],
        state=row["state"],
        placeholder=bool(row["placeholder"]),
        flagged=bool(row["flagged"]),
        flag_note=row["flag_note"],
        skipped=row["skip_order"] > 0,
        image_size_wh=(row["width_px"], row["height_px"]),
        picture_sha256=row["picture_sha256"],
        place=(row["skip_order"], row["position"]),
        problems=tuple(row["problems"].split()),
        reject_reason=row["reject_reason"],
        edited_by=row["edited_by"],
        seen_at=row["seen_at"],
        shuffle=row["shuffle"],
        listener_iou=row["listener_iou"],
        listener_gap=row["listener_gap"],
        source=row["source"],
    )


def read_history(connection: sqlite3.Connection, sample_id: str) -> tuple[Change, ...]:
    """The changes of a sample, oldest first."""
    rows = connection.execute(
        "SELECT id, sample_id, revision, at, who, action, origin, phrase_before, phrase_after, note, batch, "
        "EXISTS (SELECT 1 FROM changes later WHERE later.undoes = changes.id) AS undone, "
        "json_extract(before, '$.boxes_xyxy_px') IS NOT NULL AS boxes_changed "
        "FROM changes WHERE sample_id = ? ORDER BY revision",
        (sample_id,),
    )
    return tuple(
        Change(**{**dict(row), "undone": bool(row["undone"]), "boxes_changed": bool(row["boxes_changed"])})
        for row in rows
    )
