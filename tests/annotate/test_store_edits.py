"""Saving, skipping, flagging, reviewing, undoing, and the history of it all."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime

import pytest

from annotate.store import Store
from annotate_samples import PLACEHOLDER
from grounding.errors import StaleSaveError, StoreError

Fill = Callable[..., Store]


def test_a_saved_phrase_stands_and_is_recorded(fill: Fill) -> None:
    store = fill("a", phrase=PLACEHOLDER)
    item = store.save("a", "  left   mug\n", who="ann", expected_revision=1)
    assert (item.phrase, item.revision, item.state, item.placeholder) == ("left mug", 2, "written", False)
    assert store.get("a") == item
    imported, written = store.history("a")
    assert (imported.action, imported.origin, imported.phrase_before, imported.who) == (
        "import",
        "import",
        None,
        "importer",
    )
    assert (written.action, written.origin, written.who, written.revision) == ("write", "human", "ann", 2)
    assert (written.phrase_before, written.phrase_after, written.undone) == (PLACEHOLDER, "left mug", False)
    at = datetime.fromisoformat(written.at)
    assert at.tzinfo == UTC and abs((datetime.now(UTC) - at).total_seconds()) < 60


CLEANED = {
    "line break": ("left\nmug", "left mug"),
    "tab and double space": ("left \t  mug", "left mug"),
    "control characters": ("left\x00 mug\x1b\x7f", "left mug"),
    "reversing mark": ("left \u202emug", "left mug"),
    "lone surrogate": ("left mug\ud800", "left mug"),
    "composed": ("cafe\u0301 table", "caf\u00e9 table"),
    "joiner kept": ("👩\u200d🚀 left", "👩\u200d🚀 left"),
    "html stays text": ("<img onerror=x> & co", "<img onerror=x> & co"),
    "longest": ("m" * 500, "m" * 500),
}


@pytest.mark.parametrize(("typed", "kept"), CLEANED.values(), ids=CLEANED)
def test_what_is_typed_is_cleaned(typed: str, kept: str, fill: Fill) -> None:
    assert fill("a").save("a", typed, who="ann", expected_revision=1).phrase == kept


REFUSED = {
    "empty": ("", "phrase is empty"),
    "spaces": (" \n ", "phrase is empty"),
    "only control characters": ("\x00\x01", "phrase is empty"),
    "placeholder": (PLACEHOLDER.lower(), "is a placeholder"),
    "too long": ("m" * 501, "has 501 characters; the limit is 500"),
}


@pytest.mark.parametrize(("typed", "message"), REFUSED.values(), ids=REFUSED)
def test_an_unusable_phrase_is_refused_and_changes_nothing(typed: str, message: str, fill: Fill) -> None:
    store = fill("a")
    before = store.get("a")
    with pytest.raises(StoreError, match=message):
        store.save("a", typed, who="ann", expected_revision=1)
    assert store.get("a") == before
    assert len(store.history("a")) == 1


def test_a_stale_save_overwrites_nothing_and_shows_what_stands(fill: Fill) -> None:
    store = fill("a")
    store.save("a", "ann's words", who="ann", expected_revision=1)
    with pytest.raises(StaleSaveError, match="ann changed this sample") as caught:
        store.save("a", "bob's words", who="bob", expected_revision=1)
    assert caught.value.current == store.get("a")
    assert store.get("a").phrase == "ann's words"
    assert len(store.history("a")) == 2


def test_the_same_save_sent_twice_is_recorded_once(fill: Fill) -> None:
    store = fill("a")
    first = store.save("a", "left mug", who="ann", expected_revision=1)
    assert store.save("a", " left mug ", who="ann", expected_revision=1) == first
    assert len(store.history("a")) == 2
    with pytest.raises(StaleSaveError):
        store.save("a", "left mug", who="bob", expected_revision=1)


@pytest.mark.parametrize("action", ["skip", "flag", "unflag", "approve", "reject", "undo"])
def test_every_edit_of_a_stale_page_is_refused(action: str, fill: Fill) -> None:
    store = fill("a")
    store.save("a", "left mug", who="ann", expected_revision=1)
    note = ("note",) if action in ("flag", "reject") else ()
    with pytest.raises(StaleSaveError):
        getattr(store, action)("a", *note, who="bob", expected_revision=1)
    assert len(store.history("a")) == 2


@pytest.mark.parametrize("sample_id", ["nobody", "", "x\ud800"])
def test_an_unknown_id_is_named(sample_id: str, fill: Fill) -> None:
    store = fill("a")
    with pytest.raises(StoreError):
        store.get(sample_id)
    with pytest.raises(StoreError):
        store.save(sample_id, "left mug", who="ann", expected_revision=1)
    with pytest.raises(StoreError):
        store.history(sample_id)


def test_flag_and_unflag(fill: Fill) -> None:
    store = fill("a")
    flagged = store.flag("a", " which\nmug? ", who="ann", expected_revision=1)
    assert (flagged.flagged, flagged.flag_note, store.counts().flagged) == (True, "which mug?", 1)
    plain = store.unflag("a", who="bob", expected_revision=2)
    assert (plain.flagged, plain.flag_note, store.counts().flagged) == (False, "", 0)
    assert [(change.action, change.note) for change in store.history("a")[1:]] == [
        ("flag", "which mug?"),
        ("unflag", ""),
    ]
    with pytest.raises(StoreError, match="limit is 1000"):
        store.flag("a", "n" * 1001, who="ann", expected_revision=3)


def test_saving_takes_a_skip_back(fill: Fill) -> None:
    store = fill("a")
    assert store.skip("a", who="ann", expected_revision=1).skipped
    assert store.counts().skipped == 1
    assert not store.save("a", "left mug", who="ann", expected_revision=2).skipped
    assert store.counts().skipped == 0


def test_approve_and_reject(fill: Fill) -> None:
    store = fill("a", phrase=PLACEHOLDER)
    with pytest.raises(StoreError, match="placeholder"):
        store.approve("a", who="ann", expected_revision=1)
    store.reject("a", "no such mug", who="ann", expected_revision=1)
    assert (store.counts().placeholders, store.counts().rejected) == (0, 1)
    store.save("a", "left mug", who="ann", expected_revision=2)
    assert store.approve("a", who="bob", expected_revision=3).state == "approved"
    assert (store.counts().written, store.counts().approved, store.counts().rejected) == (1, 1, 0)


def test_undo_goes_back_step_by_step_to_the_import(fill: Fill) -> None:
    store = fill("a", phrase=PLACEHOLDER)
    imported = store.get("a")
    store.save("a", "left mug", who="ann", expected_revision=1)
    store.flag("a", "sure?", who="ann", expected_revision=2)
    store.save("a", "right mug", who="bob", expected_revision=3)
    back = store.undo("a", who="ann", expected_revision=4)
    assert (back.phrase, back.flagged, back.state) == ("left mug", True, "written")
    back = store.undo("a", who="ann", expected_revision=5)
    assert (back.phrase, back.flagged, back.flag_note) == ("left mug", False, "")
    back = store.undo("a", who="ann", expected_revision=6)
    assert (back.sample, back.state, back.placeholder) == (imported.sample, "imported", True)
    with pytest.raises(StoreError, match="nothing to undo"):
        store.undo("a", who="ann", expected_revision=7)
    assert [change.undone for change in store.history("a")] == [False, True, True, True, False, False, False]


def test_after_an_undo_new_work_can_be_undone_again(fill: Fill) -> None:
    store = fill("a")
    store.save("a", "one", who="ann", expected_revision=1)
    store.undo("a", who="ann", expected_revision=2)
    store.save("a", "two", who="ann", expected_revision=3)
    assert store.undo("a", who="ann", expected_revision=4).phrase == "the a thing"
    with pytest.raises(StoreError, match="nothing to undo"):
        store.undo("a", who="ann", expected_revision=5)


def test_undo_of_a_skip_puts_the_sample_back_in_its_place(fill: Fill) -> None:
    store = fill("a", "b")
    before = store.get("a").place
    store.skip("a", who="ann", expected_revision=1)
    assert store.undo("a", who="ann", expected_revision=2).place == before


@pytest.mark.parametrize(("who", "kept"), [("  Ann\n B ", "Ann B"), ("", "unknown"), ("x" * 200, "x" * 100)])
def test_who_is_cleaned(who: str, kept: str, fill: Fill) -> None:
    store = fill("a")
    store.save("a", "left mug", who=who, expected_revision=1)
    assert store.history("a")[-1].who == kept


def test_counts_agree_with_a_recount_after_many_random_edits(fill: Fill) -> None:
    chance = random.Random(7)
    fill("a", "b", phrase=PLACEHOLDER, split="train")
    fill("c", "d", split="val")
    store = fill("e", split="test", phrase=PLACEHOLDER, alternatives=("cup",))
    for _ in range(120):
        sample_id = chance.choice("abcde")
        action = chance.choice(["save", "skip", "flag", "unflag", "approve", "reject", "undo"])
        words = {"save": ("mug",), "flag": ("?",), "reject": ("no",)}.get(action, ())
        try:
            getattr(store, action)(sample_id, *words, who="ann", expected_revision=store.get(sample_id).revision)
        except StoreError as error:
            assert action in ("approve", "undo"), error
    with closing(sqlite3.connect(store.path)) as connection:
        recount = connection.execute(
            "SELECT COUNT(*), SUM(placeholder = 1 AND state <> 'rejected'), SUM(flagged), SUM(skip_order > 0), "
            "SUM(state = 'repaired'), SUM(state IN ('written', 'approved')), SUM(state = 'approved'), "
            "SUM(state = 'rejected') FROM samples"
        ).fetchone()
    counts = store.counts()
    kept = (counts.total, counts.placeholders, counts.flagged, counts.skipped)
    assert (*kept, counts.repaired, counts.written, counts.approved, counts.rejected) == recount
    assert counts.per_split == {"train": 2, "val": 2, "test": 1}
    assert sum(store.counts(split).flagged for split in ("train", "val", "test")) == counts.flagged
