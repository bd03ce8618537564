"""The arena in Compare: two kept evaluations, blind, one pick after the other. Widgets, wiring and what happens.

Nothing is kept for a visitor: each event says which two were chosen and who asks, and the question follows from that.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import Any

import gradio as gr

from grounding.arena import Questions, VoteStore
from grounding.compared import Comparison
from grounding.errors import BoxwrightError, PictureError
from grounding.reports import KeptReport
from grounding.ui.arena_view import arena_html, last_html, message_html, notes_html, question_html, tally_html
from grounding.ui.events import tell
from grounding.ui.kept import Kept, id_of
from grounding.ui.pictures import find_picture
from grounding.ui.sources import Parts
from grounding.ui.theme import ASSETS
from grounding.ui.whole_kept import adapter_pair, is_comparable, report_choices
from grounding.who import default_who
from grounding.workspace import Workspace

NOTHING_YET = (
    "Two kept evaluations of the same samples are needed: score the base and an adapter above, and come back. "
    "Their answers then stand here side by side, without their names."
)
_FREE: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}
_MOST_PAIRS = 4
_SHOW_KEPT_NAME = """(kept, shown) => {
  const field = document.querySelector('#arena-who input');
  return !kept || !field || field.disabled || field === document.activeElement ? shown : kept;
}"""


@dataclass(frozen=True)
class ArenaWidgets:
    """The controls of the panel."""

    panel: gr.Accordion
    a: gr.Dropdown
    b: gr.Dropdown
    who: gr.Textbox
    who_kept: gr.BrowserState
    view: gr.HTML


def build_arena(demo: gr.Blocks, parts: Parts) -> ArenaWidgets:
    """Lay out the folded panel inside the current tab and connect it; `demo` gives the page-load event."""
    widgets = _lay_out()
    _connect(demo, widgets, ArenaHandlers(parts.workspace))
    return widgets


def _lay_out() -> ArenaWidgets:
    with gr.Accordion("Arena: choose blind between two models", open=False, elem_id="arena") as panel:
        with gr.Row(elem_id="arena-bar", equal_height=True):
            plain: dict[str, Any] = {"show_label": False, "container": False}
            a = gr.Dropdown(label="One", filterable=False, min_width=180, elem_id="arena-a", **plain)
            gr.HTML("<span>against</span>", elem_id="arena-against", apply_default_css=False)
            b = gr.Dropdown(label="The other", filterable=False, min_width=180, elem_id="arena-b", **plain)
            gr.HTML('<span title="Who votes">as</span>', elem_id="arena-as", apply_default_css=False)
            who = gr.Textbox(
                default_who(),
                label="You are",
                placeholder="Your name",
                max_lines=1,
                max_length=100,
                scale=0,
                min_width=130,
                elem_id="arena-who",
                **plain,
            )
        script = (ASSETS / "compare_arena.js").read_text(encoding="utf-8")
        view = gr.HTML(elem_id="arena-view", js_on_load=script, apply_default_css=False)
    # The name that the Annotate tab keeps: a person has one.
    who_kept = gr.BrowserState(default_who(), storage_key="boxwright-who", secret="boxwright-who")
    return ArenaWidgets(panel, a, b, who, who_kept, view)


def _connect(demo: gr.Blocks, w: ArenaWidgets, h: ArenaHandlers) -> None:
    chosen = [w.a, w.b, w.who]
    demo.load(h.open_name, None, w.who, **_FREE)
    w.who_kept.change(None, [w.who_kept, w.who], w.who, js=_SHOW_KEPT_NAME, **_FREE)
    gr.on([w.who.input, w.who.blur], None, w.who, w.who_kept, js="(name) => name", **_FREE)
    w.panel.expand(h.open, chosen, [w.a, w.b, w.view], **_FREE)
    gr.on([w.a.input, w.b.input, w.who.submit, w.who.blur], h.show, chosen, w.view, trigger_mode="always_last", **_FREE)
    w.view.pick(h.pick, chosen, w.view, trigger_mode="multiple", **_FREE)
    w.view.undo(h.undo, chosen, w.view, trigger_mode="multiple", **_FREE)


class ArenaHandlers:
    """What happens on each event."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.kept = Kept(workspace)
        self._questions: OrderedDict[tuple[str, str], Questions] = OrderedDict()

    @cached_property
    def votes(self) -> VoteStore:
        """Made when the arena is first opened: a workspace without votes has no arena.db."""
        return VoteStore(self.workspace.arena_db)

    @tell
    def open_name(self, request: gr.Request) -> Any:
        """The name of the log-in can't be changed here."""
        return gr.Textbox(value=request.username, interactive=False) if request.username else gr.skip()

    @tell
    def open(self, a: str | None, b: str | None, who: str, request: gr.Request) -> tuple[Any, Any, str]:
        """The evaluations as they stand now, and the question about the two chosen."""
        kept = self.kept.list()
        known = {id_of(report) for report in kept}
        if a not in known or b not in known:
            a, b = default_pair(kept)
        choices = report_choices(kept)
        drop = [gr.Dropdown(choices=choices, value=value) for value in (a, b)]
        return drop[0], drop[1], self._view(a, b, _name(who, request))

    @tell
    def show(self, a: str | None, b: str | None, who: str, request: gr.Request) -> str:
        return self._view(a, b, _name(who, request))

    @tell
    def pick(self, event: gr.EventData, a: str | None, b: str | None, who: str, request: gr.Request) -> str:
        """Count the vote if its question is the one that is asked now, and ask the next."""
        name = _name(who, request)
        questions = self._opened(a, b)
        asked = questions.next(self.votes, name)
        is_asked = asked is not None and asked.token == getattr(event, "question", None)
        vote = self.votes.cast(asked, getattr(event, "choice", None), name) if asked is not None and is_asked else None
        if vote is None:
            gr.Info("This one is judged already, in another window: it counts once.", title="Not counted again")
        return self._view(a, b, name)

    @tell
    def undo(self, event: gr.EventData, a: str | None, b: str | None, who: str, request: gr.Request) -> str:
        """Take back the last vote, if it is the one that the page showed."""
        name = _name(who, request)
        self.votes.undo(self._opened(a, b).pair, name, getattr(event, "vote", None))
        return self._view(a, b, name)

    def _view(self, a: str | None, b: str | None, who: str) -> str:
        if not a or not b:
            return arena_html(message_html("Nothing to choose between yet", NOTHING_YET), "", "", "")
        try:
            questions = self._opened(a, b)
        except BoxwrightError as error:
            return arena_html(message_html("These two can't stand against each other", str(error)), "", "", "")
        comparison, votes = questions.comparison, self.votes
        asked, last = questions.next(votes, who), votes.last(questions.pair, who)
        names = {side.letter: side.name for side in comparison.sides}
        row = questions.row_of(last.asked) if last is not None else None
        record = comparison.record(row) if row is not None else None
        return arena_html(
            question_html(asked, comparison.record(asked.row)) if asked else _done_html(questions),
            last_html(last, record, names),
            tally_html(votes.tally(questions.pair), names),
            notes_html(questions, questions.open_count(votes, who)),
        )

    def _opened(self, a: str | None, b: str | None) -> Questions:
        """Raises what `Kept.open` and `Questions` raise."""
        comparison: Comparison = self.kept.open(a, b)
        key = (str(a), str(b))
        found = self._questions.get(key)
        if found is None or found.comparison is not comparison:
            found = self._questions[key] = Questions(comparison, self.votes.secret, self._has_picture)
            while len(self._questions) > _MOST_PAIRS:
                self._questions.popitem(last=False)
        return found

    def _has_picture(self, sha256: str) -> bool:
        try:
            find_picture(self.workspace, sha256)
        except PictureError:
            return False
        return True


def default_pair(kept: list[KeptReport]) -> tuple[str | None, str | None]:
    """(a, b): `whole_kept.adapter_pair`, else the newest two of different models that were asked the same samples in
    the same way; None for both where there are none."""
    pairs = (
        (id_of(other), id_of(newer))
        for newer, other in permutations(kept, 2)
        if is_comparable(other, newer) and (other.model_id, other.adapter) != (newer.model_id, newer.adapter)
    )
    return adapter_pair(kept) or next(pairs, (None, None))


def _name(who: object, request: gr.Request) -> str:
    """The log-in wins over the name that the page sends."""
    return request.username or str(who or "") or default_who()


def _done_html(questions: Questions) -> str:
    if not questions.rows:
        return message_html("Nothing to choose between", "Both answer alike on every sample that could be shown.")
    return message_html(
        "All judged", "You have judged every sample of these two. Choose two others, or ask a colleague."
    )
