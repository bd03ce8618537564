"""Filters against the same asked of every sample in plain Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compared_samples import keep, keep_two, some_rows, some_samples
from grounding.buckets import FIXED_BUCKETS, bucket_of
from grounding.compared import Comparison, Filter, open_comparison
from grounding.compared.filters import OUTCOMES, order_rows, page_of
from grounding.errors import RecordError
from grounding.metrics import ScoredSample
from grounding.records import Status
from grounding.reports import read_rows

Pair = tuple[ScoredSample, ScoredSample]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, list[Pair]]:
    folders = keep_two(tmp_path_factory.mktemp("two"), count=150)
    by_id = {row.sample.id: row for row in read_rows(folders[1])}
    return open_comparison(folders), [(row, by_id[row.sample.id]) for row in read_rows(folders[0])]


def expected(pairs: list[Pair], holds: Any) -> list[bool]:
    return [bool(holds(a, b)) for a, b in pairs]


def right(row: ScoredSample) -> bool:
    return row.iou >= 0.5


@pytest.mark.parametrize(
    ("asked", "holds"),
    [
        ({}, lambda a, b: True),
        ({"outcome": "win"}, lambda a, b: right(b) and not right(a)),
        ({"outcome": "loss"}, lambda a, b: right(a) and not right(b)),
        ({"outcome": "tie"}, lambda a, b: right(a) == right(b)),
        ({"outcome": "both_right"}, lambda a, b: right(a) and right(b)),
        ({"outcome": "both_wrong"}, lambda a, b: not right(a) and not right(b)),
        ({"target": "some"}, lambda a, b: a.has_target),
        ({"target": "none"}, lambda a, b: not a.has_target),
        ({"phrase_words": "2-3"}, lambda a, b: bucket_of("phrase_words", a) == "2-3"),
        ({"spatial": "spatial"}, lambda a, b: bucket_of("spatial", a) == "spatial"),
        ({"box_size": "small"}, lambda a, b: bucket_of("box_size", a) == "small"),
        ({"category": "mug"}, lambda a, b: a.sample.category == "mug"),
        ({"category": "(none)"}, lambda a, b: not a.sample.category),
        ({"status": "no_box"}, lambda a, b: b.prediction.status is Status.NO_BOX),
        ({"status": "no_box", "side": "a"}, lambda a, b: a.prediction.status is Status.NO_BOX),
        ({"words": "LEFT mug"}, lambda a, b: "left" in a.sample.phrase and "mug" in a.sample.phrase),
        ({"words": "red"}, lambda a, b: "red" in a.sample.phrase.lower()),
        ({"words": "nowhere"}, lambda a, b: False),
        (
            {"outcome": "win", "category": "drum"},
            lambda a, b: right(b) and not right(a) and a.sample.category == "drum",
        ),
    ],
)
def test_a_filter_passes_what_it_says(opened: tuple[Comparison, list[Pair]], asked: Any, holds: Any) -> None:
    comparison, pairs = opened
    assert Filter(**asked).mask(comparison).tolist() == expected(pairs, holds)


@pytest.mark.parametrize("bucket", FIXED_BUCKETS["iou"])
def test_the_iou_is_that_of_a_side(opened: tuple[Comparison, list[Pair]], bucket: str) -> None:
    comparison, pairs = opened
    of_b = expected(pairs, lambda a, b: bucket_of("iou", b) == bucket)
    assert Filter(iou=bucket).mask(comparison).tolist() == of_b
    of_a = expected(pairs, lambda a, b: bucket_of("iou", a) == bucket)
    assert Filter(iou=bucket, side="a").mask(comparison).tolist() == of_a


def test_the_source(opened: tuple[Comparison, list[Pair]]) -> None:
    comparison, _ = opened
    assert (Filter(source="coco").mask(comparison) == (comparison.samples.source == "coco")).all()
    assert Filter(source="(none)").mask(comparison).sum() == 50


def test_every_sample_has_one_outcome(opened: tuple[Comparison, list[Pair]]) -> None:
    comparison, _ = opened
    masks = {outcome: Filter(outcome=outcome).mask(comparison) for outcome in OUTCOMES}
    assert (sum(masks[name].astype(int) for name in ("win", "loss", "tie")) == 1).all()
    assert (masks["tie"] == (masks["both_right"] | masks["both_wrong"])).all()


@pytest.mark.parametrize(
    ("order", "key"),
    [
        ("sample", lambda a, b: 0),
        ("worst", lambda a, b: (b.iou, -(b.prediction.confidence or 0.0))),
        ("gain", lambda a, b: -(b.iou - a.iou)),
        ("loss", lambda a, b: b.iou - a.iou),
        ("unsure", lambda a, b: 2.0 if b.prediction.confidence is None else b.prediction.confidence),
    ],
)
def test_orders(opened: tuple[Comparison, list[Pair]], order: str, key: Any) -> None:
    comparison, pairs = opened
    mask = Filter(spatial="plain").mask(comparison)
    rows = sorted(np.flatnonzero(mask).tolist(), key=lambda row: key(*pairs[row]))
    assert order_rows(comparison, mask, order).tolist() == rows


def test_one_alone_has_an_order_but_no_outcome(tmp_path: Path) -> None:
    comparison = open_comparison([keep(tmp_path / "a", some_rows(some_samples(9)))])
    assert len(order_rows(comparison, Filter(status="ok").mask(comparison), "worst")) > 0
    with pytest.raises(RecordError, match="'win' needs a second evaluation"):
        Filter(outcome="win").mask(comparison)
    with pytest.raises(RecordError, match="'gain' needs a second evaluation"):
        order_rows(comparison, Filter().mask(comparison), "gain")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"outcome": "won"}, "outcome is 'won': expected one of win, loss, tie, both_right, both_wrong"),
        ({"spatial": "left"}, "spatial is 'left': expected one of spatial, plain"),
        ({"iou": "0.5"}, "iou is '0.5'"),
        ({"status": "fine"}, "status is 'fine': expected one of ok, no_box"),
        ({"seen": "yes"}, "seen is 'yes': expected one of unseen"),
        ({"target": "one"}, "target is 'one': expected one of some, none"),
        ({"words": None}, "words is None: expected text"),
    ],
)
def test_what_can_not_be_asked(values: Any, told: str) -> None:
    with pytest.raises(RecordError, match=told):
        Filter(**values)


def test_an_unknown_side_and_order(opened: tuple[Comparison, list[Pair]]) -> None:
    comparison, _ = opened
    with pytest.raises(RecordError, match="no side 'c'"):
        Filter(side="c", status="ok").mask(comparison)
    with pytest.raises(RecordError, match="no order 'best'"):
        order_rows(comparison, comparison.counted, "best")


def test_pages() -> None:
    rows = np.arange(7)
    first, last = page_of(rows, 1, 3), page_of(rows, 99, 3)
    assert (first.rows, first.pages, first.total) == ((0, 1, 2), 3, 7)
    assert (last.rows, last.number) == ((6,), 3)
    assert page_of(rows[:0], 0, 3) == type(first)((), 1, 1, 0)
    with pytest.raises(RecordError, match="page of 0 rows"):
        page_of(rows, 1, 0)
