"""The panel "Sweep": what it says before, what it shows of each run, and what its buttons do."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import gradio as gr
import pytest

from grounding.jobs.queue import RunQueue
from grounding.jobs.store import RunStore
from grounding.sweeps.drive import start_sweep
from grounding.sweeps.plan import Pace, Plan, in_words
from grounding.sweeps.record import SweepRecord, SweepState, SweepStore
from grounding.sweeps.report import SweepReport, TrialRow
from grounding.sweeps.space import Choices
from grounding.training.settings import TrainSettings
from grounding.ui.sweep_view import parallel_html, plan_html, setting_words, sweep_html
from grounding.ui.train_sweeps import OFFERED, SweepHandlers, SweepParts, SweepWidgets
from grounding.workspace import Workspace
from sweep_samples import sweep_settings, write_snapshot

HOSTILE = '<img src=x onerror="alert(1)">&\'"'


def row(number: int, iou: float | None, state: str = "done", **values: Any) -> TrialRow:
    tried = values.pop("values", {"lora_rank": (4, 8, 16, 32)[number % 4], "learning_rate": 1e-3})
    kept = {"has_adapter": state == "done", "seconds": 65.0} | values
    return TrialRow(number, tried, state, iou, iou, 8, run=f"id-{number}", **kept)


def report(*rows: TrialRow, state: SweepState = SweepState.GOING, **values: Any) -> SweepReport:
    record = SweepRecord("mugs", state, "2026-01-01T00:00:00+00:00", None, "", "")
    return SweepReport(record, sweep_settings(), rows, 0.2, values.pop("seconds_left", 130.0))


def lines(html: str) -> list[ElementTree.Element]:
    svg = re.search(r"<svg.*?</svg>", html, re.DOTALL)
    assert svg is not None
    drawn = ElementTree.fromstring(svg[0])  # what is no XML is no SVG either
    return [group for group in drawn.iter("g") if group.get("class") == "bw-parallel-line"]


def test_every_run_is_a_row_and_the_best_is_marked() -> None:
    pruned = row(1, 0.3, "pruned", pruned_at=4)
    html = sweep_html(report(row(0, 0.5), pruned, row(2, 0.7, kept_as=("mugs",)), row(3, None, "queued")))
    assert "3 of 4 runs have ended · about 2 min left" in html
    table = html[html.index("<tbody>") :]
    first, second, third, fourth = table.split("<tr ")[1:]
    assert "0.500" in first and 'data-action="keep"' in first and 'data-best="false"' in first
    assert "Pruned" in second and "step 4" in second and 'data-action="keep"' not in second
    assert 'data-best="true"' in third and "kept as mugs" in third
    assert "Queued" in fourth and 'data-action="keep"' not in fourth


def test_the_winner_is_offered_until_it_is_kept() -> None:
    assert "Keep the winner" in sweep_html(report(row(0, 0.5)))
    assert "Keep the winner" not in sweep_html(report(row(0, 0.5, kept_as=("mugs",))))
    assert "Keep the winner" not in sweep_html(report(row(0, None, "failed", has_adapter=False)))


@pytest.mark.parametrize(
    ("state", "offered", "not_offered"),
    [
        (SweepState.GOING, ("stop", "discard"), ("resume", "remove")),
        (SweepState.STOPPED, ("resume", "remove"), ("stop", "discard")),
        (SweepState.DONE, ("remove",), ("stop", "discard", "resume")),
    ],
)
def test_each_state_offers_what_may_be_done(
    state: SweepState, offered: tuple[str, ...], not_offered: tuple[str, ...]
) -> None:
    html = sweep_html(report(row(0, 0.5), state=state))
    assert all(f'data-action="{action}"' in html for action in offered)
    assert not any(f'data-action="{action}"' in html for action in not_offered)


def test_the_lines_stand_where_the_values_are_and_the_best_is_in_front() -> None:
    best = row(2, 0.7, values={"lora_rank": 32, "learning_rate": 1e-2})
    worst = row(0, 0.5, values={"lora_rank": 4, "learning_rate": 1e-4})
    drawn = lines(parallel_html(report(best, worst, row(1, None, "failed"))))
    assert [line.get("data-kind") for line in drawn] == ["done", "best"], "a run without a score is left out"
    title = drawn[1].find("title")
    assert title is not None and title.text == "Run 3, done: lora_rank 32, learning_rate 0.01; mean IoU 0.700"
    heights = [[float(p.split(",")[1]) for p in str(line[1].get("points")).split()] for line in drawn]
    bottom, top = set(heights[0]), set(heights[1])
    assert len(bottom) == len(top) == 1 and max(top) < min(bottom), "all values at one end of their axes"


def test_names_and_values_of_strangers_are_shown_as_they_are_typed() -> None:
    made = report(row(0, 0.5, values={HOSTILE: HOSTILE}, sentence=HOSTILE, kept_as=(HOSTILE,)))
    settings = replace(sweep_settings(runs=2))
    object.__setattr__(settings, "search", {HOSTILE: Choices((HOSTILE, "b"))})
    record = replace(made.record, name=HOSTILE, sentence=HOSTILE, trouble=HOSTILE)
    made = SweepReport(record, settings, made.rows, None, None)
    html = sweep_html(made, [record], HOSTILE) + plan_html(None, HOSTILE)
    assert "<img" not in html and 'onerror="' not in html
    assert lines(html), "the drawing is still one"


def test_without_a_sweep_it_says_what_to_do() -> None:
    assert "No sweep yet" in sweep_html(None) and "Start the sweep" in sweep_html(None)


def test_number_of_runs_and_time_are_said_with_where_they_come_from() -> None:
    plan = Plan(sweep_settings(runs=4), Pace(600.0, "the run mugs"))
    assert "4 runs of 8 steps, about 40 min: 10 min a run, estimated from the run mugs." in plan_html(plan)
    assert "Pruning may shorten it" in plan_html(plan)
    late = Plan(sweep_settings(base={"score_every_steps": 8}), None)
    said = " ".join(late.sentences)
    assert "isn't known before" in said and "Pruning can't shorten it" in said
    assert [in_words(seconds) for seconds in (0.2, 89, 95, 5400, 12_000)] == [
        "1 s", "89 s", "2 min", "1 h 30 min", "3 h 20 min"
    ]  # fmt: skip


def test_names_are_spelled_as_people_write_them() -> None:
    assert [setting_words(name) for name in ("lora_rank", "smooth_l1_weight", "giou_weight")] == [
        "LoRA rank", "Smooth L1 weight", "GIoU weight"
    ]  # fmt: skip


class Handlers(SweepHandlers):
    """The panel's handlers over a workspace of the test, with what is typed by the name of the field."""

    def typed(self, **values: Any) -> dict[Any, Any]:
        w = self.widgets
        fields = {"name": w.name, "runs": w.runs, "seed": w.seed, "prune": w.prune, "others": w.others, **w.search}
        given = {"name": "mugs", "runs": "2", "seed": "0", "prune": True, "lora_rank": "4,16"} | values
        return {component: given.get(name, "") for name, component in fields.items()} | {w.chosen: ""}


@pytest.fixture
def handlers(own_workspace: Path) -> Handlers:
    workspace = Workspace(own_workspace)
    write_snapshot(workspace)
    RunQueue(RunStore(workspace.runs_db)).pause()
    base = TrainSettings(steps=8, score_every_steps=2)
    desk = SimpleNamespace(state=SimpleNamespace(model=None), clear=lambda settings, force: None)
    owner: Any = SimpleNamespace(desk=desk, settings=lambda values: base)
    parts: Any = SweepParts(workspace, SimpleNamespace(model="demo", quantize="none"), SimpleNamespace(freeze=frozen))  # type: ignore[arg-type]
    names = ("panel", "name", "suggestion", "runs", "seed", "prune")
    names += ("others", "plan", "start", "view", "chosen", "shown")
    widgets = SweepWidgets(**{name: name for name in names}, search={key: key for key in OFFERED})  # type: ignore[arg-type]
    return Handlers(parts, widgets, owner)


def frozen(name: str, *, placeholders: bool = False) -> str:
    return "first"


def press(action: str, sweep: str = "mugs", run: str = "") -> Any:
    return SimpleNamespace(action=action, sweep=sweep, run=run)


def test_the_plan_follows_what_is_typed(handlers: Handlers) -> None:
    assert "2 runs of 8 steps." in handlers.describe(handlers.typed())
    assert "there are only 2 different ways" in handlers.describe(handlers.typed(runs="3"))
    assert "runs=&#x27;many&#x27;" in handlers.describe(handlers.typed(runs="many"))
    assert "expected a setting with its values" in handlers.describe(handlers.typed(others="strength"))
    assert "9 runs" in handlers.describe(handlers.typed(runs="9", others="strength=0.6..1\n\nlora_dora=true,false"))
    assert "Nothing is searched" in handlers.describe(handlers.typed(lora_rank=""))


def test_start_queues_the_first_run_and_the_buttons_act(handlers: Handlers) -> None:
    html, _, free, chosen = handlers.start(handlers.typed())
    assert "mugs" in html and (free, chosen) == ("mugs\nsweep-1", "mugs")
    store = SweepStore(handlers.workspace.runs_db)
    assert [run.name for run in store.runs("mugs").values()] == ["mugs-run-1"]
    with pytest.raises(gr.Error, match="stands already"):
        handlers.start(handlers.typed())
    html, shown, chosen, _ = handlers.act(press("stop"), "")
    assert store.get("mugs").state is SweepState.STOPPED and 'data-action="resume"' in html
    assert handlers.tick("mugs", shown) == (gr.skip(), gr.skip())
    handlers.act(press("resume"), chosen)
    assert store.get("mugs").state is SweepState.GOING
    assert handlers.tick("mugs", shown) != (gr.skip(), gr.skip())
    with pytest.raises(gr.Error, match="has left an adapter"):
        handlers.act(press("keep"), "mugs")
    with pytest.raises(gr.Error, match="nothing that can be done"):
        handlers.act(press("format"), "mugs")
    handlers.act(press("stop"), "mugs")
    html, *_ = handlers.act(press("remove"), "mugs")
    assert "No sweep yet" in html


def test_a_sweep_whose_files_are_gone_can_be_looked_at_and_removed(handlers: Handlers) -> None:
    start_sweep(handlers.workspace, sweep_settings(runs=2))
    (handlers.workspace.sweeps / "mugs" / "sweep.json").unlink()
    html, *_ = handlers.open(handlers.typed())
    assert "can&#x27;t be read" in html and 'data-action="stop"' in html
    handlers.act(press("stop"), "mugs")
    html, *_ = handlers.act(press("remove"), "mugs")
    assert "No sweep yet" in html
