"""The Train tab: one button from curated phrases to an adapter in Compare. Widgets and wiring only."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import gradio as gr

from grounding.adapters import AdapterRegistry
from grounding.errors import AdapterError, ModelError
from grounding.jobs.launch import RunRequest, check_free_name, end_lost_run, start_run, stop_run
from grounding.jobs.store import RunRecord, RunStore
from grounding.models import training_settings
from grounding.training.settings import TrainSettings
from grounding.ui.events import tell
from grounding.ui.model_service import ModelService
from grounding.ui.run_view import run_html, runs_html
from grounding.ui.train_gallery import GalleryParts, build_gallery
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

    def freeze(self, name: str) -> str:
        """Freeze the usable samples under a name like this one; returns the snapshot's name."""


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
    runs: gr.HTML
    shown: gr.State
    timer: gr.Timer
    settings: Mapping[str, Any]
    right: gr.Column


def build_train(demo: gr.Blocks, tab: gr.Tab, parts: TrainParts, tabs: gr.Tabs, adapter_choice: gr.Dropdown) -> Widgets:
    """Lay out the tab and connect it. `tabs` and `adapter_choice` are where "Show in Compare" leads."""
    widgets = _lay_out(_preset(parts.models.model))
    handlers = Handlers(parts, widgets)
    w = widgets
    shown = [w.ready, w.view, w.runs, w.start, w.stop, w.compare, w.shown, w.name]
    gr.on([demo.load, tab.select], handlers.open, w.name, shown, **_FREE)
    w.timer.tick(handlers.tick, [w.shown, w.name], shown, **_FREE)
    # "once": a second press while the first is under way is the same wish, not a second run.
    w.start.click(handlers.start, {w.name, *w.settings.values()}, shown, trigger_mode="once", **_FREE)
    w.stop.click(handlers.stop, w.name, shown, **_FREE)
    with widgets.right:
        build_gallery(
            demo, tab, GalleryParts(parts.workspace, lambda: parts.models.model), tabs, adapter_choice, w.view
        )
    widgets.compare.click(handlers.show_in_compare, None, [tabs, adapter_choice], **_FREE)
    return widgets


def _preset(model_id: str) -> TrainSettings:
    """The model's preset; the plain defaults when it can't be read, which the status chip then explains."""
    try:
        return training_settings(model_id, {})
    except ModelError:
        return TrainSettings()


def _lay_out(preset: TrainSettings) -> Widgets:
    with gr.Row(elem_id="train", equal_height=False):
        with gr.Column(scale=0, min_width=316, elem_id="train-left"):
            ready = gr.HTML(elem_id="train-ready", apply_default_css=False)
            name = gr.Textbox(label="Name of the adapter", max_length=64, max_lines=1, elem_id="train-name")
            start = gr.Button("Train", variant="primary", size="lg", elem_id="train-start")
            stop = gr.Button("Stop and keep what is learned", visible=False, elem_id="train-stop")
            compare = gr.Button("Show in Compare", visible=False, elem_id="train-compare")
            with gr.Accordion("Settings", open=False, elem_id="train-settings"), gr.Row(elem_id="train-values"):
                settings = {spec.name: _input(spec, preset) for spec in dataclasses.fields(TrainSettings)}
        with gr.Column(scale=1, min_width=420, elem_id="train-right") as right:
            view = gr.HTML(elem_id="train-run", apply_default_css=False)
            runs = gr.HTML(elem_id="train-runs", apply_default_css=False)
    return Widgets(
        ready,
        name,
        start,
        stop,
        compare,
        view,
        runs,
        gr.State(""),
        gr.Timer(_POLL_SECONDS, active=True),
        settings,
        right,
    )


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


def as_typed(value: str | float | tuple[float, ...]) -> str:
    """A value as a person would type it. Numbers are text on the page: a number field would round 0.0015."""
    if isinstance(value, tuple):
        return ", ".join(map(as_typed, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


class Handlers:
    """What happens on each event: checks what the client sent, calls the jobs, and fills the widgets."""

    def __init__(self, parts: TrainParts, widgets: Widgets) -> None:
        self.parts = parts
        self.widgets = widgets
        self.store = RunStore(parts.workspace.runs_db)

    @tell
    def open(self, name: str | None) -> tuple[Any, ...]:
        return self._show(name)

    @tell
    def tick(self, shown: str, name: str | None) -> tuple[Any, ...]:
        """The page as it should be now; nothing is sent when it is so already."""
        end_lost_run(self.store)
        if self._fingerprint() == shown:
            return (gr.skip(),) * 8
        return self._show(name)

    @tell
    def start(self, values: dict[Any, Any]) -> tuple[Any, ...]:
        """Freeze the phrases and start the worker."""
        parts, widgets = self.parts, self.widgets
        name = check_free_name(parts.workspace, str(values[widgets.name]).strip())
        typed = {key: values[component] for key, component in widgets.settings.items()}
        settings = training_settings(parts.models.model, typed)
        end_lost_run(self.store)
        self.store.check_free()
        snapshot = parts.curation.freeze(name)
        request = RunRequest(name, snapshot, parts.models.model, settings, parts.models.quantize)
        lend_device(parts.models, self.store, start_run(parts.workspace, request))
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
        newest = next(iter(self.store.list(1)), None)
        if not names:
            raise AdapterError("There is no adapter in this workspace yet. Press Train to make one.")
        chosen = newest.name if newest is not None and newest.name in names else names[0]
        choices = [(name, name) for name in names] + [("Base only", "")]
        return gr.Tabs(selected="compare"), gr.Dropdown(choices=choices, value=chosen)

    def _show(self, name: str | None) -> tuple[Any, ...]:
        """Everything on the tab. A name that a finished run has used gives way to the next free one."""
        end_lost_run(self.store)
        runs = self.store.list(8)
        newest = runs[0] if runs else None
        progress = self.store.progress(newest.id) if newest else None
        active = newest is not None and newest.state.active
        ended_well = newest is not None and (self.parts.workspace.adapters / newest.name / "adapter.json").exists()
        table = [(run, self.store.progress(run.id, most_steps=1).scores) for run in runs]
        return (
            ready_html(self.parts.curation.ready()),
            run_html(newest, progress),
            runs_html(table),
            gr.Button(interactive=not active, value="Training…" if active else "Train"),
            gr.Button(visible=active, interactive=active and not (newest and newest.stop_requested)),
            gr.Button(visible=not active and ended_well),
            self._fingerprint(),
            gr.skip() if name and (active or name not in self._taken()) else self._free_name(),
        )

    def _fingerprint(self) -> str:
        """Changes whenever the tab would look different."""
        newest = next(iter(self.store.list(1)), None)
        ready = self.parts.curation.ready()
        if newest is None:
            return f"none {ready}"
        return f"{newest.id} {newest.state} {newest.heartbeat_at} {newest.stop_requested} {ready}"

    def _taken(self) -> set[str]:
        adapters = {path.name for path in self.parts.workspace.adapters.glob("*")}
        return adapters | {run.name for run in self.store.list(1000)}

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


def lend_device(models: ModelService, store: RunStore, run: RunRecord) -> None:
    """On a GPU, give up Compare's model while the run lasts and fetch it again afterwards."""
    if models.state.phase != "ready" or models.predictor().device == "cpu":
        return
    models.unload()

    def fetch_again() -> None:
        while store.get(run.id).state.active:
            time.sleep(2.0)
            end_lost_run(store)
        models.reload()

    threading.Thread(target=fetch_again, name="reload-after-run", daemon=True).start()
