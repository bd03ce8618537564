"""A crop never makes a phrase false or ambiguous."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from grounding.boxes import Box, iou
from grounding.training.augment import Augmentation, Shown, augment, crop
from grounding.training.crops import Told, choose_crop, holds
from grounding.training.jitter import jitter

WINDOW = Box(50, 50, 150, 150)
LEFT, RIGHT = Box(60, 60, 80, 80), Box(120, 60, 140, 80)
CUT, GONE = Box(140, 60, 170, 80), Box(170, 60, 190, 80)


@pytest.mark.parametrize(
    ("case", "phrase", "box", "sibling", "expected"),
    [
        ("a noun", "dog", LEFT, None, True),
        ("a noun that is cut", "dog", CUT, None, False),
        ("a noun, its sibling cut", "red dog", LEFT, CUT, True),
        ("left among both", "left dog", LEFT, RIGHT, True),
        ("left, its sibling gone", "left dog", LEFT, GONE, True),
        ("left, its sibling cut", "left dog", LEFT, CUT, False),
        ("left of its kind, but in the right half", "left dog", RIGHT, GONE, False),
        ("right in the left half", "dog on the right", LEFT, None, False),
        ("top", "top dog", LEFT, None, True),
        ("bottom", "bottom dog", LEFT, None, False),
        ("the smallest among both", "the smallest dog", LEFT, RIGHT, True),
        ("the smallest without its sibling", "the smallest dog", LEFT, GONE, False),
        ("the smallest of an unknown kind", "the smallest dog", LEFT, None, False),
        ("an ordinal", "second dog", LEFT, RIGHT, False),
        ("a relation", "dog left of the car", LEFT, RIGHT, False),
        ("a corner", "dog in the corner", LEFT, None, False),
    ],
)
def test_what_holds_in_a_window(case: str, phrase: str, box: Box, sibling: Box | None, expected: bool) -> None:
    told = Told(phrase, (box,), "dog")
    siblings = [told, Told("car", (GONE,), "car")] + ([Told("dog", (sibling,), "dog")] if sibling else [])
    assert holds(told, WINDOW, siblings) is expected


@pytest.mark.parametrize(("category", "sibling"), [("", "dog"), ("dog", ""), ("", "")])
def test_what_may_be_of_its_kind_is_not_cut(category: str, sibling: str) -> None:
    told = Told("left dog", (LEFT,), category)
    assert not holds(told, WINDOW, [told, Told("dog there", (CUT,), sibling)])
    assert holds(told, WINDOW, [told, Told("dog there", (GONE,), sibling)])


def test_nothing_is_nowhere_in_a_part_too() -> None:
    assert holds(Told("dog left of the car", ()), WINDOW, ())


@given(seed=st.integers(0, 10_000))
def test_a_chosen_window_keeps_every_phrase_and_the_shape(seed: int) -> None:
    asked = [Told("left dog", (Box(20, 20, 50, 50),), "dog"), Told("tree", (Box(60, 10, 80, 40),), "tree")]
    siblings = [*asked, Told("right dog", (Box(150, 20, 180, 50),), "dog")]
    window = choose_crop((200, 100), asked, siblings, random.Random(seed))
    if window is not None:
        assert all(holds(one, window, siblings) for one in asked)
        assert 0 <= window.x1 < window.x2 <= 200 and 0 <= window.y1 < window.y2 <= 100
        assert abs(window.width_px / window.height_px - 2) < 0.05


def test_a_phrase_that_needs_its_surroundings_keeps_the_whole_picture() -> None:
    asked = [Told("dog", (LEFT,), "dog"), Told("dog left of the car", (LEFT,), "dog")]
    assert all(choose_crop((200, 200), asked, asked, random.Random(seed)) is None for seed in range(50))


def test_the_box_stays_around_its_object_in_a_crop() -> None:
    image = Image.new("RGB", (200, 100), "black")
    image.paste((255, 255, 255), (60, 30, 100, 60))
    shown = crop(Shown(image, (("thing", (Box(60, 30, 100, 60),)),)), Box(40, 20, 140, 70))
    assert shown.image.size == (200, 100)
    assert shown.marks == ("cropped",)
    assert shown.targets[0][1] == (Box(40, 20, 120, 80),)
    seen = shown.image.convert("L").point(lambda value: 255 if value > 127 else 0).getbbox()
    assert seen is not None
    assert max(abs(a - b) for a, b in zip(seen, (40, 20, 120, 80), strict=True)) <= 1


@given(
    x1=st.floats(0, 150),
    y1=st.floats(0, 150),
    width=st.floats(0.5, 50),
    height=st.floats(0.5, 50),
    seed=st.integers(0, 1000),
)
def test_a_jittered_box_is_near_its_own_and_in_the_picture(
    x1: float, y1: float, width: float, height: float, seed: int
) -> None:
    box = Box(x1, y1, x1 + width, y1 + height)
    moved = jitter(box, (200, 200), random.Random(seed))
    assert iou(box, moved) >= 0.9
    assert moved.x1 >= 0 and moved.y1 >= 0 and moved.x2 <= 200 and moved.y2 <= 200


def test_every_kind_of_view_is_marked_and_only_when_it_was_made() -> None:
    box = Box(60, 60, 90, 90)
    told = [Told("dog", (box,), "dog")]
    image = Image.new("RGB", (128, 128), "grey")

    def seen(how: Augmentation) -> set[str]:
        shown = [augment(image, [("dog", (box,))], random.Random(s), how, told=told, siblings=told) for s in range(40)]
        return {mark for one in shown for mark in one.marks} | {"jittered" for one in shown if one.jittered}

    plain = Augmentation(mirrored_share=0, farther_share=0, colour_change=0)
    assert seen(plain) == set()
    assert seen(Augmentation(1, 0, 0, 0, 0)) == {"mirrored"}
    assert seen(Augmentation(0, 1, 0, 0, 0)) == {"cropped"}
    assert seen(Augmentation(0, 0, 1, 0, 0)) == {"farther away"}
    assert seen(Augmentation(0, 0, 0, 1, 0)) == {"jittered"}
    assert seen(Augmentation(0, 0, 0, 0, 0.1)) == {"other colours"}
    every = {"mirrored", "cropped", "farther away", "other colours", "jittered"}
    assert seen(Augmentation(0.5, 0.5, 0.5, 0.5, 0.1)) == every
