"""Boxes that people draw, samples that they add, and every version that can be put back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from annotate.items import Item
from annotate.store import Store
from annotate_samples import PLACEHOLDER
from grounding.boxes import Box
from grounding.errors import StaleSaveError, StoreError

Fill = Callable[..., Store]
FIRST, SECOND, THIRD = Box(1, 2, 10, 12.5), Box(3, 3, 20, 20), Box(5, 1, 39, 29)


def save(store: Store, phrase: str, boxes: tuple[Box, ...] | None = None) -> Item:
    revision = store.get("a").revision
    return store.save("a", phrase, who="ann", expected_revision=revision, boxes_xyxy_px=boxes)


def test_a_phrase_saved_alone_leaves_the_boxes(fill: Fill) -> None:
    assert save(fill("a"), "mug").sample.boxes_xyxy_px == (FIRST,)


def test_boxes_are_saved_with_the_phrase_and_undone_with_it(fill: Fill) -> None:
    store = fill("a", phrase="mug")
    assert save(store, "both mugs", (SECOND, THIRD)).sample.boxes_xyxy_px == (SECOND, THIRD)
    assert store.history("a")[-1].boxes_changed and not store.history("a")[0].boxes_changed
    undone = store.undo("a", who="ann", expected_revision=2)
    assert (undone.phrase, undone.sample.boxes_xyxy_px) == ("mug", (FIRST,))


def test_a_save_sent_again_with_other_boxes_is_another_save(fill: Fill) -> None:
    store = fill("a")
    first = save(store, "mug", (SECOND,))
    sent = {"who": "ann", "expected_revision": 1}
    assert store.save("a", "mug", **sent, boxes_xyxy_px=(SECOND, SECOND)) == first
    for others in ((THIRD,), (), (SECOND, THIRD), None):
        with pytest.raises(StaleSaveError):
            store.save("a", "mug", **sent, boxes_xyxy_px=others)
    assert store.get("a") == first and len(store.history("a")) == 2


def test_the_same_save_is_known_by_its_boxes_as_they_were_cut(fill: Fill) -> None:
    store = fill("a")
    over = (Box(-0.5, 0, 40.4, 30),)
    first = save(store, "mug", over)
    assert store.save("a", "mug", who="ann", expected_revision=1, boxes_xyxy_px=over) == first


def test_no_box_says_that_the_phrase_refers_to_nothing(fill: Fill) -> None:
    assert save(fill("a"), "the dragon", ()).sample.boxes_xyxy_px == ()


def test_a_box_is_cut_at_the_edge_and_refused_outside(fill: Fill) -> None:
    store = fill("a")
    assert save(store, "mug", (Box(-0.5, 0, 40.4, 30), Box(0, 0, 40, 30))).sample.boxes_xyxy_px == (Box(0, 0, 40, 30),)
    with pytest.raises(StoreError, match="stands outside its picture of 40 x 30"):
        save(store, "cup", (Box(50, 50, 60, 60),))
    with pytest.raises(StoreError, match="101 boxes are too many"):
        save(store, "cup", tuple(Box(0, 0, 1, 1 + i / 10) for i in range(101)))
    assert store.get("a").phrase == "mug"


def test_any_version_comes_back_as_it_was(fill: Fill) -> None:
    store = fill("a", phrase="zero")
    versions = [store.get("a"), save(store, "one", (SECOND,)), save(store, "two"), save(store, "three", (THIRD, FIRST))]
    versions.append(store.reject("a", "blurred", who="ben", expected_revision=4))
    for wanted, change in zip(versions, store.history("a"), strict=True):
        if change is store.history("a")[-1]:
            continue
        got = store.revert("a", change.id, who="cleo", expected_revision=store.get("a").revision)
        assert (got.phrase, got.sample.boxes_xyxy_px, got.state, got.reject_reason) == (
            wanted.phrase,
            wanted.sample.boxes_xyxy_px,
            wanted.state,
            wanted.reject_reason,
        )
    assert [change.action for change in store.history("a")][-2:] == ["revert", "revert"]


def test_what_stands_can_not_be_put_back_nor_what_is_of_another_sample(fill: Fill) -> None:
    store = fill("a")
    fill("b")
    with pytest.raises(StoreError, match="nothing to put back"):
        store.revert("a", store.history("a")[-1].id, who="ann", expected_revision=1)
    with pytest.raises(StoreError, match="has no change"):
        store.revert("a", store.history("b")[-1].id, who="ann", expected_revision=1)


def test_an_old_history_without_boxes_can_be_reverted(fill: Fill) -> None:
    store = fill("a", phrase=PLACEHOLDER)
    save(store, "one")
    back = store.revert("a", store.history("a")[0].id, who="ann", expected_revision=2)
    assert back.placeholder and back.sample.boxes_xyxy_px == (FIRST,)


def test_a_person_adds_a_sample_to_a_picture(fill: Fill) -> None:
    store = fill("a", split="val", image_id="7")
    added = store.add("a", "  the   cup ", [SECOND], who="ann")
    assert (added.phrase, added.sample.split, added.sample.image_id) == ("the cup", "val", "7")
    assert (added.state, added.edited_by, added.picture_sha256) == ("written", "ann", store.get("a").picture_sha256)
    assert [item.id for item in store.siblings("a")] == [added.id]
    assert store.counts("val").written == 1
    with pytest.raises(StoreError, match="nothing to undo"):
        store.undo(added.id, who="ann", expected_revision=1)
    with pytest.raises(StoreError, match="no sample 'x'"):
        store.add("x", "cup", [], who="ann")


def test_the_same_sample_sent_twice_is_added_once(fill: Fill) -> None:
    store = fill("a")
    added = store.add("a", "the cup", [SECOND, THIRD], who="ann")
    assert store.add("a", " the cup ", [SECOND, THIRD, THIRD], who="ann") == added
    assert store.add(added.id, "the cup", [SECOND, THIRD], who=" ann ") == added
    nothing = store.add("a", "the dragon", [], who="ann")
    assert store.add("a", "the dragon", [], who="ann") == nothing
    assert store.counts().total == 3 and len(store.history(added.id)) == 1


def test_another_box_or_person_or_a_change_meanwhile_makes_it_another_sample(fill: Fill) -> None:
    store = fill("a")
    added = store.add("a", "the cup", [SECOND], who="ann")
    others = [
        store.add("a", "the cup", [THIRD], who="ann"),
        store.add("a", "the cup", [], who="ann"),
        store.add("a", "the cup", [SECOND], who="ben"),
        store.add("a", "the mug", [SECOND], who="ann"),
    ]
    store.flag(added.id, "", who="ann", expected_revision=1)
    others.append(store.add("a", "the cup", [SECOND], who="ann"))
    assert len({added.id, *(item.id for item in others)}) == 6


def test_what_was_approved_or_rejected_is_opened_again(fill: Fill) -> None:
    store = fill("a")
    rejected = store.reject("a", "too dark", who="ann", expected_revision=1)
    assert rejected.reject_reason == "too dark"
    opened = store.reopen("a", who="ann", expected_revision=2)
    assert (opened.state, opened.reject_reason) == ("written", "")


def test_a_rejected_sample_that_is_written_or_approved_says_no_more_why_it_was_rejected(fill: Fill) -> None:
    store = fill("a", "b")
    for sample_id in ("a", "b"):
        store.reject(sample_id, "too dark", who="ann", expected_revision=1)
    written = store.save("a", "the cup", who="ben", expected_revision=2)
    approved = store.approve("b", who="ben", expected_revision=2)
    assert [(item.state, item.reject_reason) for item in (written, approved)] == [("written", ""), ("approved", "")]
    undone = store.undo("a", who="ben", expected_revision=3)
    assert (undone.state, undone.reject_reason) == ("rejected", "too dark")


def test_a_sample_is_seen_once_and_keeps_its_revision(fill: Fill) -> None:
    store = fill("a")
    assert store.get("a").seen_at is None and store.counts().unseen == 1
    store.mark_seen("a")
    first = store.get("a")
    store.mark_seen("a")
    store.mark_seen("nobody")
    assert first.seen_at == store.get("a").seen_at is not None
    assert (first.revision, store.counts().unseen) == (1, 0)
