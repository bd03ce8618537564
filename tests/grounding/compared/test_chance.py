"""Chance: an adapter that does not heed the words is no better than its answers to other phrases; a good one is."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from compared_samples import BELOW, LEFT, RIGHT, answered, keep, on_pictures, some_rows, some_samples, some_scenes
from grounding import compared
from grounding.boxes import set_iou
from grounding.compared.chance import MOST_PARTNERS, Chance, chance_level
from grounding.compared.comparison import open_comparison
from grounding.metrics import ScoredSample
from grounding.paired import Difference
from grounding.records import Status


def chance(tmp_path: Path, rows: Sequence[ScoredSample]) -> Chance | None:
    comparison = open_comparison([keep(tmp_path / "a", rows)])
    return chance_level(comparison, comparison.a, resamples=200)


def test_one_that_ignores_the_words_is_no_better_than_chance(tmp_path: Path) -> None:
    rng = random.Random(1)
    always = {sample.image: rng.choice([LEFT, RIGHT, BELOW]) for sample in some_scenes(40)}
    found = chance(tmp_path, [answered(sample, [always[sample.image]]) for sample in some_scenes(40)])
    assert found is not None and found.basis == "picture" and found.count == 120
    assert found.share == pytest.approx(1 / 3) and found.gain.b == pytest.approx(1 / 3)
    assert found.is_better is False
    assert found.sentence.startswith("No better than chance: Acc@0.5 33.3%, and 33.3% with its answers to other")


def test_one_that_follows_them_is_better(tmp_path: Path) -> None:
    found = chance(tmp_path, [answered(sample, sample.boxes_xyxy_px) for sample in some_scenes(40)])
    assert found is not None and found.share == 0.0 and found.gain.b == 1.0
    assert found.is_better is True and found.sentence.startswith("Better than chance")


def test_one_that_sees_a_little_needs_enough_pictures(tmp_path: Path) -> None:
    """Right in 4 of 10 where luck gives 1 in 3: too little to tell on few pictures, enough on many."""

    def guesses(count: int) -> list[ScoredSample]:
        rng = random.Random(5)
        return [
            answered(one, one.boxes_xyxy_px if rng.random() < 0.1 else [rng.choice([LEFT, RIGHT, BELOW])])
            for one in some_scenes(count)
        ]

    few, many = chance(tmp_path / "few", guesses(10)), chance(tmp_path / "many", guesses(400))
    assert few is not None and many is not None
    assert (few.is_better, many.is_better) == (None, True)
    assert few.sentence.startswith("These samples can't tell whether it is better than chance: Acc@0.5 ")


@pytest.mark.parametrize(
    ("low", "high", "p", "pictures", "better"),
    [
        (-0.05, 0.8, 0.1, 40, None),  # far above chance, perhaps
        (-0.05, 0.09, 0.6, 40, False),
        (-0.2, -0.1, 0.001, 40, False),
        (0.02, 0.09, 0.01, 40, True),
        (0.02, 0.3, 0.2, 40, None),  # the interval without the test
        (0.0, 0.0, 1.0, 9, None),  # nothing between on a handful
        (0.0, 0.0, 1.0, 10, False),
    ],
)
def test_no_better_is_said_where_a_difference_worth_having_is_left_out(
    low: float, high: float, p: float, pictures: int, better: bool | None
) -> None:
    found = Chance(120, pictures, "picture", Difference(0.3, 0.3 + (low + high) / 2, (low + high) / 2, low, high, p))
    assert found.is_better is better
    start = {None: "These samples can't tell", False: "No better than chance:", True: "Better than chance:"}[better]
    assert found.sentence.startswith(start)


def test_phrases_of_the_same_thing_lend_nothing(tmp_path: Path) -> None:
    """Two wordings of one box: an answer to the one is rightly right for the other."""
    twice = [replace(sample, id=f"{sample.id}{k}") for sample in some_scenes(10, 2) for k in "xy"]
    found = chance(tmp_path, [answered(sample, sample.boxes_xyxy_px) for sample in twice])
    assert found is not None and found.share == 0.0 and found.count == 40


def test_with_one_phrase_a_picture_those_of_the_same_size_lend(
    tmp_path: Path, make_picture: Callable[[tuple[int, int]], Path]
) -> None:
    images = [make_picture((200, 150)) for _ in range(6)] + [make_picture((90, 90))]
    samples = on_pictures(some_scenes(7, 1), images)
    found = chance(tmp_path, [answered(sample, [LEFT]) for sample in samples])
    assert found is not None and found.basis == "size"
    assert found.count == 6, "nothing has the size of the last one"
    assert found.share == pytest.approx(found.gain.b)
    assert "pictures of the same size" in found.sentence


def test_without_anything_to_exchange_nothing_is_said(tmp_path: Path) -> None:
    assert chance(tmp_path, [answered(sample, [LEFT]) for sample in some_scenes(5, 1)]) is None


def test_what_refers_to_nothing_and_what_has_no_box(tmp_path: Path) -> None:
    there, absent = some_scenes(1, 2)[0], replace(some_scenes(1, 2)[1], boxes_xyxy_px=())
    rows = [answered(there, there.boxes_xyxy_px), answered(absent, [], Status.NO_BOX)]
    found = chance(tmp_path, rows)
    assert found is not None and found.count == 1, "a phrase that refers to nothing lends and does not borrow"
    assert (found.share, found.gain.b) == (0.0, 1.0)
    assert found.is_better is None and found.sentence == (
        "These samples can't tell whether it is better than chance: Acc@0.5 100.0%, and 0.0% with its answers to other "
        "phrases of the same picture, over 1 sample on one picture."
    )


def test_it_is_what_a_loop_in_plain_python_finds(tmp_path: Path) -> None:
    rows = some_rows(some_samples(150, seed=4, per_picture=4), seed=4)
    comparison = open_comparison([keep(tmp_path / "a", rows)])
    hits = []
    for k, row in enumerate(rows):
        group = [other for other in rows if other.sample.image == row.sample.image]
        at = group.index(row)
        lenders = [group[(at + step) % len(group)] for step in range(1, min(len(group), MOST_PARTNERS + 1))]
        truth = row.sample.boxes_xyxy_px
        answers = [
            set_iou(other.prediction.boxes_xyxy_px, truth) >= 0.5
            for other in lenders
            if set_iou(other.sample.boxes_xyxy_px, truth) < 0.5
        ]
        expected = fmean(answers) if answers and truth else float("nan")
        hits.append(expected)
        assert comparison.exchanges["a"].hits[k] == pytest.approx(expected, nan_ok=True)
    found = chance_level(comparison, comparison.a, resamples=0)
    assert found is not None and found.count == int(np.sum(~np.isnan(hits))) > 50
    assert found.share == pytest.approx(float(np.nanmean(hits)))


def test_it_stands_in_the_headline_the_exports_and_the_notebook(tmp_path: Path) -> None:
    samples = some_scenes(12)
    base = keep(tmp_path / "a", [answered(sample, sample.boxes_xyxy_px) for sample in samples])
    deaf = keep(tmp_path / "b", [answered(sample, [LEFT]) for sample in samples], "deaf")
    report = compared.open(base, deaf)
    quick = [one.share for one in report.headline.chances if one]
    assert quick == [one.share for one in report.chances if one] == [0.0, pytest.approx(1 / 3)]
    page = report._repr_html_()
    assert "Acc@0.5 by chance" in page and "b: deaf. No better than chance: Acc@0.5 33.3%" in page
    report.export(tmp_path / "out", "markdown")
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8").replace("\\", "")
    assert "b: deaf. No better than chance" in text and "Acc@0.5 by chance" in text
    from grounding.compared.tables import report_json

    told = report_json(report)
    assert told["chances"][1] == asdict(report.chances[1])  # type: ignore[arg-type]
    assert told["headline"]["chances"][1]["gain"]["a"] == pytest.approx(1 / 3)


@pytest.fixture
def make_picture(tmp_path: Path) -> Callable[[tuple[int, int]], Path]:
    from PIL import Image

    made: list[Path] = []

    def make(size_wh: tuple[int, int]) -> Path:
        path = tmp_path / f"picture-{len(made)}.png"
        Image.new("RGB", size_wh, (len(made) * 20, 0, 0)).save(path)
        made.append(path)
        return path

    return make
