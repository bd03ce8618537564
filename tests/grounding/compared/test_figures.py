"""One and the same figures: of the columns, of the rows, of the report, and worked out by hand from the Parquet."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from compared_samples import answered, keep, keep_two, some_answer, some_rows, some_samples
from grounding.__main__ import main
from grounding.boxes import Box
from grounding.buckets import bucket_of, bucket_scores
from grounding.compared import Filter, open_comparison
from grounding.compared import open as open_report
from grounding.compared.columns import DIMENSIONS
from grounding.compared.curves import CURVE_THRESHOLDS, accuracy_curves, calibrations
from grounding.compared.figures import FIGURES, breakdown, headline, iou_counts
from grounding.errors import RecordError
from grounding.metrics import IOU_THRESHOLDS, ScoredSample, score, summarise
from grounding.paired import compare_rows
from grounding.records import Sample
from grounding.reports import read_report, read_rows, scores_json

# --- worked out by hand: plain Python over the Parquet, none of our modules ---


def hand_iou(p: Sequence[float], t: Sequence[float]) -> float:
    width, height = min(p[2], t[2]) - max(p[0], t[0]), min(p[3], t[3]) - max(p[1], t[1])
    shared = width * height if width > 0 and height > 0 else 0.0
    union = (p[2] - p[0]) * (p[3] - p[1]) + (t[2] - t[0]) * (t[3] - t[1]) - shared
    return min(1.0, shared / union)


def hand_matches(answer: list[list[float]], truth: list[list[float]]) -> set[int]:
    pairs = [(-hand_iou(p, t), i, j) for i, p in enumerate(answer) for j, t in enumerate(truth)]
    matched: dict[int, int] = {}
    for overlap, i, j in sorted(pairs):
        if -overlap >= 0.5 and i not in matched and j not in matched.values():
            matched[i] = j
    return set(matched)


def hand_sample_iou(row: dict[str, Any]) -> float:
    answer, truth = row["answer_xyxy_px"], row["truth_xyxy_px"]
    if row["status"] not in ("ok", "no_box"):
        return 0.0
    if not truth:
        return 0.0 if answer else 1.0
    if not answer:
        return 0.0
    if len(truth) == 1:
        return hand_iou(answer[0], truth[0])
    pairs = sorted((-hand_iou(p, t), i, j) for i, p in enumerate(answer) for j, t in enumerate(truth))
    taken_i: set[int] = set()
    taken_j: set[int] = set()
    total = 0.0
    for overlap, i, j in pairs:
        if i not in taken_i and j not in taken_j:
            taken_i.add(i)
            taken_j.add(j)
            total -= overlap
    return total / max(len(answer), len(truth))


def hand_calibration(pairs: list[tuple[float, bool]]) -> float | None:
    bins: dict[int, list[float]] = {}
    for confidence, is_right in pairs:
        bins.setdefault(max(0, math.ceil(confidence * 10) - 1), []).append(is_right - confidence)
    return sum(abs(math.fsum(gaps)) for gaps in bins.values()) / len(pairs) if pairs else None


def hand_f1(rows: list[dict[str, Any]]) -> float | None:
    hits = sum(len(hand_matches(row["answer_xyxy_px"], row["truth_xyxy_px"])) for row in rows)
    boxes = sum(len(row["answer_xyxy_px"]) + len(row["truth_xyxy_px"]) for row in rows)
    return 2 * hits / boxes if boxes else None


def hand_figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    targets, nothing = [r for r in rows if r["truth_xyxy_px"]], [r for r in rows if not r["truth_xyxy_px"]]
    several = [row for row in rows if len(row["truth_xyxy_px"]) > 1]
    ious = [hand_sample_iou(row) for row in targets]
    sure = [(r["confidence"], hand_sample_iou(r) >= 0.5) for r in rows if r["confidence"] is not None]
    boxes = [
        (confidence, k in hand_matches(row["answer_xyxy_px"], row["truth_xyxy_px"]))
        for row in rows
        for k, confidence in enumerate(row["box_confidences"])
    ]
    return {
        "count": len(targets),
        "detection_rate": sum(row["status"] == "ok" for row in targets) / len(targets),
        "mean_iou": math.fsum(ious) / len(ious),
        "median_iou": statistics.median(ious),
        "accuracy": {str(t): sum(iou >= t for iou in ious) / len(ious) for t in (0.25, 0.5, 0.75, 0.9)},
        "no_target_count": len(nothing),
        "no_target_accuracy": sum(row["status"] == "no_box" for row in nothing) / len(nothing),
        "multi_target_count": len(several),
        "multi_target_f1": hand_f1(several),
        "box_f1": hand_f1(rows),
        "statuses": {
            status: sum(row["status"] == status for row in rows)
            for status in ("ok", "no_box", "unreadable", "degenerate")
        },
        "calibration_count": len(sure),
        "calibration_error": hand_calibration(sure),
        "box_calibration_count": len(boxes),
        "box_calibration_error": hand_calibration(boxes),
    }


def hand_read(folder: Path) -> list[dict[str, Any]]:
    return parquet.read_table(folder / "samples.parquet").to_pylist()


def close(found: Any, expected: Any) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == (pytest.approx(value, abs=1e-12, rel=1e-12) if value is not None else None), name


def test_every_figure_by_hand_from_the_parquet_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = keep_two(tmp_path, count=200)
    report = open_report(*folders)
    by_hand = [hand_figures(hand_read(folder)) for folder in folders]
    for folder, expected, scores in zip(folders, by_hand, report.headline.scores, strict=True):
        kept = read_report(folder)
        assert kept is not None
        close(scores_json(kept.scores), expected)
        close(json.loads((folder / "report.json").read_text(encoding="utf-8"))["scores"], expected)
        close(scores_json(scores), expected)
    assert main(["compare", *map(str, folders), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    a, b = by_hand
    for name, of in (("accuracy_50", lambda f: f["accuracy"]["0.5"]), ("mean_iou", lambda f: f["mean_iou"])):
        for found in (told[name], asdict(report.headline.differences[name])):
            assert (found["a"], found["b"]) == (pytest.approx(of(a), abs=1e-12), pytest.approx(of(b), abs=1e-12))
            assert found["difference"] == pytest.approx(of(b) - of(a), abs=1e-12)
    assert told["accuracy_50"] == asdict(report.headline.differences["accuracy_50"])
    assert told["mean_iou"] == asdict(report.headline.differences["mean_iou"])


def test_the_parquet_holds_the_very_iou(tmp_path: Path) -> None:
    for row in hand_read(keep(tmp_path / "a", some_rows(some_samples(150)))):
        assert row["iou"] == pytest.approx(hand_sample_iou(row), abs=1e-15)


# --- the columns against the rows ---


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 30))
def test_the_figures_of_columns_are_those_of_rows(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int
) -> None:
    rows = some_rows(some_samples(count, seed), seed)
    folder = tmp_path_factory.mktemp("one")
    comparison = open_comparison([keep(folder / "a", rows)])
    assert headline(comparison, resamples=20).scores[0] == summarise(rows)
    halves = comparison.samples.picture % 2 == 0
    assert headline(comparison, halves, resamples=20).scores[0] == summarise(
        [row for row, taken in zip(rows, halves, strict=True) if taken]
    )


def picked(pairs: Sequence[tuple[ScoredSample, ScoredSample]], mask: Any) -> tuple[list[Any], list[Any]]:
    kept = [pair for pair, taken in zip(pairs, mask, strict=True) if taken]
    return [a for a, _ in kept], [b for _, b in kept]


def paired_rows(folders: Sequence[Path]) -> list[tuple[ScoredSample, ScoredSample]]:
    by_id = {row.sample.id: row for row in read_rows(folders[1])}
    return [(row, by_id[row.sample.id]) for row in read_rows(folders[0])]


@pytest.mark.parametrize("asked", [{}, {"spatial": "spatial"}, {"words": "mug"}, {"outcome": "both_wrong"}])
def test_intervals_are_those_of_the_paired_comparison(tmp_path: Path, asked: Any) -> None:
    folders = keep_two(tmp_path, count=120)
    comparison, pairs = open_comparison(folders), paired_rows(folders)
    mask = Filter(**asked).mask(comparison)
    expected = compare_rows(*picked(pairs, mask), seed=3)
    found = headline(comparison, mask, seed=3)
    assert found.differences["accuracy_50"] == expected.accuracy_50
    assert found.differences["mean_iou"] == expected.mean_iou
    assert (found.count, found.target_pictures) == (expected.count, expected.pictures)
    assert found.outcomes is not None
    assert (found.outcomes.wins, found.outcomes.losses) == (expected.wins, expected.losses)
    assert (found.outcomes.ties, found.outcomes.mcnemar_p) == (expected.ties, expected.mcnemar_p)


def test_the_other_differences_are_differences_of_the_scores(tmp_path: Path) -> None:
    found = headline(open_comparison(keep_two(tmp_path, count=150)))
    a, b = found.scores
    assert list(found.differences) == list(FIGURES)
    of = {"accuracy_75": lambda s: s.accuracy[0.75], "detection_rate": lambda s: s.detection_rate}
    of |= {"no_target_accuracy": lambda s: s.no_target_accuracy, "mean_iou": lambda s: s.mean_iou}
    for name, figure in of.items():
        difference = found.differences[name]
        assert (difference.a, difference.b) == (figure(a), figure(b)), name
        assert difference.low is not None and difference.high is not None
        assert difference.low <= difference.difference <= difference.high
    assert found.no_target_outcomes is not None
    told = found.no_target_outcomes
    assert told.wins + told.losses + told.ties == found.no_target_count


def test_the_same_seed_gives_the_same_intervals(tmp_path: Path) -> None:
    comparison = open_comparison(keep_two(tmp_path))
    assert headline(comparison, seed=1) == headline(comparison, seed=1)
    assert headline(comparison, seed=1).differences != headline(comparison, seed=2).differences


def test_without_intervals_the_figures_are_the_same(tmp_path: Path) -> None:
    comparison = open_comparison(keep_two(tmp_path))
    quick, whole = headline(comparison, intervals=False), headline(comparison)
    for name, difference in quick.differences.items():
        assert (difference.low, difference.high) == (None, None)
        assert difference.difference == whole.differences[name].difference


def test_a_breakdown_without_intervals_has_the_same_figures(tmp_path: Path) -> None:
    comparison = open_comparison(keep_two(tmp_path))
    quick, whole = breakdown(comparison, "spatial", intervals=False), breakdown(comparison, "spatial")
    assert [bucket.scores for bucket in quick] == [bucket.scores for bucket in whole]
    assert {bucket.differences["mean_iou"].low for bucket in quick} == {None}
    assert all(bucket.differences["mean_iou"].low is not None for bucket in whole)


def test_one_alone_has_intervals_of_its_own(tmp_path: Path) -> None:
    found = headline(open_comparison([keep(tmp_path / "a", some_rows(some_samples(90)))]))
    assert (found.differences, found.outcomes) == ({}, None)
    value, low, high = found.estimates["accuracy_50"]
    assert value == found.scores[0].accuracy[0.5]
    assert low is not None and high is not None and low < value < high


@pytest.mark.parametrize("iou", [1.0, 0.0])
def test_one_alone_that_is_always_right_is_not_surely_so(tmp_path: Path, iou: float) -> None:
    """Wilson's interval of as many trials as pictures, worked out by hand."""
    boxes = [Box(0, 0, 10, 10) if iou else Box(50, 50, 60, 60)]
    samples = [Sample(f"s{k}", Path(f"/p/{k // 2}.png"), "mug", (Box(0, 0, 10, 10),)) for k in range(60)]
    found = headline(open_comparison([keep(tmp_path / "a", [answered(one, boxes) for one in samples])]))
    z2 = 1.959963984540054**2
    far = 30 / (30 + z2) if iou else z2 / (30 + z2)
    for name in ("accuracy_50", "mean_iou"):
        value, low, high = found.estimates[name]
        assert (value, low if iou else high) == (iou, pytest.approx(far))
        assert (high if iou else low) == iou
    quick = headline(open_comparison([tmp_path / "a"]), intervals=False)
    assert quick.estimates["accuracy_50"] == (iou, None, None)


def test_few_pictures_alone_have_a_wide_interval(tmp_path: Path) -> None:
    samples = [Sample(f"s{k}", Path(f"/p/{k}.png"), "mug", (Box(0, 0, 10, 10),)) for k in range(4)]
    rows = [answered(one, [Box(0, 0, 10, 10) if k else Box(50, 50, 60, 60)]) for k, one in enumerate(samples)]
    found = headline(open_comparison([keep(tmp_path / "a", rows)]))
    assert found.estimates["accuracy_50"][1:] == pytest.approx((0.3006, 0.9544), abs=1e-4)


def test_no_sample_at_all_has_no_figures(tmp_path: Path) -> None:
    comparison = open_comparison(keep_two(tmp_path))
    found = headline(comparison, np.zeros(len(comparison), dtype=bool))
    assert (found.count, found.pictures, found.differences) == (0, 0, {})
    assert breakdown(comparison, "spatial", np.zeros(len(comparison), dtype=bool)) == ()


# --- breakdowns and curves ---


@pytest.mark.parametrize("dimension", [name for name in DIMENSIONS if name != "source"])
def test_a_breakdown_has_the_figures_of_the_report(tmp_path: Path, dimension: str) -> None:
    folders = keep_two(tmp_path, count=120)
    comparison, pairs = open_comparison(folders), paired_rows(folders)
    rows_a, rows_b = [a for a, _ in pairs], [b for _, b in pairs]
    expected = [bucket_scores(rows)[dimension] for rows in (rows_a, rows_b)]
    found = breakdown(comparison, dimension)
    filled = [name for name, scores in expected[0].items() if scores.count or scores.no_target_count]
    assert [bucket.name for bucket in found] == filled
    for bucket in found:
        assert list(bucket.scores) == [of[bucket.name] for of in expected]
        mine = [pair for pair in pairs if bucket_of(dimension, pair[0]) == bucket.name and pair[0].has_target]
        if mine:
            paired = compare_rows([a for a, _ in mine], [b for _, b in mine])
            assert bucket.differences["accuracy_50"] == paired.accuracy_50
            assert bucket.differences["mean_iou"] == paired.mean_iou


def test_a_breakdown_by_source(tmp_path: Path) -> None:
    found = breakdown(open_comparison(keep_two(tmp_path, count=90)), "source")
    assert {bucket.name for bucket in found} == {"(none)", "coco", "mine"}
    assert sum(bucket.count + bucket.no_target_count for bucket in found) == 90


def test_the_ious_are_counted_for_each_side(tmp_path: Path) -> None:
    folders = keep_two(tmp_path)
    found = iou_counts(open_comparison(folders))
    for k, folder in enumerate(folders):
        kept = read_report(folder)
        assert kept is not None
        counts = {name: scores.count + scores.no_target_count for name, scores in kept.buckets["iou"].items()}
        assert {name: both[k] for name, both in found.items()} == counts


def test_the_curve_goes_through_the_accuracies(tmp_path: Path) -> None:
    comparison = open_comparison(keep_two(tmp_path, count=150))
    scores = headline(comparison).scores
    assert CURVE_THRESHOLDS[0] == 0.05 and CURVE_THRESHOLDS[-1] == 0.95 and len(CURVE_THRESHOLDS) == 19
    for curve, of_side in zip(accuracy_curves(comparison), scores, strict=True):
        at = dict(zip(curve.thresholds, curve.accuracy, strict=True))
        assert {t: at[t] for t in IOU_THRESHOLDS} == dict(of_side.accuracy)
        assert list(curve.accuracy) == sorted(curve.accuracy, reverse=True)


def test_an_iou_at_a_threshold_reaches_it(tmp_path: Path) -> None:
    truth = Sample("s", Path("/p/a.png"), "mug", (Box(0, 0, 10, 10),))
    comparison = open_comparison([keep(tmp_path / "a", [answered(truth, [Box(0, 0, 10, 5)])])])
    (curve,) = accuracy_curves(comparison)
    at = dict(zip(curve.thresholds, curve.accuracy, strict=True))
    assert (at[0.5], at[0.55]) == (1.0, 0.0)


def test_the_bins_give_the_calibration_error(tmp_path: Path) -> None:
    comparison = open_comparison(keep_two(tmp_path, count=150))
    for one, scores in zip(calibrations(comparison), headline(comparison).scores, strict=True):
        assert one.count == scores.calibration_count
        known = [b for b in one.bins if b.mean_confidence is not None and b.share_right is not None]
        error = sum(b.count * abs(b.share_right - b.mean_confidence) for b in known) / one.count  # type: ignore[operator]
        assert error == pytest.approx(scores.calibration_error, abs=1e-12)
        assert all(b.low < b.mean_confidence <= b.high for b in known[1:])  # type: ignore[operator]


def test_what_can_not_be_broken_down(tmp_path: Path) -> None:
    comparison = open_comparison(keep_two(tmp_path))
    with pytest.raises(RecordError, match="no dimension 'iou': expected one of phrase_words"):
        breakdown(comparison, "iou")
    with pytest.raises(RecordError, match="no figure 'f9'"):
        breakdown(comparison, "spatial", figures=("f9",))


def test_a_wrong_figure_would_be_seen(tmp_path: Path) -> None:
    """The hand-made figures tell a fault of one sample apart."""
    import random

    samples = some_samples(50)
    rows = [score(sample, some_answer(sample, random.Random(sample.id))) for sample in samples]
    folder = keep(tmp_path / "a", rows)
    with pytest.raises(AssertionError):
        close(scores_json(summarise(rows[1:])), hand_figures(hand_read(folder)))
