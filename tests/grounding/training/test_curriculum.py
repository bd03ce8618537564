"""Easy phrases first, by the step alone."""

from __future__ import annotations

import pytest

from grounding.training.curriculum import admitted, hardest_at
from grounding.training.wording import Difficulty

N, A, R = Difficulty.NOUN, Difficulty.ATTRIBUTE, Difficulty.RELATION


def test_the_kinds_come_in_one_by_one() -> None:
    assert [hardest_at(step, 18, 0.5) for step in range(1, 19)] == [N] * 3 + [A] * 3 + [R] * 12


@pytest.mark.parametrize("step", [1, 7, 100])
def test_without_a_share_everything_comes_at_once(step: int) -> None:
    assert hardest_at(step, 100, 0.0) is R


def test_harder_phrases_wait_and_no_target_is_left_out() -> None:
    phrases = ("dog left of the car", "left dog", "the dog")
    assert admitted(phrases, "dog", N) == ("the dog",)
    assert admitted(phrases, "dog", A) == ("left dog", "the dog")
    assert admitted(phrases, "dog", R) == phrases
    assert admitted(("dog left of the car", "left dog"), "dog", N) == ("left dog",)
