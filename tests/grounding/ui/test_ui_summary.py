"""The table over the test split: its figures, what it was made of, and how old it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from grounding.adapters.changes import rename
from grounding.errors import StoreError
from grounding.evaluating.selection import Selection
from grounding.evaluating.worker import Evaluator, Work
from grounding.metrics import Scores
from grounding.reports import KeptReport
from grounding.ui.model_service import ModelService
from grounding.ui.scoreboard import Scoreboard, in_words
from grounding.ui.sources import Parts
from grounding.ui.summary import KeptScores, format_difference, format_figure, summary_html

SCORES = Scores(160, 0.5, 0.25, 0.125, {0.5: 0.4, 0.75: 0.2}, 40, 0.9)
BETTER = replace(SCORES, detection_rate=0.75, mean_iou=0.125, accuracy={0.5: 0.41, 0.75: 0.2})


def kept(scores: Scores, adapter: str | None = None, edits: int = 0) -> KeptScores:
    report = KeptReport("id", Path(), "2026-11-23T09:12:00+00:00", "demo", adapter, "test", "0" * 64, scores)
    return KeptScores(report, "23 Nov 2026, 09:12 UTC", edits)


@pytest.mark.parametrize(
    ("figure", "percent", "text"),
    [(0.5, True, "50.0%"), (1.0, True, "100.0%"), (0.12345, False, "0.123"), (None, True, "–"), (0.0, False, "0.000")],
)
def test_figures(figure: float | None, percent: bool, text: str) -> None:
    assert format_figure(figure, percent) == text


@pytest.mark.parametrize(
    ("difference", "percent", "text"),
    [
        (0.253, True, "+25.3 pts"),
        (-0.1, True, "−10.0 pts"),
        (0.0, True, "0.0 pts"),
        (-0.0004, True, "0.0 pts"),
        (-0.125, False, "−0.125"),
        (None, False, "–"),
    ],
)
def test_differences(difference: float | None, percent: bool, text: str) -> None:
    assert format_difference(difference, percent) == text


def test_the_table_shows_both_and_their_difference() -> None:
    html = summary_html("test", kept(SCORES), kept(BETTER, "tools-v1", edits=3), "tools-v1")
    for expected in ("50.0%", "75.0%", "+25.0 pts", "−0.125", "width:41.0%", "No-target accuracy", "90.0%"):
        assert expected in html
    assert "Base (demo): 200 test samples, computed 23 Nov 2026, 09:12 UTC." in html
    assert "tools-v1 (demo): 200 test samples, computed 23 Nov 2026, 09:12 UTC, before 3 edits." in html


def test_one_column_alone_and_none_at_all() -> None:
    html = summary_html("test", kept(replace(SCORES, no_target_count=0, no_target_accuracy=None)), None, "tools-v1")
    assert "tools-v1: not computed yet." in html
    assert "No-target accuracy" not in html
    assert "Not computed yet" in summary_html("test", None, None, None)


def test_names_are_escaped() -> None:
    assert "<b>x" not in summary_html("test", kept(SCORES), None, "<b>x") + summary_html("test", None, None, "<b>x")


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
