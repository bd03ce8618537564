"""Queues narrowed down: every way of finding the next sample gives what looking at each of them gives."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from annotate import filters
from annotate.items import Item, Queue
from annotate.queues import QUEUES
from annotate.scopes import Scope
from annotate.store import Store
from annotate_samples import PLACEHOLDER, MakeSample
from grounding.database import connect
from grounding.errors import StoreError
from grounding.records import SPLITS

Fill = Callable[..., Store]
WORDS = ("red", "mug", "left", "Tasse", "café", "t-shirt", "the")
MEMBERS: dict[str, Callable[[Item], bool]] = {
    "placeholders": lambda item: item.placeholder and item.state != "rejected",
    "problems": lambda item: bool(item.problems) and item.state != "rejected",
    "low_iou": lambda item: item.listener_iou is not None and item.state != "rejected",
    "disagree": lambda item: item.listener_gap is not None and item.state != "rejected",
    "review": lambda item: item.state in ("repaired", "written"),
    "unseen": lambda item: item.seen_at is None,
    "flagged": lambda item: item.flagged,
    "skipped": lambda item: item.skipped,
    "rejected": lambda item: item.state == "rejected",
    "all": lambda item: True,
}


@pytest.fixture
def room(store: Store, make_sample: MakeSample) -> Store:
    """Ninety samples that stand in every mixture of queues."""
    rng = random.Random(3)
    samples = []
    for number in range(90):
        phrase = PLACEHOLDER if number % 5 == 0 else " ".join(rng.sample(WORDS, 3))
        fields = {"phrase": phrase, "split": rng.choice(SPLITS), "category": rng.choice(["", "mug", "cup", "a'b"])}
        samples.append(make_sample(f"s{number}", number % 7, **fields))
    store.import_samples(samples, source="test", who="importer")
    columns = {
        "problems": ["", "", "no_noun"],
        "state": ["imported", "repaired", "written", "approved", "rejected"],
        "flagged": [0, 0, 1],
        "edited_by": ["", "", "ann", "ben"],
        "seen_at": [None, "2030"],
        "shuffle": [1, 2, 3],
        "listener_iou": [None, 0.25, 0.5],
        "listener_gap": [None, 0.25, 0.5],
    }
    with connect(store.path) as connection:
        for number in range(90):
            skip = rng.choice([0, 0, number + 1])
            values = [rng.choice(choices) for choices in columns.values()]
            settings = "".join(f"{name} = ?, " for name in columns)
            connection.execute(
                f"UPDATE samples SET {settings} skip_order = ?, skipped_at = ? WHERE id = ?",
                (*values, skip, "2030" if skip else None, f"s{number}"),
            )
    return store


def has_word(item: Item, word: str) -> bool:
    return any(part.casefold().startswith(word) for part in item.phrase.replace("é", "e").replace("-", " ").split())


def expected(items: list[Item], scope: Scope, words: list[str]) -> list[str]:
    chosen = [
        item
        for item in items
        if MEMBERS[scope.queue](item)
        and scope.split in (None, item.sample.split)
        and scope.category in ("", item.sample.category)
        and scope.annotator in ("", item.edited_by)
        and all(has_word(item, word) for word in words)
    ]
    by_position = scope.queue == "all"
    chosen.sort(key=lambda item: item.place_in(scope.queue)[by_position:], reverse=scope.queue == "disagree")
    return [item.id for item in chosen]


def walked(store: Store, scope: Scope, *, forward: bool = True) -> list[str]:
    step = store.next_item if forward else store.previous_item
    ids, item = [], step(scope)
    while item is not None:
        ids.append(item.id)
        assert len(ids) < 100, "the scope never ends"
        item = step(scope, item.place_in(scope.queue))
    return ids


@pytest.mark.parametrize("few_hits", [0, 1000], ids=["common words", "rare words"])
@pytest.mark.parametrize("walked_rows", [2, 1000], ids=["short way", "whole way"])
@pytest.mark.parametrize("queue", QUEUES)
def test_every_way_of_looking_gives_what_looking_at_each_sample_gives(
    queue: Queue, few_hits: int, walked_rows: int, room: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "_FEW_HITS", few_hits)
    monkeypatch.setattr(filters, "_WALKED_ROWS", walked_rows)
    rng = random.Random(f"{queue}{few_hits}{walked_rows}")
    with room.view() as view:
        items = list(view.items())
    found = 0
    for _ in range(14):
        words = rng.choice([[], [], ["re"], ["mug"], ["cafe", "t"], ["ta", "left"], ["zebra"]])
        scope = Scope(
            queue,
            rng.choice([None, "train"]),
            category=rng.choice(["", "", "mug", "a'b"]),
            phrase=" ".join(words),
            annotator=rng.choice(["", "", "ann"]),
        )
        ids = expected(items, scope, words)
        assert walked(room, scope) == ids, scope
        assert walked(room, scope, forward=False) == ids[::-1], scope
        assert room.count_in(scope) == (len(ids), False), scope
        found += len(ids)
    assert found


def test_counting_stops_at_the_most_that_is_asked_for(room: Store) -> None:
    everything = room.count_in(Scope("all", phrase="mug"))[0]
    assert room.count_in(Scope("all", phrase="mug"), most=everything) == (everything, False)
    assert room.count_in(Scope("all", phrase="mug"), most=everything - 1) == (everything - 1, True)
    assert room.count_in(Scope("all"), most=1) == (90, False)


def test_common_words_in_a_large_queue_are_counted_as_at_least(room: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = room.count_in(Scope("all", phrase="mug"))[0]
    monkeypatch.setattr(filters, "_FEW_HITS", 0)
    monkeypatch.setattr(filters, "_COUNTED_ROWS", 10)
    assert room.count_in(Scope("all", phrase="mug")) == (everything, False)
    monkeypatch.setattr(filters, "_COUNTED_HITS", 5)
    assert room.count_in(Scope("all", phrase="mug")) == (5, True)
    assert room.count_in(Scope("all", phrase="mug", annotator="ann"))[1] is False


SEARCHES = {
    "first letters of each word": ("re mu", "red mug"),
    "any order": ("mug red", "red mug"),
    "another case and accent": ("CAFE", "the Café"),
    "a word in two parts": ("t-shirt", "a T-shirt"),
    "a search operator": ("NOT", "not red"),
    "a quotation mark": ('"red"', 'the "red" mug'),
    "half a quotation": ('red"', 'the "red" mug'),
    "a column": ("phrase:red", "phrase red"),
    "brackets and stars": ("(red* AND", "red and mug"),
    "nothing but signs, beside a word": ("red ***", "red mug"),
    "another script": ("соба", "серая собака"),
}


@pytest.mark.parametrize("few_hits", [0, 10], ids=["common", "rare"])
@pytest.mark.parametrize(("words", "phrase"), SEARCHES.values(), ids=SEARCHES)
def test_words_are_looked_for_as_text(
    words: str, phrase: str, few_hits: int, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "_FEW_HITS", few_hits)
    fill("other", phrase="blue cup")
    store = fill("wanted", phrase=phrase)
    assert walked(store, Scope("all", phrase=words)) == ["wanted"]
    assert store.count_in(Scope("all", phrase=words)) == (1, False)


def test_a_saved_phrase_is_found_by_its_new_words_alone(fill: Fill) -> None:
    store = fill("a", phrase="red mug")
    store.save("a", "blue cup", who="ann", expected_revision=1)
    assert walked(store, Scope("all", phrase="red")) == []
    assert walked(store, Scope("all", phrase="blue")) == ["a"]


def lease(store: Store, sample_id: str, token: str, seconds: float) -> None:
    with connect(store.path) as connection:
        connection.execute(
            "INSERT OR REPLACE INTO leases VALUES (?, 'somebody', ?, ?)", (sample_id, token, time.time() + seconds)
        )


@pytest.mark.parametrize("phrase", ["", "thing"], ids=["no filter", "words"])
@pytest.mark.parametrize("few_hits", [0, 10], ids=["common", "rare"])
def test_what_another_visitor_has_open_is_passed_over(
    phrase: str, few_hits: int, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "_FEW_HITS", few_hits)
    store = fill("a", "b", "c", "d")
    lease(store, "a", "theirs", 60)
    lease(store, "b", "mine", 60)
    lease(store, "c", "theirs", -1)
    assert walked(store, Scope("unseen", phrase=phrase, token="mine")) == list("bcd")
    assert walked(store, Scope("unseen", phrase=phrase, token="mine"), forward=False) == list("dcb")
    assert walked(store, Scope("unseen", phrase=phrase)) == list("abcd")
    assert walked(store, Scope("all", phrase=phrase, token="mine")) == list("abcd")
    assert store.count_in(Scope("unseen", phrase=phrase, token="mine")) == (4, False)


def test_a_scope_comes_from_the_address_without_what_else_stands_there() -> None:
    address = {
        "queue": "low_iou",
        "split": "val",
        "category": "a & b",
        "phrase": 'red "mug"',
        "annotator": "Ann",
        "theme": "dark",
    }
    expected = Scope("low_iou", "val", category="a & b", phrase='red "mug"', annotator="Ann", token="mine")
    assert Scope.from_address(address, token="mine") == expected
    assert Scope.from_address({}) == Scope()


BAD_SCOPES = {
    "queue": ({"queue": "mine"}, "no queue 'mine'"),
    "split": ({"split": "testA"}, "no split 'testA'"),
    "long": ({"phrase": "x" * 201}, "'phrase' has 201 characters"),
    "several lines": ({"annotator": "a\nb"}, "'annotator' has characters that can't be printed"),
}


@pytest.mark.parametrize(("fields", "message"), BAD_SCOPES.values(), ids=BAD_SCOPES)
def test_a_scope_that_cannot_be_is_refused(fields: dict[str, str], message: str) -> None:
    with pytest.raises(StoreError, match=message):
        Scope(**fields)  # type: ignore[arg-type]


def test_the_names_to_choose_from_are_listed_once_each(fill: Fill) -> None:
    fill("a", "b", category="mug")
    fill("c", category="cup")
    store = fill("d", "e")
    assert store.categories() == ["cup", "mug"]
    assert store.categories(limit=1) == ["cup"]
    assert store.annotators() == []
    for sample_id, who in zip("abc", ("zoe", "ann", "ann"), strict=True):
        store.save(sample_id, "words", who=who, expected_revision=1)
    assert store.annotators() == ["ann", "zoe"]


PLANS = {
    "a person": (Scope("placeholders", annotator="ann"), ["SEARCH samples USING COVERING INDEX samples_of_person"]),
    "a category": (
        Scope("unseen", "val", category="mug"),
        ["SEARCH samples USING INDEX samples_unseen_by_category (category=? AND split=?)"],
    ),
    "words": (
        Scope("placeholders", phrase="mug"),
        [
            "CO-ROUTINE",
            "SCAN phrase_words VIRTUAL TABLE INDEX 0:M",
            "SCAN (subquery",
            "SEARCH samples USING COVERING INDEX samples_of_words (position=?)",
        ],
    ),
}


@pytest.mark.parametrize(("scope", "steps"), PLANS.values(), ids=PLANS)
def test_a_scope_is_read_along_its_narrowest_filter(scope: Scope, steps: list[str], store: Store) -> None:
    query = filters.query_of(scope)
    with connect(store.path) as connection:
        sql = f"EXPLAIN QUERY PLAN SELECT position FROM {query.tables} WHERE {query.where}"
        plan = [row["detail"] for row in connection.execute(sql, query.parameters)]
    assert len(plan) == len(steps) and all(step in line for step, line in zip(steps, plan, strict=True)), plan
