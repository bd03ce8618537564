"""Steps of pictures of like size: a pure function of seed and step, nothing lost, less padding."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from grounding.training.data import PhraseTarget, PictureTargets
from grounding.training.feed import Feed
from grounding.training.grouping import WINDOW_STEPS, grouped_places, picture_area
from grounding.training.settings import TrainSettings

sizes = st.integers(1, 9)


def length_at(place: int) -> float:
    return random.Random(place).choice([64, 100, 300, 301, 1200])


def padding_share(steps: Sequence[Sequence[int]]) -> float:
    """The share of the places in these steps that would be padding."""
    places = sum(max(map(length_at, step)) * len(step) for step in steps)
    return 1 - sum(length_at(i) for step in steps for i in step) / places


@given(size=sizes, seed=st.integers(0, 99), order=st.randoms())
def test_a_step_depends_on_seed_and_step_alone(size: int, seed: int, order: random.Random) -> None:
    forwards = [list(grouped_places(step, size, length_at, seed)) for step in range(40)]
    asked = list(range(40))
    order.shuffle(asked)
    for step in asked:
        assert list(grouped_places(step, size, length_at, seed)) == forwards[step]


@given(size=sizes, windows=st.integers(1, 4))
def test_windows_hold_what_they_hold_in_the_plain_order(size: int, windows: int) -> None:
    steps = [grouped_places(step, size, length_at, 5) for step in range(windows * WINDOW_STEPS)]
    assert {len(step) for step in steps} == {size}
    assert sorted(place for step in steps for place in step) == list(range(windows * WINDOW_STEPS * size))


def test_much_of_the_padding_goes() -> None:
    grouped = [grouped_places(step, 8, length_at, 0) for step in range(160)]
    plain = [range(step * 8, step * 8 + 8) for step in range(160)]
    assert padding_share(plain) > 0.5
    assert padding_share(grouped) < 0.15


def test_long_pictures_do_not_all_come_last() -> None:
    first = [length_at(grouped_places(step, 8, length_at, 0)[0]) for step in range(WINDOW_STEPS)]
    assert first != sorted(first)


def test_pictures_of_one_size_keep_their_random_order() -> None:
    for step in range(40):
        assert list(grouped_places(step, 4, lambda place: 7.0, 2)) == list(range(step * 4, step * 4 + 4))


def test_another_seed_is_another_order() -> None:
    assert [grouped_places(s, 4, length_at, 0) for s in range(9)] != [
        grouped_places(s, 4, length_at, 1) for s in range(9)
    ]


def test_the_feed_groups_by_size(tmp_path: Path) -> None:
    """Forty pictures, every second one large: nearly all steps hold one kind, and each picture comes once a round."""
    pictures = []
    for i in range(64):
        path = tmp_path / f"{i}.png"
        Image.new("RGB", (64, 64) if i % 2 else (8, 8)).save(path)
        pictures.append(PictureTargets(path, (PhraseTarget("the dog", ()),)))
    mixed = {}
    for grouped in (True, False):
        feed = Feed(pictures, TrainSettings(images_per_step=4, group_lengths=grouped))
        steps = [[picture_area(one.picture.image) for one in feed.step(number)] for number in range(1, 17)]
        mixed[grouped] = sum(len(set(areas)) > 1 for areas in steps)
        met = [one.picture.image for number in range(1, 17) for one in feed.step(number)]
        assert sorted(met) == sorted(picture.image for picture in pictures)
    assert mixed[True] <= 1
    assert mixed[False] > 10


def test_no_picture_stands_beside_itself_where_a_round_ends_in_a_window(tmp_path: Path) -> None:
    pictures = []
    for i in range(50):
        path = tmp_path / f"{i}.png"
        Image.new("RGB", (8 + i, 8)).save(path)
        pictures.append(PictureTargets(path, (PhraseTarget("the dog", ()),)))
    feed = Feed(pictures, TrainSettings(images_per_step=4))
    steps = [[one.picture.image for one in feed.step(number)] for number in range(1, 201)]
    assert sum(len(set(step)) < 4 for step in steps) <= 4  # a step may itself lie across the end of a round
    assert {sum(path in step for step in steps[:25]) for path in steps[0]} <= {1, 2, 3}


def test_what_is_no_picture_has_no_area(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("no picture")
    assert picture_area(tmp_path / "x.png") == 0
    assert picture_area(tmp_path / "none.png") == 0
