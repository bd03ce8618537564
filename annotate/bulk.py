"""One edit of every sample of a scope: shown before, done as shown, and taken back by its name."""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from dataclasses import dataclass
from typing import Any, Literal, get_args

from annotate.batches import Outcome, OutcomeOf, batch_name, last_change, outcomes
from annotate.edits import WORKED_ON, Edit, stands_for_nothing
from annotate.phrases import MAX_PHRASE_CHARACTERS, check_note, check_phrase, clean_text
from annotate.queues import check_split
from annotate.scopes import MAX_FILTER_CHARACTERS, Scope
from grounding.errors import StoreError

BulkKind = Literal["replace", "approve", "reject", "flag", "unflag", "split", "category"]


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
    `as_of` is the moment of the preview: hand it to the edit, which then leaves alone what people change in between.
    """

    total: int
    refused: int
    examples: tuple[tuple[str, str, str], ...]
    refusals: tuple[tuple[str, str, str], ...]
    as_of: int | None = None


def preview(connection: sqlite3.Connection, scope: Scope, edit: BulkEdit, limit: int) -> BulkPreview:
    """What the edit would do now, with up to `limit` examples of each."""
    total = refused = 0
    examples: list[tuple[str, str, str]] = []
    refusals: list[tuple[str, str, str]] = []
    as_of = last_change(connection)
    for row, outcome in outcomes(connection, scope, outcome_of(edit)):
        if outcome.refusal:
            refused += 1
            if len(refusals) < limit:
                refusals.append((row["id"], outcome.before, outcome.refusal))
        else:
            total += 1
            if len(examples) < limit:
                examples.append((row["id"], outcome.before, outcome.after))
    return BulkPreview(total, refused, tuple(examples), tuple(refusals), as_of)


def recorded(edit: BulkEdit, who: str, batch: str | None = None) -> Edit:
    """How the history tells it; `batch` None: under a new name."""
    note = check_note(edit.put) if edit.kind in ("reject", "flag") else ""
    return Edit(who, edit.kind, note=note, batch=batch or batch_name(f"bulk-{edit.kind}"))


def outcome_of(edit: BulkEdit) -> OutcomeOf:
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

    def outcome(connection: sqlite3.Connection, row: Any) -> Outcome | None:
        if row[column] == value:
            return None
        before, after = (words.get(one, str(one)) for one in (row[column], value))
        return Outcome(before, after, {column: value, **further})

    return outcome


def _approve(connection: sqlite3.Connection, row: Any) -> Outcome | None:
    """Rejected samples are left as they are: one by one they may be opened again."""
    if row["state"] in ("approved", "rejected"):
        return None
    refusal = _refusal(connection, row["phrase"])
    return Outcome(row["state"], "approved", {"state": "approved", **WORKED_ON}, refusal)


def _replacer(edit: BulkEdit) -> OutcomeOf:
    find = re.escape(clean_text(edit.find))
    pattern = re.compile(rf"(?<!\w){find}(?!\w)" if edit.whole_words else find, re.IGNORECASE * edit.ignore_case)

    def put(match: re.Match[str]) -> str:
        return match[0] if edit.whole_words and _is_part_of_a_word(match) else edit.put

    def outcome(connection: sqlite3.Connection, row: Any) -> Outcome | None:
        before = row["phrase"]
        # A source may write an accent as a letter of its own, or two spaces: nobody sees that, or types it.
        seen = clean_text(before)
        phrase = pattern.sub(put, seen)
        if phrase == seen or row["state"] == "rejected":
            return None
        after = clean_text(phrase)
        if after == before:
            return None
        return Outcome(before, after, {"phrase": after, "state": "written"}, _refusal(connection, after))

    return outcome


def _is_part_of_a_word(match: re.Match[str]) -> bool:
    """Whether a vowel sign or the like stands at one of its ends, which `\\w` doesn't know: words go on over these."""
    start, end = match.span()
    ends = match.string[max(0, start - 1) : start] + match.string[end : end + 1]
    return any(unicodedata.category(character) in ("Mn", "Mc") for character in ends)


def _refusal(connection: sqlite3.Connection, phrase: str) -> str:
    """Why the phrase can't stand; '' when it can."""
    try:
        check_phrase(phrase)
    except StoreError as error:
        return str(error)
    if stands_for_nothing(connection, phrase):
        return f'"{phrase[:80]}" stands on many unrelated boxes: a template, not a phrase.'
    return ""
