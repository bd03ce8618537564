"""Many edits under one name, done a little at a time, and all of them taken back by that name.

A batch never holds up what people save meanwhile: it runs in chunks, each a transaction that stands. It goes by the
moment of its preview: a sample that was changed since is left as people made it. Should it end in the middle, what it
did so far is there under its name, and can be taken back.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from annotate.chunks import in_chunks, positions_in, row_at
from annotate.edits import BOXES, Edit, apply, clean_who, now, take_back
from annotate.filters import query_of
from annotate.items import Batch, RepairReport
from annotate.rows import BATCH_ROWS
from annotate.scopes import Scope
from grounding.database import connect, reading, transaction
from grounding.errors import StoreError

Progress = Callable[[int, int], None]
Values = Mapping[str, object]
# A chunk takes a fraction of a second, and a lock is waited for half a minute: one silent for longer has ended.
_SILENT_SECONDS = 60


@dataclass(frozen=True)
class Outcome:
    """What an edit does to one sample: new values, or why it may not be; `before` and `after` in words."""

    before: str
    after: str
    values: Values
    refusal: str = ""


# What the edit does to a sample; None: nothing. The sample may be one as it stood earlier.
OutcomeOf = Callable[[sqlite3.Connection, Any], Outcome | None]


def batch_name(kind: str) -> str:
    """A name that no other batch has; it begins with `kind` and the time in UTC."""
    return f"{kind}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def last_change(connection: sqlite3.Connection) -> int:
    """The newest line of the history: what a preview of this moment goes by."""
    return int(connection.execute("SELECT COALESCE(MAX(id), 0) FROM changes").fetchone()[0])


def outcomes(
    connection: sqlite3.Connection, scope: Scope, outcome_of: OutcomeOf
) -> Iterator[tuple[sqlite3.Row, Outcome]]:
    """Each sample of the scope that the edit would change now, or be refused for, in import order."""
    _choose(connection, scope)
    for position in positions_in(connection, "temp.chosen"):
        row = row_at(connection, position)
        outcome = outcome_of(connection, row)
        if outcome is not None:
            yield row, outcome


def run_batch(
    path: Path,
    scope: Scope,
    outcome_of: OutcomeOf,
    edit: Edit,
    *,
    as_of: int | None = None,
    progress: Progress | None = None,
) -> RepairReport:
    """Do to each sample of the scope what `outcome_of` says, under the name `edit.batch`.

    `as_of` is the `last_change` of the preview (None: now): samples changed since are left as they are, and counted.
    `progress` gets the samples looked at and all of the scope. Raises `StoreError`; what was done by then stays, under
    the name of the batch.
    """
    assert edit.batch is not None
    report = RepairReport(0, edit.batch, 0)
    try:
        with connect(path) as connection:
            with transaction(connection):
                _begin(connection, edit)
            with _marked_when_broken(connection, edit.batch):
                for so_far in _run(connection, scope, outcome_of, edit, as_of, progress):
                    report = so_far
    except StoreError as error:
        if not report.count:
            raise
        raise StoreError(
            f"{error} It ended in the middle: {report.count:,} samples were changed, and can be put back together "
            f"by the name {report.batch}."
        ) from error
    return report


def _run(
    connection: sqlite3.Connection,
    scope: Scope,
    outcome_of: OutcomeOf,
    edit: Edit,
    as_of: int | None,
    progress: Progress | None,
) -> Iterator[RepairReport]:
    """The report so far, after each chunk that stands."""
    assert edit.batch is not None
    connection.execute("BEGIN")
    total = _choose(connection, scope)
    as_of = last_change(connection) if as_of is None else as_of
    connection.execute("COMMIT")
    done = count = left = meanwhile = 0
    report = RepairReport(0, edit.batch, 0)
    for chunk in in_chunks(connection, positions_in(connection, "temp.chosen")):
        yield report
        if not _is(connection, edit.batch, "running"):
            return  # somebody takes it back already
        for position in chunk:
            row = row_at(connection, position)
            stood = _as_it_stood(connection, row, as_of)
            outcome = None if stood is None else outcome_of(connection, stood)
            if outcome is not None and stood is not row:
                meanwhile += 1
            elif outcome is not None and outcome.refusal:
                left += 1
            elif outcome is not None:
                apply(connection, row, outcome.values, edit)
                count += 1
            done += 1
        report = RepairReport(count, edit.batch, left + meanwhile, meanwhile)
        _note(connection, report, done, total)
        if progress is not None:
            progress(done, total)
    with transaction(connection):
        if _is(connection, edit.batch, "running"):
            _set_state(connection, edit.batch, "done")
    yield report


def undo_batch(path: Path, batch: str, who: str, progress: Progress | None = None) -> RepairReport:
    """Take a batch back wherever it is still the last word; samples changed since keep what people wrote.

    In chunks, as it was done; one that ended in the middle goes on when it is asked for again. A batch that is still
    running ends. Raises `StoreError` for an unknown batch.
    """
    report = RepairReport(0, batch, 0)
    with connect(path) as connection:
        with transaction(connection):
            if connection.execute("SELECT 1 FROM batches WHERE name = ?", (batch,)).fetchone() is None:
                raise StoreError(
                    f"There is no repair or bulk edit named {batch[:80]!r}. "
                    "python -m annotate batches lists them; so does the history of each sample."
                )
            _set_state(connection, batch, "undoing")
            total = _standing_changes(connection, batch)
            _note(connection, report, 0, total)
        count = left = 0
        for chunk in in_chunks(connection, _changes_of(connection, batch)):
            for change_id in chunk:
                took = _take_back_change(connection, change_id, who, batch)
                count, left = count + took, left + (not took)
            report = RepairReport(count, batch, left)
            _note(connection, report, count + left, total)
            if progress is not None:
                progress(count + left, total)
        with transaction(connection):
            _set_state(connection, batch, "undone")
    return report


def batches(path: Path, limit: int) -> list[Batch]:
    """The repairs and bulk edits that changed anything, the newest first."""
    with reading(path) as connection:
        rows = connection.execute(
            "SELECT * FROM batches WHERE count > 0 OR state <> 'done' ORDER BY began_at DESC, name LIMIT ?", (limit,)
        ).fetchall()
    return [_to_batch(row) for row in rows]


def batch_named(path: Path, name: str) -> Batch | None:
    """Where this batch stands; None while there is none of this name."""
    with reading(path) as connection:
        row = connection.execute("SELECT * FROM batches WHERE name = ?", (name,)).fetchone()
    return None if row is None else _to_batch(row)


def broken_batch(path: Path) -> Batch | None:
    """The newest batch that ended in the middle."""
    with reading(path) as connection:
        rows = connection.execute(
            "SELECT * FROM batches WHERE state IN ('running', 'broken', 'undoing') ORDER BY began_at DESC, name"
        )
        return next((batch for batch in map(_to_batch, rows) if batch.state == "broken"), None)


def _choose(connection: sqlite3.Connection, scope: Scope) -> int:
    """Note which samples the scope has, as an edit may take one out of it; returns how many."""
    query = query_of(scope)
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS chosen (position INTEGER PRIMARY KEY)")
    connection.execute("DELETE FROM temp.chosen")
    return connection.execute(
        f"INSERT INTO temp.chosen SELECT position FROM {query.tables} WHERE {query.where}", query.parameters
    ).rowcount


def _as_it_stood(connection: sqlite3.Connection, row: sqlite3.Row, as_of: int) -> Any:
    """The row itself when it was not changed since; else what it was then, or None when it was not there yet."""
    change = connection.execute(
        "SELECT phrase_before, before FROM changes WHERE sample_id = ? AND id > ? ORDER BY revision LIMIT 1",
        (row["id"], as_of),
    ).fetchone()
    if change is None:
        return row
    if change["phrase_before"] is None:
        return None
    before = json.loads(change["before"])
    before.pop(BOXES, None)
    return dict(row) | before | {"phrase": change["phrase_before"]}


def _standing_changes(connection: sqlite3.Connection, batch: str) -> int:
    row = connection.execute(
        "SELECT COUNT(*) FROM changes WHERE batch = ? AND undoes IS NULL "
        "AND NOT EXISTS (SELECT 1 FROM changes later WHERE later.undoes = changes.id)",
        (batch,),
    ).fetchone()
    return int(row[0])


def _changes_of(connection: sqlite3.Connection, batch: str) -> Iterator[int]:
    """The changes of the batch that nobody took back yet, a page at a time."""
    last_id = 0
    while page := connection.execute(
        "SELECT id FROM changes WHERE batch = ? AND id > ? AND undoes IS NULL "
        "AND NOT EXISTS (SELECT 1 FROM changes later WHERE later.undoes = changes.id) ORDER BY id LIMIT ?",
        (batch, last_id, BATCH_ROWS),
    ).fetchall():
        yield from (row[0] for row in page)
        last_id = page[-1][0]


def _take_back_change(connection: sqlite3.Connection, change_id: int, who: str, batch: str) -> bool:
    """Put back what stood before, unless somebody changed the sample since."""
    change = connection.execute("SELECT * FROM changes WHERE id = ?", (change_id,)).fetchone()
    row = connection.execute("SELECT * FROM samples WHERE id = ?", (change["sample_id"],)).fetchone()
    if row["revision"] != change["revision"]:
        return False
    take_back(connection, row, change, who, batch=f"undo-{batch}")
    return True


# The record of batches


@contextmanager
def _marked_when_broken(connection: sqlite3.Connection, batch: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(sqlite3.Error):  # what ended it may keep this out too; its silence then says the same
            connection.rollback()
            with transaction(connection):
                if _is(connection, batch, "running"):
                    _set_state(connection, batch, "broken")
        raise


def _begin(connection: sqlite3.Connection, edit: Edit) -> None:
    connection.execute(
        "INSERT INTO batches (name, action, who, began_at, at, state) VALUES (?, ?, ?, ?, ?, 'running')",
        (edit.batch, edit.action, clean_who(edit.who), now(), now()),
    )


def _is(connection: sqlite3.Connection, batch: str, state: str) -> bool:
    sql = "SELECT 1 FROM batches WHERE name = ? AND state = ?"
    return connection.execute(sql, (batch, state)).fetchone() is not None


def _set_state(connection: sqlite3.Connection, batch: str, state: str) -> None:
    connection.execute("UPDATE batches SET state = ?, at = ? WHERE name = ?", (state, now(), batch))


def _note(connection: sqlite3.Connection, report: RepairReport, done: int, total: int) -> None:
    connection.execute(
        "UPDATE batches SET count = ?, left_alone = ?, done = ?, total = ?, at = ? WHERE name = ?",
        (report.count, report.left, done, total, now(), report.batch),
    )


def _to_batch(row: sqlite3.Row) -> Batch:
    silent = datetime.now(UTC) - datetime.fromisoformat(row["at"]) > timedelta(seconds=_SILENT_SECONDS)
    ended = row["state"] in ("running", "undoing") and silent
    return Batch(
        name=row["name"],
        action=row["action"],
        who=row["who"],
        began_at=row["began_at"],
        state="broken" if ended else row["state"],
        done=row["done"],
        total=row["total"],
        count=row["count"],
        left=row["left_alone"],
    )
