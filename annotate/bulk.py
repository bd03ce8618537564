"""One edit of every sample of a scope: shown before, done all or none, and taken back by its name."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from annotate.batches import batch_name
from annotate.edits import Edit, apply, stands_for_nothing
from annotate.filters import query_of
from annotate.items import RepairReport
from annotate.phrases import MAX_PHRASE_CHARACTERS, check_note, check_phrase, clean_text
from annotate.queues import check_split
from annotate.rows import BATCH_ROWS
from annotate.scopes import MAX_FILTER_CHARACTERS, Scope
from grounding.errors import StoreError

BulkKind = Literal["replace", "approve", "reject", "flag", "unflag", "split", "category"]
Values = Mapping[str, object]


@dataclass(frozen=True)
class BulkEdit:
    """What to do to each sample of a scope.

    "replace" puts `put` for `find` in phrases, whole words unless `whole_words` is false; `ignore_case` finds other
    cases too. "reject" and "flag" take `put` as the reason or note, "split" and "category" as the new name; "approve"
    and "unflag" take nothing. Raises `StoreError` when that can't be done.
    """

    kind: BulkKind
    find: str = ""
    put: str = ""
    whole_words: bool = True
    ignore_case: bool = False

    def __post_init__(self) -> None:
        if self.kind not in get_args(BulkKind):
            raise StoreError(f"There is no bulk edit {self.kind!r}. Expected one of {', '.join(get_args(BulkKind))}.")
        if self.kind == "replace":
            for name, text in (("find", self.find), ("put", self.put)):
                if len(text) > MAX_PHRASE_CHARACTERS:
                    raise StoreError(f"{name!r} has {len(text)} characters; the limit is {MAX_PHRASE_CHARACTERS}.")
            if not clean_text(self.find):
                raise StoreError("There is nothing to look for. Type the words to replace.")
        elif self.kind in ("reject", "flag"):
            check_note(self.put)
        elif self.kind == "split":
            if not self.put:
                raise StoreError("Choose the split to move the samples to.")
            check_split(self.put)
        elif self.kind == "category" and len(clean_text(self.put)) > MAX_FILTER_CHARACTERS:
            raise StoreError(f"A category has at most {MAX_FILTER_CHARACTERS} characters. Shorten it.")


@dataclass(frozen=True)
class BulkPreview:
    """What a bulk edit would do: `total` samples changed, `refused` ones left as they are because of a bad result.

    `examples` are (sample id, before, after), `refusals` (sample id, before, why), the first few in import order.
    """

    total: int
    refused: int
    examples: tuple[tuple[str, str, str], ...]
    refusals: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class _Outcome:
    """What the edit does to one sample: new values, or why it may not be; `before` and `after` in words."""

    before: str
    after: str
    values: Values
    refusal: str = ""


def preview(connection: sqlite3.Connection, scope: Scope, edit: BulkEdit, limit: int) -> BulkPreview:
    """What `apply_bulk` would do now, with up to `limit` examples of each."""
    total = refused = 0
    examples: list[tuple[str, str, str]] = []
    refusals: list[tuple[str, str, str]] = []
    for row, outcome in _outcomes(connection, scope, edit):
        if outcome.refusal:
            refused += 1
            if len(refusals) < limit:
                refusals.append((row["id"], outcome.before, outcome.refusal))
        else:
            total += 1
            if len(examples) < limit:
                examples.append((row["id"], outcome.before, outcome.after))
    return BulkPreview(total, refused, tuple(examples), tuple(refusals))


def apply_bulk(connection: sqlite3.Connection, scope: Scope, edit: BulkEdit, who: str) -> RepairReport:
    """Do it to every sample of the scope that it changes; those refused are left as they are, and counted."""
    batch = batch_name(f"bulk-{edit.kind}")
    note = check_note(edit.put) if edit.kind in ("reject", "flag") else ""
    recorded = Edit(who, edit.kind, note=note, batch=batch)
    count = left = 0
    for row, outcome in _outcomes(connection, scope, edit):
        if outcome.refusal:
            left += 1
        else:
            apply(connection, row, outcome.values, recorded)
            count += 1
    return RepairReport(count, batch, left)


def _outcomes(connection: sqlite3.Connection, scope: Scope, edit: BulkEdit) -> Iterator[tuple[sqlite3.Row, _Outcome]]:
    """Each sample that the edit would change or be refused for; rows may be changed while this runs."""
    outcome_of = _outcome_of(edit)
    for row in _rows(connection, scope):
        outcome = outcome_of(connection, row)
        if outcome is not None:
            yield row, outcome


def _rows(connection: sqlite3.Connection, scope: Scope) -> Iterator[sqlite3.Row]:
    """The scope's samples in import order. Which they are is noted first, as an edit may take one out of its queue."""
    query = query_of(scope)
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS chosen (position INTEGER PRIMARY KEY)")
    connection.execute("DELETE FROM temp.chosen")
    connection.execute(
        f"INSERT INTO temp.chosen SELECT position FROM {query.tables} WHERE {query.where}", query.parameters
    )
    position = -1
    while rows := connection.execute(
        "SELECT samples.* FROM temp.chosen CROSS JOIN samples INDEXED BY samples_in_order "
        "ON samples.position = chosen.position WHERE chosen.position > ? ORDER BY chosen.position LIMIT ?",
        (position, BATCH_ROWS),
    ).fetchall():
        yield from rows
        position = rows[-1]["position"]


def _outcome_of(edit: BulkEdit) -> Callable[[sqlite3.Connection, sqlite3.Row], _Outcome | None]:
    """The function that says what the edit does to a sample; None: nothing."""
    if edit.kind == "replace":
        return _replacer(edit)
    if edit.kind == "approve":
        return _approve
    column, value, further = {
        "reject": ("state", "rejected", {"reject_reason": clean_text(edit.put)}),
        "flag": ("flagged", 1, {"flag_note": clean_text(edit.put)}),
        "unflag": ("flagged", 0, {"flag_note": ""}),
        "split": ("split", edit.put, {}),
        "category": ("category", clean_text(edit.put), {}),
    }[edit.kind]
    words: dict[object, str] = {0: "not flagged", 1: "flagged"}

    def outcome(connection: sqlite3.Connection, row: sqlite3.Row) -> _Outcome | None:
        if row[column] == value:
            return None
        before, after = (words.get(one, str(one)) for one in (row[column], value))
        return _Outcome(before, after, {column: value, **further})

    return outcome


def _approve(connection: sqlite3.Connection, row: sqlite3.Row) -> _Outcome | None:
    """Rejected samples are left as they are: one by one they may be opened again."""
    if row["state"] in ("approved", "rejected"):
        return None
    refusal = _refusal(connection, row["phrase"])
    return _Outcome(row["state"], "approved", {"state": "approved", "skipped_at": None, "skip_order": 0}, refusal)


def _replacer(edit: BulkEdit) -> Callable[[sqlite3.Connection, sqlite3.Row], _Outcome | None]:
    find = re.escape(clean_text(edit.find))
    pattern = re.compile(rf"(?<!\w){find}(?!\w)" if edit.whole_words else find, re.IGNORECASE * edit.ignore_case)

    def outcome(connection: sqlite3.Connection, row: sqlite3.Row) -> _Outcome | None:
        before = row["phrase"]
        phrase, found = pattern.subn(lambda match: edit.put, before)
        if not found or row["state"] == "rejected":
            return None
        after = clean_text(phrase)
        if after == before:
            return None
        return _Outcome(before, after, {"phrase": after, "state": "written"}, _refusal(connection, after))

    return outcome


def _refusal(connection: sqlite3.Connection, phrase: str) -> str:
    """Why the phrase can't stand; '' when it can."""
    try:
        check_phrase(phrase)
    except StoreError as error:
        return str(error)
    if stands_for_nothing(connection, phrase):
        return f'"{phrase[:80]}" stands on many unrelated boxes: a template, not a phrase.'
    return ""
