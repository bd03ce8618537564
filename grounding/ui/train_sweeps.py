"""The panel "Sweep" of the Train tab: what is searched, what that will take, and how each run does.

The same for every browser: all of it stands in the workspace, and each page looks there by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import gradio as gr

from grounding.database import reading
from grounding.errors import BoxwrightError, JobError, SettingsError, StoreError
from grounding.sweeps import drive
from grounding.sweeps.plan import plan_of
from grounding.sweeps.record import SweepStore
from grounding.sweeps.report import report_of
from grounding.sweeps.settings import SweepSettings
from grounding.sweeps.space import Space, parse_space
from grounding.sweeps.winner import keep
from grounding.training.settings import TrainSettings
from grounding.ui.buttons import ON_PRESSED_JS
from grounding.ui.events import tell
from grounding.ui.model_service import ModelService
from grounding.ui.preflight_desk import PreflightDesk
from grounding.ui.suggested import suggested, take_suggestions
from grounding.ui.sweep_view import broken_html, plan_html, setting_words, sweep_html
from grounding.ui.train_watch import Look
from grounding.workspace import Workspace

_FREE: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}
OFFERED = ("lora_rank", "learning_rate", "smooth_l1_weight", "giou_weight", "soft_labels")
_HINTS = {
    "lora_rank": "such as 8, 16, 32; alpha follows",
    "learning_rate": "such as 3e-4..3e-3",
    "smooth_l1_weight": "such as 0, 0.5",
    "giou_weight": "such as 0, 0.5",
    "soft_labels": "such as 0, 4",
}
_ON_LOAD = (
    ON_PRESSED_JS
    + """\
  const asked = { action: button.dataset.action, sweep: button.dataset.sweep || '', run: button.dataset.run || '' };
  trigger('act', asked);
});
"""
)


class Freezing(Protocol):
    """How the phrases as they stand become a snapshot."""

    def freeze(self, name: str, *, placeholders: bool = False) -> str: ...


class Tab(Protocol):
    """What the panel takes from the tab: its settings, its check, and what it is built on."""

    @property
    def desk(self) -> PreflightDesk: ...
    def settings(self, values: dict[Any, Any]) -> TrainSettings: ...


@dataclass(frozen=True)
class SweepParts:
    """What the panel is built on."""

    workspace: Workspace
    models: ModelService
    curation: Freezing


@dataclass(frozen=True)
class SweepWidgets:
    """The panel's controls. `search` holds one input a setting that is offered; `suggestion` is a free name for the
    field `name`, `chosen` the sweep that is looked at ("": the newest), `shown` changes whenever the view would."""

    panel: gr.Accordion
    name: gr.Textbox
    suggestion: gr.Textbox
    runs: gr.Textbox
    seed: gr.Textbox
    prune: gr.Checkbox
    search: Mapping[str, gr.Textbox]
    others: gr.Textbox
    plan: gr.HTML
    start: gr.Button
    view: gr.HTML
    chosen: gr.State
    shown: gr.State

    @property
    def inputs(self) -> tuple[Any, ...]:
        """What is searched and how, without the settings of the tab."""
        return (self.name, self.runs, self.seed, self.prune, self.others, *self.search.values())


def lay_out_sweeps(preset: TrainSettings) -> SweepWidgets:
    """The panel, to be called where it is to stand."""
    rate = preset.learning_rate
    typed = {"lora_rank": "8, 16, 32", "learning_rate": f"{rate / 3:.2g}..{rate * 3:.2g}"}
    with gr.Accordion("Sweep: find the best values", open=False, elem_id="train-sweep") as panel:
        gr.HTML(
            '<p class="bw-sweep-intro">Several runs, one after another through the queue. List values (4, 8, 16) or a '
            "range (1e-4..3e-3) of what is to be searched, and leave empty what is not: it stays as in Settings.</p>",
            apply_default_css=False,
        )
        with gr.Row(elem_classes="train-values"):
            name = gr.Textbox(label="Name of the sweep", max_length=52, max_lines=1, elem_id="train-sweep-name")
            suggestion = gr.Textbox(visible="hidden", elem_id="train-sweep-suggestion")
            runs = gr.Textbox("8", label="Runs", max_lines=1, min_width=80, elem_id="train-sweep-runs")
            seed = gr.Textbox("0", label="Seed of the search", max_lines=1, min_width=80, elem_id="train-sweep-seed")
            prune = gr.Checkbox(True, label="End runs early that fall behind", elem_id="train-sweep-prune")
        with gr.Row(elem_classes="train-values"):
            search = {
                key: gr.Textbox(
                    typed.get(key, ""),
                    label=setting_words(key),
                    placeholder=_HINTS[key],
                    max_lines=1,
                    min_width=118,
                    elem_id=f"train-sweep-{key}",
                )
                for key in OFFERED
            }
            others = gr.Textbox(
                label="Other settings, one a line",
                placeholder="strength=0.6..1",
                lines=1,
                max_lines=6,
                min_width=118,
                elem_id="train-sweep-others",
            )
        with gr.Row(elem_id="train-sweep-go"):
            plan = gr.HTML(elem_id="train-sweep-plan", apply_default_css=False)
            start = gr.Button("Start the sweep", variant="primary", elem_id="train-sweep-start", min_width=150)
        view = gr.HTML(elem_id="train-sweep-view", js_on_load=_ON_LOAD, apply_default_css=False)
    return SweepWidgets(
        *(panel, name, suggestion, runs, seed, prune, search, others, plan, start, view),
        chosen=gr.State(""),
        shown=gr.State(""),
    )


def build_sweeps(
    tab: gr.Tab,
    parts: SweepParts,
    widgets: SweepWidgets,
    form: tuple[Tab, Mapping[str, Any]],
    changed: gr.State,
) -> Look:
    """Connect the panel; returns how it follows the workspace. `form` is the tab with its settings' inputs; `changed`
    what changes when its adapters are to be looked at again."""
    w, (owner, settings) = widgets, form
    handlers = SweepHandlers(parts, w, owner)
    inputs = {*w.inputs, *settings.values()}
    shown = [w.view, w.shown]
    tab.select(handlers.open, {w.chosen, *inputs}, [*shown, w.plan, w.suggestion], **_FREE)
    take_suggestions(w.suggestion, w.name, **_FREE)
    # Settings as a person types them, not as the page fills itself: each is a question with all of them in it.
    changes = [*(one.change for one in w.inputs), *(one.input for one in settings.values())]
    gr.on(
        [w.panel.expand, w.shown.change, *changes],
        handlers.describe,
        inputs,
        w.plan,
        trigger_mode="always_last",
        **_FREE,
    )
    w.start.click(handlers.start, inputs, [*shown, w.suggestion, w.chosen], trigger_mode="once", **_FREE)
    dynamic: Any = w.view  # gradio finds out about events of an HTML component's own script when they are named
    # "multiple": by default gradio drops a press while another one is under way, as the copying of an adapter.
    dynamic.act(handlers.act, w.chosen, [*shown, w.chosen, changed], trigger_mode="multiple", **_FREE)
    return Look(handlers.mark, handlers.tick, [w.chosen, w.shown], shown)


class SweepHandlers:
    """What happens on each event: checks what the client sent, calls the sweeps, and fills the widgets."""

    def __init__(self, parts: SweepParts, widgets: SweepWidgets, owner: Tab) -> None:
        self.parts = parts
        self.workspace = parts.workspace
        self.widgets = widgets
        self.owner = owner
        self.store = SweepStore(parts.workspace.runs_db)

    @tell
    def open(self, values: dict[Any, Any]) -> tuple[Any, ...]:
        chosen, name = str(values[self.widgets.chosen] or ""), str(values[self.widgets.name] or "")
        is_free = name.strip() and name.strip() not in self._names()
        free = gr.skip() if is_free else suggested(name, self._free_name())
        return (*self._show(chosen), self._plan(values), free)

    @tell
    def tick(self, chosen: str, shown: str) -> tuple[Any, Any]:
        """The view as it should be now; nothing is sent when it is so already."""
        return (gr.skip(), gr.skip()) if self._fingerprint(chosen) == shown else self._show(chosen)

    def mark(self, _: str = "") -> str:
        """Changes whenever the view would look different, whichever sweep is looked at."""
        return self._fingerprint("")

    @tell
    def describe(self, values: dict[Any, Any]) -> str:
        """Number of runs and time; what is wrong with a value, as long as one is."""
        return self._plan(values)

    @tell
    def start(self, values: dict[Any, Any]) -> tuple[Any, ...]:
        """Freeze the phrases and queue the first run."""
        settings = self._read(values)
        drive.check_sweep_name(self.workspace, settings.name)
        self.owner.desk.clear(settings.base, force=False)
        snapshot = self.parts.curation.freeze(settings.name)
        drive.start_sweep(self.workspace, SweepSettings(**{**vars(settings), "snapshot": snapshot}))
        free = suggested(values[self.widgets.name], self._free_name())
        return (*self._show(settings.name), free, settings.name)

    @tell
    def act(self, event: gr.EventData, chosen: str) -> tuple[Any, ...]:
        """One press of a button in the view."""
        action, sweep, run = (str(getattr(event, key, ""))[:80] for key in ("action", "sweep", "run"))
        actions = {
            "show": lambda: "",
            "keep": lambda: self._keep(sweep, run),
            "stop": lambda: drive.stop_sweep(self.workspace, sweep),
            "discard": lambda: drive.stop_sweep(self.workspace, sweep, discard=True),
            "resume": lambda: drive.resume_sweep(self.workspace, sweep),
            "remove": lambda: drive.remove_sweep(self.workspace, sweep),
        }
        if action not in actions:
            raise JobError(f"{action!r:.40} is nothing that can be done with a sweep. Reload the page.")
        told = actions[action]()
        chosen = "" if action == "remove" else sweep
        # Another value than the tab has: the adapters' panel looks again, and the tab at its next look.
        changed = f"kept {told}" if action == "keep" else gr.skip()
        return (*self._show(chosen, told if isinstance(told, str) else ""), chosen, changed)

    def _keep(self, sweep: str, run: str) -> str:
        info = keep(self.workspace, sweep, run=int(run) if run.isdecimal() else None)
        return f"Run {info.sweep['run']} is in your adapters as {info.name}, below and in Compare."

    def _read(self, values: dict[Any, Any]) -> SweepSettings:
        """The sweep as it is typed. Raises `SettingsError` or `WorkspaceError` naming what is wrong."""
        w = self.widgets
        search: dict[str, Space] = {}
        for key, field in w.search.items():
            if text := str(values[field] or "").strip():
                search[key] = parse_space(key, text)
        for line in str(values[w.others] or "").splitlines():
            key, equals, text = line.partition("=")
            if line.strip() and not equals:
                raise SettingsError(
                    f"{line.strip()[:60]!r}: expected a setting with its values, such as strength=0.6..1."
                )
            if line.strip():
                search[key.strip()] = parse_space(key.strip(), text)
        return SweepSettings(
            name=str(values[w.name] or "").strip(),
            snapshot="",
            model_id=self.parts.models.model,
            base=self.owner.settings(values),
            search=MappingProxyType(search),
            runs=_whole(values[w.runs], "runs"),
            seed=_whole(values[w.seed], "seed"),
            prune=bool(values[w.prune]),
            quantize=self.parts.models.quantize,
        )

    def _plan(self, values: dict[Any, Any]) -> str:
        try:
            if not str(values[self.widgets.name] or "").strip():
                values = {**values, self.widgets.name: self._free_name()}
            settings = self._read(values)
            return plan_html(plan_of(self.workspace, settings, self._measured(settings.base)))
        except BoxwrightError as error:
            return plan_html(None, str(error))

    def _measured(self, settings: TrainSettings) -> float | None:
        """Seconds of the steps of a run, where the panel above has measured one."""
        looked = self.owner.desk.state.model
        fits = [probe.seconds for probe in looked.probes if probe.seconds and not probe.changes] if looked else []
        return fits[0] * settings.steps if fits else None

    def _show(self, chosen: str, told: str = "") -> tuple[str, str]:
        fingerprint = self._fingerprint(chosen)
        sweeps = self.store.list()
        looked_at = next((sweep for sweep in sweeps if sweep.name == chosen), sweeps[0] if sweeps else None)
        if looked_at is None:
            return sweep_html(None), fingerprint
        others = [sweep for sweep in sweeps if sweep.name != looked_at.name]
        try:
            return sweep_html(report_of(self.workspace, looked_at.name), others, told), fingerprint
        except StoreError as error:  # shown where it stands: a page that looks every second must not say it each time
            return broken_html(looked_at, str(error), others), fingerprint

    def _fingerprint(self, chosen: str) -> str:
        """Changes whenever the view would look different; without opening the study."""
        with reading(self.store.path) as connection:
            rows = connection.execute(
                "SELECT sweeps.name, sweeps.state, sweeps.trouble, (SELECT group_concat(runs.id || runs.state || "
                "runs.attempt) FROM runs WHERE runs.sweep = sweeps.name), (SELECT count(*) FROM events JOIN runs ON "
                "runs.id = events.run_id WHERE runs.sweep = sweeps.name AND events.kind = 'score') FROM sweeps"
            ).fetchall()
        return f"{chosen} {[tuple(row) for row in rows]}"

    def _names(self) -> set[str]:
        return {sweep.name for sweep in self.store.list()}

    def _free_name(self) -> str:
        taken = self._names()
        return next(name for name in (f"sweep-{number}" for number in range(1, 10_000)) if name not in taken)


def _whole(value: Any, name: str) -> int:
    try:
        return int(str(value).strip())
    except ValueError as error:
        raise SettingsError(f"{name}={str(value)[:40]!r}: expected a whole number.") from error
