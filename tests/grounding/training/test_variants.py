"""Rewordings keep the meaning, and leave alone what they don't understand."""

from __future__ import annotations

import pytest

from grounding.training.augment import mirror_phrase
from grounding.training.variants import rewordings


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("dog", {"the dog"}),
        ("the dog", {"dog"}),
        ("left dog", {"the left dog", "dog on the left", "the dog on the left"}),
        ("tent at the top", {"the tent at the top", "top tent", "the top tent"}),
        ("big dog", {"the big dog", "large dog", "the large dog"}),
        ("the biggest dog", {"biggest dog", "the largest dog", "largest dog"}),
        (
            "dog left of the car",
            {
                "the dog left of the car",
                "dog that is left of the car",
                "the dog that is left of the car",
                "dog to the left of the car",
                "the dog to the left of the car",
            },
        ),
        ("dog above the car", {"the dog above the car", "dog that is above the car", "the dog that is above the car"}),
    ],
)
def test_a_wording_has_others_that_mean_the_same(phrase: str, expected: set[str]) -> None:
    assert set(rewordings(phrase)) == expected


@pytest.mark.parametrize(
    ("case", "phrase", "never"),
    [
        ("a hand of that side of the body", "left hand", "hand on the left"),
        ("a shoe of that foot", "right shoe", "shoe on the right"),
        ("no size", "the big one left", "left"),
        ("a relation is no place", "left dog near the car", "dog near the car on the left"),
        ("next to is not near", "dog next to the car", "dog near the car"),
        ("a batter's hand", "left handed batter", "handed batter on the left"),
        ("a place in a team", "left fielder", "fielder on the left"),
        ("a kind of hat", "top hat", "hat at the top"),
        ("a hat that is at the top", "hat at the top", "top hat"),
        ("a league", "little league player", "small league player"),
        ("a name", "big ben", "large ben"),
        ("a verb between", "man standing near the car", "man standing that is near the car"),
    ],
)
def test_no_rule_changes_the_meaning(case: str, phrase: str, never: str) -> None:
    assert not any(never == wording.removeprefix("the ") for wording in rewordings(phrase))


@pytest.mark.parametrize(
    "phrase",
    [
        *("Dog", "der Hund!", "his dog", "two dogs", "a dog", "dog, left", "", "  dog"),
        *("on the left", "him", "facing left", "find the dog", "where is the dog", "in front"),
    ],
)
def test_what_is_not_understood_gets_no_other_article(phrase: str) -> None:
    assert not any(wording.startswith("the ") for wording in rewordings(phrase))


@pytest.mark.parametrize("phrase", ["left dog", "dog on the right", "dog left of the car"])
def test_a_reworded_side_is_mirrored_like_the_phrase(phrase: str) -> None:
    mirrored = set(rewordings(mirror_phrase(phrase)))
    assert {mirror_phrase(wording) for wording in rewordings(phrase)} == mirrored
