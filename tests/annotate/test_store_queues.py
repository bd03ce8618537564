"""The order of the queues, next and previous, and that each is an index seek."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import PLACEHOLDER

from annotate.items import Queue
from annotate.queues import QUEUES, seek_sql
from annotate.store import Store
from grounding.database import connect
from grounding.errors import StoreError

Fill = Callable[..., Store]


def walk(store: Store, queue: Queue, split: str | None = None, *, forward: bool = True) -> list[str]:
    """The ids of a queue from one end to the other."""
    step = store.next_item if forward else store.previous_item
    ids: list[str] = []
    item = step(queue, None, split)
    while item is not None:
        ids.append(item.id)
        assert len(ids) < 50, "the queue never ends"
        item = step(queue, item.id, split)
    return ids


@pytest.fixture
def mixed(fill: Fill) -> Store:
    """a to f: a, c, d, f are placeholders; d stands in val and f in test."""
    for sample_id, phrase, split in [
        ("a", PLACEHOLDER, "train"),
        ("b", "mug", "train"),
        ("c", PLACEHOLDER, "train"),
        ("d", PLACEHOLDER, "val"),
        ("e", "mug", "val"),
        ("f", PLACEHOLDER, "test"),
    ]:
        store = fill(sample_id, phrase=phrase, split=split)
    return store


def test_each_queue_holds_its_samples_in_import_order(mixed: Store) -> None:
    mixed.flag("e", "", who="ann", expected_revision=1)
    mixed.flag("b", "", who="ann", expected_revision=1)
    assert walk(mixed, "all") == list("abcdef")
    assert walk(mixed, "placeholders") == list("acdf")
    assert walk(mixed, "flagged") == list("be")
    assert walk(mixed, "skipped") == []


@pytest.mark.parametrize("queue", QUEUES)
@pytest.mark.parametrize("split", [None, "train", "val"])
def test_previous_walks_the_same_way_back(queue: Queue, split: str | None, mixed: Store) -> None:
    for sample_id in "eca":
        mixed.skip(sample_id, who="ann", expected_revision=1)
        mixed.flag(sample_id, "", who="ann", expected_revision=2)
    assert walk(mixed, queue, split, forward=False) == walk(mixed, queue, split)[::-1]


def test_a_split_narrows_the_queue(mixed: Store) -> None:
    assert walk(mixed, "placeholders", "train") == list("ac")
    assert walk(mixed, "all", "val") == list("de")
    assert mixed.next_item("flagged", None, "val") is None


def test_a_skip_puts_the_sample_behind_all_others(mixed: Store) -> None:
    mixed.skip("d", who="ann", expected_revision=1)
    mixed.skip("a", who="ann", expected_revision=1)
    assert walk(mixed, "placeholders") == list("cfda")
    assert walk(mixed, "skipped") == list("da")
    assert walk(mixed, "all") == list("abcdef")
    mixed.skip("d", who="ann", expected_revision=2)
    assert walk(mixed, "placeholders") == list("cfad")


def test_the_place_that_the_page_showed_still_leads_on_after_a_skip(mixed: Store) -> None:
    shown = mixed.next_item("placeholders", "a")
    assert shown is not None and shown.id == "c"
    mixed.skip("c", who="ann", expected_revision=1)
    onward = mixed.next_item("placeholders", shown.place)
    assert onward is not None and onward.id == "d"
    assert mixed.next_item("placeholders", "c") is None


def test_a_saved_sample_leaves_the_queue_and_still_leads_on(mixed: Store) -> None:
    mixed.save("c", "mug", who="ann", expected_revision=1)
    onward = mixed.next_item("placeholders", "c")
    assert onward is not None and onward.id == "d"
    assert walk(mixed, "placeholders") == list("adf")


def test_rejected_samples_are_no_work(mixed: Store) -> None:
    mixed.reject("a", "", who="ann", expected_revision=1)
    assert walk(mixed, "placeholders") == list("cdf")


def test_an_unknown_queue_split_or_start_is_named(mixed: Store) -> None:
    with pytest.raises(StoreError, match="no queue 'mine'"):
        mixed.next_item("mine")  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="no split 'testA'"):
        mixed.next_item("all", None, "testA")
    with pytest.raises(StoreError, match="no sample 'zz'"):
        mixed.next_item("all", "zz")


@pytest.mark.parametrize("forward", [True, False], ids=["next", "previous"])
@pytest.mark.parametrize("queue", QUEUES)
def test_next_and_previous_are_one_index_seek(queue: Queue, forward: bool, mixed: Store) -> None:
    parameters = ("train", 1) if queue == "all" else ("train", 1, 1)
    with connect(mixed.path) as connection:
        plan = [
            row["detail"]
            for row in connection.execute(f"EXPLAIN QUERY PLAN {seek_sql(queue, forward=forward)}", parameters)
        ]
    assert len(plan) == 1, plan
    sign = ">" if forward else "<"
    bound = f"position{sign}?" if queue == "all" else f"(skip_order,position){sign}(?,?)"
    assert plan[0].startswith("SEARCH samples USING INDEX samples_") and f"(split=? AND {bound})" in plan[0], plan
