"""Which pictures stand together in a step: those of like size, so that little of a batch is padding.

The endless random order of a run (places 0, 1, 2, ...) is cut into windows of many steps. Within a window the places
are sorted by the length of what stands there and cut into steps, and the steps are shuffled. A pure function of the
seed and the step, so a resumed run meets the pictures of an uninterrupted one; what a window of the plain order holds
is what the same window holds grouped, so every picture still comes once a round, and every step is full.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from PIL import Image

WINDOW_STEPS = 16  # more steps group better, fewer are nearer to a plain random order


def grouped_places(
    step: int,
    size: int,
    length_at: Callable[[int], float],
    seed: int,
    window_steps: int = WINDOW_STEPS,
    round_at: Callable[[int], int] = lambda place: 0,
) -> Sequence[int]:
    """The `size` places of the plain order that make step `step`, counted from 0.

    `length_at(place)` is how long the picture there makes its sequence, in any unit; where all of a window are the
    same, it stays in its plain order. A window of more than a round would put a picture into a step twice, and so
    would one in which a round ends: there the places of each round (`round_at(place)`) are sorted by themselves.
    """
    window, inside = divmod(step, window_steps)
    begin = window * window_steps * size
    lengths = {place: length_at(place) for place in range(begin, begin + window_steps * size)}
    if len(set(lengths.values())) == 1:
        return range(begin + inside * size, begin + (inside + 1) * size)
    # Stable: like lengths stay in their random order.
    ordered = sorted(lengths, key=lambda place: (round_at(place), lengths[place]))
    steps = list(range(window_steps))
    random.Random(f"{seed}/window/{window}").shuffle(steps)
    at = steps[inside] * size
    return ordered[at : at + size]


@lru_cache(maxsize=65_536)
def picture_area(path: Path) -> int:
    """Width x height in pixels, from the file's head; 0 where it can't be read. The visual tokens of a family with
    dynamic resolution are proportional to it within the profile's pixel budget."""
    try:
        with Image.open(path) as picture:
            return picture.width * picture.height
    except (OSError, ValueError, Image.DecompressionBombError):
        return 0  # whoever shows it says what is wrong with it
