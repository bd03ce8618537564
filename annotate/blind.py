"""Point from a phrase alone: which sample comes next for whom, and what a point means."""

from __future__ import annotations

import math
import sqlite3

from annotate.rows import boxes_of
from grounding.boxes import SAME_THING_IOU, Box, iou
from grounding.errors import StoreError

FRONT = (-1, -1)
Point = tuple[float, float]
# The condition is word for word that of the partial index (schema m008), or SQLite could not use it.
SEEK_BLIND = (
    "SELECT id FROM samples INDEXED BY samples_blind "
    "WHERE split = ? AND placeholder = 0 AND state <> 'rejected' AND (shuffle, position) > (?, ?) "
    "AND edited_by <> ? AND NOT EXISTS (SELECT 1 FROM opinions o INDEXED BY opinions_of_sample "
    "WHERE o.sample_id = samples.id AND o.who = ? AND o.kind = 'blind' AND o.phrase = samples.phrase) "
    "ORDER BY shuffle, position LIMIT 1"
)


def seek_blind(connection: sqlite3.Connection, who: str, split: str, place: tuple[int, int]) -> str | None:
    """The id of the first sample behind this place that the person may point at, or None."""
    row = connection.execute(SEEK_BLIND, (split, *place, who, who)).fetchone()
    return None if row is None else str(row["id"])


def last_place(connection: sqlite3.Connection, who: str, split: str) -> tuple[int, int]:
    """(shuffle, position) of the sample that this person pointed at last in this split."""
    row = connection.execute(
        "SELECT s.shuffle, s.position FROM opinions o JOIN samples s ON s.id = o.sample_id "
        "WHERE o.who = ? AND o.kind = 'blind' AND s.split = ? ORDER BY o.id DESC LIMIT 1",
        (who, split),
    ).fetchone()
    return FRONT if row is None else (row["shuffle"], row["position"])


def place_of(connection: sqlite3.Connection, sample_id: str) -> tuple[int, int]:
    """(shuffle, position) of this sample; the front for one that does not stand."""
    row = connection.execute("SELECT shuffle, position FROM samples WHERE id = ?", (sample_id,)).fetchone()
    return FRONT if row is None else (row["shuffle"], row["position"])


def check_point(connection: sqlite3.Connection, row: sqlite3.Row, point_xy_px: Point) -> None:
    """Raises `StoreError` when the point lies outside the picture of the sample in `row`."""
    width, height = connection.execute(
        "SELECT width_px, height_px FROM pictures WHERE sha256 = ?", (row["picture_sha256"],)
    ).fetchone()
    x, y = point_xy_px
    if not (0 <= x <= width and 0 <= y <= height):
        raise StoreError(f"({x:g}, {y:g}) lies outside the picture of {width} x {height} pixels. Point inside it.")


def met_by_point(connection: sqlite3.Connection, row: sqlite3.Row, point_xy_px: Point) -> float:
    """1.0 when the point means the target, else 0.0.

    It means the smallest box it lies in, of this sample or of another of the picture: who points at the shirt inside
    the box of its wearer means the shirt.
    """
    ids = connection.execute("SELECT id FROM samples WHERE picture_sha256 = ?", (row["picture_sha256"],)).fetchall()
    boxes = boxes_of(connection, [one["id"] for one in ids])
    target = boxes.pop(row["id"], [])
    around = [box for box in target if _inside(point_xy_px, box)]
    others = [
        other
        for of_sibling in boxes.values()
        for other in of_sibling
        if _inside(point_xy_px, other) and not any(iou(other, box) >= SAME_THING_IOU for box in target)
    ]
    smallest = min((box.area_px for box in around), default=math.inf)
    return float(bool(around) and all(smallest < other.area_px for other in others))


def _inside(point_xy_px: Point, box: Box) -> bool:
    x, y = point_xy_px
    return box.x1 <= x <= box.x2 and box.y1 <= y <= box.y2
