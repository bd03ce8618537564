"""Bulk edits: the preview is what happens, each sample's history tells it, and it can be taken back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from annotate import batches, chunks
from annotate.bulk import BulkEdit
from annotate.items import Item
from annotate.scopes import Scope
from annotate.store import Store
from annotate_samples import PLACEHOLDER
from grounding.database import connect
from grounding.errors import StoreError

Fill = Callable[..., Store]
ALL = Scope("all")


@pytest.fixture
def four(fill: Fill, monkeypatch: pytest.MonkeyPatch) -> Store:
    """a: the red car, b: Red cars (val), c: red, d: a placeholder."""
    monkeypatch.setattr(chunks, "MOST_IN_CHUNK", 2)
    monkeypatch.setattr(chunks, "_POSITIONS_AT_ONCE", 3)
    fill("a", phrase="the red car", category="car")
    fill("b", phrase="Red cars", split="val")
    fill("c", phrase="red")
    return fill("d", phrase=PLACEHOLDER)


def items(store: Store) -> list[Item]:
    with store.view() as view:
        return list(view.items())


def phrases(store: Store) -> list[str]:
    return [item.phrase for item in items(store)]


REPLACED = {
    "whole words": ({"find": "car", "put": "van"}, ["the red van", "Red cars", "red"]),
    "parts of words": ({"find": "car", "put": "van", "whole_words": False}, ["the red van", "Red vans", "red"]),
    "any case": ({"find": "RED", "put": "blue", "ignore_case": True}, ["the blue car", "blue cars", "blue"]),
    "its own case": ({"find": "red", "put": "blue"}, ["the blue car", "Red cars", "blue"]),
    "taken away": ({"find": "the red"}, ["car", "Red cars", "red"]),
    "signs are no pattern": ({"find": ".*", "put": "x"}, ["the red car", "Red cars", "red"]),
    "a backslash is put as it is": ({"find": "car", "put": r"\1 van"}, [r"the red \1 van", "Red cars", "red"]),
}


@pytest.mark.parametrize(("fields", "expected"), REPLACED.values(), ids=REPLACED)
def test_words_are_replaced_as_the_preview_says(fields: dict[str, Any], expected: list[str], four: Store) -> None:
    before = phrases(four)
    edit = BulkEdit("replace", **fields)
    shown = four.bulk_preview(ALL, edit)
    assert phrases(four) == before
    report = four.bulk(ALL, edit, who="ann")
    assert phrases(four) == [*expected, PLACEHOLDER]
    changed = [(i, old, new) for i, old, new in zip("abcd", before, phrases(four), strict=True) if old != new]
    assert (shown.total, list(shown.examples), report.count) == (len(changed), changed, len(changed))


def test_words_are_found_as_they_are_read_whatever_code_points_they_are_of(fill: Fill) -> None:
    store = fill("a", phrase="the cafe\u0301  table")
    assert store.bulk_preview(ALL, BulkEdit("replace", find="cafe", put="bar")).total == 0
    shown = store.bulk_preview(ALL, BulkEdit("replace", find="caf\u00e9 table", put="bar"))
    assert [after for _, _, after in shown.examples] == ["the bar"]


def test_a_word_goes_on_over_its_vowel_signs(fill: Fill) -> None:
    """A letter of Hindi, alone and in the midst of words."""
    letter, sign = "\u0915", "\u0940"
    store = fill("a", phrase=f"{letter}{sign} {letter}\u092e\u0928{sign}{letter} {letter}")
    assert [store.bulk_preview(ALL, BulkEdit("replace", find=letter, put="x")).examples[0][2]] == [
        f"{letter}{sign} {letter}\u092e\u0928{sign}{letter} x"
    ]
    parts = BulkEdit("replace", find=letter, put="x", whole_words=False)
    assert letter not in store.bulk_preview(ALL, parts).examples[0][2]


def test_what_would_leave_no_phrase_is_refused_and_told(four: Store) -> None:
    edit = BulkEdit("replace", find="red", put="")
    shown = four.bulk_preview(ALL, edit)
    assert (shown.total, shown.refused, shown.examples) == (1, 1, (("a", "the red car", "the car"),))
    assert shown.refusals[0][:2] == ("c", "red") and "empty" in shown.refusals[0][2]
    report = four.bulk(ALL, edit, who="ann")
    assert (report.count, report.left, four.get("c").revision) == (1, 1, 1)


REFUSED = {
    "a placeholder": ("the red car", "description", "is a placeholder"),
    "a template of this data set": ("the red car", "Something Here", "stands on many unrelated boxes"),
    "too long": ("car", "x" * 495, "the limit is 500"),
}


@pytest.mark.parametrize(("find", "put", "why"), REFUSED.values(), ids=REFUSED)
def test_a_phrase_that_a_person_could_not_save_is_refused(find: str, put: str, why: str, four: Store) -> None:
    with connect(four.path) as connection:
        connection.execute("INSERT INTO templates VALUES ('something here', 9, '2030')")
    shown = four.bulk_preview(Scope("all", "train", category="car"), BulkEdit("replace", find=find, put=put))
    assert (shown.total, shown.refused) == (0, 1) and why in shown.refusals[0][2]


def test_each_sample_tells_it_in_its_history_and_one_undo_takes_all_back(four: Store) -> None:
    before = items(four)
    report = four.bulk(ALL, BulkEdit("replace", find="red", put="blue", ignore_case=True), who="ann")
    change = four.history("b")[-1]
    assert (change.who, change.action, change.origin, change.batch) == ("ann", "replace", "human", report.batch)
    assert (change.phrase_before, change.phrase_after) == ("Red cars", "blue cars")
    assert four.get("b").state == "written"
    four.save("c", "the blue thing", who="ben", expected_revision=2)
    undone = four.undo_batch(report.batch, "cleo")
    assert (undone.count, undone.left) == (2, 1)
    assert phrases(four) == ["the red car", "Red cars", "the blue thing", PLACEHOLDER]
    assert [item.sample for item in items(four)[:2]] == [item.sample for item in before[:2]]
    assert four.history("b")[-1].who == "cleo" and four.history("b")[1].undone
    assert four.undo_batch(report.batch, "cleo").count == 0
    with pytest.raises(StoreError, match="no repair or bulk edit named"):
        four.undo_batch(f"undo-{report.batch}", "cleo")


EDITS: dict[str, tuple[BulkEdit, str, dict[str, object]]] = {
    "approve": (BulkEdit("approve"), "abc", {"state": "approved"}),
    "reject": (BulkEdit("reject", put=" too  dark "), "abcd", {"state": "rejected", "reject_reason": "too dark"}),
    "flag": (BulkEdit("flag", put="look"), "abcd", {"flagged": True, "flag_note": "look"}),
}


@pytest.mark.parametrize(("edit", "ids", "fields"), EDITS.values(), ids=EDITS)
def test_other_edits_change_each_sample_and_come_back(
    edit: BulkEdit, ids: str, fields: dict[str, object], four: Store
) -> None:
    before = items(four)
    report = four.bulk(ALL, edit, who="ann")
    assert (report.count, report.left) == (len(ids), 4 - len(ids))
    for item in items(four):
        assert (fields.items() <= vars(item).items()) == (item.id in ids)
    assert four.bulk(ALL, edit, who="ann").count == 0
    four.undo_batch(report.batch, "ann")
    assert [vars(item) | {"revision": 1} for item in items(four)] == [vars(item) for item in before]


def test_flags_split_and_category_are_set_where_they_differ(four: Store) -> None:
    four.flag("a", "look", who="ann", expected_revision=1)
    assert four.bulk(ALL, BulkEdit("unflag"), who="ann").count == 1
    shown = four.bulk_preview(ALL, BulkEdit("split", put="val"))
    assert shown.examples[0] == ("a", "train", "val")
    assert four.bulk(ALL, BulkEdit("split", put="val"), who="ann").count == shown.total == 3
    assert four.splits() == {"train": 0, "val": 4, "test": 0}
    assert four.bulk(Scope("all", category="car"), BulkEdit("category", put="auto"), who="ann").count == 1
    assert four.get_sample("a").category == "auto"


def test_only_the_scope_is_touched_though_the_edit_takes_samples_out_of_it(four: Store) -> None:
    assert four.bulk(Scope("unseen", "train", phrase="red"), BulkEdit("reject"), who="ann").count == 2
    assert [item.state for item in items(four)] == ["rejected", "imported", "rejected", "imported"]


def test_rejected_samples_are_neither_reworded_nor_approved_by_the_dozen(four: Store) -> None:
    four.reject("a", "", who="ann", expected_revision=1)
    assert four.bulk(ALL, BulkEdit("approve"), who="ann").count == 2
    assert four.bulk(ALL, BulkEdit("replace", find="car", put="van"), who="ann").count == 0


def test_what_a_chunk_began_does_not_stand_when_it_breaks_off(four: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def breaks_at_the_fourth(*arguments: object) -> None:
        calls.append("")
        if len(calls) > 3:
            raise StoreError("broken off")
        apply(*arguments)

    apply: Callable[..., None] = batches.apply
    monkeypatch.setattr(batches, "apply", breaks_at_the_fourth)
    with pytest.raises(StoreError, match="broken off It ended in the middle: 2 samples"):
        four.bulk(ALL, BulkEdit("flag"), who="ann")
    assert [item.revision for item in items(four)] == [2, 2, 1, 1]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"kind": "delete"}, "no bulk edit 'delete'"),
    "nothing to find": ({"kind": "replace", "find": " \n"}, "nothing to look for"),
    "too much to find": ({"kind": "replace", "find": "x" * 501}, "'find' has 501 characters"),
    "no split": ({"kind": "split"}, "Choose the split"),
    "another split": ({"kind": "split", "put": "testA"}, "no split 'testA'"),
    "a long note": ({"kind": "flag", "put": "x" * 1001}, "the limit is 1000"),
    "a long category": ({"kind": "category", "put": "x" * 201}, "at most 200"),
}


@pytest.mark.parametrize(("fields", "message"), WRONG.values(), ids=WRONG)
def test_an_edit_that_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(StoreError, match=message):
        BulkEdit(**fields)
