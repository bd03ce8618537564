"""Compare's panel "Over many samples": what is evaluated behind the page, and how far it is.

The same for every browser: all of it stands in runs.db, and each page looks there by itself. Whoever wants to know
when another report is kept listens to `EvaluationWidgets.newest.change`: a `gr.State` that this panel sets to
another text whenever an evaluation of this list has become done, in every window, and once when the page is opened.
A page asks by a small question and draws the bars itself; an event of gradio, which costs a tenth of a second of a core
(see `train_watch`), is sent only when the list would look different.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from grounding.counted import counted_report
from grounding.errors import JobError, SettingsError, WorkspaceError
from grounding.evaluating.queue import EvaluationQueue, EvaluationState
from grounding.evaluating.selection import ALL_SPLITS, Selection
from grounding.evaluating.worker import remove
from grounding.reports import KeptReport, read_report
from grounding.ui.buttons import ON_PRESSED_JS
from grounding.ui.chosen import check_models, first_choice, model_choices
from grounding.ui.evaluations_view import Row, bars_html, evaluations_html
from grounding.ui.events import tell
from grounding.ui.scoreboard import SUMMARY_SPLIT, Scoreboard

_FREE: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}
_MOST_ENDED = 8
_MOST_AT_ONCE = 100
ANY_CATEGORY = ""
# A press is not lost while a bar moves: the rows stay, and only what stands in their places for a bar is changed.
_LIST_JS = (
    ON_PRESSED_JS
    + """\
  trigger('act', { action: button.dataset.action, id: button.dataset.id });
});
let pressed = null;
element.addEventListener('focusin', (event) => {
  const button = event.target.closest('button[data-action]');
  pressed = button && [button.dataset.id, button.dataset.action];
});
new MutationObserver(() => {
  if (!pressed || document.activeElement !== document.body) return;
  const own = [...element.querySelectorAll('button[data-action]')].filter((one) => one.dataset.id === pressed[0]);
  (own.find((one) => one.dataset.action === pressed[1]) ?? own[0])?.focus();
}).observe(element, { childList: true, subtree: true });
"""
)
_WATCH_JS = """
const EVERY_MS = 1000, IDLE_MS = 4000;
let seen = '';
const move = (bars) => {
  for (const [id, html] of Object.entries(bars)) {
    const place = document.querySelector(`#compare-evaluations [data-of="${CSS.escape(id)}"]`);
    if (place && place.innerHTML !== html) place.innerHTML = html;
  }
};
let next = 0;
const lookIn = (ms) => { clearTimeout(next); next = setTimeout(look, ms); };
const look = async () => {
  let wait = EVERY_MS;
  try {
    if (!document.hidden && document.querySelector('#compare-evaluate')?.offsetParent) {
      const told = await server.evaluations_now(null);
      move(told.bars);
      if (told.mark !== seen) trigger('look');
      seen = told.mark;
      wait = Object.keys(told.bars).length ? EVERY_MS : IDLE_MS;
    }
  } catch (error) { /* the chip of the header says that the app does not answer */ }
  lookIn(wait);
};
lookIn(EVERY_MS);
// What somebody has just asked for is soon to be seen.
document.addEventListener('click', (event) => {
  if (event.target.closest('#compare-evaluate, #compare-evaluations')) lookIn(EVERY_MS);
});
"""


@dataclass(frozen=True)
class EvaluationWidgets:
    """The panel's controls. `shown` is what the list looks like; `newest` changes with each report that is kept."""

    models: gr.CheckboxGroup
    split: gr.Dropdown
    words: gr.Textbox
    category: gr.Dropdown
    run: gr.Button
    list: gr.HTML
    shown: gr.State
    newest: gr.State


def lay_out_evaluations() -> EvaluationWidgets:
    """The controls and the list, to be called where they are to stand."""
    gr.HTML("<h2>Over many samples</h2>", elem_id="compare-evaluate-title", apply_default_css=False)
    with gr.Row(elem_id="compare-evaluate", equal_height=False):
        models = gr.CheckboxGroup(label="Models", elem_id="compare-evaluate-models", scale=3, min_width=220)
        split = gr.Dropdown(label="Split", filterable=False, scale=1, min_width=150, elem_id="compare-evaluate-split")
        words = gr.Textbox(
            label="Words",
            placeholder="any",
            max_length=200,
            max_lines=1,
            scale=1,
            min_width=130,
            elem_id="compare-evaluate-words",
        )
        category = gr.Dropdown(label="Category", scale=1, min_width=140, elem_id="compare-evaluate-category")
        # Until the page has filled what stands beside it.
        run = gr.Button(
            "Evaluate",
            variant="primary",
            interactive=False,
            scale=0,
            min_width=110,
            elem_id="compare-summary-run",
        )
    rows = gr.HTML(elem_id="compare-evaluations", js_on_load=_LIST_JS, apply_default_css=False)
    return EvaluationWidgets(models, split, words, category, run, rows, gr.State(""), gr.State(""))


def build_evaluations(
    demo: gr.Blocks,
    tab: gr.Tab,
    widgets: EvaluationWidgets,
    board: Scoreboard,
    compared: gr.Dropdown,
    others: gr.Button,
) -> None:
    """Connect the panel. `compared` are the models that Compare shows: they are chosen here until somebody chooses
    others. `others` is pressed when they have become others."""
    w, handlers = widgets, EvaluationHandlers(board)
    looks = [w.list, w.shown, w.newest]
    demo.load(handlers.open, None, [w.models, w.split, w.category, w.run, *looks], **_FREE)
    tab.select(handlers.refresh, w.models, w.models, **_FREE)
    others.click(handlers.follow, [compared, w.models], w.models, trigger_mode="multiple", **_FREE)

    def evaluations_now(_: object = None) -> dict[str, Any]:  # gradio marks the function, and a method takes no mark
        return handlers.now()

    watch: Any = gr.HTML(
        elem_id="compare-evaluation-watch",
        js_on_load=_WATCH_JS,
        apply_default_css=False,
        server_functions=[evaluations_now],
    )
    watch.look(handlers.tick, [w.shown, w.newest], looks, trigger_mode="always_last", **_FREE)
    # "once": a second press while the first is under way is the same wish.
    asked = [w.models, w.split, w.words, w.category]
    w.run.click(handlers.add, asked, looks, trigger_mode="once", **_FREE)
    w.words.submit(handlers.add, asked, looks, trigger_mode="once", **_FREE)
    # "multiple": by default gradio drops a press while another one is under way, and says nothing.
    w.list.act(handlers.act, None, looks, trigger_mode="multiple", **_FREE)


class EvaluationHandlers:
    """What happens on each event."""

    def __init__(self, board: Scoreboard) -> None:
        self.board = board
        self.queue = EvaluationQueue(board.parts.workspace.runs_db)
        self._reports: dict[str, KeptReport] = {}

    @tell
    def open(self) -> tuple[Any, ...]:
        names = self._names()
        counts = self.board.parts.source.splits()
        splits = [(f"{name} · {count:,}", name) for name, count in counts.items() if count]
        splits.append((f"all · {sum(counts.values()):,}", ALL_SPLITS))
        split = SUMMARY_SPLIT if counts.get(SUMMARY_SPLIT) else ALL_SPLITS
        categories = [("any", ANY_CATEGORY), *((name, name) for name in self.board.parts.source.categories() if name)]
        return (
            gr.CheckboxGroup(choices=model_choices(names), value=first_choice(names)),
            gr.Dropdown(choices=splits, value=split),
            gr.Dropdown(choices=categories, value=ANY_CATEGORY),
            gr.Button(interactive=True),
            *self._looks(),
        )

    @tell
    def refresh(self, chosen: list[str] | None) -> Any:
        """The adapters as they stand now; the choice stays as far as it can."""
        choices = model_choices(self._names())
        if not chosen:  # also before the page has filled itself: what it fills in must not be emptied by this
            return gr.CheckboxGroup(choices=choices)
        known = [value for _, value in choices]
        return gr.CheckboxGroup(choices=choices, value=[one for one in chosen or () if one in known])

    @tell
    def follow(self, compared: list[str] | None, chosen: list[str] | None) -> Any:
        """The models that Compare shows now; nothing when they are chosen already. Filling one list again makes gradio
        6.31 tell of a change of the other, and so on without end."""
        return gr.skip() if set(compared or ()) == set(chosen or ()) else self.refresh(compared)

    @tell
    def tick(self, shown: str, newest: str) -> tuple[Any, ...]:
        """What would look different by now."""
        html, fingerprint, now_newest = self._looks()
        same = fingerprint == shown
        return (
            gr.skip() if same else html,
            gr.skip() if same else fingerprint,
            gr.skip() if now_newest == newest else now_newest,
        )

    def now(self) -> dict[str, Any]:
        """For the page's script: the bar of each evaluation that goes on, and a mark that changes whenever `tick` has
        something to say."""
        rows = self._rows()
        looks = f"{evaluations_html(rows, bars=False)} {self.queue.newest_done()}"
        return {"mark": hashlib.sha256(looks.encode()).hexdigest(), "bars": bars_html(rows)}

    @tell
    def add(self, chosen: list[str] | None, split: str | None, words: str, category: str | None) -> tuple[Any, ...]:
        """Queue an evaluation of each chosen model; those that are on their way already are not queued twice."""
        parts = self.board.parts
        if not chosen:
            raise SettingsError("No model is chosen: tick the base, an adapter, or both.")
        models = check_models(chosen, self._names(), most=_MOST_AT_ONCE)
        selection = Selection(str(split), " ".join(str(words or "").split()), str(category or ""))
        picked = selection.pick(parts.source, parts.is_placeholder)
        counts = {"total": len(picked.samples), "left_out": picked.left_out}
        added = [
            self.queue.add(parts.models.model, parts.models.quantize, adapter, selection, **counts)
            for adapter in sorted(models, key=lambda name: name is not None)  # what others are held against comes first
        ]
        if not any(added):
            gr.Info("The same waits or goes on already: see the list.", title="Not added twice")
        return self._looks()

    @tell
    def act(self, event: gr.EventData) -> tuple[Any, ...]:
        """One press of a button in the list."""
        action, evaluation_id = str(getattr(event, "action", "")), str(getattr(event, "id", ""))
        if action == "stop":
            self.queue.stop(evaluation_id)
        elif action == "go-on":
            self.queue.go_on(evaluation_id)
        elif action == "remove":
            remove(self.queue, self.board.reports, evaluation_id)
        else:
            raise JobError(f"{action!r:.40} is nothing that can be done with an evaluation. Reload the page.")
        return self._looks()

    def _names(self) -> list[str]:
        return [info.name for info in self.board.adapters()]

    def _looks(self) -> tuple[str, str, str]:
        """The list, what changes whenever it would look different but for its bars, and the newest report."""
        rows = self._rows()
        return evaluations_html(rows), evaluations_html(rows, bars=False), self.queue.newest_done()

    def _rows(self) -> Sequence[Row]:
        models = self.board.parts.models
        away = models.away()
        rows = []
        for one in self.queue.list(_MOST_ENDED):
            waits = away
            if (one.model_id, one.quantize) != (models.model, models.quantize):
                how = "" if one.quantize == "none" else f" --quantize {one.quantize}"
                waits = f"It waits for the app to be started with --model {one.model_id}{how}."
            done = one.state is EvaluationState.DONE
            rows.append(Row(one, self._report(one.folder) if done else None, waits))
        return rows

    def _report(self, folder: str) -> KeptReport | None:
        """Read once: a report that is kept does not change."""
        if folder not in self._reports:
            try:
                report = read_report(self.board.reports.folder / folder)
            except WorkspaceError:
                report = None
            if report is None:
                return None
            self._reports[folder] = counted_report(report, self.board.parts.workspace)
        return self._reports[folder]
