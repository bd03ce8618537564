"""Augmented views: what they show is still true."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from grounding.boxes import Box
from grounding.training.augment import Shown, augment, can_mirror, mirror, mirror_phrase, zoom_out


@pytest.mark.parametrize(
    ("phrase", "mirrored"),
    [
        ("left dog", "right dog"),
        ("dog on the right", "dog on the left"),
        ("the LEFT one, not the Right one", "the RIGHT one, not the Left one"),
        ("leftmost cup", "rightmost cup"),
        ("drum left of the couch", "drum right of the couch"),
        ("the bright leftover", "the bright leftover"),
        ("top tent", "top tent"),
        ("left_hand", "right_hand"),
        ("dog_left", "dog_right"),
        ("leftmost_dog", "rightmost_dog"),
    ],
)
def test_sides_are_swapped_and_nothing_else(phrase: str, mirrored: str) -> None:
    assert mirror_phrase(phrase) == mirrored
    assert mirror_phrase(mirrored) == phrase


@pytest.mark.parametrize(
    ("phrase", "can"),
    [
        ("left dog", True),
        ("the dog right of the car", True),
        ("mug right above the plate", False),
        ("the one right next to him", False),
        ("cup at 9 o'clock", False),
        ("eastern house", False),
        ("northeast corner", False),
        ("the one at 9 o\u2019clock", False),
        ("the only slice left", False),
        ("cup right side up", False),
        ("cup right-side-up", False),
        ("right-angled ruler", False),
        ("right of way sign", False),
        ("left-over pizza", False),
        ("second_dog_from_left", False),
        ("chien_gauche", False),
        ("upper_left_dog", True),
        ("sign with 'exit' on it", False),
        ("the boys' and girls' coats", True),
        ("second dog", False),
        ("der linke Hund", False),
        ("le chien \u00e0 gauche", False),
        ("\u5de6\u8fb9\u7684\u72d7", False),
        ("dog on the left", True),
        ("left-handed batter", True),
        ("the man left of", True),
        ("bright upright lamp on the right", True),
        ("leftover pizza", True),
        ("dog facing leftwards", False),
        ("leftest guy", False),
        ("upperleft dog", False),
        ("guy on lft", False),
        ("rt guy", False),
        ("turn right sign", False),
        ("sign that says right lane", False),
        ("player number 12", False),
        ("man right near the tree", False),
        ("pizza left uneaten", False),
        ("the bus that has left", False),
        ("last dog", False),
        ("sixth man", False),
        ("perro a la izquierda", False),
        ("perros izquierdos", False),
        ("menino da esquerda", False),
        ("pies po lewej", False),
    ],
)
def test_phrases_that_cannot_follow_are_known(phrase: str, can: bool) -> None:
    assert can_mirror(phrase) is can


def picture_with_box(box: Box, size_wh: tuple[int, int]) -> Image.Image:
    image = Image.new("RGB", size_wh, "black")
    image.paste((255, 255, 255), tuple(int(value) for value in box))  # type: ignore[arg-type]
    return image


def white_box(image: Image.Image) -> Box:
    """The box around what is brighter than half."""
    bounds = image.convert("L").point(lambda value: 255 if value > 110 else 0).getbbox()
    assert bounds is not None
    return Box(*map(float, bounds))


@settings(max_examples=60, deadline=None)
@given(
    x1=st.integers(0, 60),
    y1=st.integers(0, 40),
    width=st.integers(12, 60),
    height=st.integers(12, 40),
    seed=st.integers(0, 10_000),
)
def test_the_box_stays_around_its_object(x1: int, y1: int, width: int, height: int, seed: int) -> None:
    box = Box(float(x1), float(y1), float(x1 + width), float(y1 + height))
    shown = augment(picture_with_box(box, (128, 96)), [("left thing", (box,))], random.Random(seed))
    assert shown.image.size == (128, 96)
    ((phrase, (moved,)),) = shown.targets
    assert phrase in ("left thing", "right thing")
    seen = white_box(shown.image)
    assert max(abs(a - b) for a, b in zip(seen, moved, strict=True)) <= 2.0


def test_mirroring_twice_is_the_same_picture() -> None:
    image = picture_with_box(Box(3, 4, 30, 20), (64, 48))
    shown = Shown(image, (("left thing", (Box(3, 4, 30, 20),)), ("nothing", ())))
    again = mirror(mirror(shown))
    assert again.targets == shown.targets
    assert again.image.tobytes() == image.tobytes()
    assert mirror(shown).targets[0] == ("right thing", (Box(34, 4, 61, 20),))


def test_a_phrase_that_cannot_follow_keeps_the_picture_as_it_is() -> None:
    box = Box(3, 4, 30, 20)
    for seed in range(40):
        targets = [("left thing", (box,)), ("thing right above", (box,))]
        shown = augment(picture_with_box(box, (64, 48)), targets, random.Random(seed))
        assert [phrase for phrase, _ in shown.targets] == ["left thing", "thing right above"]


def test_both_sides_and_sizes_come_up() -> None:
    box = Box(3, 4, 30, 20)
    phrases, widths = set(), set()
    for seed in range(40):
        shown = augment(picture_with_box(box, (64, 48)), [("left thing", (box,))], random.Random(seed))
        phrases.add(shown.targets[0][0])
        widths.add(round(shown.targets[0][1][0].width_px))
    assert phrases == {"left thing", "right thing"}
    assert len(widths) > 3


def test_the_ground_of_a_smaller_picture_is_its_own_colour() -> None:
    shown = zoom_out(Shown(Image.new("RGB", (40, 40), (10, 200, 30)), ()), random.Random(1))
    assert shown.image.getcolors() == [(1600, (10, 200, 30))]
