"""The queue's panel: what it shows of each run, and what its buttons do."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from grounding.jobs import launch
from grounding.jobs.queue import QueueSettings
from grounding.jobs.store import RunRecord, RunState
from grounding.training.events import ScoreEvent
from grounding.training.preflight.records import Preflight
from grounding.training.settings import TrainSettings
from grounding.ui.keeper import Keeper
from grounding.ui.model_service import ModelService, Phase
from grounding.ui.queue_view import Row, queue_html
from grounding.ui.train_queue import Editing, QueueHandlers
from grounding.ui.train_values import as_typed
from grounding.workspace import Workspace, find_workspace

NAMES = [spec.name for spec in fields(TrainSettings)]
ON, PAUSED = QueueSettings(True, False, ""), QueueSettings(False, True, "It waits <for> you.")


def record(state: RunState, name: str = "mugs", **values: Any) -> RunRecord:
    run = RunRecord(
        f"id-{name}", name, state, "demo", "none", "/s", {"steps": 470}, "2026-01-01T00:00:00+00:00", None, None,
        None, None, False, "So it ended.",
    )  # fmt: skip
    return replace(run, **values)


@pytest.mark.parametrize(
    ("run", "actions"),
    [
        (record(RunState.QUEUED, position=1, attempt=0), ["up", "down", "edit", "copy", "remove"]),
        (record(RunState.QUEUED, position=1, attempt=1), ["up", "down", "copy", "remove"]),
        (record(RunState.RUNNING), ["look", "stop", "discard", "log"]),
        (record(RunState.DONE), ["look", "copy", "log", "remove"]),
        (record(RunState.FAILED), ["look", "resume", "copy", "log", "remove"]),
        (record(RunState.STOPPED), ["look", "resume", "copy", "log", "remove"]),
        (record(RunState.DISCARDED), ["look", "copy", "log", "remove"]),
    ],
    ids=lambda value: value.state if isinstance(value, RunRecord) else "",
)
def test_each_state_offers_what_may_be_done(run: RunRecord, actions: list[str]) -> None:
    html = queue_html([Row(run)], ON).partition("<li ")[2]
    offered = [part.partition('"')[0] for part in html.split('data-action="')[1:]]
    assert offered == actions


def test_where_a_resume_begins_is_said_before() -> None:
    failed = record(RunState.FAILED)
    assert "So it ended. It goes on after step 1,200." in queue_html([Row(failed, checkpoint=1200)], ON)
    assert "It begins anew, as it has no checkpoint." in queue_html([Row(failed)], ON)
    assert 'data-confirm="Delete its checkpoints?"' in queue_html([Row(failed, checkpoint=3)], ON)


def test_what_throws_away_asks_first_and_a_hung_run_is_named() -> None:
    html = queue_html([Row(record(RunState.RUNNING), hung=True)], ON)
    assert 'data-action="discard" data-confirm="Throw it away?"' in html
    assert "No sign of life for minutes" in html


def test_the_figures_are_those_of_the_step_that_is_kept() -> None:
    scores = (
        ScoreEvent(0, 9, 0.2, 0.25, 0.1, 1.0, 1.0),
        ScoreEvent(5, 9, 0.6, 0.75, 0.1, 1.0, 1.0, best=True),
        ScoreEvent(9, 9, 0.4, 0.5, 0.1, 1.0, 1.0),
    )
    kept = record(RunState.DONE, settings={"steps": 1, "keep_best": True})
    html = queue_html([Row(kept, scores)], ON)
    assert "1 step ·" in html and "Acc@0.5 25% → 75%" in html and "IoU 0.200 → 0.600" in html
    assert "Acc@0.5 25% → 50%" in queue_html([Row(record(RunState.DONE), scores)], ON)


def test_names_and_reasons_are_escaped() -> None:
    html = queue_html([Row(record(RunState.FAILED, "<b>x", sentence="<i>y"))], PAUSED)
    assert "<b>x" not in html.replace("<b>&lt;b&gt;x", "") and "<i>" not in html and "&lt;for&gt;" in html


def test_an_empty_record_has_no_panel() -> None:
    assert queue_html([], ON) == ""


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> QueueHandlers:
    workspace = find_workspace()
    workspace.check_writable()
    monkeypatch.setattr(launch, "advance", lambda workspace: None)
    return QueueHandlers(workspace, NAMES)


def put(handlers: QueueHandlers, *names: str) -> dict[str, RunRecord]:
    return {
        name: handlers.store.enqueue(
            name=name, model_id="demo", quantize="none", snapshot="/s", settings=TrainSettings(steps=9).to_json()
        )
        for name in names
    }


def press(handlers: QueueHandlers, action: str, run: str = "", editing: Editing | None = None) -> tuple[Any, ...]:
    return handlers.act(SimpleNamespace(action=action, run=run), editing)  # type: ignore[arg-type, no-any-return]


def order(handlers: QueueHandlers) -> list[str]:
    return [run.name for run in handlers.queue.waiting()]


def test_the_arrows_move_by_one(handlers: QueueHandlers) -> None:
    runs = put(handlers, "a", "b", "c")
    press(handlers, "up", runs["c"].id)
    assert order(handlers) == ["a", "c", "b"]
    press(handlers, "down", runs["a"].id)
    assert order(handlers) == ["c", "a", "b"]
    press(handlers, "up", runs["c"].id)
    assert order(handlers) == ["c", "a", "b"]


def test_the_form_gets_back_what_stood_in_it(handlers: QueueHandlers) -> None:
    """The next run must not take values of a run that was only edited."""
    runs = put(handlers, "a", "b")
    typed = tuple(f"typed {name}" for name in NAMES)
    editing = act(handlers, "edit", runs["a"].id, None, *typed)
    assert handlers.cancel(editing)[8:] == typed
    other = act(handlers, "edit", runs["b"].id, editing, *(["9"] * len(NAMES)))
    assert handlers.cancel(other)[8:] == typed, "one edit after the other"
    values = on_the_form(TrainSettings(steps=12))
    assert handlers.save(other, "b", *values)[10:] == typed
    assert handlers.store.get(runs["b"].id).settings["steps"] == 12


def on_the_form(settings: TrainSettings) -> list[Any]:
    values = [getattr(settings, name) for name in NAMES]
    return [value if isinstance(value, bool) else as_typed(value) for value in values]


def act(handlers: QueueHandlers, action: str, run: str, editing: Editing | None, *typed: Any) -> Editing:
    found = handlers.act(SimpleNamespace(action=action, run=run), editing, *typed)[7]  # type: ignore[arg-type]
    assert isinstance(found, Editing)
    return found


def test_an_edited_run_keeps_what_differs_from_its_preset(handlers: QueueHandlers) -> None:
    runs = put(handlers, "a")
    values = on_the_form(TrainSettings(lora_rank=5))
    handlers.save(Editing(runs["a"].id, copy=False), "a", *values)
    kept = json.loads((handlers.workspace.runs / runs["a"].id / "preset.json").read_text())
    assert kept["differs"]["lora_rank"]["run"] == 5


def test_a_copy_of_a_forced_run_is_forced_too(handlers: QueueHandlers, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = put(handlers, "a", "b")
    checked = Preflight("s", "", {"train": 1, "val": 0, "train_pictures": 1}, ())
    replace(checked, forced=True).save(handlers.workspace.runs / runs["a"].id)
    checked.save(handlers.workspace.runs / runs["b"].id)
    forced = []

    def queue_run(workspace: Workspace, request: launch.RunRequest, *, force: bool) -> RunRecord:
        forced.append(force)
        return runs["a"]

    monkeypatch.setattr(launch, "queue_run", queue_run)
    values = on_the_form(TrainSettings())
    for name in ("a", "b"):
        handlers.save(Editing(runs[name].id, copy=True), f"{name}-2", *values)
    assert forced == [True, False]


def test_the_switches(handlers: QueueHandlers) -> None:
    put(handlers, "a")
    press(handlers, "pause")
    assert handlers.queue.settings().paused
    press(handlers, "go-on")
    press(handlers, "after-failure", "")
    assert not handlers.queue.settings().go_on_after_failure
    press(handlers, "after-failure", "yes")
    assert handlers.queue.settings().go_on_after_failure


def test_a_run_is_edited_in_the_form(handlers: QueueHandlers) -> None:
    run = put(handlers, "a")["a"]
    shown = press(handlers, "edit", run.id)
    editing, values = shown[7], list(shown[-len(NAMES) :])
    assert editing == Editing(run.id, copy=False)
    assert values[NAMES.index("steps")] == "9"
    values[NAMES.index("steps")] = "12"
    handlers.save(editing, "renamed", *values)
    saved = handlers.store.get(run.id)
    assert (saved.name, saved.settings["steps"], saved.state) == ("renamed", 12, RunState.QUEUED)
    assert TrainSettings.from_mapping(saved.settings) == TrainSettings(steps=12)


def test_two_people_who_edit_one_run_do_not_overwrite_each_other(handlers: QueueHandlers) -> None:
    run = put(handlers, "a")["a"]
    anns, bobs = press(handlers, "edit", run.id), press(handlers, "edit", run.id)
    values = list(anns[-len(NAMES) :])
    values[NAMES.index("steps")] = "12"
    handlers.save(anns[7], "a", *values)
    values = list(bobs[-len(NAMES) :])
    values[NAMES.index("lora_rank")] = "4"
    with pytest.raises(gr.Error, match="was edited meanwhile"):
        handlers.save(bobs[7], "a", *values)
    assert handlers.store.get(run.id).settings["steps"] == 12
    again = press(handlers, "edit", run.id)
    values = list(again[-len(NAMES) :])
    values[NAMES.index("lora_rank")] = "4"
    handlers.save(again[7], "a", *values)
    saved = handlers.store.get(run.id).settings
    assert (saved["steps"], saved["lora_rank"]) == (12, 4)


def test_a_run_that_was_begun_is_not_edited_and_the_page_says_why(handlers: QueueHandlers) -> None:
    run = put(handlers, "a")["a"]
    begun = handlers.queue.take_next()
    assert begun is not None
    handlers.store.finish(run.id, RunState.STOPPED, "Stopped.", judged=begun)
    handlers.queue.requeue(run.id)
    with pytest.raises(gr.Error, match=r"was begun with its settings.*Duplicate it"):
        press(handlers, "edit", run.id)  # from a page that stood open
    html = press(handlers, "pause")[0]
    assert "with its own settings. Duplicate it to train with others." in html
    assert 'data-action="edit"' not in html and 'data-action="copy"' in html
    assert isinstance(press(handlers, "copy", run.id)[7], Editing)


def test_a_copy_is_queued_on_the_same_phrases(handlers: QueueHandlers, monkeypatch: pytest.MonkeyPatch) -> None:
    run = put(handlers, "a")["a"]
    asked: list[launch.RunRequest] = []
    monkeypatch.setattr(launch, "queue_run", lambda workspace, request, force: asked.append(request) or run)
    shown = press(handlers, "copy", run.id)
    assert shown[5] == "a-2"
    handlers.save(shown[7], "a-2", *shown[-len(NAMES) :])
    assert asked == [launch.RunRequest("a-2", "/s", "demo", TrainSettings(steps=9))]


def test_a_bad_value_is_a_sentence_and_changes_nothing(handlers: QueueHandlers) -> None:
    run = put(handlers, "a")["a"]
    values = [as_typed(getattr(TrainSettings(), name)) for name in NAMES]
    values[NAMES.index("steps")] = "many"
    with pytest.raises(gr.Error, match="steps="):
        handlers.save(Editing(run.id, copy=False), "a", *values)
    handlers.queue.take_next()
    with pytest.raises(gr.Error, match="doesn&#x27;t wait in the queue"):
        handlers.save(Editing(run.id, copy=False), "a", *[getattr(TrainSettings(), name) for name in NAMES])
    with pytest.raises(gr.Error, match="Reload the page"):
        press(handlers, "explode", run.id)


def test_what_is_edited_and_removed_meanwhile_leaves_the_form(handlers: QueueHandlers) -> None:
    run = put(handlers, "a")["a"]
    shown = press(handlers, "remove", run.id, Editing(run.id, copy=False))
    assert shown[7] is None
    assert handlers.store.list() == []


def test_a_tick_sends_the_panel_only_when_it_is_new(handlers: QueueHandlers) -> None:
    put(handlers, "a")
    html, shown = handlers.open()
    assert "a" in html
    assert handlers.tick(shown) == (gr.skip(), gr.skip())
    put(handlers, "b")
    assert handlers.tick(shown)[0] != gr.skip()


def test_the_log_is_shown_escaped(handlers: QueueHandlers) -> None:
    run = put(handlers, "a")["a"]
    assert "There is no log yet" in press(handlers, "log", run.id)[2].value
    folder = handlers.workspace.runs / run.id
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text("<script>" + "x" * 300_000 + "the end")
    shown = press(handlers, "log", run.id)[2].value
    assert "the end" in shown and "<script>" not in shown and len(shown) < 250_000


# --- the keeper ---


class Models:
    """A model service that only remembers; on a GPU unless told otherwise."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.phase = Phase.UNLOADED
        self.is_lent = False
        self.companions_load = False
        self.calls: list[str] = []

    @property
    def state(self) -> Any:
        return SimpleNamespace(phase=self.phase)

    def start(self) -> None:
        self.calls.append("start")
        self.phase = Phase.LOADING

    def unload(self) -> None:
        self.calls.append("unload")
        self.phase = Phase.UNLOADED

    def predictor(self, timeout_seconds: float) -> Any:
        return SimpleNamespace(device=self.device)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grounding.ui.keeper.has_gpu", lambda: True)
    monkeypatch.setattr("grounding.ui.keeper.advance", lambda workspace: None)


def keeper_on(device: str) -> tuple[Keeper, Models]:
    workspace = Workspace(Path(find_workspace().root))
    workspace.check_writable()
    models = Models(device)
    return Keeper(workspace, models), models  # type: ignore[arg-type]


def holders(keeper: Keeper) -> int:
    from grounding.database import reading

    with reading(keeper.store.path) as connection:
        return int(connection.execute("SELECT count(*) FROM device_holders").fetchone()[0])


def add_run(keeper: Keeper) -> RunRecord:
    return keeper.store.add(name="mugs", model_id="demo", quantize="none", snapshot="/s", settings={})


def test_on_a_gpu_the_model_gives_way_and_comes_back(gpu: None) -> None:
    keeper, models = keeper_on("cuda")
    keeper.look()
    assert models.calls == ["start"] and holders(keeper) == 1
    run = add_run(keeper)
    keeper.look()
    assert models.calls == ["start"] and holders(keeper) == 1, "what loads can't be broken off: the run waits"
    models.phase = Phase.READY
    keeper.look()
    assert models.calls == ["start", "unload"] and holders(keeper) == 0
    keeper.store.finish(run.id, RunState.DONE, "")
    keeper.store.enqueue(name="next", model_id="demo", quantize="none", snapshot="/s", settings={})
    keeper.look()
    assert "start" not in models.calls[2:], "the next run is about to begin"
    keeper.queue.pause()
    keeper.look()
    assert models.calls[-1] == "start" and holders(keeper) == 1


def real_service_on_a_gpu() -> tuple[Keeper, ModelService]:
    """Loaded there, and asked for once."""
    workspace = find_workspace()
    workspace.check_writable()
    models = ModelService("demo", "none", workspace, load=lambda: SimpleNamespace(device="cuda:0", load_notes=()))  # type: ignore[arg-type, return-value]
    keeper = Keeper(workspace, models)
    keeper.look()
    models.predictor(10)
    return keeper, models


def test_a_gpu_that_is_lent_within_the_app_stays_lent(gpu: None) -> None:
    """While a merge or the check before training computes there, the model does not come back, and a run waits."""
    keeper, models = real_service_on_a_gpu()
    with models.lent("the merging of an adapter"):
        keeper.look()
        assert models.state.phase is Phase.UNLOADED and "the merging of an adapter" in models.state.sentence
        run = add_run(keeper)
        keeper.look()
        assert holders(keeper) == 1, "the worker is to wait"
    keeper.look()
    assert holders(keeper) == 0 and models.state.phase is Phase.UNLOADED, "the run's turn"
    keeper.store.finish(run.id, RunState.DONE, "")
    keeper.look()
    models.predictor(10)
    assert models.state.phase is Phase.READY


def test_an_app_that_starts_beside_a_run_does_not_load(gpu: None) -> None:
    keeper, models = keeper_on("cuda")
    run = add_run(keeper)
    keeper.look()
    assert "start" not in models.calls and holders(keeper) == 0
    keeper.store.finish(run.id, RunState.FAILED, "")
    keeper.look()
    assert models.calls[-1] == "start", "and loads when the run has ended"


def test_on_a_cpu_both_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grounding.ui.keeper.has_gpu", lambda: False)
    monkeypatch.setattr("grounding.ui.keeper.advance", lambda workspace: None)
    keeper, models = keeper_on("cpu")
    add_run(keeper)
    keeper.look()
    assert models.calls == ["start"]
    models.phase = Phase.READY
    keeper.look()
    assert models.calls == ["start"] and holders(keeper) == 0


def test_a_model_that_could_not_load_holds_nothing(gpu: None) -> None:
    keeper, models = keeper_on("cuda")
    keeper.look()
    models.phase = Phase.FAILED
    keeper.look()
    assert holders(keeper) == 0


def test_a_real_service_is_kept(gpu: None) -> None:
    keeper, models = real_service_on_a_gpu()
    add_run(keeper)
    keeper.look()
    assert models.state.phase is Phase.UNLOADED and "lent to a training run" in models.state.sentence
