"""The order of the queues, next and previous, and that each is an index seek."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from annotate.items import Queue
from annotate.queues import ORDERS, QUEUES, walk_sql
from annotate.store import Store
from annotate_samples import PLACEHOLDER
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
        ("e", "cup", "val"),
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


@pytest.fixture
def heard(mixed: Store) -> Store:
    """What the newer queues run by: problems of a and e, IoU 0.5, 0.1, 0.5 and gap 0.5, 0.9, 0.5 of a, b, c."""
    for sample_id, iou, shuffle in zip("abc", (0.5, 0.1, 0.5), (3, 1, 2), strict=True):
        mixed.save(sample_id, f"the {sample_id} mug", who="ann", expected_revision=1)
        put(mixed, sample_id, listener_iou=iou, listener_gap=1 - iou, shuffle=shuffle)
    put(mixed, "a", problems="too_short")
    put(mixed, "e", problems="no_noun coordinates")
    return mixed


def put(store: Store, sample_id: str, **values: object) -> None:
    settings = ", ".join(f"{name} = ?" for name in values)
    with connect(store.path) as connection:
        connection.execute(f"UPDATE samples SET {settings} WHERE id = ?", (*values.values(), sample_id))


def test_the_newer_queues_run_by_what_they_are_about(heard: Store) -> None:
    assert walk(heard, "problems") == list("ae")
    assert walk(heard, "low_iou") == list("bac")
    assert walk(heard, "disagree") == list("bca")
    assert walk(heard, "review") == list("bca")
    heard.mark_seen("d")
    assert walk(heard, "unseen") == list("abcef")


def test_rejected_samples_stand_in_their_own_queue_alone(heard: Store) -> None:
    for sample_id in "ab":
        heard.reject(sample_id, "blurred", who="ann", expected_revision=2)
    assert walk(heard, "rejected") == list("ab")
    assert (walk(heard, "problems"), walk(heard, "low_iou"), walk(heard, "disagree")) == (["e"], ["c"], ["c"])
    assert walk(heard, "review") == ["c"]


@pytest.mark.parametrize(("queue", "onward"), [("low_iou", "c"), ("disagree", None), ("review", None)])
def test_the_place_leads_on_after_a_save_took_the_sample_out(queue: Queue, onward: str | None, heard: Store) -> None:
    place = heard.get("a").place_in(queue)
    heard.approve("a", who="ann", expected_revision=2)
    heard.save("a", "another mug", who="ann", expected_revision=3)
    following = heard.next_item(queue, place)
    assert (following and following.id) == onward


@pytest.mark.parametrize("of_category", [False, True], ids=["all", "of a category"])
@pytest.mark.parametrize("forward", [True, False], ids=["next", "previous"])
@pytest.mark.parametrize("queue", QUEUES)
def test_next_and_previous_are_one_index_seek(queue: Queue, forward: bool, of_category: bool, mixed: Store) -> None:
    parameters = {"split": "train", "category": "mug", "order": 1, "position": 1, "limit": 1}
    with connect(mixed.path) as connection:
        sql = f"EXPLAIN QUERY PLAN {walk_sql(queue, forward=forward, of_category=of_category)}"
        plan = [row["detail"] for row in connection.execute(sql, parameters)]
    assert len(plan) == 1, plan
    sign = ">" if forward != (queue == "disagree") else "<"
    bound = f"position{sign}?" if queue == "all" else f"({ORDERS[queue].column},position){sign}(?,?)"
    bound = f"(category=? AND split=? AND {bound})" if of_category else f"(split=? AND {bound})"
    assert plan[0].startswith("SEARCH samples USING ") and plan[0].endswith(bound), plan
    assert (" INDEX samples_" in plan[0]) and ("_by_category " in plan[0]) == of_category, plan
