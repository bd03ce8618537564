"""The queue on the Train tab: the runs that go on, wait and have ended, and what may be done with each.

The same for every browser: all of it stands in runs.db, and each page looks there by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import gradio as gr

from grounding.errors import JobError
from grounding.jobs import launch
from grounding.jobs.files import checkpoint_step
from grounding.jobs.queue import RunQueue
from grounding.jobs.store import RunRecord, RunStore
from grounding.models import training_settings
from grounding.training.events import ScoreEvent
from grounding.training.preflight.records import Preflight
from grounding.training.presets import keep_choice
from grounding.training.settings import TrainSettings
from grounding.ui.buttons import ON_PRESSED_JS
from grounding.ui.events import tell
from grounding.ui.own_score import own_score
from grounding.ui.queue_view import Row, queue_html
from grounding.ui.train_values import as_typed
from grounding.ui.train_watch import Look
from grounding.workspace import Workspace

_FREE: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}
_ENDED_SHOWN = 12
_LOG_BYTES = 200_000
_ON_LOAD = (
    ON_PRESSED_JS
    + """\
  if (button.dataset.action === 'look') {
    trigger('look', { run: button.dataset.run });
    document.querySelector('#train-run')?.scrollIntoView({ block: 'start', behavior: 'smooth' });
    return;
  }
  trigger('act', { action: button.dataset.action, run: button.dataset.run || '' });
});
element.addEventListener('change', (event) => {
  if (event.target.matches('input[data-action]')) {
    trigger('act', { action: event.target.dataset.action, run: event.target.checked ? 'yes' : '' });
  }
});
// gradio changes the attribute alone, which a box that somebody has ticked once no longer follows.
new MutationObserver(() => {
  for (const box of element.querySelectorAll('input[data-action]')) box.checked = box.hasAttribute('checked');
}).observe(element, { childList: true, subtree: true, attributes: true, attributeFilter: ['checked'] });
"""
)


@dataclass(frozen=True)
class QueueWidgets:
    """The panel, the log that it opens, and the bar with which a run of the queue is edited or copied."""

    panel: gr.HTML
    log: gr.HTML
    bar: gr.Column
    says: gr.HTML
    name: gr.Textbox
    save: gr.Button
    cancel: gr.Button
    editing: gr.State
    shown: gr.State


@dataclass(frozen=True)
class QueueForm:
    """The form of the tab that the panel borrows to edit a run: what it hides meanwhile, and the settings' inputs."""

    name: Any
    start: Any
    accordion: Any
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Editing:
    """The run whose settings stand in the form: to be changed, or to be copied. `before` is what stood there, in the
    order of the form; `stood` is the run as it was read into it (None: not known)."""

    run_id: str
    copy: bool
    before: tuple[Any, ...] = ()
    stood: RunRecord | None = field(default=None, compare=False)


def lay_out_panel() -> tuple[gr.HTML, gr.HTML]:
    """The panel and the log under it."""
    panel = gr.HTML(elem_id="train-queue", js_on_load=_ON_LOAD, apply_default_css=False)
    log = gr.HTML(elem_id="train-queue-log", js_on_load=_ON_LOAD, apply_default_css=False, visible=False)
    return panel, log


def lay_out_bar() -> tuple[gr.Column, gr.HTML, gr.Textbox, gr.Button, gr.Button]:
    """The bar that stands over the form while a run is edited; hidden before."""
    with gr.Column(visible=False, elem_id="train-edit") as bar:
        says = gr.HTML(apply_default_css=False)
        name = gr.Textbox(label="Name of the adapter", max_length=64, max_lines=1, elem_id="train-edit-name")
        with gr.Row():
            save = gr.Button("Save", variant="primary", elem_id="train-edit-save", min_width=80)
            cancel = gr.Button("Cancel", elem_id="train-edit-cancel", min_width=80)
    return bar, says, name, save, cancel


def build_queue(tab: gr.Tab, workspace: Workspace, widgets: QueueWidgets, form: QueueForm) -> Look:
    """Connect the panel; returns how it follows the workspace. `form` is the tab's own, in which a run is edited."""
    w = widgets
    handlers = QueueHandlers(workspace, tuple(form.settings))
    panel = [w.panel, w.shown]
    edits = [w.bar, w.says, w.name, w.save, w.editing, form.name, form.start, form.accordion, *form.settings.values()]
    tab.select(handlers.open, None, panel, **_FREE)
    # "multiple": by default gradio drops a press while another one is under way, as the second of two on an arrow.
    w.panel.act(
        handlers.act,
        [w.editing, *form.settings.values()],
        [*panel, w.log, *edits],
        trigger_mode="multiple",
        **_FREE,
    )
    w.log.act(handlers.close_log, None, w.log, trigger_mode="multiple", **_FREE)
    w.save.click(
        handlers.save, [w.editing, w.name, *form.settings.values()], [*panel, *edits], trigger_mode="once", **_FREE
    )
    w.cancel.click(handlers.cancel, w.editing, edits, **_FREE)
    return Look(handlers.mark, handlers.tick, w.shown, panel)


class QueueHandlers:
    """What happens on each event. `setting_names` are those of the form, in its order."""

    def __init__(self, workspace: Workspace, setting_names: Sequence[str]) -> None:
        self.workspace = workspace
        self.setting_names = tuple(setting_names)
        self.store = RunStore(workspace.runs_db)
        self.queue = RunQueue(self.store)

    @tell
    def open(self) -> tuple[Any, Any]:
        return self._panel()

    @tell
    def tick(self, shown: str) -> tuple[Any, Any]:
        """The panel when it would look different by now."""
        html, fingerprint = self._panel()
        return (gr.skip(), gr.skip()) if fingerprint == shown else (html, fingerprint)

    @tell
    def act(self, event: gr.EventData, editing: Editing | None, *typed: Any) -> tuple[Any, ...]:
        """One press of a button in the panel. `typed` is what the form holds."""
        action, run_id = str(getattr(event, "action", "")), str(getattr(event, "run", ""))
        log: Any = gr.skip()
        edits = (gr.skip(),) * (8 + len(self.setting_names))
        if action == "log":
            log = gr.HTML(self._log_html(self.store.get(run_id)), visible=True)
        elif action in ("edit", "copy"):
            before = typed if editing is None else editing.before
            run = self.store.get(run_id) if action == "copy" else self.queue.check_editable(run_id)
            edits = self._fill_form(run, before, copy=action == "copy")
        else:
            self._change(action, run_id)
            if editing is not None and editing.run_id == run_id and not editing.copy:
                edits = self._empty_form(editing)  # what was edited is no longer there to be edited
        return (*self._panel(), log, *edits)

    @tell
    def close_log(self) -> Any:
        return gr.HTML("", visible=False)

    @tell
    def save(self, editing: Editing | None, name: str, *typed: Any) -> tuple[Any, ...]:
        """Save the form into the queued run, or queue a copy of a run with what the form holds."""
        if editing is None:
            raise JobError("There is nothing to save: choose Edit or Duplicate in the queue first.")
        run = self.store.get(editing.run_id)
        values = dict(zip(self.setting_names, typed, strict=True))
        settings = training_settings(run.model_id, values)
        name = name.strip()
        if editing.copy:
            request = launch.RunRequest(name, run.snapshot, run.model_id, settings, run.quantize)
            run = launch.queue_run(self.workspace, request, force=self._was_forced(run))
        else:
            if name != run.name:
                launch.check_free_name(self.workspace, name)
            self.queue.edit(run.id, name=name, settings=settings.to_json(), stood=editing.stood)
        keep_choice(self.workspace.runs / run.id, run.model_id, settings)
        return (*self._panel(), *self._empty_form(editing))

    @tell
    def cancel(self, editing: Editing | None = None) -> tuple[Any, ...]:
        return self._empty_form(editing)

    def _was_forced(self, run: RunRecord) -> bool:
        """Whether a person let the run train all the same: a copy is on the same phrases, so that holds for it too."""
        found = Preflight.load(self.workspace.runs / run.id)
        return found is not None and found.forced

    def _change(self, action: str, run_id: str) -> None:
        workspace, place = self.workspace, self._place(run_id)
        actions = {
            "stop": lambda: launch.stop_run(workspace, run_id),
            "discard": lambda: launch.discard_run(workspace, run_id),
            "resume": lambda: launch.resume_run(workspace, run_id),
            "remove": lambda: launch.remove_run(workspace, run_id),
            "up": lambda: self.queue.move(run_id, max(1, place - 1)),
            "down": lambda: self.queue.move(run_id, place + 1),
            "pause": self.queue.pause,
            "go-on": self.queue.go_on,
            "after-failure": lambda: self.queue.set_go_on_after_failure(bool(run_id)),
        }
        if action not in actions:
            raise JobError(f"{action!r:.40} is nothing that can be done with a run. Reload the page.")
        actions[action]()
        launch.advance(workspace)

    def mark(self, _: str = "") -> str:
        """Changes whenever the panel would look different."""
        return hashlib.sha256(self._panel()[1].encode()).hexdigest()

    def _place(self, run_id: str) -> int:
        waiting = [run.id for run in self.queue.waiting()]
        return waiting.index(run_id) + 1 if run_id in waiting else len(waiting)

    def _fill_form(self, run: RunRecord, before: tuple[Any, ...], *, copy: bool) -> tuple[Any, ...]:
        settings = TrainSettings.from_mapping(run.settings)
        name = self._free_name(run.name) if copy else run.name
        what = (
            f"A copy of <b>{escape(run.name)}</b>, on the same phrases. Change what you like and add it to the queue."
            if copy
            else f"Editing <b>{escape(run.name)}</b>, which waits in the queue."
        )
        values = [getattr(settings, key) for key in self.setting_names]
        return (
            gr.Column(visible=True),
            f"<p>{what}</p>",
            name,
            gr.Button("Add to the queue" if copy else "Save"),
            Editing(run.id, copy, before, run),
            gr.Textbox(visible=False),
            gr.Button(visible=False),
            gr.Accordion(open=True),
            *(value if isinstance(value, bool) else as_typed(value) for value in values),
        )

    def _empty_form(self, editing: Editing | None) -> tuple[Any, ...]:
        """The form as it was before somebody edited in it: the next run takes none of another run's values."""
        before = editing.before if editing is not None else ()
        kept = before or (gr.skip(),) * len(self.setting_names)
        hidden = (gr.Column(visible=False), "", "", gr.skip(), None)
        return (*hidden, gr.Textbox(visible=True), gr.Button(visible=True), gr.skip(), *kept)

    def _free_name(self, name: str) -> str:
        taken = self.queue.names() | {path.name for path in self.workspace.adapters.glob("*")}
        stem = name[:58]
        return next(free for number in range(2, 10_000) if (free := f"{stem}-{number}") not in taken)

    def _panel(self) -> tuple[str, str]:
        """The panel, and what changes whenever it would look different."""
        active = self.store.active()
        rows = [
            Row(run, *self._looked_up(run))
            for run in [*([active] if active else []), *self.queue.waiting(), *self.queue.ended(_ENDED_SHOWN)]
        ]
        html = queue_html(rows, self.queue.settings())
        return html, html

    def _looked_up(self, run: RunRecord) -> tuple[Sequence[ScoreEvent], bool, int | None, ScoreEvent | None]:
        step = checkpoint_step(self.workspace.runs / run.id) if run.attempt and not run.state.active else None
        scores = self.store.progress(run.id, most_steps=1).scores
        return scores, launch.is_hung(run), step, own_score(self.workspace, run)

    def _log_html(self, run: RunRecord) -> str:
        path = self.workspace.runs / run.id / "log.txt"
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - _LOG_BYTES))
                text = file.read().decode("utf-8", errors="replace")
        except OSError:
            text = "There is no log yet."
        return (
            f'<section class="bw-log"><header><h3>Log of {escape(run.name)}</h3><code>{escape(str(path))}</code>'
            '<button type="button" data-action="close">Close</button></header>'
            f'<pre tabindex="0">{escape(text)}</pre></section>'
        )
