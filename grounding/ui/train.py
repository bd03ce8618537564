"""The Train tab: one button from curated phrases to an adapter in Compare. Widgets and wiring only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import gradio as gr

from grounding.adapters import AdapterRegistry
from grounding.errors import AdapterError, ModelError
from grounding.jobs.launch import RunRequest, check_free_name, end_lost_run, queue_run, start_run, stop_run
from grounding.jobs.queue import RunQueue
from grounding.jobs.store import RunStore
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
from grounding.workspace import Workspace

_FREE: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}
_POLL_SECONDS = 1.5


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
    """The tab's controls. `settings` holds one input per field of `TrainSettings`."""

    ready: gr.HTML
    name: gr.Textbox
    start: gr.Button
    stop: gr.Button
    compare: gr.Button
    view: gr.HTML
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
    shown = [w.ready, w.view, w.start, w.stop, w.compare, w.shown, w.name]
    gr.on([demo.load, tab.select], handlers.open, w.name, shown, **_FREE)
    w.timer.tick(handlers.tick, [w.shown, w.name], shown, **_FREE)
    # "once": a second press while the first is under way is the same wish, not a second run.
    w.start.click(handlers.start, {w.name, *w.settings.values()}, shown, trigger_mode="once", **_FREE)
    w.preflight.force.click(handlers.start_anyway, {w.name, *w.settings.values()}, shown, trigger_mode="once", **_FREE)
    build_preflight(demo, tab, handlers.desk, w.preflight, set(w.settings.values()), handlers.settings)
    w.stop.click(handlers.stop, w.name, shown, **_FREE)
    build_preview(
        tab, w.preview, parts.curation, parts.workspace.snapshots, set(w.settings.values()), handlers.settings
    )
    with widgets.right:
        build_gallery(
            demo, tab, GalleryParts(parts.workspace, lambda: parts.models.model), tabs, adapter_choice, w.view
        )
    widgets.compare.click(handlers.show_in_compare, None, [tabs, adapter_choice], **_FREE)
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
            ready = gr.HTML(elem_id="train-ready", apply_default_css=False)
            bar, says, new_name, save, cancel = lay_out_bar()
            name = gr.Textbox(label="Name of the adapter", max_length=64, max_lines=1, elem_id="train-name")
            start = gr.Button("Train", variant="primary", size="lg", elem_id="train-start")
            stop = gr.Button("Stop and keep what is learned", visible=False, elem_id="train-stop")
            compare = gr.Button("Show in Compare", visible=False, elem_id="train-compare")
            presets = lay_out_presets(model_id)
            accordion = gr.Accordion("Settings", open=False, elem_id="train-settings")
            with accordion:
                settings = _lay_out_settings(preset)
            connect_presets(presets, settings)
        with gr.Column(scale=1, min_width=420, elem_id="train-right") as right:
            preflight = lay_out_preflight()
            view = gr.HTML(elem_id="train-run", apply_default_css=False)
            preview = lay_out_preview(preset.steps)
            panel, log = lay_out_panel()
            sweeps = lay_out_sweeps(preset)
    queue = QueueWidgets(panel, log, bar, says, new_name, save, cancel, gr.State(None), gr.State(""))
    timer = gr.Timer(_POLL_SECONDS, active=True)
    return Widgets(
        *(ready, name, start, stop, compare, view, queue, accordion, gr.State(""), timer, settings),
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
    label = spec.name.replace("_", " ").capitalize().replace("Lora", "LoRA")
    options: dict[str, Any] = {"label": label, "info": spec.metadata["meaning"], "elem_id": f"train-set-{spec.name}"}
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
    def open(self, name: str | None) -> tuple[Any, ...]:
        return self._show(name)

    @tell
    def tick(self, shown: str, name: str | None) -> tuple[Any, ...]:
        """The page as it should be now; nothing is sent when it is so already."""
        end_lost_run(self.store)
        if self._fingerprint() == shown:
            return (gr.skip(),) * 7
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
    def stop(self, name: str | None) -> tuple[Any, ...]:
        run = self.store.active()
        if run is not None:
            stop_run(self.parts.workspace, run.id)
        return self._show(name)

    @tell
    def show_in_compare(self) -> tuple[Any, Any]:
        """Switch to Compare with the newest run's adapter chosen. Raises `AdapterError` when there is none."""
        known = AdapterRegistry(self.parts.workspace.adapters).list()
        names = [info.name for info in known if info.base == self.parts.models.model]
        newest = self.store.shown()
        if not names:
            raise AdapterError("There is no adapter in this workspace yet. Press Train to make one.")
        chosen = newest.name if newest is not None and newest.name in names else names[0]
        choices = [(name, name) for name in names] + [("Base only", "")]
        return gr.Tabs(selected="compare"), gr.Dropdown(choices=choices, value=chosen)

    def _show(self, name: str | None) -> tuple[Any, ...]:
        """Everything on the tab. A name that a run has used gives way to the next free one."""
        end_lost_run(self.store)
        shown = self.store.shown()
        progress = self.store.progress(shown.id) if shown else None
        active = shown is not None and shown.state.active
        ended_well = shown is not None and (self.parts.workspace.adapters / shown.name / "adapter.json").exists()
        return (
            ready_html(self.parts.curation.ready()),
            run_html(shown, progress),
            gr.Button(value="Add to the queue" if self._must_wait() else "Train"),
            gr.Button(visible=active, interactive=active and not (shown and shown.stop_requested)),
            gr.Button(visible=not active and ended_well),
            self._fingerprint(),
            gr.skip() if name and name not in self._taken() else self._free_name(),
        )

    def _must_wait(self) -> bool:
        """Whether a run that is asked for now has others before it."""
        return self.store.active() is not None or bool(self.queue.waiting())

    def _fingerprint(self) -> str:
        """Changes whenever the tab would look different."""
        newest = self.store.shown()
        ready = self.parts.curation.ready()
        if newest is None:
            return f"none {ready}"
        asked = f"{newest.stop_requested} {newest.discard_requested} {self._must_wait()}"
        return f"{newest.id} {newest.state} {newest.heartbeat_at} {asked} {ready}"

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
        left_out.append(f"<b>{ready.placeholders:,}</b> still have a placeholder: fill or write them in Annotate")
    if ready.flagged:
        left_out.append(f"<b>{ready.flagged:,}</b> are flagged")
    listed = "".join(f"<li>{text}</li>" for text in left_out)
    return (
        '<section class="bw-ready"><h3>What it learns from</h3>'
        f"<p><b>{ready.train_ready:,}</b> of {ready.train_total:,} train samples have a phrase to learn from</p>"
        f'<div class="bw-bar"><i style="width:{100 * share:.1f}%"></i></div>'
        f"<ul>{listed}<li>scored on <b>{ready.val:,}</b> validation samples</li></ul></section>"
    )
