"""Which pictures stand together in a step: those of like length, so that little of a batch is padding.

A pure function of (seed, step): nothing is remembered between steps, so a resumed run meets the pictures of an
uninterrupted one. Pictures come in rounds, each in a random order of its own; the order of many steps is cut into
windows, and within a window the pictures are sorted by length, cut into steps, and the steps shuffled. Every picture
still comes once a round, and every step is full.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache

WINDOW_STEPS = 16  # more steps group better, fewer are nearer to a plain random order


def pictures_of_step(
    lengths: Sequence[float], *, images_per_step: int, seed: int, step: int, grouped: bool = True
) -> list[int]:
    """The indices of the pictures in step `step` (0, 1, ...), at most as many as there are.

    `lengths[i]` is how long picture i makes its sequence, in any unit (see `sequence_lengths`). Where all are the same,
    or with `grouped` false, it is the plain random order.
    """
    size = min(images_per_step, len(lengths))
    if not grouped or len(set(lengths)) == 1:
        return [_picture_at(len(lengths), seed, place) for place in range(step * size, (step + 1) * size)]
    window, inside = divmod(step, WINDOW_STEPS)
    begin = window * WINDOW_STEPS * size
    drawn = [_picture_at(len(lengths), seed, begin + i) for i in range(WINDOW_STEPS * size)]
    drawn.sort(key=lambda index: lengths[index])  # stable: like lengths stay in their random order
    places = list(range(WINDOW_STEPS))
    random.Random(f"{seed}/window/{window}").shuffle(places)
    at = places[inside] * size
    return drawn[at : at + size]


def _picture_at(count: int, seed: int, place: int) -> int:
    """The picture at this place of the endless random order: each once a round."""
    turn, inside = divmod(place, count)
    return _round_order(count, seed, turn)[inside]


@lru_cache(maxsize=8)
def _round_order(count: int, seed: int, turn: int) -> list[int]:
    """A random order of all pictures; the last few are kept, for they are asked for place by place."""
    order = list(range(count))
    random.Random(f"{seed}/round/{turn}").shuffle(order)
    return order


def padding_share(lengths: Sequence[float], steps: Sequence[Sequence[int]]) -> float:
    """The share, 0.0 to 1.0, of the places in these steps that would be padding."""
    places = sum(max(lengths[i] for i in step) * len(step) for step in steps)
    return 1 - sum(lengths[i] for step in steps for i in step) / places


def sequence_lengths(sizes_wh: Sequence[tuple[int, int]], pixel_budget: tuple[int, int] | None) -> list[int]:
    """How long pictures of these sizes make their sequences, for `pictures_of_step`: their area in pixels within the
    profile's budget, to which the number of visual tokens is proportional."""
    least, most = pixel_budget or (0, max((width * height for width, height in sizes_wh), default=0))
    return [min(most, max(least, width * height)) for width, height in sizes_wh]
