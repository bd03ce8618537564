"""A sample as it stood, its boxes checked, a new one beside it. All inside the caller's transaction."""

from __future__ import annotations

import json
import random
import secrets
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from annotate.edits import BOXES, EDITABLE, clean_who, insert_boxes, now
from annotate.intake import SHUFFLE_PLACES, clip_overhang
from annotate.items import Item
from annotate.problems import refresh_reworded
from annotate.rows import boxes_of, one_item
from grounding.boxes import Box
from grounding.errors import RecordError, StoreError

MOST_BOXES = 100


def check_boxes(connection: sqlite3.Connection, row: sqlite3.Row, boxes_xyxy_px: Sequence[Box]) -> list[list[float]]:
    """`boxes_inside` the picture of the sample in `row`, each as [x1, y1, x2, y2]."""
    width_px, height_px = connection.execute(
        "SELECT width_px, height_px FROM pictures WHERE sha256 = ?", (row["picture_sha256"],)
    ).fetchone()
    return [list(box) for box in boxes_inside(boxes_xyxy_px, (width_px, height_px))]


def boxes_inside(boxes_xyxy_px: Sequence[Box], image_size_wh: tuple[int, int]) -> tuple[Box, ...]:
    """The boxes as they are kept: cut at the edges of the picture (width, height in pixels), the same box once.

    Raises `StoreError` for one that lies outside, or for more than a hundred.
    """
    if len(boxes_xyxy_px) > MOST_BOXES:
        raise StoreError(f"{len(boxes_xyxy_px)} boxes are too many for one phrase; the limit is {MOST_BOXES}.")
    try:
        return tuple(dict.fromkeys(clip_overhang(box, image_size_wh) for box in boxes_xyxy_px))
    except RecordError as error:
        raise StoreError(f"Not saved: {error}") from error


def version_after(connection: sqlite3.Connection, row: sqlite3.Row, change_id: int) -> dict[str, object]:
    """The values to put back so that the sample stands as right after this change."""
    change = connection.execute(
        "SELECT revision, phrase_after FROM changes WHERE id = ? AND sample_id = ?", (change_id, row["id"])
    ).fetchone()
    if change is None:
        raise StoreError(f"The history of {row['id']} has no change {change_id}. Reload the page.")
    later = connection.execute(
        "SELECT before FROM changes WHERE sample_id = ? AND revision > ? ORDER BY revision",
        (row["id"], change["revision"]),
    ).fetchall()
    if not later:
        raise StoreError("This is how the sample stands now: there is nothing to put back.")
    befores = [json.loads(one["before"]) for one in later]
    values: dict[str, object] = {name: befores[0][name] for name in EDITABLE if name in befores[0]}
    boxes = next((before[BOXES] for before in befores if BOXES in before), None)
    return values | {"phrase": change["phrase_after"]} | ({} if boxes is None else {BOXES: boxes})


def add_sample(
    connection: sqlite3.Connection,
    beside: str,
    phrase: str,
    boxes_xyxy_px: Sequence[Box],
    who: str,
    pictures_folder: Path,
) -> Item:
    """A sample that a person made, on the picture of `beside`; the one that stands already when the same person made
    it, as a page that got no answer sends it twice. Raises `StoreError` for an unknown id or a bad box."""
    row = connection.execute("SELECT * FROM samples WHERE id = ?", (beside,)).fetchone()
    if row is None:
        one_item(connection, beside, pictures_folder)  # raises, and says so
    boxes = check_boxes(connection, row, boxes_xyxy_px)
    made_before = _unchanged_since_added(connection, row, phrase, boxes, who)
    if made_before is not None:
        return one_item(connection, made_before, pictures_folder)
    sample_id, at = f"new-{secrets.token_hex(6)}", now()
    position = connection.execute("SELECT MAX(position) + 1 FROM samples").fetchone()[0]
    connection.execute(
        "INSERT INTO samples (id, position, picture_sha256, image_id, phrase, category, split, source, alternatives, "
        "extra, placeholder, shuffle, state, edited_by, seen_at) "
        "VALUES (?, ?, ?, ?, ?, '', ?, 'people', '[]', '{}', 0, ?, 'written', ?, ?)",
        (
            sample_id,
            position,
            row["picture_sha256"],
            row["image_id"],
            phrase,
            row["split"],
            random.randrange(SHUFFLE_PLACES),
            clean_who(who),
            at,
        ),
    )
    insert_boxes(connection, sample_id, boxes)
    connection.execute(
        "INSERT INTO changes (sample_id, revision, at, who, action, origin, phrase_after, before) "
        "VALUES (?, 1, ?, ?, 'add', 'human', ?, '{}')",
        (sample_id, at, clean_who(who), phrase),
    )
    refresh_reworded(connection, sample_id, "")
    return one_item(connection, sample_id, pictures_folder)


def _unchanged_since_added(
    connection: sqlite3.Connection, beside: sqlite3.Row, phrase: str, boxes_xyxy_px: list[list[float]], who: str
) -> str | None:
    """The id of a sample that this person added with these very words and boxes, and nobody has changed since."""
    alike = connection.execute(
        "SELECT id FROM samples INDEXED BY samples_of_picture WHERE picture_sha256 = ? AND split = ? AND phrase = ? "
        "AND revision = 1 AND EXISTS (SELECT 1 FROM changes WHERE sample_id = samples.id AND action = 'add' "
        "AND who = ?)",
        (beside["picture_sha256"], beside["split"], phrase, clean_who(who)),
    ).fetchall()
    boxes = boxes_of(connection, [one["id"] for one in alike])
    wanted = [Box(*box) for box in boxes_xyxy_px]
    return next((one["id"] for one in alike if boxes.get(one["id"], []) == wanted), None)
