"""What other parts read: splits, pages, single samples, the stream, siblings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from annotate import reads, rows
from annotate.store import Store
from annotate_samples import MakeSample
from grounding.boxes import Box
from grounding.database import connect
from grounding.errors import StoreError
from grounding.pictures import file_sha256
from grounding.records import Sample

Fill = Callable[..., Store]


@pytest.fixture
def seven(fill: Fill) -> Store:
    fill("a", "b", "c", split="train")
    fill("d", "e", split="val", picture=1)
    return fill("f", "g", split="train", picture=2)


def test_a_sample_comes_back_as_it_went_in(fill: Fill, make_sample: MakeSample) -> None:
    fields: dict[str, Any] = {
        "phrase": "  odd\nphrase 🐶 ",
        "boxes_xyxy_px": (Box(1.123456789, 2, 10, 12.5), Box(0, 0, 40, 30)),
        "split": "val",
        "category": "mug",
        "image_id": "0007",
        "alternatives": ("one", "two"),
        "extra": {"n": None, "deep": [{"k": 1.5}]},
    }
    given = make_sample("a", **fields)
    stored = fill("a", **fields).get_sample("a")
    assert {name: getattr(stored, name) for name in fields} == {name: getattr(given, name) for name in fields}
    assert stored.image.is_absolute() and stored.image.read_bytes() == given.image.read_bytes()
    assert stored.image.stem == file_sha256(given.image)


def test_item_knows_its_picture(fill: Fill, make_sample: MakeSample) -> None:
    item = fill("a").get("a")
    assert item.image_size_wh == (40, 30)
    assert item.sample.image.stem == item.picture_sha256


def test_splits_counts_every_split(seven: Store) -> None:
    assert seven.splits() == {"train": 5, "val": 2, "test": 0}


PAGES = {
    "first": (None, 0, 3, "abc", 7),
    "second": (None, 3, 3, "def", 7),
    "last, shorter": (None, 6, 3, "g", 7),
    "past the end": (None, 9, 3, "", 7),
    "of a split": ("train", 2, 2, "cf", 5),
    "of an empty split": ("test", 0, 5, "", 0),
    "nothing asked": (None, 0, 0, "", 7),
    "negative": (None, -4, 2, "ab", 7),
}


@pytest.mark.parametrize(("split", "offset", "limit", "ids", "total"), PAGES.values(), ids=PAGES)
def test_page(split: str | None, offset: int, limit: int, ids: str, total: int, seven: Store) -> None:
    samples, found_total = seven.page(split, offset, limit)
    assert ("".join(sample.id for sample in samples), found_total) == (ids, total)


def test_iterate_streams_across_batches_and_sees_edits_ahead(seven: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "BATCH_ROWS", 2)
    stream = seven.iterate()
    first = next(stream)
    seven.save("g", "edited meanwhile", who="ann", expected_revision=1)
    rest = list(stream)
    assert [sample.id for sample in (first, *rest)] == list("abcdefg")
    assert rest[-1].phrase == "edited meanwhile"
    assert [sample.id for sample in seven.iterate("train")] == list("abcfg")
    with pytest.raises(StoreError, match="no split 'dev'"):
        list(seven.iterate("dev"))


def test_a_sample_says_what_it_is_from_when_asked(seven: Store, fill: Fill) -> None:
    fill("h", extra={"dataset": "refcoco"})
    assert "source" not in next(seven.iterate()).extra
    found = {sample.id: dict(sample.extra) for sample in seven.iterate(with_source=True)}
    assert found["a"]["source"] == "test" and found["h"] == {"dataset": "refcoco"}


def test_a_view_shows_one_moment(seven: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "BATCH_ROWS", 2)
    with seven.view() as view:
        stream = view.items()
        next(stream)
        seven.save("g", "edited meanwhile", who="ann", expected_revision=1)
        assert [item.phrase for item in stream][-1] == "the g thing"
    assert seven.get("g").phrase == "edited meanwhile"


def test_siblings_are_the_other_samples_of_the_picture(seven: Store) -> None:
    assert [item.id for item in seven.siblings("b")] == ["a", "c"]
    assert [item.id for item in seven.siblings("d")] == ["e"]


def test_the_samples_of_a_picture_come_in_import_order(seven: Store) -> None:
    picture = seven.get("b").picture_sha256
    assert [sample.id for sample in seven.samples_of_picture(picture)] == ["a", "b", "c"]
    assert [sample.id for sample in seven.samples_of_picture(picture, 2)] == ["a", "b"]
    assert seven.samples_of_picture("0" * 64) == []
    seven.reject("b", "no such thing", who="anna", expected_revision=seven.get("b").revision)
    assert [sample.id for sample in seven.samples_of_picture(picture)] == ["a", "c"]


def test_all_counts_are_those_of_each_split_and_of_all(seven: Store) -> None:
    seven.flag("d", "look", who="ann", expected_revision=1)
    counts = seven.all_counts()
    assert counts == {split: seven.counts(split) for split in (None, "train", "val", "test")}
    assert counts[None].flagged == 1 and counts[None].total == 7 == sum(counts[None].per_split.values())


def test_of_many_siblings_the_nearest_come_in_import_order(fill: Fill) -> None:
    store = fill(*"abcdefg")
    assert [item.id for item in store.siblings("d", most=2)] == ["c", "e"]
    assert [item.id for item in store.siblings("a", most=3)] == ["b", "c", "d"]
    assert [item.id for item in store.siblings("g", most=3)] == ["d", "e", "f"]
    assert len(fill(*(f"s{number}" for number in range(250))).siblings("s9")) == 200


def test_many_boxes_stay_with_their_sample_and_in_order(store: Store, make_sample: MakeSample) -> None:
    def sample(number: int) -> Sample:
        return make_sample(f"s{number}", boxes_xyxy_px=tuple(Box(i, i, i + 1 + number, i + 2) for i in range(number)))

    store.import_samples([sample(number) for number in range(12)], source="test", who="importer")
    for number in range(12):
        assert store.get_sample(f"s{number}").boxes_xyxy_px == sample(number).boxes_xyxy_px


STREAMS = {
    "whole": "ORDER BY s.position",
    "by picture": "ORDER BY s.picture_sha256, s.position",
    "batch": "WHERE s.position > 1 ORDER BY s.position LIMIT 2",
    "batch of a split": "WHERE s.split = 'train' AND s.position > 1 ORDER BY s.position LIMIT 2",
}


@pytest.mark.parametrize("tail_sql", STREAMS.values(), ids=STREAMS)
def test_streams_need_no_sorting(tail_sql: str, seven: Store) -> None:
    with connect(seven.path) as connection:
        plan = [row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {rows._ITEMS} {tail_sql}")]
    assert not [line for line in plan if "TEMP B-TREE" in line], plan
    assert plan[0].startswith(("SCAN s USING INDEX", "SEARCH s USING INDEX")), plan
