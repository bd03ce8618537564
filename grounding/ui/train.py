"""The Train tab: one button from curated phrases to an adapter in Compare. Widgets and wiring only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import gradio as gr

from grounding.adapters import AdapterRegistry
from grounding.errors import AdapterError, JobError, ModelError
from grounding.jobs.launch import (
    RunRequest,
    check_free_name,
    end_lost_run,
    queue_run,
    resume_run,
    start_run,
    stop_run,
)
from grounding.jobs.queue import RunQueue
from grounding.jobs.store import RunRecord, RunStore
from grounding.models import training_settings
from grounding.records import Sample
from grounding.training.presets import keep_choice
from grounding.training.settings import TrainSettings
from grounding.ui.events import tell
from grounding.ui.model_service import ModelService
from grounding.ui.preflight_desk import PreflightDesk
from grounding.ui.run_view import run_html
from grounding.ui.train_adapters import build_adapters
from grounding.ui.train_gallery import GalleryParts, build_gallery
from grounding.ui.train_preflight import PreflightWidgets, build_preflight, lay_out_preflight
from grounding.ui.train_presets import connect_presets, lay_out_presets
from grounding.ui.train_preview import PreviewWidgets, build_preview, lay_out_preview
from grounding.ui.train_queue import QueueForm, QueueWidgets, build_queue, lay_out_bar, lay_out_panel
from grounding.ui.train_sweeps import SweepParts, SweepWidgets, build_sweeps, lay_out_sweeps
from grounding.ui.train_values import GROUPS, as_typed
from grounding.ui.wording import count_of, setting_label
from grounding.workspace import Workspace

_FREE: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}
_POLL_SECONDS = 1.5
# Until the counts are there, in the place that they take: nothing jumps when they come.
_COUNTING = '<section class="bw-ready"><h3>What it learns from</h3><p>Counting the phrases…</p></section>'
# An answer of the server may come after a person has begun to type the next name: what was typed then stays.
_TAKE_SUGGESTION = """(suggestion, name) => {
  const [instead_of, free] = suggestion.split('\\n');
  return free && (name ?? '') === instead_of ? free : name;
}"""


class Ready(Protocol):
    """How much of the data can be learned from now. Counts of samples."""

    @property
    def train_ready(self) -> int: ...
    @property
    def train_total(self) -> int: ...
    @property
    def placeholders(self) -> int: ...
    @property
    def flagged(self) -> int: ...
    @property
    def val(self) -> int: ...


class Curation(Protocol):
    """The curated set: how much of it is ready, and how it is frozen."""

    def ready(self) -> Ready:
        """Counts as they stand now."""

    def version(self) -> str:
        """Another text whenever a sample has changed."""

    def would_be_frozen(self) -> tuple[list[Sample], dict[str, int]]:
        """(samples that a snapshot made now would hold, train samples left out for each reason)."""

    def freeze(self, name: str, *, placeholders: bool = False) -> str:
        """Freeze the usable samples under a name like this one; returns the snapshot's name. `placeholders`: those
        too, for a run that is forced."""


@dataclass(frozen=True)
class TrainParts:
    """What the tab is built on."""

    workspace: Workspace
    models: ModelService
    curation: Curation


@dataclass(frozen=True)
class Widgets:
    """The tab's controls. `settings` holds one input per field of `TrainSettings`. `looked_at` is the id of an earlier
    run that this page looks at, "" for the newest; `back` leads from it to the newest. `suggestion` is a name that a
    run has used and a free one to take its place."""

    ready: gr.HTML
    name: gr.Textbox
    suggestion: gr.Textbox
    start: gr.Button
    stop: gr.Button
    resume: gr.Button
    compare: gr.Button
    view: gr.HTML
    back: gr.Button
    looked_at: gr.State
    queue: QueueWidgets
    accordion: gr.Accordion
    shown: gr.State
    timer: gr.Timer
    settings: Mapping[str, Any]
    preflight: PreflightWidgets
    preview: PreviewWidgets
    sweeps: SweepWidgets
    right: gr.Column


def build_train(demo: gr.Blocks, tab: gr.Tab, parts: TrainParts, tabs: gr.Tabs, adapter_choice: gr.Dropdown) -> Widgets:
    """Lay out the tab and connect it. `tabs` and `adapter_choice` are where "Show in Compare" leads."""
    widgets = _lay_out(_preset(parts.models.model), parts.models.model)
    handlers = Handlers(parts, widgets)
    w = widgets
    shown = [w.ready, w.view, w.start, w.stop, w.compare, w.back, w.looked_at, w.resume, w.shown, w.suggestion]
    gr.on([demo.load, tab.select], handlers.open, [w.name, w.looked_at], shown, **_FREE)
    w.timer.tick(handlers.tick, [w.shown, w.name, w.looked_at], shown, **_FREE)
    looks: Any = w.queue.panel  # gradio finds out about events of an HTML component's own script when they are named
    looks.look(handlers.look, w.name, shown, **_FREE)
    w.back.click(handlers.back, w.name, shown, **_FREE)
    w.suggestion.change(None, [w.suggestion, w.name], w.name, js=_TAKE_SUGGESTION, **_FREE)
    # "once": a second press while the first is under way is the same wish, not a second run.
    w.start.click(handlers.start, {w.name, *w.settings.values()}, shown, trigger_mode="once", **_FREE)
    w.preflight.force.click(handlers.start_anyway, {w.name, *w.settings.values()}, shown, trigger_mode="once", **_FREE)
    build_preflight(demo, tab, handlers.desk, w.preflight, set(w.settings.values()), handlers.settings)
    w.stop.click(handlers.stop, [w.name, w.looked_at], shown, **_FREE)
    w.resume.click(handlers.resume, [w.name, w.looked_at], shown, trigger_mode="once", **_FREE)
    build_preview(
        tab, w.preview, parts.curation, parts.workspace.snapshots, set(w.settings.values()), handlers.settings
    )
    with widgets.right:
        build_gallery(
            demo,
            tab,
            GalleryParts(parts.workspace, lambda: parts.models.model),
            tabs,
            adapter_choice,
            w.view,
            w.looked_at,
        )
    widgets.compare.click(handlers.show_in_compare, w.looked_at, [tabs, adapter_choice], **_FREE)
    build_queue(demo, tab, parts.workspace, w.timer, w.queue, QueueForm(w.name, w.start, w.accordion, w.settings))
    sweep_parts = SweepParts(parts.workspace, parts.models, parts.curation)
    build_sweeps(demo, tab, sweep_parts, w.sweeps, (handlers, w.settings), (w.timer, w.shown))
    build_adapters(demo, tab, parts, w.shown, tabs, adapter_choice)
    return widgets


def _preset(model_id: str) -> TrainSettings:
    """The model's preset; the plain defaults when it can't be read, which the status chip then explains."""
    try:
        return training_settings(model_id, {})
    except ModelError:
        return TrainSettings()


def _lay_out(preset: TrainSettings, model_id: str) -> Widgets:
    with gr.Row(elem_id="train", equal_height=False):
        with gr.Column(scale=0, min_width=316, elem_id="train-left"):
            ready = gr.HTML(_COUNTING, elem_id="train-ready", apply_default_css=False)
            bar, says, new_name, save, cancel = lay_out_bar()
            name = gr.Textbox(label="Name of the adapter", max_length=64, max_lines=1, elem_id="train-name")
            suggestion = gr.Textbox(visible="hidden", elem_id="train-suggestion")
            start = gr.Button("Train", variant="primary", size="lg", elem_id="train-start")
            stop = gr.Button("Stop and keep what is learned", visible=False, elem_id="train-stop")
            resume = gr.Button("Resume", visible=False, elem_id="train-resume")
            compare = gr.Button("Show in Compare", visible=False, elem_id="train-compare")
            presets = lay_out_presets(model_id)
            accordion = gr.Accordion("Settings", open=False, elem_id="train-settings")
            with accordion:
                settings = _lay_out_settings(preset)
            connect_presets(presets, settings)
        with gr.Column(scale=1, min_width=420, elem_id="train-right") as right:
            preflight = lay_out_preflight()
            view = gr.HTML(elem_id="train-run", apply_default_css=False)
            back = gr.Button("Back to the newest run", size="sm", visible=False, elem_id="train-back")
            preview = lay_out_preview(preset.steps)
            panel, log = lay_out_panel()
            sweeps = lay_out_sweeps(preset)
    queue = QueueWidgets(panel, log, bar, says, new_name, save, cancel, gr.State(None), gr.State(""))
    timer = gr.Timer(_POLL_SECONDS, active=True)
    return Widgets(
        *(ready, name, suggestion, start, stop, resume, compare, view, back),
        looked_at=gr.State(""),
        queue=queue,
        accordion=accordion,
        shown=gr.State(""),
        timer=timer,
        settings=settings,
        preflight=preflight,
        preview=preview,
        sweeps=sweeps,
        right=right,
    )


def _lay_out_settings(preset: TrainSettings) -> dict[str, Any]:
    """An input for each setting, in groups that open."""
    specs = {spec.name: spec for spec in dataclasses.fields(TrainSettings)}
    inputs: dict[str, Any] = {}
    for number, (title, names) in enumerate(GROUPS.items()):
        with gr.Accordion(title, open=number == 0, elem_classes="train-group"), gr.Row(elem_classes="train-values"):
            inputs |= {name: _input(specs[name], preset) for name in names}
    return {name: inputs[name] for name in specs}


def _input(spec: dataclasses.Field[Any], preset: TrainSettings) -> Any:
    """The control for one setting, made from its definition."""
    value = getattr(preset, spec.name)
    options: dict[str, Any] = {
        "label": setting_label(spec.name),
        "info": spec.metadata["meaning"],
        "elem_id": f"train-set-{spec.name}",
    }
    options["min_width"] = 118
    if isinstance(value, bool):
        return gr.Checkbox(value, **options)
    if spec.metadata["choices"]:
        return gr.Dropdown(list(spec.metadata["choices"]), value=value, **options)
    return gr.Textbox(as_typed(value), max_lines=1, **options)


class Handlers:
    """What happens on each event: checks what the client sent, calls the jobs, and fills the widgets."""

    def __init__(self, parts: TrainParts, widgets: Widgets) -> None:
        self.parts = parts
        self.widgets = widgets
        self.store = RunStore(parts.workspace.runs_db)
        self.queue = RunQueue(self.store)
        self.desk = PreflightDesk(parts.workspace, parts.models, parts.curation)

    @tell
    def open(self, name: str | None, looked_at: str = "") -> tuple[Any, ...]:
        return self._show(name, looked_at)

    @tell
    def tick(self, shown: str, name: str | None, looked_at: str = "") -> tuple[Any, ...]:
        """The page as it should be now; nothing is sent when it is so already."""
        end_lost_run(self.store)
        if self._fingerprint(*self._looked_up(looked_at)) == shown:
            return (gr.skip(),) * 10
        return self._show(name, looked_at)

    @tell
    def look(self, event: gr.EventData, name: str | None) -> tuple[Any, ...]:
        """Look at one run of the list: its curves, figures and gallery."""
        return self._show(name, str(getattr(event, "run", ""))[:200])

    @tell
    def back(self, name: str | None) -> tuple[Any, ...]:
        return self._show(name)

    @tell
    def start(self, values: dict[Any, Any]) -> tuple[Any, ...]:
        """Freeze the phrases and start the worker, or queue the run where another is on its way."""
        return self._start(values, force=False)

    @tell
    def start_anyway(self, values: dict[Any, Any]) -> tuple[Any, ...]:
        """The same although the check says that it teaches nothing; the run keeps that it was forced."""
        return self._start(values, force=True)

    def settings(self, values: dict[Any, Any]) -> TrainSettings:
        """The settings on the page. Raises `SettingsError` for what is out of range."""
        typed = {key: values[component] for key, component in self.widgets.settings.items()}
        return training_settings(self.parts.models.model, typed)

    def _start(self, values: dict[Any, Any], *, force: bool) -> tuple[Any, ...]:
        parts, widgets = self.parts, self.widgets
        name = check_free_name(parts.workspace, str(values[widgets.name]).strip())
        settings = self.settings(values)
        end_lost_run(self.store)
        self.queue.check_name(name)
        checked = self.desk.clear(settings, force=force)
        # Placeholders come in only where there is nothing else, and a person asks for it all the same.
        snapshot = parts.curation.freeze(name, placeholders=force and not checked.counts["train"])
        request = RunRequest(name, snapshot, parts.models.model, settings, parts.models.quantize)
        begin = queue_run if self._must_wait() else start_run
        run = begin(parts.workspace, request, force=force)
        keep_choice(parts.workspace.runs / run.id, parts.models.model, settings)
        return self._show(name)

    @tell
    def stop(self, name: str | None, looked_at: str = "") -> tuple[Any, ...]:
        run = self.store.active()
        if run is not None:
            stop_run(self.parts.workspace, run.id)
        return self._show(name, looked_at)

    @tell
    def resume(self, name: str | None, looked_at: str = "") -> tuple[Any, ...]:
        """Queue the run on the page once more. Raises `JobError` when it can't be gone on with."""
        run, _ = self._looked_up(looked_at)
        if run is None:
            raise JobError("There is no run to resume. Press Train to begin one.")
        resume_run(self.parts.workspace, run.id)
        return self._show(name)

    @tell
    def show_in_compare(self, looked_at: str = "") -> tuple[Any, Any]:
        """Switch to Compare with the adapter of the run on the page. Raises `AdapterError` without any adapter."""
        registry = AdapterRegistry(self.parts.workspace.adapters)
        names = [info.name for info in registry.list() if info.base == self.parts.models.model]
        run, _ = self._looked_up(looked_at)
        own = registry.of_run(run.id, run.name) if run is not None else None
        if not names:
            raise AdapterError("There is no adapter in this workspace yet. Press Train to make one.")
        chosen = own.name if own is not None and own.name in names else names[0]
        choices = [(name, name) for name in names] + [("Base only", "")]
        return gr.Tabs(selected="compare"), gr.Dropdown(choices=choices, value=chosen)

    def _show(self, name: str | None, looked_at: str = "") -> tuple[Any, ...]:
        """Everything on the tab. For a name that a run has used, the next free one is suggested."""
        end_lost_run(self.store)
        shown, earlier = self._looked_up(looked_at)
        progress = self.store.progress(shown.id) if shown else None
        active = self.store.active()
        return (
            ready_html(self.parts.curation.ready()),
            run_html(shown, progress),
            gr.Button(value="Add to the queue" if self._must_wait() else "Train"),
            gr.Button(visible=active is not None, interactive=active is not None and not active.stop_requested),
            gr.Button(visible=active is None and self._left_an_adapter(shown)),
            gr.Button(visible=earlier),
            shown.id if earlier and shown is not None else "",
            gr.Button(visible=shown is not None and shown.state.resumable),
            self._fingerprint(shown, earlier),
            gr.skip() if name and name not in self._taken() else f"{name or ''}\n{self._free_name()}",
        )

    def _looked_up(self, looked_at: str) -> tuple[RunRecord | None, bool]:
        """(the run to show, whether it is another one than the newest). One that is gone gives way to the newest."""
        newest = self.store.shown()
        if newest is None or looked_at in ("", newest.id):
            return newest, False
        try:
            return self.store.get(looked_at), True
        except JobError:
            return newest, False

    def _left_an_adapter(self, run: RunRecord | None) -> bool:
        """Whether the run's own adapter stands, under whatever name."""
        if run is None or run.state.active:  # while it goes on nobody is led to what it left earlier
            return False
        return AdapterRegistry(self.parts.workspace.adapters).of_run(run.id, run.name) is not None

    def _must_wait(self) -> bool:
        """Whether a run that is asked for now has others before it."""
        return self.store.active() is not None or bool(self.queue.waiting())

    def _fingerprint(self, shown: RunRecord | None, earlier: bool) -> str:
        """Changes whenever the tab would look different."""
        ready = self.parts.curation.ready()
        if shown is None:
            return f"none {ready}"
        active = self.store.active()
        asked = f"{active.id} {active.stop_requested} {active.discard_requested}" if active is not None else "none"
        at = f"{shown.id} {shown.state} {shown.heartbeat_at} {shown.finished_at} {earlier}"
        return f"{at} {asked} {self._must_wait()} {self._left_an_adapter(shown)} {ready}"

    def _taken(self) -> set[str]:
        adapters = {path.name for path in self.parts.workspace.adapters.glob("*")}
        return adapters | self.queue.names()

    def _free_name(self) -> str:
        taken = self._taken()
        return next(name for name in (f"adapter-{number}" for number in range(1, 10_000)) if name not in taken)


def ready_html(ready: Ready) -> str:
    """What would be learned from, and what still stands in the way."""
    share = ready.train_ready / ready.train_total if ready.train_total else 0.0
    left_out = []
    if ready.placeholders:
        have, them = ("has", "it") if ready.placeholders == 1 else ("have", "them")
        left_out.append(f"<b>{ready.placeholders:,}</b> still {have} a placeholder: fill or write {them} in Annotate")
    if ready.flagged:
        left_out.append(f"<b>{ready.flagged:,}</b> {'is' if ready.flagged == 1 else 'are'} flagged")
    listed = "".join(f"<li>{text}</li>" for text in left_out)
    return (
        '<section class="bw-ready"><h3>What it learns from</h3>'
        f"<p><b>{ready.train_ready:,}</b> of {count_of(ready.train_total, 'train sample')} "
        f"{'has' if ready.train_ready == 1 else 'have'} a phrase to learn from</p>"
        f'<div class="bw-bar"><i style="width:{100 * share:.1f}%"></i></div>'
        f"<ul>{listed}<li>scored on <b>{ready.val:,}</b> validation sample{'' if ready.val == 1 else 's'}</li></ul>"
        "</section>"
    )
