"""What is known of a phrase: its head, how hard it is, what it needs around it."""

from __future__ import annotations

import pytest

from grounding.training.wording import Difficulty, Needs, difficulty, head_noun, needs, singular


@pytest.mark.parametrize(
    ("phrase", "head"),
    [
        ("dog", "dog"),
        ("the left dog", "dog"),
        ("dog on the left", "dog"),
        ("dog left of the car", "dog"),
        ("the dog that is left of the car", "dog"),
        ("man in red shirt", "man"),
        ("two Dogs", "dog"),
        ("woman holding an umbrella", "woman"),
        ("man sitting on a bench", "man"),
        ("christmas tree near the tent", "tree"),
        ("bowl of soup", "bowl"),
        ("left one", ""),
        ("right", ""),
        ("the thing in the corner", ""),
        ("blue", ""),
        ("in the middle", ""),
        ("", ""),
    ],
)
def test_the_head_of_a_phrase(phrase: str, head: str) -> None:
    assert head_noun(phrase) == head


@pytest.mark.parametrize(
    ("phrase", "category", "expected"),
    [
        ("dog", "", Difficulty.NOUN),
        ("the dog", "dog", Difficulty.NOUN),
        ("the christmas tree", "christmas tree", Difficulty.NOUN),
        ("christmas tree", "", Difficulty.ATTRIBUTE),
        ("left dog", "dog", Difficulty.ATTRIBUTE),
        ("dog on the left", "dog", Difficulty.ATTRIBUTE),
        ("the smallest dog", "dog", Difficulty.ATTRIBUTE),
        ("dog left of the car", "dog", Difficulty.RELATION),
        ("dog near the car", "dog", Difficulty.RELATION),
        ("man in a red shirt", "person", Difficulty.RELATION),
    ],
)
def test_how_hard_a_phrase_is(phrase: str, category: str, expected: Difficulty) -> None:
    assert difficulty(phrase, category) is expected


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("dog", Needs.NOTHING),
        ("the red car", Needs.NOTHING),
        ("left dog", Needs.SIDE),
        ("dog on the right", Needs.SIDE),
        ("the biggest dog", Needs.SIZE),
        ("tallest man", Needs.SIZE),
        ("big dog at the top", Needs.SIDE | Needs.SIZE),
        ("middle dog", Needs.CONTEXT),
        ("second dog", Needs.CONTEXT),
        ("2nd dog", Needs.CONTEXT),
        ("dog in the corner", Needs.CONTEXT),
        ("dog in the background", Needs.CONTEXT),
        ("upper left dog", Needs.CONTEXT),
        ("dog left of the car", Needs.CONTEXT),
        ("the only dog", Needs.CONTEXT),
        ("man with a hat", Needs.CONTEXT),
        ("le chien \u00e0 gauche", Needs.CONTEXT),
        ("left", Needs.CONTEXT),
        ("the dog's owner", Needs.CONTEXT),
        ("perro a la izquierda", Needs.CONTEXT),
        ("hund auf dem sofa", Needs.CONTEXT),
        ("distant boat", Needs.CONTEXT),
        ("seventh man", Needs.CONTEXT),
        ("medium dog", Needs.SIZE),
        ("darker horse", Needs.SIZE),
    ],
)
def test_what_a_phrase_needs_around_its_object(phrase: str, expected: Needs) -> None:
    assert (Needs.CONTEXT in needs(phrase)) == (Needs.CONTEXT in expected)
    if Needs.CONTEXT not in expected:
        assert needs(phrase) == expected


@pytest.mark.parametrize(
    ("word", "one"),
    [
        *(("dogs", "dog"), ("boxes", "box"), ("berries", "berry"), ("glass", "glass"), ("bus", "bus")),
        *(("dishes", "dish"), ("buses", "bus"), ("houses", "house"), ("knives", "knife"), ("wolves", "wolf")),
        *(("taxis", "taxi"), ("skis", "ski"), ("tomatoes", "tomato"), ("shoes", "shoe"), ("geese", "goose")),
        *(("mice", "mouse"), ("children", "child"), ("vases", "vase"), ("octopuses", "octopus")),
    ],
)
def test_plurals_meet_their_singular(word: str, one: str) -> None:
    assert singular(word) == singular(one) == one
