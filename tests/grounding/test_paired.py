"""Two models on the same samples: intervals against simple cases, p values against the binomial written out."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grounding.boxes import Box
from grounding.errors import RecordError
from grounding.metrics import ScoredSample
from grounding.paired import Difference, compare_rows, flip_p, mcnemar_p, wilson_interval
from grounding.records import Prediction, Sample, Status

BOX = Box(0, 0, 10, 10)


def rows(ious: Sequence[float], *, per_picture: int = 1) -> list[ScoredSample]:
    return [
        ScoredSample(
            Sample(f"s{i}", Path(f"{i // per_picture}.png"), f"mug {i}", (BOX,)),
            Prediction((BOX,), Status.OK, "", None, 0.1),
            iou,
        )
        for i, iou in enumerate(ious)
    ]


def test_the_figures_worked_out_by_hand() -> None:
    found = compare_rows(rows([0.0, 0.5, 0.9, 0.2]), rows([0.5, 0.4, 0.8, 0.3]))
    assert (found.count, found.pictures) == (4, 4)
    assert (found.wins, found.losses, found.ties) == (1, 1, 2)
    assert (found.accuracy_50.a, found.accuracy_50.b, found.accuracy_50.difference) == (0.5, 0.5, 0.0)
    assert found.mean_iou.a == pytest.approx(0.4)
    assert found.mean_iou.b == pytest.approx(0.5)
    assert found.mean_iou.difference == pytest.approx(0.1)
    assert found.mcnemar_p == 1.0
    assert (found.resamples, found.seed) == (2000, 0)


def test_equal_models_differ_by_nothing() -> None:
    found = compare_rows(rows([0.1, 0.6, 0.9]), rows([0.1, 0.6, 0.9]))
    assert found.accuracy_50.difference == found.accuracy_50.low == found.accuracy_50.high == 0.0
    assert (found.wins, found.losses, found.ties, found.mcnemar_p) == (0, 0, 3, 1.0)


def test_the_interval_of_independent_samples_is_that_of_the_normal_approximation() -> None:
    chance = random.Random(1)
    a, b = [chance.random() for _ in range(400)], [chance.random() for _ in range(400)]
    found = compare_rows(rows(a), rows(b)).mean_iou
    differences = [second - first for first, second in zip(a, b, strict=True)]
    mean = math.fsum(differences) / 400
    error = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / 400 / 400)
    assert found.low == pytest.approx(mean - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(mean + 1.96 * error, abs=0.15 * error)


def test_phrases_of_one_picture_are_drawn_together() -> None:
    """Ten copies of each answer on its picture tell no more than one: the interval stays as wide."""
    chance = random.Random(2)
    a, b = [chance.random() for _ in range(60)], [chance.random() for _ in range(60)]
    once = compare_rows(rows(a), rows(b))
    copies = [
        rows([iou for iou in ious for _ in range(10)], per_picture=10) for ious in (a, b)
    ]  # 600 samples on 60 pictures
    tenfold = compare_rows(*copies)
    assert (tenfold.count, tenfold.pictures) == (600, 60)
    assert tenfold.mean_iou.low == pytest.approx(once.mean_iou.low)
    assert tenfold.mean_iou.high == pytest.approx(once.mean_iou.high)
    scattered = compare_rows(*[rows([iou for iou in ious for _ in range(10)]) for ious in (a, b)])
    assert width(scattered.mean_iou) < 0.5 * width(once.mean_iou)


def width(difference: Difference) -> float:
    assert difference.low is not None and difference.high is not None
    return difference.high - difference.low


def test_one_picture_has_no_interval() -> None:
    found = compare_rows(rows([0.1, 0.2], per_picture=2), rows([0.6, 0.7], per_picture=2))
    assert (found.accuracy_50.difference, found.accuracy_50.low, found.accuracy_50.high) == (1.0, None, None)


def test_the_same_seed_gives_the_same_interval() -> None:
    a, b = rows([0.1, 0.7, 0.4, 0.9, 0.3]), rows([0.2, 0.8, 0.5, 0.1, 0.6])
    assert compare_rows(a, b, seed=3) == compare_rows(a, b, seed=3)
    assert compare_rows(a, b, seed=3).mean_iou != compare_rows(a, b, seed=4).mean_iou


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=12), st.randoms())
def test_swapping_the_models_turns_everything_round_and_the_order_does_not_count(
    ious: list[tuple[float, float]], chance: random.Random
) -> None:
    a, b = rows([x for x, _ in ious], per_picture=2), rows([y for _, y in ious], per_picture=2)
    forth = compare_rows(a, b, resamples=50)
    back = compare_rows(b, a, resamples=50)
    assert (forth.wins, forth.losses, forth.ties) == (back.losses, back.wins, back.ties)
    assert forth.wins + forth.losses + forth.ties == forth.count == len(ious)
    assert forth.mcnemar_p == back.mcnemar_p
    assert forth.mean_iou.difference == pytest.approx(-back.mean_iou.difference)
    shuffled = chance.sample(b, len(b))
    assert compare_rows(a, shuffled, resamples=50) == forth


def test_phrases_that_refer_to_nothing_are_left_out() -> None:
    a, b = rows([0.1, 1.0, 0.9]), rows([0.6, 0.0, 0.9])
    for side in (a, b):
        side[1] = replace(side[1], sample=replace(side[1].sample, boxes_xyxy_px=()))
    assert (compare_rows(a, b).count, compare_rows(a, b).losses) == (2, 0)
    with pytest.raises(RecordError, match="None of the samples has a target"):
        compare_rows(a[1:2], b[1:2])


def test_other_folders_and_roundings_are_the_same_sample() -> None:
    a, b = rows([0.1, 0.9]), rows([0.6, 0.9])
    moved = [
        replace(
            row,
            sample=replace(row.sample, image=Path("/else") / row.sample.image, boxes_xyxy_px=(Box(0, 0, 10.001, 10),)),
        )
        for row in b
    ]
    assert compare_rows(a, moved) == compare_rows(a, b)


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        ("another phrase", {"phrase": "cup"}),
        ("another box", {"boxes_xyxy_px": (Box(0, 0, 10, 11),)}),
        ("another picture", {"image": Path("9.png")}),
        ("another id", {"id": "x"}),
    ],
)
def test_other_samples_are_refused(case: str, changes: dict[str, object]) -> None:
    a, b = rows([0.1, 0.6]), rows([0.2, 0.7])
    b[1] = replace(b[1], sample=replace(b[1].sample, **changes))
    with pytest.raises(RecordError, match=r"1 of 2 stand only in the first and 1 of 2 only in the second.*same file"):
        compare_rows(a, b)


def test_a_sample_more_or_one_twice_is_refused() -> None:
    a = rows([0.1, 0.6])
    with pytest.raises(RecordError, match="0 of 2 stand only in the first and 1 of 3 only in the second, such as 's2'"):
        compare_rows(a, rows([0.1, 0.6, 0.7]))
    with pytest.raises(RecordError, match="1 of 3 stand only in the first and 0 of 2"):
        compare_rows([*a, a[0]], a)


@pytest.mark.parametrize(("wins", "losses", "p"), [(0, 0, 1.0), (5, 0, 2 / 32), (1, 8, 20 / 512), (3, 3, 1.0)])
def test_p_worked_out_by_hand(wins: int, losses: int, p: float) -> None:
    assert mcnemar_p(wins, losses) == pytest.approx(p)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 60), st.integers(0, 60))
def test_p_is_the_two_tails_of_a_fair_coin(wins: int, losses: int) -> None:
    tosses = wins + losses
    uneven = [math.comb(tosses, k) for k in range(tosses + 1) if abs(2 * k - tosses) >= abs(wins - losses)]
    assert mcnemar_p(wins, losses) == pytest.approx(sum(uneven) / 2**tosses)


def test_p_of_many_thousand_samples() -> None:
    assert mcnemar_p(5000, 5000) == 1.0
    assert 0.0 < mcnemar_p(5200, 4800) < 0.001
    assert mcnemar_p(10_000, 0) == 0.0  # below what a float can hold


# --- verdicts ---


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_handful_of_samples_gives_no_verdict(count: int) -> None:
    found = compare_rows(rows([0.1] * count), rows([0.9] * count)).accuracy_50
    assert (found.low, found.high, found.p) == (1.0, 1.0, 2 / 2**count)
    assert found.verdict == "few"


def test_enough_wins_give_one() -> None:
    found = compare_rows(rows([0.1] * 6), rows([0.9] * 6))
    assert (found.accuracy_50.verdict, found.mean_iou.verdict) == ("higher", "higher")
    assert compare_rows(rows([0.9] * 6), rows([0.1] * 6)).accuracy_50.verdict == "lower"
    assert compare_rows(rows([0.1] * 6), rows([0.1] * 6)).accuracy_50.verdict == "none"


def test_many_wins_on_a_few_pictures_give_none() -> None:
    """Forty wins, all on four of sixty pictures: McNemar takes them for independent, the pictures do not."""
    a, b = [0.1] * 600, [0.9] * 40 + [0.1] * 560
    found = compare_rows(rows(a, per_picture=10), rows(b, per_picture=10))
    assert found.mcnemar_p < 1e-6 and found.accuracy_50.low is not None and found.accuracy_50.low > 0
    assert found.accuracy_50.verdict == "few"


def test_a_verdict_agrees_with_the_test_on_wins_and_losses() -> None:
    """Two wins and a loss on each of eight pictures: the pictures agree, the samples may be chance."""
    a, b = [0.1, 0.1, 0.9] * 8, [0.9, 0.9, 0.1] * 8
    found = compare_rows(rows(a, per_picture=3), rows(b, per_picture=3))
    assert found.accuracy_50.low is not None and found.accuracy_50.low > 0
    assert found.accuracy_50.p == found.mcnemar_p > 0.05
    assert found.accuracy_50.verdict == "few"


def test_without_resamples_and_on_one_picture_nothing_is_known() -> None:
    assert compare_rows(rows([0.1] * 9), rows([0.9] * 9), resamples=0).accuracy_50.verdict == "unknown"
    one = compare_rows(rows([0.1] * 9, per_picture=9), rows([0.9] * 9, per_picture=9)).accuracy_50
    assert (one.p, one.verdict) == (1.0, "few")


@given(st.lists(st.sampled_from([-1, 0, 1]), max_size=12))
def test_over_one_sample_a_picture_the_coins_are_mcnemars(signs: list[int]) -> None:
    assert flip_p(np.array(signs, dtype=float)) == pytest.approx(mcnemar_p(signs.count(1), signs.count(-1)))


def test_beyond_a_dozen_pictures_the_coins_are_near_the_exact_ones() -> None:
    for wins, losses in ((20, 8), (60, 40), (9, 6)):
        signs = np.array([1.0] * wins + [-1.0] * losses)
        exact = mcnemar_p(wins, losses)
        assert flip_p(signs) < exact, "no correction for steps: McNemar's own p goes beside it"
        assert flip_p(signs) == pytest.approx(exact, abs=0.2)


def test_wilsons_interval_takes_broken_successes() -> None:
    assert wilson_interval(2.5, 5)[0] == pytest.approx(1 - wilson_interval(2.5, 5)[1])
    for little in (1e-15, 1e-9):  # as a mean IoU may be: no "-0.000" stands on the page
        assert wilson_interval(little, 1)[0] >= 0.0
    with pytest.raises(ValueError, match="no share"):
        wilson_interval(1, 0)
