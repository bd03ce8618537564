"""The panel of evaluations: what a press does, what the list says, and what reaches every window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from grounding.evaluating.queue import Evaluation, EvaluationState
from grounding.evaluating.selection import Selection
from grounding.evaluating.worker import Evaluator, Work
from grounding.metrics import Scores
from grounding.reports import KeptReport
from grounding.ui.chosen import BASE
from grounding.ui.evaluations_panel import EvaluationHandlers
from grounding.ui.evaluations_view import Row, bars_html, evaluations_html
from grounding.ui.model_service import ModelService
from grounding.ui.scoreboard import Scoreboard
from grounding.ui.sources import Parts


@pytest.fixture
def handlers(parts: Parts) -> EvaluationHandlers:
    return EvaluationHandlers(Scoreboard(parts))


@pytest.fixture
def evaluator(parts: Parts) -> Evaluator:
    return Evaluator(Work(parts.workspace, parts.source, parts.models, parts.is_placeholder))


def press(handlers: EvaluationHandlers, action: str, evaluation_id: str) -> tuple[Any, ...]:
    event: Any = SimpleNamespace(action=action, id=evaluation_id)
    return handlers.act(event)


def evaluation(**changes: Any) -> Evaluation:
    state = EvaluationState.RUNNING
    made = Evaluation(
        "id1", "demo", "none", None, Selection("test"), state, 40, 160, 12, 20.0, "", "", False, "t", None
    )
    return replace(made, **changes)


def test_evaluate_queues_the_base_first_and_nothing_twice(
    handlers: EvaluationHandlers, add_adapter: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(gr, "Info", lambda text, **_: told.append(text))
    add_adapter("tools-v1")
    html, *_ = handlers.add(["tools-v1", BASE], "test", "", "")
    assert html.index("Base model") < html.index("tools-v1")
    assert "2 samples · 1 placeholder left out" in html and html.count("Waiting") == 2
    handlers.add([BASE], "test", "  ", None)
    assert told and len(handlers.queue.list()) == 2
    handlers.add([BASE], "all", "mug", "")
    assert handlers.queue.list()[-1].selection == Selection("all", "mug")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (([], "test", "", ""), "No model is chosen"),
        ((["nobody"], "test", "", ""), "There is no adapter &#x27;nobody&#x27;"),
        (([BASE], "everything", "", ""), "The split is &#x27;everything&#x27;"),
        (([BASE], None, "", ""), "The split is"),
        (([BASE], "val", "", ""), "nothing to score. Write phrases in Annotate, or choose another split."),
        (([BASE], "test", "zebra", ""), "nothing to score. Choose other words or another category, or choose another"),
        (([BASE], "test", "x" * 300, ""), "at most 200"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(handlers: EvaluationHandlers, asked: Any, said: str) -> None:
    with pytest.raises(gr.Error) as told:
        handlers.add(*asked)
    assert said in str(told.value)
    assert handlers.queue.list() == []


def test_stop_go_on_and_remove(handlers: EvaluationHandlers) -> None:
    handlers.add([BASE], "test", "", "")
    (one,) = handlers.queue.list()
    assert "Stopped before its turn came." in press(handlers, "stop", one.id)[0]
    assert "Waiting" in press(handlers, "go-on", one.id)[0]
    press(handlers, "stop", one.id)
    assert press(handlers, "remove", one.id)[0] == ""
    for action, said in (("remove", "There is no evaluation"), ("<b>", "nothing that can be done")):
        with pytest.raises(gr.Error, match=said):
            press(handlers, action, one.id)


def test_every_window_hears_of_a_new_report_once(handlers: EvaluationHandlers, evaluator: Evaluator) -> None:
    handlers.add([BASE], "test", "", "")
    other = EvaluationHandlers(handlers.board)
    _, shown, newest = handlers.tick("", "")
    assert isinstance(shown, str)
    assert newest == gr.skip()
    assert evaluator.look()
    for window in (handlers, other):
        html, now_shown, now_newest = window.tick(shown, "")
        assert "Done" in html and "Acc@0.5 0.0%" in html and not window.now()["bars"]
        assert isinstance(now_newest, str) and now_newest
        again = window.tick(now_shown, now_newest)
        assert again == (gr.skip(),) * 3


def test_a_bar_moves_without_the_list(handlers: EvaluationHandlers) -> None:
    handlers.add([BASE], "test", "", "")
    running = handlers.queue.take_next("demo", "none")
    assert running is not None
    html, shown, _ = handlers.tick("", "")
    before = handlers.now()
    assert "0 of 2 answers" in html and "0 of 2 answers" in before["bars"][running.id]
    handlers.queue.tell(running.id, 1, 2.0)
    now = handlers.now()
    assert "1 of 2 answers" in now["bars"][running.id] and now["mark"] == before["mark"], "a bar is no event"
    assert handlers.tick(shown, "")[0] == gr.skip()
    handlers.queue.stop(running.id)
    assert handlers.now()["mark"] != before["mark"]


def test_why_it_waits(handlers: EvaluationHandlers, models: ModelService) -> None:
    handlers.add([BASE], "test", "", "")
    handlers.queue.add("big", "4bit", None, Selection("val"), total=3)
    models.unload()
    html, *_ = handlers.tick("", "")
    assert "lent to a training run" in html
    assert "It waits for the app to be started with --model big --quantize 4bit." in html


def test_the_page_opens_with_what_compare_shows(handlers: EvaluationHandlers, add_adapter: Callable[..., None]) -> None:
    add_adapter("tools-v1")
    models, split, category, run, html, *_ = handlers.open()
    assert run.interactive
    assert models.value == [BASE, "tools-v1"] and split.value == "test" and category.value == "" and html == ""
    assert handlers.follow(["tools-v1"], []).value == ["tools-v1"]
    assert handlers.follow(["tools-v1", BASE], [BASE, "tools-v1"]) == gr.skip(), "or the two lists never rest"
    assert handlers.refresh(["gone", BASE]).value == [BASE]
    early = handlers.refresh(None)
    assert "value" not in early._constructor_args[0], "what the page fills in is not emptied by a look before it"


def test_the_words_of_each_state_are_there_and_names_are_escaped() -> None:
    states = EvaluationState
    scores = Scores(160, 0.5, 0.25, 0.125, {0.5: 0.575, 0.75: 0.2}, 40, 0.9)
    report = KeptReport("id", Path(), "2026-11-23T09:12:00+00:00", "demo", None, "test", "0" * 64, scores)
    rows = [
        Row(evaluation(id="<i>", adapter="<b>", selection=Selection("test", "<u>"))),
        Row(evaluation(stop_requested=True)),
        Row(evaluation(state=states.DONE, finished_at="2026-11-23T09:12:00+00:00"), report),
        Row(evaluation(state=states.DONE, finished_at="2026-11-23T09:12:00+00:00")),
        Row(evaluation(state=states.STOPPED, sentence="Stopped: <40> answers are kept.")),
        Row(evaluation(state=states.FAILED, done=0)),
    ]
    html = evaluations_html(rows)
    assert all(raw not in html + "".join(bars_html(rows).values()) for raw in ("<b>x", "<u>", "<i>", "<40>", '"<'))
    for words in ("Running", "Stopping", "Done", "Stopped", "Failed", "its report is gone", "12 placeholders left out"):
        assert words in html
    assert "Acc@0.5 57.5% · 23 Nov, 09:12 UTC" in html
    assert "40 of 160 answers · 1 min 00 s left" in html and "width:25.0%" in html
    assert html.count('data-action="go-on"') == 2 and html.count("Throw its answers away?") == 1
    assert "40 of 160" not in evaluations_html(rows, bars=False)
