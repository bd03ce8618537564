"""One edit: check the revision, write the sample, add the line of history. All inside the caller's transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from annotate import undecided
from annotate.phrases import clean_text
from annotate.problems import refresh_reworded
from annotate.rows import one_item
from annotate.structure import wording_key
from grounding.errors import StaleSaveError, StoreError
from grounding.placeholders import is_placeholder

EDITABLE = (
    *("phrase", "state", "flagged", "flag_note", "skipped_at", "skip_order"),
    *("split", "category", "reject_reason"),
)
BOXES = "boxes_xyxy_px"
# Of a sample whose phrase somebody stands for: what a skip or a rejection said of it holds no more.
WORKED_ON: Mapping[str, object] = MappingProxyType({"skipped_at": None, "skip_order": 0, "reject_reason": ""})
_MAX_WHO_CHARACTERS = 100


@dataclass(frozen=True)
class Edit:
    """Who does what to a sample; `origin` and `batch` as in `annotate.items.Change`, `undoes` the id of a change."""

    who: str
    action: str
    origin: str = "human"
    note: str = ""
    batch: str | None = None
    undoes: int | None = None


def now() -> str:
    """This moment in UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def clean_who(who: str) -> str:
    """The name on one line, at most 100 characters; "unknown" when empty."""
    return clean_text(who)[:_MAX_WHO_CHARACTERS] or "unknown"


def row_for_edit(
    connection: sqlite3.Connection, sample_id: str, expected_revision: int, pictures_folder: Path
) -> sqlite3.Row:
    """The sample's row, when it still stands at `expected_revision`.

    Raises `StoreError` for an unknown id and `StaleSaveError`, with the item that stands now, for another revision.
    """
    row = connection.execute("SELECT * FROM samples WHERE id = ?", (sample_id,)).fetchone()
    if row is not None and row["revision"] == expected_revision:
        return row
    current = one_item(connection, sample_id, pictures_folder)
    who, at = connection.execute(
        "SELECT who, at FROM changes WHERE sample_id = ? ORDER BY revision DESC LIMIT 1", (sample_id,)
    ).fetchone()
    raise StaleSaveError(
        f'{who} changed this sample at {at}, after your page showed it; it now reads "{current.phrase[:80]}". '
        "Nothing was overwritten: compare both versions, then save again.",
        current=current,
    )


def apply(connection: sqlite3.Connection, row: sqlite3.Row, values: Mapping[str, object], edit: Edit) -> None:
    """Set the `values` of the sample in `row`, one revision on, and record the change.

    They are columns of `EDITABLE`, and under `BOXES` a list of [x1, y1, x2, y2] that the caller has checked. A new
    phrase, or new boxes, make what a model heard before worthless.
    """
    after = {name: row[name] for name in EDITABLE} | {name: values[name] for name in values if name != BOXES}
    before = {name: row[name] for name in EDITABLE if name != "phrase"}
    if BOXES in values:
        before[BOXES] = replace_boxes(connection, row["id"], values[BOXES])
    reworded = after["phrase"] != row["phrase"]
    anew: dict[str, object] = {} if edit.batch else {"edited_by": clean_who(edit.who)}
    if reworded:
        anew["placeholder"] = stands_for_nothing(connection, str(after["phrase"]))
    if reworded or BOXES in values:
        anew |= {"listener_iou": None, "listener_gap": None}
    columns = {name: after[name] for name in EDITABLE if after[name] != row[name]} | anew
    settings = "".join(f"{name} = ?, " for name in columns)
    connection.execute(
        f"UPDATE samples SET {settings}revision = revision + 1 WHERE id = ?", (*columns.values(), row["id"])
    )
    connection.execute(
        "INSERT INTO changes (sample_id, revision, at, who, action, origin, phrase_before, phrase_after, before, "
        "note, batch, undoes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            row["id"],
            row["revision"] + 1,
            now(),
            clean_who(edit.who),
            edit.action,
            edit.origin,
            row["phrase"],
            after["phrase"],
            json.dumps(before),
            edit.note,
            edit.batch,
            edit.undoes,
        ),
    )
    if reworded or BOXES in values or "state" in columns:
        refresh_reworded(connection, row["id"], row["wording"])
    undecided.refresh(connection, row["id"])


def replace_boxes(connection: sqlite3.Connection, sample_id: str, boxes: object) -> list[list[float]]:
    """Put these boxes in the place of the sample's; returns those that stood, each as [x1, y1, x2, y2]."""
    assert isinstance(boxes, list)
    stood = [
        list(numbers)
        for numbers in connection.execute(
            "SELECT x1_px, y1_px, x2_px, y2_px FROM boxes WHERE sample_id = ? ORDER BY ordinal", (sample_id,)
        )
    ]
    connection.execute("DELETE FROM boxes WHERE sample_id = ?", (sample_id,))
    insert_boxes(connection, sample_id, boxes)
    return stood


def insert_boxes(connection: sqlite3.Connection, sample_id: str, boxes: Iterable[Iterable[float]]) -> None:
    """The boxes [x1, y1, x2, y2] of a sample that has none."""
    connection.executemany(
        "INSERT INTO boxes (sample_id, ordinal, x1_px, y1_px, x2_px, y2_px) VALUES (?, ?, ?, ?, ?, ?)",
        [(sample_id, ordinal, *box) for ordinal, box in enumerate(boxes)],
    )


def stands_for_nothing(connection: sqlite3.Connection, phrase: str) -> bool:
    """Whether the phrase is a placeholder: by its wording, or as a template that stands on many unrelated boxes."""
    return is_stand_in(phrase, known_templates(connection))


def is_stand_in(phrase: str, templates: Collection[str]) -> bool:
    """The same for those who ask about many phrases; `templates` are `known_templates`."""
    return is_placeholder(phrase) or (bool(templates) and wording_key(phrase) in templates)


def known_templates(connection: sqlite3.Connection) -> frozenset[str]:
    """The wordings known as templates; they are few."""
    return frozenset(row[0] for row in connection.execute("SELECT phrase FROM templates"))


def next_skip_order(connection: sqlite3.Connection) -> int:
    """A number greater than that of every earlier skip: the id that the change to come will get, or less."""
    return int(connection.execute("SELECT COALESCE(MAX(id), 0) + 1 FROM changes").fetchone()[0])


def undo_last(connection: sqlite3.Connection, row: sqlite3.Row, who: str) -> None:
    """Put back what stood before the last change that still holds. Raises `StoreError` when that is the import."""
    last = connection.execute(
        "SELECT * FROM changes WHERE sample_id = ? AND undoes IS NULL "
        "AND NOT EXISTS (SELECT 1 FROM changes later WHERE later.undoes = changes.id) ORDER BY revision DESC LIMIT 1",
        (row["id"],),
    ).fetchone()
    if last["phrase_before"] is None:  # the import, or the moment when a person added it
        raise StoreError(f"There is nothing to undo for {row['id']}: it stands as it came.")
    take_back(connection, row, last, who)


def take_back(
    connection: sqlite3.Connection, row: sqlite3.Row, change: sqlite3.Row, who: str, *, batch: str | None = None
) -> None:
    """Put back what stood before `change`, as a new change that names it."""
    values = json.loads(change["before"]) | {"phrase": change["phrase_before"]}
    note = f"undo of {change['action']}"
    edit = Edit(who, "undo", origin=change["origin"], note=note, batch=batch, undoes=change["id"])
    apply(connection, row, values, edit)
