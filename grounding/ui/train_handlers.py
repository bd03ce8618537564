"""What happens on each event of the Train tab's run: start, stop, resume, look at an earlier one."""

from __future__ import annotations

import hashlib
from typing import Any

import gradio as gr

from grounding.adapters import AdapterRegistry
from grounding.errors import AdapterError, JobError
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
from grounding.training.presets import keep_choice
from grounding.training.settings import TrainSettings
from grounding.ui.chosen import shown_in_compare
from grounding.ui.events import tell
from grounding.ui.own_score import own_score
from grounding.ui.preflight_desk import PreflightDesk
from grounding.ui.ready_view import ready_html
from grounding.ui.run_view import run_html
from grounding.ui.suggested import suggested
from grounding.ui.train_form import Widgets
from grounding.ui.train_parts import TrainParts
from grounding.ui.train_watch import Live


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

    def mark(self, run_id: str) -> str:
        """Changes whenever the tab with this run on it would look different but for the run's own progress."""
        end_lost_run(self.store)
        newest = self.store.shown()
        return f"{newest.id if newest else ''} {self._fingerprint(*self._looked_up(run_id))}"

    def live(self, run_id: str, known: str) -> Live:
        """The picture of this run as it is now, unless `known` is its key."""
        shown, _ = self._looked_up(run_id)
        if shown is None or not run_id:
            return Live("", None)
        html = run_html(shown, self.store.progress(shown.id), own_score(self.parts.workspace, shown))
        key = hashlib.sha256(html.encode()).hexdigest()[:16]
        return Live(key, None if key == known else html)

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
    def stop(self, shown: str, name: str | None, looked_at: str = "") -> tuple[Any, ...]:
        """Stop the run that the page, of this fingerprint, shows as going on. Raises `JobError` when that has ended and
        the next one goes on, which nobody meant."""
        run = self.store.active()
        if run is not None and run.id not in str(shown).split():
            raise JobError(f"The run had just ended by itself, and {run.name!r} goes on: press Stop again to stop it.")
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
        names = [info.name for info in registry.fitting(self.parts.models.model)]
        run, _ = self._looked_up(looked_at)
        own = registry.of_run(run.id, run.name) if run is not None else None
        if not names:
            raise AdapterError("There is no adapter in this workspace yet. Press Train to make one.")
        chosen = own.name if own is not None and own.name in names else names[0]
        return gr.Tabs(selected="compare"), shown_in_compare(names, chosen)

    def _show(self, name: str | None, looked_at: str = "") -> tuple[Any, ...]:
        """Everything on the tab. For a name that a run has used, the next free one is suggested."""
        end_lost_run(self.store)
        shown, earlier = self._looked_up(looked_at)
        progress = self.store.progress(shown.id) if shown else None
        active = self.store.active()
        return (
            ready_html(self.parts.curation.ready()),
            run_html(shown, progress, own_score(self.parts.workspace, shown) if shown else None),
            gr.Button(value="Add to the queue" if self._must_wait() else "Train"),
            gr.Button(visible=active is not None, interactive=active is not None and not active.stop_requested),
            gr.Button(visible=active is None and self._left_an_adapter(shown)),
            gr.Button(visible=earlier),
            shown.id if earlier and shown is not None else "",
            gr.Button(visible=shown is not None and shown.state.resumable),
            self._fingerprint(shown, earlier),
            gr.skip() if name and name not in self._taken() else suggested(name, self._free_name()),
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
        """Changes whenever the tab would look different but for the run's own progress, which `live` tells."""
        ready = self.parts.curation.ready()
        if shown is None:
            return f"none {ready}"
        active = self.store.active()
        asked = f"{active.id} {active.stop_requested} {active.discard_requested}" if active is not None else "none"
        at = f"{shown.id} {shown.state} {shown.finished_at} {earlier}"
        return f"{at} {asked} {self._must_wait()} {self._left_an_adapter(shown)} {ready}"

    def _taken(self) -> set[str]:
        adapters = {path.name for path in self.parts.workspace.adapters.glob("*")}
        return adapters | self.queue.names()

    def _free_name(self) -> str:
        taken = self._taken()
        return next(name for name in (f"adapter-{number}" for number in range(1, 10_000)) if name not in taken)
