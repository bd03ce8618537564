"""Steps of pictures of like length: a pure function of seed and step, every picture once a round, less padding."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from grounding.training.grouping import WINDOW_STEPS, padding_share, pictures_of_step, sequence_lengths

counts = st.integers(1, 60)


def steps_of(lengths: list[float], size: int, seed: int, steps: int, *, grouped: bool = True) -> list[list[int]]:
    return [
        pictures_of_step(lengths, images_per_step=size, seed=seed, step=step, grouped=grouped) for step in range(steps)
    ]


def lengths_of(count: int, seed: int) -> list[float]:
    rng = random.Random(seed)
    return [rng.choice([64, 100, 300, 301, 1200]) for _ in range(count)]


@given(count=counts, size=st.integers(1, 9), seed=st.integers(0, 99), order=st.randoms())
def test_a_step_depends_on_seed_and_step_alone(count: int, size: int, seed: int, order: random.Random) -> None:
    lengths = lengths_of(count, 1)
    forwards = steps_of(lengths, size, seed, 40)
    asked = list(range(40))
    order.shuffle(asked)
    for step in asked:
        assert pictures_of_step(lengths, images_per_step=size, seed=seed, step=step) == forwards[step]


@given(count=counts, size=st.integers(1, 9), seed=st.integers(0, 99), grouped=st.booleans())
def test_every_picture_comes_as_often_as_any_other(count: int, size: int, seed: int, grouped: bool) -> None:
    size = min(size, count)
    steps = WINDOW_STEPS * count  # whole windows and whole rounds
    met = Counter(i for step in steps_of(lengths_of(count, 1), size, seed, steps, grouped=grouped) for i in step)
    assert set(met.values()) == {steps * size // count}
    assert len(met) == count


@given(count=counts, size=st.integers(1, 9), windows=st.integers(1, 3))
def test_a_window_of_grouped_steps_holds_the_pictures_of_the_plain_order(count: int, size: int, windows: int) -> None:
    lengths = lengths_of(count, 1)
    grouped, plain = (
        sorted(i for step in steps_of(lengths, size, 5, windows * WINDOW_STEPS, grouped=way) for i in step)
        for way in (True, False)
    )
    assert grouped == plain


def test_much_of_the_padding_goes() -> None:
    lengths = lengths_of(500, 3)
    plain, grouped = (padding_share(lengths, steps_of(lengths, 8, 0, 500, grouped=way)) for way in (False, True))
    assert plain > 0.5
    assert grouped < 0.1


def test_steps_of_long_pictures_do_not_all_come_last() -> None:
    lengths = lengths_of(500, 3)
    first = [lengths[step[0]] for step in steps_of(lengths, 8, 0, WINDOW_STEPS)]
    assert first != sorted(first)


def test_pictures_of_one_length_keep_their_random_order() -> None:
    assert steps_of([7.0] * 30, 4, 2, 30) == steps_of([7.0] * 30, 4, 2, 30, grouped=False)


def test_another_seed_is_another_order() -> None:
    lengths = lengths_of(40, 1)
    assert steps_of(lengths, 4, 0, 10) != steps_of(lengths, 4, 1, 10)


def test_a_length_is_an_area_within_the_budget() -> None:
    assert sequence_lengths([(10, 10), (100, 50), (2000, 3000)], (1000, 10_000)) == [1000, 5000, 10_000]
    assert sequence_lengths([(10, 10), (100, 50)], None) == [100, 5000]
