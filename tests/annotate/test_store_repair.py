"""Repair: the preview is what happens, every change is recorded, and it can be taken back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from annotate import chunks, repairs
from annotate.store import Store
from annotate_samples import PLACEHOLDER
from grounding.errors import StoreError

Fill = Callable[..., Store]


@pytest.fixture
def broken(fill: Fill, monkeypatch: pytest.MonkeyPatch) -> Store:
    """a, b, e can be repaired, c can't, d needs no repair."""
    monkeypatch.setattr(chunks, "MOST_IN_CHUNK", 2)
    fill("a", phrase=PLACEHOLDER, alternatives=("", PLACEHOLDER, " red \n cup ", "cup"))
    fill("b", phrase="", alternatives=("x" * 501, "mug"), split="val")
    fill("c", phrase=PLACEHOLDER, alternatives=("Describe this region.",))
    fill("d", phrase="left dog", alternatives=("dog",))
    return fill("e", phrase=PLACEHOLDER, alternatives=("tall vase",), split="test")


def test_preview_is_what_repair_does(broken: Store) -> None:
    preview = broken.repair_preview()
    assert preview.examples == (
        ("a", PLACEHOLDER, "red cup"),
        ("b", "", "mug"),
        ("e", PLACEHOLDER, "tall vase"),
    )
    assert (preview.total, preview.left_for_people) == (3, 1)
    assert broken.repair_preview(limit=1).examples == preview.examples[:1]
    assert broken.repair_preview(limit=1).total == 3
    assert [broken.get(sample_id).revision for sample_id in "abcde"] == [1] * 5

    report = broken.repair("ann")
    assert (report.count, report.left) == (preview.total, preview.left_for_people)
    for sample_id, before, after in preview.examples:
        item = broken.get(sample_id)
        assert (item.phrase, item.state, item.placeholder, item.revision) == (after, "repaired", False, 2)
        change = broken.history(sample_id)[-1]
        assert (change.phrase_before, change.phrase_after, change.origin) == (before, after, "source")
        assert (change.action, change.who, change.batch) == ("repair", "ann", report.batch)
    assert [broken.get(sample_id).revision for sample_id in "cd"] == [1, 1]
    assert broken.repair("ann").count == 0


def test_undo_puts_everything_back(broken: Store) -> None:
    before = [broken.get(sample_id).sample for sample_id in "abcde"]
    report = broken.repair("ann")
    undone = broken.undo_batch(report.batch, "bob")
    assert (undone.count, undone.left) == (3, 0)
    assert [broken.get(sample_id).sample for sample_id in "abcde"] == before
    assert broken.get("a").placeholder and broken.get("a").state == "imported"
    assert broken.history("a")[-1].who == "bob"
    assert broken.undo_batch(report.batch, "bob").count == 0
    assert broken.repair_preview().total == 3


def test_undo_leaves_what_people_wrote_since(broken: Store) -> None:
    report = broken.repair("ann")
    broken.save("a", "the red cup", who="bob", expected_revision=2)
    undone = broken.undo_batch(report.batch, "ann")
    assert (undone.count, undone.left) == (2, 1)
    assert broken.get("a").phrase == "the red cup"
    assert broken.undo("a", who="bob", expected_revision=3).phrase == "red cup"


def test_an_unknown_repair_is_named(broken: Store) -> None:
    with pytest.raises(StoreError, match="no repair or bulk edit named 'repair-x'"):
        broken.undo_batch("repair-x", "ann")


def test_rejected_samples_stay_and_skipped_ones_are_filled(broken: Store) -> None:
    broken.reject("a", "", who="ann", expected_revision=1)
    broken.skip("b", who="ann", expected_revision=1)
    assert broken.repair("ann").count == 2
    assert broken.get("a").state == "rejected" and broken.get("a").phrase == PLACEHOLDER
    assert not broken.get("b").skipped


def test_a_repair_that_breaks_off_is_taken_back_by_its_name(broken: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def breaks_at_the_third(text: str) -> str | None:
        calls.append(text)
        if len(calls) > 2:
            raise StoreError("broken off")
        return "words"

    monkeypatch.setattr(repairs, "usable_phrase", breaks_at_the_third)
    with pytest.raises(StoreError, match=r"broken off It ended in the middle: 2 samples were changed.*name repair-"):
        broken.repair("ann")
    assert [broken.get(sample_id).revision for sample_id in "abcde"] == [2, 2, 1, 1, 1]
    (batch,) = broken.batches()
    assert (batch.state, batch.action, batch.who, batch.count) == ("broken", "repair", "ann", 2)
    assert broken.undo_batch(batch.name, "ann").count == 2
    assert [broken.get(sample_id).phrase for sample_id in "abcde"] == [
        PLACEHOLDER,
        "",
        PLACEHOLDER,
        "left dog",
        PLACEHOLDER,
    ]
