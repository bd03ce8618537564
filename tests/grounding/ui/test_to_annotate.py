"""The link from a sample into Annotate, and what Compare shows of it on return."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from grounding.boxes import Box
from grounding.errors import StoreError
from grounding.ui.chosen import BASE
from grounding.ui.compare import Handlers
from grounding.ui.desk import Compare, Desk
from grounding.ui.scoreboard import Scoreboard
from grounding.ui.sources import Parts
from grounding.ui.to_annotate import annotate_link_html

EVIL = '"><img src=x onerror="alert(1)">&sample=y'


@pytest.fixture
def compare(parts: Parts) -> Compare:
    return Compare(parts, Scoreboard(parts))


def test_a_link_names_its_sample_and_escapes_it() -> None:
    html = annotate_link_html("a/1", "Look")
    assert 'href="#queue=all&amp;sample=a%2F1" data-annotate="a/1">Look</a>' in html
    assert "<kbd>" not in html and "aria-keyshortcuts" not in html
    evil = annotate_link_html(EVIL, EVIL)
    assert "<img" not in evil and evil.count("sample=") == evil.count("&amp;sample=")
    assert 'aria-keyshortcuts="E"' in annotate_link_html("a", has_key=True)


def test_the_answers_hold_one_link_with_the_key(compare: Compare) -> None:
    desk = Desk()
    compare.pick(desk, "s0")
    for html in (compare.waiting_html(desk, "the red mug", (None,)), *compare.ask(desk, "the red mug", (None,))):
        assert html.count('data-annotate="s0"') == html.count("aria-keyshortcuts") == 1


def test_a_picture_of_ones_own_has_no_link(compare: Compare, tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), "navy").save(tmp_path / "mine.png")
    desk = Desk()
    compare.upload(desk, tmp_path / "mine.png")
    assert "data-annotate" not in compare.waiting_html(desk, "a mug", (None,))


def test_on_return_the_sample_is_asked_and_scored_as_it_stands_now(
    compare: Compare, source: Any, predictor: Any
) -> None:
    handlers, desk = Handlers(compare), Desk()
    compare.pick(desk, "s0")
    assert "IoU 0.25" in list(handlers.ask_picked(desk, "the red mug", [BASE]))[-1]
    source.samples[0] = replace(source.samples[0], phrase="the mug by the door", boxes_xyxy_px=(Box(0, 0, 20, 20),))
    event: Any = SimpleNamespace(id="s0")
    phrase, waiting, grid = handlers.returned(event, desk, "test", [BASE])
    assert phrase == "the mug by the door" and 'aria-busy="true"' in waiting
    assert "the mug by the door" in grid and "the red mug" not in grid and 'aria-pressed="true"' in grid
    assert "IoU 1.00" in list(handlers.ask_picked(desk, "the red mug", [BASE]))[-1]
    assert predictor.asked[-1] == ("the mug by the door", None)


def test_other_models_never_ask_a_new_sample_with_the_words_of_the_one_before(
    compare: Compare, predictor: Any, add_adapter: Any
) -> None:
    """The list of models may tell of itself before the page has the words of the sample laid down just now."""
    add_adapter("tools-v1")
    handlers, desk = Handlers(compare), Desk()
    compare.pick(desk, "s0")
    list(handlers.ask_picked(desk, "the red mug", [BASE]))
    compare.pick(desk, "s3")
    list(handlers.ask_models(desk, "the red mug", [BASE, "tools-v1"]))
    list(handlers.ask_picked(desk, "left mug", [BASE, "tools-v1"]))
    assert predictor.asked == [("the red mug", None), ("left mug", None), ("left mug", "tools-v1")]


def test_a_sample_that_is_gone_is_a_sentence(compare: Compare) -> None:
    with pytest.raises(Exception, match="no sample") as told:
        Handlers(compare).returned(SimpleNamespace(id="gone"), Desk(), "test", [BASE])  # type: ignore[arg-type]
    assert isinstance(told.value.__cause__, StoreError)
