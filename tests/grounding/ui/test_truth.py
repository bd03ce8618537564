"""When a box is the truth for what somebody typed: by the sample itself, and by the others of its picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from grounding.boxes import Box
from grounding.records import Sample
from grounding.ui.truth import boxes_called, truth_on_picture

LEFT, RIGHT = (Box(0, 0, 10, 10),), (Box(20, 0, 30, 10),)


def sample(name: str, phrase: str, boxes: tuple[Box, ...], *alternatives: str) -> Sample:
    return Sample(name, Path("/p.png"), phrase, boxes, "test", alternatives=alternatives)


def is_placeholder(phrase: str) -> bool:
    return phrase == "caption"


ON_PICTURE = (
    sample("a", "the left mug", LEFT, "mug on the left"),
    sample("b", "The right  mug", RIGHT),
    sample("c", "the dog", ()),
    sample("d", "a mug", LEFT),
    sample("e", "a mug", RIGHT),
    sample("f", "caption", RIGHT),
)


@pytest.mark.parametrize(
    ("number", "phrase", "boxes", "says"),
    [
        (0, "the left mug", LEFT, "Dashed: the true box of this phrase."),
        (0, "Mug on  the left", LEFT, "Dashed: the true box of this phrase."),
        (0, "the right mug", RIGHT, "Dashed: what another sample of this picture calls so."),
        (1, "mug on the left", None, "Not this sample's phrase"),
        (0, "the dog", (), "refers to nothing in the picture"),
        (2, "the dog", (), "refers to nothing in the picture"),
        (0, "a mug", None, "Not this sample's phrase"),
        (3, "a mug", LEFT, "the true box of this phrase"),
        (0, "caption", None, "Not this sample's phrase"),
        (0, "  ", None, ""),
        (5, "the left mug", LEFT, "another sample of this picture"),
        (5, "a mug", RIGHT, "yours stands in for it"),
        (5, "whatever", RIGHT, "yours stands in for it"),
        (None, "the right mug", RIGHT, "another sample of this picture"),
        (None, "the cat", None, "uploaded picture has no known truth"),
    ],
)
def test_who_knows_the_truth(number: int | None, phrase: str, boxes: object, says: str) -> None:
    own = None if number is None else ON_PICTURE[number]
    truth = truth_on_picture(own, lambda: ON_PICTURE, phrase, is_placeholder)
    assert truth.boxes_xyxy_px == boxes
    assert says in truth.sentence


def test_samples_that_do_not_agree_say_nothing() -> None:
    assert boxes_called(ON_PICTURE, "a mug", is_placeholder) is None
    nearly = replace(ON_PICTURE[4], boxes_xyxy_px=(Box(0, 0, 10, 9.9),))
    assert boxes_called((*ON_PICTURE[:4], nearly), "a mug", is_placeholder) == LEFT
    assert boxes_called(ON_PICTURE[:4], "A MUG", is_placeholder) == LEFT
    assert boxes_called(ON_PICTURE, "caption", is_placeholder) is None
