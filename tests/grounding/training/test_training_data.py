"""Phrases grouped by picture, and what each step meets of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from grounding.boxes import Box
from grounding.records import Sample
from grounding.training.data import PhraseTarget, PictureTargets, group_by_picture
from grounding.training.feed import Feed
from grounding.training.settings import TrainSettings

ONE, TWO = Box(0, 0, 10, 10), Box(20, 20, 30, 30)


def sample(number: int, picture: str, phrase: str, *alternatives: str, boxes: tuple[Box, ...] = (ONE,)) -> Sample:
    return Sample(str(number), Path(picture), phrase, boxes, split="train", alternatives=alternatives)


def pictures(*variants_of_each: tuple[int, ...]) -> list[PictureTargets]:
    """`pictures((1, 3), (2,))`: picture 0 has a target with 1 phrase and one with 3, picture 1 a target with 2."""
    return [
        PictureTargets(
            Path(f"{p}.png"),
            tuple(
                PhraseTarget(f"p{p}t{t}", (Box(t, 0, t + 1, 1),), tuple(f"p{p}t{t}v{v}" for v in range(1, count)))
                for t, count in enumerate(counts)
            ),
        )
        for p, counts in enumerate(variants_of_each)
    ]


def feed(given: list[PictureTargets], **options: Any) -> Feed:
    return Feed(
        given,
        TrainSettings(**{"images_per_step": 2, "phrases_per_image": 4, "seed": 0, "negative_share": 0.0} | options),
    )


def drawn(given: list[PictureTargets], steps: int, **options: Any) -> list[Any]:
    """For each step its pictures' indices and their phrases with their boxes."""
    fed = feed(given, **options)
    return [
        [
            (given.index(one.picture), [(asked.phrase, asked.boxes_xyxy_px) for asked in one.asked])
            for one in fed.step(number)
        ]
        for number in range(1, steps + 1)
    ]


def test_samples_are_grouped_by_picture_in_order_of_first_appearance() -> None:
    samples = [
        sample(1, "b.png", "cup"),
        sample(2, "a.png", "dog", boxes=(TWO,)),
        sample(3, "b.png", "all cups", boxes=(ONE, TWO)),
        sample(4, "b.png", "a unicorn", boxes=()),
    ]
    first, second = group_by_picture(samples, use_alternatives=True)
    assert first == PictureTargets(
        Path("b.png"),
        (PhraseTarget("cup", (ONE,)), PhraseTarget("all cups", (ONE, TWO)), PhraseTarget("a unicorn", ())),
    )
    assert second == PictureTargets(Path("a.png"), (PhraseTarget("dog", (TWO,)),))


@pytest.mark.parametrize(
    ("alternatives", "phrases"),
    [
        pytest.param(("red cup", "mug"), ("cup", "red cup", "mug"), id="kept in order"),
        pytest.param(("mug", "mug", "cup"), ("cup", "mug"), id="once each"),
        pytest.param(("", "  ", "mug"), ("cup", "mug"), id="blanks left out"),
        pytest.param((), ("cup",), id="none"),
    ],
)
def test_alternatives_become_variants(alternatives: tuple[str, ...], phrases: tuple[str, ...]) -> None:
    (picture,) = group_by_picture([sample(1, "a.png", "cup", *alternatives)], use_alternatives=True)
    assert picture.targets[0].phrases == phrases


@pytest.mark.parametrize("images_per_step", [1, 2, 3, 5])
def test_each_round_shows_every_picture_once(images_per_step: int) -> None:
    given = pictures(*[(1,)] * 5)
    order = [index for step in drawn(given, 15, images_per_step=images_per_step) for index, _ in step]
    rounds = [order[start : start + 5] for start in range(0, 15, 5)]
    assert all(sorted(each) == [0, 1, 2, 3, 4] for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1  # not the same order again


def test_a_step_is_no_larger_than_the_snapshot() -> None:
    for step in drawn(pictures((1,), (1,)), 5, images_per_step=8):
        assert sorted(index for index, _ in step) == [0, 1]


def test_every_target_speaks_once_before_any_speaks_twice() -> None:
    """Of 3 targets with 5, 1 and 2 phrases, 3 draws are one of each; 6 are 1, 2 and 3 of them."""
    given = pictures((5, 1, 2))
    for ((_, phrases),) in drawn(given, 50, images_per_step=1, phrases_per_image=3):
        assert sorted(phrase[:4] for phrase, _ in phrases) == ["p0t0", "p0t1", "p0t2"]
    for ((_, phrases),) in drawn(given, 50, images_per_step=1, phrases_per_image=6):
        assert sorted(phrase[:4] for phrase, _ in phrases) == ["p0t0"] * 3 + ["p0t1"] + ["p0t2"] * 2
        assert sorted(phrase[:4] for phrase, _ in phrases[:3]) == ["p0t0", "p0t1", "p0t2"]


def test_no_phrase_comes_twice_on_one_showing() -> None:
    for ((_, phrases),) in drawn(pictures((3, 2)), 20, images_per_step=1, phrases_per_image=64):
        assert len(phrases) == len(set(phrases)) == 5


def test_phrases_keep_their_boxes() -> None:
    for step in drawn(pictures((2, 3), (4,)), 20):
        for index, phrases in step:
            for phrase, boxes in phrases:
                target = int(phrase[3])
                assert phrase.startswith(f"p{index}t")
                assert boxes == (Box(target, 0, target + 1, 1),)


def test_in_time_every_phrase_is_drawn() -> None:
    given = pictures((4, 1), (3,))
    seen = {phrase for step in drawn(given, 60, phrases_per_image=1) for _, phrases in step for phrase, _ in phrases}
    assert seen == {phrase for picture in given for target in picture.targets for phrase in target.phrases}


def test_a_step_is_the_same_whatever_was_asked_before() -> None:
    given = pictures((4, 1), (3,), (2, 2))
    forwards = feed(given)
    in_order = {number: forwards.step(number) for number in range(1, 30)}
    backwards = feed(given)
    assert {number: backwards.step(number) for number in reversed(range(1, 30))} == in_order
    assert feed(given).step(17) == in_order[17]
    assert len({one.view_seed for step in in_order.values() for one in step}) == 29 * 2


def test_the_seed_alone_decides() -> None:
    given = pictures((4, 1), (3,), (2, 2), (5,))
    assert drawn(given, 6, seed=3) == drawn(given, 6, seed=3)
    assert drawn(given, 6, seed=3) != drawn(given, 6, seed=4)


def test_negatives_are_the_share_they_should_be_and_change_nothing_else() -> None:
    given = [
        PictureTargets(Path(f"{noun}.png"), (PhraseTarget(f"the {noun}", (ONE,), (noun, f"red {noun}"), noun),))
        for noun in ("car", "tent", "kite", "drum")
    ]
    plain, mixed = feed(given), feed(given, negative_share=0.25)
    asked = []
    for number in range(1, 101):
        for one, other in zip(plain.step(number), mixed.step(number), strict=True):
            assert (one.picture, one.view_seed) == (other.picture, other.view_seed)
            assert one.asked == tuple(each for each in other.asked if not each.negative)
            asked += other.asked
    negatives = [each for each in asked if each.negative]
    assert all(each.boxes_xyxy_px == () for each in negatives)
    assert abs(len(negatives) / len(asked) - 0.25) < 0.03


def test_rehearsed_pictures_take_their_share_beside_the_order_of_the_new() -> None:
    new, old = pictures((1,), (1,), (1,)), [PictureTargets(Path("old.png"), (PhraseTarget("old", ()),))]
    mixed = Feed(new, TrainSettings(images_per_step=2, rehearsal_share=0.25, negative_share=0.0), old)
    shown = [one for number in range(1, 13) for one in mixed.step(number)]
    assert [one.rehearsed for one in shown] == [False, False, False, True] * 6
    assert all((one.picture in old) == one.rehearsed for one in shown)
    fresh = [one.picture for one in shown if not one.rehearsed]
    assert all(sorted(map(new.index, fresh[start : start + 3])) == [0, 1, 2] for start in range(0, 18, 3))


def test_a_curriculum_holds_harder_phrases_back() -> None:
    target = PhraseTarget("dog left of the car", (ONE,), ("left dog", "dog"), "dog")
    fed = feed([PictureTargets(Path("a.png"), (target,))], steps=9, curriculum_share=1.0)
    by_step = [{each.phrase for one in fed.step(number) for each in one.asked} for number in (1, 4, 7)]
    assert by_step == [{"dog"}, {"dog", "left dog"}, {"dog", "left dog", "dog left of the car"}]


def test_no_template_makes_the_phrase_of_another_box() -> None:
    targets = (PhraseTarget("big dog", (ONE,), (), "dog"), PhraseTarget("large dog", (TWO,), (), "dog"))
    fed = feed([PictureTargets(Path("a.png"), targets)], template_share=1.0, phrases_per_image=1)
    asked = [each for number in range(1, 101) for one in fed.step(number) for each in one.asked]
    assert {each.phrase for each in asked if each.boxes_xyxy_px == (ONE,)} == {"the big dog", "the large dog"}
    assert {each.phrase for each in asked if each.boxes_xyxy_px == (TWO,)} == {"the big dog", "the large dog"}


def test_templates_reword_their_share_and_keep_what_was_written() -> None:
    given = [PictureTargets(Path("a.png"), (PhraseTarget("left dog", (ONE,), ("dog of the man",), "dog"),))]
    fed = feed(given, template_share=0.5)
    asked = [each for number in range(1, 201) for one in fed.step(number) for each in one.asked]
    assert {each.written for each in asked} == {"left dog", "dog of the man"}
    changed = [each for each in asked if each.phrase != each.written]
    assert 70 < sum(each.written == "left dog" for each in changed) < 130
    assert {"dog on the left", "the left dog"} <= {each.phrase for each in changed}
