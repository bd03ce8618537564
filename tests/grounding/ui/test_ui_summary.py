"""The table over the test split: its figures, what it was made of, and how old it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from typing import Any

import pytest

from compared_samples import answered, keep, some_rows, some_samples, some_scenes
from grounding.adapters.changes import rename
from grounding.boxes import Box
from grounding.compared.wording import CHANCE_TITLE, ERRORS, figure_text, headline_rows
from grounding.errors import StoreError
from grounding.evaluating.selection import Selection
from grounding.evaluating.worker import Evaluator, Work
from grounding.reports import read_report
from grounding.ui.chosen import BASE
from grounding.ui.compare import Handlers
from grounding.ui.desk import Compare
from grounding.ui.model_service import ModelService
from grounding.ui.scoreboard import Scoreboard, in_words
from grounding.ui.sources import Parts
from grounding.ui.summary import KeptScores, summary_html

BELOW_ALL = Box(0, 180, 9, 190)


@pytest.fixture
def two(parts: Parts) -> tuple[KeptScores, KeptScores]:
    """A base and an adapter that are right on different samples, and both "nothing there"."""
    samples = [replace(sample, id=f"x{k}") for k, sample in enumerate(some_samples(60, per_picture=2))]
    found = []
    for name, adapter in (("a", None), ("b", "tools-v1")):
        folder = keep(parts.workspace.evaluations / name, some_rows(samples, len(found)), adapter)
        report = read_report(folder)
        assert report is not None
        found.append(KeptScores(report, "23 Nov 2026, 09:12 UTC", 3 * len(found)))
    return found[0], found[1]


def test_the_table_shows_both_and_their_difference(parts: Parts, two: tuple[KeptScores, KeptScores]) -> None:
    figures = Scoreboard(parts).figures(*two)
    html = summary_html("test", *two, "tools-v1", figures)
    (report,) = figures
    for title, values, told, interval in headline_rows(report.headline):
        if title != CHANCE_TITLE and title not in ERRORS.values():  # those stand in the whole-set part alone
            assert all(f"<td>{value}</td>" in html for value in [*values, interval]) and f">{told}</td>" in html
    assert f"width:{100 * report.headline.scores[1].accuracy[0.5]:.1f}%" in html
    assert "Base (demo): 60 test samples, computed 23 Nov 2026, 09:12 UTC." in html
    assert "tools-v1 (demo): 60 test samples, computed 23 Nov 2026, 09:12 UTC, before 3 edits." in html
    assert "What tools-v1 saw in training is not known" in unescape(html)


def test_a_difference_is_coloured_where_its_interval_leaves_0_out(parts: Parts) -> None:
    samples = some_scenes(20)
    kept = []
    for name, adapter, hits in (("a", None, 30), ("b", "a hit more", 31), ("c", "all", 60)):
        rows = [answered(one, one.boxes_xyxy_px if k < hits else [BELOW_ALL]) for k, one in enumerate(samples)]
        report = read_report(keep(parts.workspace.evaluations / name, rows, adapter))
        assert report is not None
        kept.append(KeptScores(report, "today"))
    board = Scoreboard(parts)
    for other, sign in ((kept[1], "same"), (kept[2], "up")):
        html = summary_html("test", kept[0], other, "tools", board.figures(kept[0], other))
        row = re.search(r'<tr data-figure="accuracy_50".*?</tr>', html)
        assert row is not None and f'data-sign="{sign}"' in row[0] and "+0.0 pts" not in row[0]


def test_one_column_alone_and_none_at_all(parts: Parts, two: tuple[KeptScores, KeptScores]) -> None:
    figures = Scoreboard(parts).figures(two[0], None)
    html = summary_html("test", two[0], None, "tools-v1", figures)
    accuracy = figure_text("accuracy_50", figures[0].headline.scores[0].accuracy[0.5])
    assert "tools-v1: not computed yet." in html and f"<td>{accuracy}</td><td>–</td>" in html
    assert "Not computed yet" in summary_html("test", None, None, None, Scoreboard(parts).figures(None, None))
    other = summary_html("test", None, two[1], "tools-v1", Scoreboard(parts).figures(None, two[1]))
    accuracy = figure_text("accuracy_50", Scoreboard(parts).figures(None, two[1])[0].headline.scores[0].accuracy[0.5])
    assert f"<td>–</td><td>{accuracy}</td>" in other


def test_two_of_other_samples_have_no_difference(parts: Parts, two: tuple[KeptScores, KeptScores]) -> None:
    folder = keep(parts.workspace.evaluations / "c", some_rows(some_scenes(4)), "other")
    report = read_report(folder)
    assert report is not None
    other = KeptScores(report, "today")
    figures = Scoreboard(parts).figures(two[0], other)
    html = summary_html("test", two[0], other, "other", figures)
    assert len(figures) == 2 and "no sample in common" in html and "pts" not in html


def test_intervals_are_worked_out_once(parts: Parts, two: tuple[KeptScores, KeptScores]) -> None:
    board = Scoreboard(parts)
    assert board.figures(*two)[0] is board.figures(*two)[0]


@pytest.mark.parametrize("content", [b"no Parquet", None])
def test_samples_that_can_not_be_read_are_a_sentence(parts: Parts, content: bytes | None) -> None:
    """Also where samples were edited since, which asks for them."""
    path = keep(parts.workspace.evaluations / "base", some_rows(some_samples(9))) / "samples.parquet"
    path.write_bytes(content) if content else path.unlink()
    html = Handlers(Compare(parts, Scoreboard(parts))).show_summary([BASE])
    assert "samples.parquet" in html and "<table" not in html


def test_names_are_escaped(parts: Parts, two: tuple[KeptScores, KeptScores]) -> None:
    html = summary_html("test", two[0], None, "<b>x", Scoreboard(parts).figures(two[0], None))
    assert "<b>x" not in html + summary_html("test", None, None, "<b>x", [])


@pytest.mark.parametrize(
    ("iso", "words"),
    [
        ("2026-11-03T09:05:00+00:00", "3 Nov 2026, 09:05 UTC"),
        ("2026-11-03T09:05:00+02:00", "3 Nov 2026, 07:05 UTC"),
        ("2026-11-03T09:05:00", "3 Nov 2026, 09:05 UTC"),
        ("yesterday", "yesterday"),
    ],
)
def test_times_in_words(iso: str, words: str) -> None:
    assert in_words(iso) == words


def compute(board: Scoreboard, *adapters: str | None) -> None:
    """Evaluate these over the test split."""
    parts = board.parts
    evaluator = Evaluator(Work(parts.workspace, parts.source, parts.models, parts.is_placeholder))
    for adapter in adapters:
        evaluator.queue.add(parts.models.model, parts.models.quantize, adapter, Selection("test"), total=2)
        assert evaluator.look()


def test_scores_are_kept_and_found_again(parts: Parts, predictor: Any, add_adapter: Callable[..., None]) -> None:
    add_adapter("tools-v1")
    compute(Scoreboard(parts), None, "tools-v1")
    board = Scoreboard(parts)
    base, adapter = board.kept(None, board.samples()), board.kept("tools-v1", board.samples())
    assert base is not None
    assert adapter is not None
    assert base.report.scores.mean_iou == pytest.approx(0.25)
    assert adapter.report.scores.mean_iou == pytest.approx(1.0)
    assert (base.report.scores.count, base.report.scores.no_target_count, base.edits) == (1, 1, 0)
    assert [phrase for phrase, _ in predictor.asked] == ["the red mug", "the absent dog"] * 2, "no placeholder is asked"


def test_edits_since_are_counted(parts: Parts, source: Any) -> None:
    board = Scoreboard(parts)
    compute(board, None)
    source.samples[0] = replace(source.samples[0], phrase="the blue mug")
    source.samples[2] = replace(source.samples[2], phrase="a phrase at last")
    found = board.kept(None, board.samples())
    assert found is not None
    assert found.edits == 2, "one phrase changed, one sample joined"


def test_an_adapter_trained_anew_has_no_scores_yet(parts: Parts, add_adapter: Callable[..., None]) -> None:
    add_adapter("tools-v1")
    board = Scoreboard(parts)
    compute(board, "tools-v1")
    assert board.kept("tools-v1", board.samples()) is not None
    add_adapter("tools-v1", "2999-01-01T00:00:00+00:00")
    assert board.kept("tools-v1", board.samples()) is None


def test_scores_follow_an_adapter_through_its_names(parts: Parts, add_adapter: Callable[..., None]) -> None:
    add_adapter("tools-v1")
    board = Scoreboard(parts)
    compute(board, "tools-v1")
    computed = board.kept("tools-v1", board.samples())
    rename(parts.workspace, "tools-v1", "mugs")
    assert computed is not None and board.kept("mugs", board.samples()) == computed
    assert board.kept("tools-v1", board.samples()) is None
    add_adapter("tools-v1", "2999-01-01T00:00:00+00:00")
    assert board.kept("tools-v1", board.samples()) is None, "another adapter took the name that was given up"
    assert board.kept("mugs", board.samples()) == computed


def test_only_adapters_of_this_model_are_offered(parts: Parts, add_adapter: Callable[..., None]) -> None:
    add_adapter("old", "2025-01-01T00:00:00+00:00")
    add_adapter("new")
    add_adapter("foreign", base="Qwen/Qwen3-VL-2B-Instruct")
    assert [info.name for info in Scoreboard(parts).adapters()] == ["new", "old"]


def test_an_app_with_quantised_weights_shows_its_own_figures(parts: Parts, workspace: Any, predictor: Any) -> None:
    service = ModelService("demo", "4bit", workspace, load=lambda: predictor)
    service.start()
    service.predictor(10)
    quantised = Scoreboard(replace(parts, models=service))
    compute(quantised, None)
    assert quantised.kept(None, quantised.samples()) is not None
    assert Scoreboard(parts).kept(None, quantised.samples()) is None


def test_a_split_without_phrases_is_a_sentence(parts: Parts, source: Any) -> None:
    source.samples = source.samples[2:]
    with pytest.raises(StoreError, match="nothing to score"):
        Scoreboard(parts).samples()
