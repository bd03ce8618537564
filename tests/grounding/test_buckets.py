"""Every row falls into exactly one bucket of each dimension, and the edges lie where they are said to lie."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grounding.boxes import Box
from grounding.buckets import FIXED_BUCKETS, bucket_of, bucket_scores, has_spatial_word
from grounding.metrics import ScoredSample, score, summarise
from grounding.records import Prediction, Sample, Status

PLAIN = Box(0, 0, 10, 10)


def row(
    phrase: str = "mug", boxes: tuple[Box, ...] = (PLAIN,), category: str = "", iou: float = 1.0, name: str = "a"
) -> ScoredSample:
    prediction = Prediction((PLAIN,), Status.OK, "", 0.5, 0.1)
    return ScoredSample(Sample(name, Path("a.png"), phrase, boxes, category=category), prediction, iou)


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("mug", "1"),
        ("a mug", "2-3"),
        ("the red mug", "2-3"),
        ("the  red mug\tthere", "4-7"),
        ("a b c d e f g", "4-7"),
        ("a b c d e f g h", "8+"),
    ],
)
def test_words_of_a_phrase(phrase: str, expected: str) -> None:
    assert bucket_of("phrase_words", row(phrase)) == expected


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ([], "none"),
        ([(31.9, 32)], "small"),
        ([(32, 32)], "medium"),
        ([(95.9, 96)], "medium"),
        ([(96, 96)], "large"),
        ([(10, 10), (60, 60)], "medium"),  # 1,850 square pixels on average
    ],
)
def test_size_of_a_box(sides: list[tuple[float, float]], expected: str) -> None:
    boxes = tuple(Box(5, 5, 5 + width, 5 + height) for width, height in sides)
    assert bucket_of("box_size", row(boxes=boxes)) == expected


@pytest.mark.parametrize(
    ("iou", "expected"),
    [
        (0.0, "0"),
        (1e-9, "0-0.25"),
        (0.2499, "0-0.25"),
        (0.25, "0.25-0.5"),
        (0.5, "0.5-0.75"),
        (0.75, "0.75-0.9"),
        (0.8999, "0.75-0.9"),
        (0.9, "0.9-1.0"),
        (1.0, "0.9-1.0"),
    ],
)
def test_edges_of_the_ious(iou: float, expected: str) -> None:
    assert bucket_of("iou", row(iou=iou)) == expected


@pytest.mark.parametrize(
    ("phrase", "spatial"),
    [
        ("the LEFT mug", True),
        ("left-most mug", True),
        ("mug (top)", True),
        ("dog behind the fence", True),
        ("mug near the plate", True),
        ("man in the middle", True),
        ("the bright mug", False),  # holds "right"
        ("a leftover", False),
        ("red_mug", False),
        ("", False),
    ],
)
def test_words_that_say_where(phrase: str, spatial: bool) -> None:
    assert has_spatial_word(phrase) is spatial
    assert bucket_of("spatial", row(phrase)) == ("spatial" if spatial else "plain")


def test_categories_stand_by_number_then_name() -> None:
    rows = [row(category=category) for category in ("dog", "cat", "", "dog", "ape")]
    assert list(bucket_scores(rows)["category"]) == ["dog", "(none)", "ape", "cat"]


def test_the_figures_of_a_bucket_are_those_of_its_rows() -> None:
    truth = (PLAIN,)
    hit = score(Sample("a", Path("a.png"), "mug", truth), Prediction(truth, Status.OK, "", 0.5, 0.1))
    miss = score(Sample("b", Path("b.png"), "the left mug", truth), Prediction((), Status.NO_BOX, "", 0.5, 0.1))
    nothing = score(Sample("c", Path("c.png"), "the right mug", ()), Prediction((), Status.NO_BOX, "", 0.5, 0.1))
    found = bucket_scores([hit, miss, nothing])
    assert found["spatial"]["plain"] == summarise([hit])
    assert found["spatial"]["spatial"] == summarise([miss, nothing])
    assert (found["box_size"]["none"].no_target_count, found["box_size"]["none"].count) == (1, 0)
    assert found["iou"]["0.9-1.0"].count == 1


def test_empty_buckets_stand_in_their_order_too() -> None:
    found = bucket_scores([])
    assert {dimension: tuple(inside) for dimension, inside in found.items()} == dict(FIXED_BUCKETS)
    assert list(found) == ["phrase_words", "spatial", "box_size", "iou", "category"]
    assert found["iou"]["0"] == summarise([])


sides = st.floats(0.01, 4000)
any_row = st.builds(
    row,
    phrase=st.text(max_size=30) | st.lists(st.sampled_from(["left", "mug", "of", "top"]), max_size=9).map(" ".join),
    boxes=st.lists(st.builds(lambda w, h: Box(0, 0, w, h), sides, sides), max_size=3).map(tuple),
    category=st.sampled_from(["", "dog", "cat", "(none)"]),
    iou=st.floats(0, 1) | st.sampled_from([0.0, 0.25, 0.5, 0.75, 0.9, 1.0]),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(any_row, max_size=8))
def test_every_row_falls_into_exactly_one_bucket(rows: list[ScoredSample]) -> None:
    for inside in bucket_scores(rows).values():
        assert sum(scores.count + scores.no_target_count for scores in inside.values()) == len(rows)
