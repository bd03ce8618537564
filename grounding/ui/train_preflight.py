"""The panel "Check before training" of the Train tab. Widgets and wiring only."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from grounding.training.settings import TrainSettings
from grounding.ui.events import tell
from grounding.ui.preflight_desk import DeskState, PreflightDesk
from grounding.ui.preflight_view import as_of_now, is_old, may_be_forced, panel_html, rounds_under
from grounding.ui.train_watch import Look

_FREE: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}
# A plain link would be taken against the page's base address, which may be another one, and reload the page.
_FOLLOW = """
element.addEventListener('click', (event) => {
  const link = event.target.closest('a[href^="#"]');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  location.hash = link.getAttribute('href').slice(1);
});
"""
_READ = Callable[[dict[Any, Any]], TrainSettings]


@dataclass(frozen=True)
class PreflightWidgets:
    """The panel's controls. `force` is shown only while something stands in the way."""

    panel: gr.HTML
    look: gr.Button
    force: gr.Button
    shown: gr.State


def lay_out_preflight() -> PreflightWidgets:
    """The panel, to be called where it is to stand."""
    with gr.Column(elem_id="train-check-box"):
        panel = gr.HTML(
            panel_html(DeskState(busy=True)), elem_id="train-check", apply_default_css=False, js_on_load=_FOLLOW
        )
        with gr.Row(elem_id="train-check-buttons"):
            look = gr.Button("See what the model sees", size="sm", elem_id="train-look")
            force = gr.Button("Train anyway", size="sm", variant="stop", visible=False, elem_id="train-force")
    return PreflightWidgets(panel, look, force, gr.State(""))


def build_preflight(
    tab: gr.Tab, desk: PreflightDesk, widgets: PreflightWidgets, inputs: set[Any], read: _READ, others: gr.Button
) -> Look:
    """Connect the panel; returns how it follows the data. `inputs` are the components that `read` makes settings of;
    `others` is pressed when one has another value."""
    w = widgets
    handlers = PreflightHandlers(desk, read)
    outputs = [w.panel, w.look, w.force, w.shown]
    tab.select(handlers.open, inputs, outputs, **_FREE)
    others.click(handlers.tick, {w.shown, *inputs}, outputs, trigger_mode="multiple", **_FREE)
    handlers.shown = w.shown
    w.look.click(handlers.look, inputs, outputs, trigger_mode="once", **_FREE)
    return Look(handlers.mark, handlers.tick, {w.shown, *inputs}, outputs)


class PreflightHandlers:
    """What happens on each event of the panel."""

    def __init__(self, desk: PreflightDesk, read: _READ) -> None:
        self.desk = desk
        self.read = read
        self.shown: Any = None

    @tell
    def open(self, values: dict[Any, Any]) -> tuple[Any, ...]:
        """Somebody came: the cheap part begins when the data has changed."""
        settings = self._settings(values)
        self.desk.refresh(settings, opened=True)
        return self._show(settings)

    @tell
    def tick(self, values: dict[Any, Any]) -> tuple[Any, ...]:
        """The panel as it should be now; nothing is sent when it is so already."""
        settings = self._settings(values)
        self.desk.refresh(settings)
        state = self.desk.state
        if _fingerprint(state, settings) == values.get(self.shown) and not state.looking:
            return (gr.skip(),) * 4
        return self._show(settings)

    def mark(self, _: str = "") -> str:
        """Changes whenever the panel would look different under the same settings; and while a look goes on, which
        counts its seconds. Begins the cheap part when the data has changed."""
        state = self.desk.state
        self.desk.refresh(state.settings or TrainSettings())
        return f"{state.fingerprint} {time.monotonic():.0f}" if state.looking else state.fingerprint

    @tell
    def look(self, values: dict[Any, Any]) -> tuple[Any, ...]:
        """The model's part, with the settings on the page."""
        settings = self.read(values)
        self.desk.look(settings)
        return self._show(settings)

    def _settings(self, values: dict[Any, Any]) -> TrainSettings:
        """Those on the page; the defaults while a person is in the middle of typing one."""
        from grounding.errors import BoxwrightError

        try:
            return self.read(values)
        except BoxwrightError:
            return TrainSettings()

    def _show(self, settings: TrainSettings) -> tuple[Any, ...]:
        state = self.desk.state
        look = "Looking…" if state.looking else "Look again" if state.model else "See what the model sees"
        return (
            panel_html(state, settings),
            gr.Button(look, interactive=not state.looking),
            gr.Button(visible=may_be_forced(as_of_now(state, settings))),
            _fingerprint(state, settings),
        )


def _fingerprint(state: DeskState, settings: TrainSettings) -> str:
    return f"{state.fingerprint} {is_old(state, settings)} {rounds_under(state, settings)}"
