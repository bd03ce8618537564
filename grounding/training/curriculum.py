"""Easy phrases first: nouns, then attributes, then relations. A pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence

from grounding.training.wording import Difficulty, difficulty


def hardest_at(step: int, steps: int, share: float) -> Difficulty:
    """The hardest kind of phrase that step `step` (from 1) of `steps` shows.

    Over the first `share` (0.0 to 1.0) of the steps the kinds come in one by one, a third of that time each; after
    it every phrase may come. A share of 0.0 is no curriculum.
    """
    length = share * steps
    if length <= 0 or step > length:
        return Difficulty.RELATION
    return Difficulty(min(int(Difficulty.RELATION), math.floor(3 * (step - 1) / length)))


def admitted(phrases: Sequence[str], category: str, hardest: Difficulty) -> tuple[str, ...]:
    """Those phrases that are no harder; where all are harder, the easiest of them: no picture is left out."""
    graded = [(difficulty(phrase, category), phrase) for phrase in phrases]
    limit = max(hardest, min(grade for grade, _ in graded))
    return tuple(phrase for grade, phrase in graded if grade <= limit)
