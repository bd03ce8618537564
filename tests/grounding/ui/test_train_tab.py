"""What the Train tab does on each event, without a browser and without a worker."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from grounding.adapters import AdapterInfo
from grounding.boxes import Box
from grounding.errors import SnapshotError
from grounding.jobs import launch
from grounding.jobs.launch import RunRequest
from grounding.jobs.store import RunRecord, RunState
from grounding.records import Sample
from grounding.training.events import StepEvent
from grounding.training.settings import TrainSettings
from grounding.ui import train_handlers
from grounding.ui.model_service import ModelService
from grounding.ui.ready_view import ready_html
from grounding.ui.train_form import Widgets
from grounding.ui.train_handlers import Handlers
from grounding.ui.train_parts import TrainParts
from grounding.ui.train_values import as_typed
from grounding.ui.wording import setting_label
from grounding.workspace import Workspace, find_workspace


@dataclass(frozen=True)
class Counted:
    train_ready: int = 6
    train_total: int = 8
    placeholders: int = 1
    flagged: int = 1
    val: int = 2
    val_boxed: int = 2


class FakeCuration:
    def __init__(self) -> None:
        self.frozen: list[str] = []
        self.counts = Counted()
        self.left_out: dict[str, int] = {}
        self.samples: list[Sample] = []
        self.with_placeholders: list[bool] = []

    def ready(self) -> Counted:
        return self.counts

    def version(self) -> str:
        return repr(self.counts)

    def would_be_frozen(self) -> tuple[list[Sample], dict[str, int]]:
        return self.samples, self.left_out

    def freeze(self, name: str, *, placeholders: bool = False) -> str:
        if not self.counts.train_ready:
            raise SnapshotError("nothing to train on: write phrases in Annotate")
        self.frozen.append(name)
        self.with_placeholders.append(placeholders)
        return name


FORCED: list[bool] = []


def drawn(folder: Path) -> list[Sample]:
    """A train and a validation sample that nothing is wrong with."""
    samples = []
    for split, colour, width in (("train", "teal", 60), ("val", "navy", 70)):
        Image.new("RGB", (width, 50), colour).save(folder / f"{split}.png")
        samples.append(Sample(split, folder / f"{split}.png", f"the {colour} mug", (Box(5, 5, 40, 40),), split))
    return samples


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[RunRequest]:
    """Runs that were asked for; each is recorded as running in the real store, with no worker behind it."""
    requests: list[RunRequest] = []
    forced = FORCED
    forced.clear()

    def start(workspace: Workspace, request: RunRequest, *, force: bool = False) -> RunRecord:
        requests.append(request)
        forced.append(force)
        store = train_handlers.RunStore(workspace.runs_db)
        return store.add(
            name=request.name,
            model_id=request.model_id,
            quantize=request.quantize,
            snapshot=request.snapshot,
            settings=request.settings.to_json(),
        )

    def queue(workspace: Workspace, request: RunRequest, *, force: bool = False) -> RunRecord:
        requests.append(request)
        return train_handlers.RunStore(workspace.runs_db).enqueue(
            name=request.name,
            model_id=request.model_id,
            quantize=request.quantize,
            snapshot=request.snapshot,
            settings=request.settings.to_json(),
        )

    monkeypatch.setattr(train_handlers, "start_run", start)
    monkeypatch.setattr(train_handlers, "queue_run", queue)
    return requests


@pytest.fixture
def handlers() -> Handlers:
    workspace = find_workspace()
    workspace.check_writable()
    models = ModelService("demo", "none", workspace, load=lambda: SimpleNamespace(device="cpu"))  # type: ignore[arg-type, return-value]
    # The handlers use the widgets as keys only.
    parts: dict[str, Any] = {part.name: part.name for part in fields(Widgets)}
    settings = {spec.name: f"set-{spec.name}" for spec in fields(TrainSettings)}
    curation = FakeCuration()
    curation.samples = drawn(workspace.root)
    return Handlers(TrainParts(workspace, models, curation), Widgets(**parts | {"settings": settings}))


def values(handlers: Handlers, name: str, **settings: Any) -> dict[Any, Any]:
    """What the page sends: the name and one value per setting."""
    preset = {key: getattr(TrainSettings(), key) for key in handlers.widgets.settings}
    typed = {key: value if isinstance(value, bool) else as_typed(value) for key, value in preset.items()} | settings
    return {handlers.widgets.name: name} | {handlers.widgets.settings[key]: value for key, value in typed.items()}


def name_shown(shown: tuple[Any, ...]) -> str:
    return str(shown[-1]).split("\n")[1]


def keeps_the_name(shown: tuple[Any, ...]) -> bool:
    """What a person is typing is not sent back over it."""
    return bool(shown[-1] == gr.skip())


def test_start_freezes_and_trains_with_the_values_on_the_page(handlers: Handlers, started: list[RunRequest]) -> None:
    handlers.start(values(handlers, "mugs", steps="7", learning_rate="2e-3", augment=False))
    assert handlers.parts.curation.frozen == ["mugs"]  # type: ignore[attr-defined]
    (request,) = started
    assert (request.name, request.snapshot, request.model_id) == ("mugs", "mugs", "demo")
    assert request.settings == TrainSettings(steps=7, learning_rate=2e-3, augment=False)


def test_the_page_unchanged_asks_for_the_defaults(handlers: Handlers, started: list[RunRequest]) -> None:
    handlers.start(values(handlers, "mugs"))
    assert started[0].settings == TrainSettings()


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("mugs", {"steps": "many"}, "steps='many'"),
        ("mugs", {"lora_rank": "0"}, "lora_rank=0"),
        ("../mugs", {}, "can't name an adapter"),
        ("", {}, "can't name an adapter"),
    ],
)
def test_bad_values_are_a_sentence_and_freeze_nothing(
    handlers: Handlers, started: list[RunRequest], name: str, settings: dict[str, str], sentence: str
) -> None:
    with pytest.raises(gr.Error) as error:
        handlers.start(values(handlers, name, **settings))
    assert sentence in str(error.value.message).replace("&#x27;", "'")
    assert not started
    assert not handlers.parts.curation.frozen  # type: ignore[attr-defined]


def test_nothing_to_learn_is_a_sentence(handlers: Handlers, started: list[RunRequest]) -> None:
    handlers.parts.curation.samples = []  # type: ignore[attr-defined]
    with pytest.raises(gr.Error, match="nothing can be learned"):
        handlers.start(values(handlers, "mugs"))
    assert not started
    assert not handlers.parts.curation.frozen  # type: ignore[attr-defined]


def test_placeholders_only_are_refused_and_can_be_forced(handlers: Handlers, started: list[RunRequest]) -> None:
    curation: Any = handlers.parts.curation
    curation.samples, curation.left_out = curation.samples[1:], {"placeholder": 7}
    with pytest.raises(gr.Error, match=r"All 7 train samples have a placeholder.*names no object.*Train anyway"):
        handlers.start(values(handlers, "mugs"))
    assert not started and not curation.frozen
    handlers.start_anyway(values(handlers, "mugs"))
    assert len(started) == 1
    assert (curation.with_placeholders, FORCED) == ([True], [True])


def test_a_blocking_row_is_refused_and_forced_without_placeholders(
    handlers: Handlers, started: list[RunRequest]
) -> None:
    curation: Any = handlers.parts.curation
    curation.samples += [replace(curation.samples[0], id="again")]
    with pytest.raises(gr.Error, match="count twice"):
        handlers.start(values(handlers, "mugs"))
    assert not started
    handlers.start_anyway(values(handlers, "mugs"))
    assert (curation.with_placeholders, FORCED) == ([False], [True])


def test_a_sound_start_is_not_forced(handlers: Handlers, started: list[RunRequest]) -> None:
    handlers.start(values(handlers, "mugs"))
    assert FORCED == [False]


def test_a_second_run_waits_for_the_first(handlers: Handlers, started: list[RunRequest]) -> None:
    assert handlers.open(None)[2].value == "Train"
    shown = handlers.start(values(handlers, "mugs"))
    assert shown[2].value == "Add to the queue"
    handlers.start(values(handlers, "cups"))
    assert handlers.parts.curation.frozen == ["mugs", "cups"]  # type: ignore[attr-defined]
    assert [(run.name, run.state) for run in reversed(handlers.store.list())] == [
        ("mugs", RunState.STARTING),
        ("cups", RunState.QUEUED),
    ]
    assert "mugs" in shown[1], "the run that goes on is the one that is shown"


@pytest.mark.parametrize("name", ["mugs", "cups"])
def test_a_name_on_its_way_is_refused_before_anything_is_frozen(
    handlers: Handlers, started: list[RunRequest], name: str
) -> None:
    handlers.start(values(handlers, "mugs"))
    handlers.start(values(handlers, "cups"))
    with pytest.raises(gr.Error, match="waits or goes on already"):
        handlers.start(values(handlers, name))
    assert handlers.parts.curation.frozen == ["mugs", "cups"]  # type: ignore[attr-defined]


def test_a_tick_sends_nothing_until_something_changes(handlers: Handlers, started: list[RunRequest]) -> None:
    shown = handlers.open(None)
    fingerprint = shown[-2]
    assert all(isinstance(part, dict) and part["__type__"] == "update" for part in handlers.tick(fingerprint, "a"))
    handlers.parts.curation.counts = Counted(train_ready=7)  # type: ignore[attr-defined]
    assert "<b>7</b> of 8" in handlers.tick(fingerprint, "a")[0]


def test_progress_is_drawn_without_an_event(handlers: Handlers, started: list[RunRequest]) -> None:
    assert handlers.live("", "").html is None, "no run is on the page"
    handlers.start(values(handlers, "mugs"))
    run = handlers.store.list(1)[0]
    mark, first = handlers.mark(run.id), handlers.live(run.id, "")
    assert first.html is not None and f'data-run="{run.id}"' in first.html
    assert handlers.live(run.id, first.key).html is None, "the page has it"
    handlers.store.tell(run.id, StepEvent(3, 8, 0.5, 1e-3, 24, 1.5))
    assert "Step 3 of 8" in (handlers.live(run.id, first.key).html or "")
    assert handlers.mark(run.id) == mark, "a step is no event"
    handlers.store.finish(run.id, RunState.DONE, "So it ended.")
    assert handlers.mark(run.id) != mark


def test_the_name_moves_on_when_a_run_has_it(handlers: Handlers, started: list[RunRequest]) -> None:
    assert name_shown(handlers.open(None)) == "adapter-1"
    assert name_shown(handlers.start(values(handlers, "adapter-1"))) == "adapter-2"
    handlers.store.finish(started and handlers.store.list(1)[0].id, RunState.DONE, "done")
    assert name_shown(handlers.open("adapter-1")) == "adapter-2"
    assert keeps_the_name(handlers.open("my own"))


def test_stop_asks_the_worker_and_says_so(handlers: Handlers, started: list[RunRequest]) -> None:
    handlers.start(values(handlers, "mugs"))
    on_page = handlers.open("mugs")[8]
    assert "Stopping after this step" in handlers.stop(on_page, "mugs")[1]
    assert handlers.store.list(1)[0].stop_requested


def test_stop_does_not_reach_the_run_after_the_one_on_the_page(handlers: Handlers, started: list[RunRequest]) -> None:
    handlers.start(values(handlers, "mugs"))
    on_page = handlers.open("cups")[8]
    handlers.store.finish(handlers.store.list(1)[0].id, RunState.DONE, "So it ended.")
    now_on_page = handlers.start(values(handlers, "cups"))[8]
    with pytest.raises(gr.Error, match=r"had just ended by itself, and .*cups.* goes on"):
        handlers.stop(on_page, "cups")
    assert not handlers.store.list(1)[0].stop_requested
    handlers.stop(now_on_page, "cups")
    assert handlers.store.list(1)[0].stop_requested


def pressed(run_id: str) -> Any:
    return SimpleNamespace(run=run_id)


def test_an_earlier_run_is_looked_at_until_another_one_is_asked_for(
    handlers: Handlers, started: list[RunRequest]
) -> None:
    handlers.start(values(handlers, "mugs"))
    first = handlers.store.list(1)[0]
    handlers.store.finish(first.id, RunState.DONE, "So it ended.")
    handlers.start(values(handlers, "cups"))
    shown = handlers.look(pressed(first.id), "a")
    assert "So it ended." in shown[1] and "cups" not in shown[1]
    assert shown[3].visible, "the run that goes on can be stopped from here too"
    assert (shown[5].visible, shown[6]) == (True, first.id)
    assert handlers.tick(shown[-2], "a", first.id)[1] == gr.skip(), "nothing is new"
    handlers.stop(shown[-2], "a", first.id)
    again = handlers.tick(shown[-2], "a", first.id)
    assert "So it ended." in again[1] and not again[3].interactive and again[6] == first.id
    newest = handlers.back("a")
    assert "cups" in newest[1] and (newest[5].visible, newest[6]) == (False, "")
    handlers.queue.remove(first.id)
    assert "cups" in handlers.tick(shown[-2], "a", first.id)[1], "what is gone gives way"
    assert "cups" in handlers.look(pressed("no-such-run"), "a")[1]


def test_a_failed_run_is_resumed_where_it_is_shown(
    handlers: Handlers, started: list[RunRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "advance", lambda workspace: None)
    with pytest.raises(gr.Error, match="no run to resume"):
        handlers.resume("a")
    assert not handlers.start(values(handlers, "mugs"))[7].visible, "it goes on"
    run = handlers.store.list(1)[0]
    handlers.store.finish(run.id, RunState.FAILED, "Press Resume to go on.")
    assert handlers.open("a")[7].visible
    assert not handlers.resume("a")[7].visible
    assert handlers.store.get(run.id).state is RunState.QUEUED


def test_an_adapter_that_is_gone_is_not_offered(handlers: Handlers, started: list[RunRequest]) -> None:
    handlers.start(values(handlers, "mugs"))
    run = handlers.store.list(1)[0]
    handlers.store.finish(run.id, RunState.DONE, "")
    folder = handlers.parts.workspace.adapters / "mugs"
    folder.mkdir(parents=True)
    info = AdapterInfo("mugs", folder, "demo", "fake", "2026-01-01T00:00:00+00:00", run_id=run.id)
    info.save()
    shown = handlers.open("a")
    assert shown[4].visible
    shutil.rmtree(folder)
    shown = handlers.tick(shown[-2], "a")
    assert not shown[4].visible, "the page notices by itself"
    folder.mkdir()
    replace(info, path=folder, run_id="another").save()
    assert not handlers.open("a")[4].visible, "an adapter of the same name that another run made"


def test_one_of_anything_is_written_so() -> None:
    html = ready_html(Counted(train_ready=1, train_total=1, placeholders=1, flagged=1, val=1, val_boxed=1))
    for text in (
        "<b>1</b> of 1 train sample has a phrase",
        "<b>1</b> still has a placeholder: fill or write it",
        "<b>1</b> is flagged",
        "<b>1</b> validation sample<",
    ):
        assert text in html
    assert [setting_label(name) for name in ("lora_rslora", "giou_weight", "lora_rank", "steps")] == [
        *("rsLoRA", "GIoU weight", "LoRA rank", "Steps"),
    ]


def test_show_in_compare_without_an_adapter_is_a_sentence(handlers: Handlers) -> None:
    with pytest.raises(gr.Error, match="no adapter in this workspace yet"):
        handlers.show_in_compare()


def test_what_it_learns_from_names_what_stands_in_the_way() -> None:
    html = ready_html(Counted(train_ready=1234, train_total=2000, placeholders=700, flagged=66))
    assert "<b>1,234</b> of 2,000" in html
    assert "<b>700</b> still have a placeholder" in html
    assert "<b>66</b> are flagged" in html
    assert "placeholder" not in ready_html(Counted(placeholders=0))


def test_what_is_scored_agrees_with_the_chart_of_a_run() -> None:
    """The figures of boxes are over the samples with one; "nothing there" is counted apart."""
    assert "scored on <b>100</b> validation samples, <b>96</b> of them with a box" in ready_html(
        Counted(val=100, val_boxed=96)
    )
    assert "of them" not in ready_html(Counted(val=100, val_boxed=100))
    assert "nothing to score on" in ready_html(Counted(val=0, val_boxed=0))
