"""The panel "What the run will show" of the Train tab. Widgets and wiring only."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import gradio as gr

from grounding.errors import BoxwrightError
from grounding.records import Sample
from grounding.snapshots import Snapshot
from grounding.training.feed import Feed
from grounding.training.feeding import feed_of
from grounding.training.preview import preview_step, so_far
from grounding.training.settings import TrainSettings
from grounding.ui.events import tell
from grounding.ui.preview_view import nothing_html, step_html

_FREE: dict[str, Any] = {
    "concurrency_id": "train-preview",
    "concurrency_limit": 1,
    "show_progress": "hidden",
    "api_visibility": "private",
}
MOST_PICTURES = 8


class Freezable(Protocol):
    """What a snapshot made now would hold."""

    def version(self) -> str: ...
    def would_be_frozen(self) -> tuple[list[Sample], dict[str, int]]: ...


@dataclass(frozen=True)
class PreviewWidgets:
    """The panel's controls."""

    panel: gr.Accordion
    step: gr.Slider
    back: gr.Button
    on: gr.Button
    other: gr.Button
    view: gr.HTML
    is_open: gr.State


def lay_out_preview(steps: int) -> PreviewWidgets:
    """The panel, to be called where it is to stand."""
    with gr.Accordion("What the run will show", open=False, elem_id="train-preview") as panel:
        with gr.Row(elem_id="train-preview-steps", equal_height=True):
            back = gr.Button("\u2039 Step before", size="sm", min_width=96, elem_id="train-preview-back")
            step = gr.Slider(1, max(2, steps), value=1, step=1, label="Step", elem_id="train-preview-step", scale=3)
            on = gr.Button("Next step \u203a", size="sm", min_width=96, elem_id="train-preview-next")
            other = gr.Button("Any step", size="sm", min_width=84, elem_id="train-preview-any")
        # Stands there until the panel is opened and its first step drawn.
        waiting = nothing_html("Drawing the step as the model will see it…")
        view = gr.HTML(waiting, elem_id="train-preview-view", apply_default_css=False)
    return PreviewWidgets(panel, step, back, on, other, view, gr.State(False))


def build_preview(
    tab: gr.Tab,
    widgets: PreviewWidgets,
    curation: Freezable,
    snapshots: Path,
    inputs: set[Any],
    read: Callable[[dict[Any, Any]], TrainSettings],
    others: gr.Button,
) -> None:
    """Connect the panel. `inputs` are the components that `read` makes settings of: while it is open, it follows
    them, whenever `others` is pressed."""
    w = widgets
    handlers = PreviewHandlers(w, curation, snapshots, read)
    outputs = [w.step, w.view]
    w.panel.expand(lambda: True, None, w.is_open, show_progress="hidden", api_visibility="private")
    w.panel.collapse(lambda: False, None, w.is_open, show_progress="hidden", api_visibility="private")
    gr.on(
        [tab.select, others.click],
        handlers.follow,
        {w.step, w.is_open, *inputs},
        outputs,
        trigger_mode="multiple",
        **_FREE,
    )
    gr.on([w.panel.expand, w.step.release], handlers.show, {w.step, *inputs}, outputs, **_FREE)
    w.back.click(handlers.back, {w.step, *inputs}, outputs, **_FREE)
    w.on.click(handlers.on, {w.step, *inputs}, outputs, **_FREE)
    w.other.click(handlers.other, {w.step, *inputs}, outputs, **_FREE)


class PreviewHandlers:
    """What happens on each event of the panel."""

    def __init__(
        self,
        widgets: PreviewWidgets,
        curation: Freezable,
        snapshots: Path,
        read: Callable[[dict[Any, Any]], TrainSettings],
    ) -> None:
        self.widgets = widgets
        self.curation = curation
        self.snapshots = snapshots
        self.read = read
        self._kept: tuple[tuple[str, TrainSettings], Feed] | None = None

    @tell
    def show(self, values: dict[Any, Any]) -> tuple[Any, ...]:
        """The step on the slider, with the settings and the phrases as they stand now."""
        return self._show(values, lambda step, steps: step)

    @tell
    def follow(self, values: dict[Any, Any]) -> tuple[Any, ...]:
        """The same step again after a setting has changed; nothing is sent while the panel is shut. A value that
        somebody is in the middle of typing is said in the panel, with no alarm."""
        if not values[self.widgets.is_open]:
            return gr.skip(), gr.skip()
        try:
            return self._show(values, lambda step, steps: step)
        except BoxwrightError as error:
            return gr.skip(), nothing_html(str(error))

    @tell
    def back(self, values: dict[Any, Any]) -> tuple[Any, ...]:
        return self._show(values, lambda step, steps: step - 1)

    @tell
    def on(self, values: dict[Any, Any]) -> tuple[Any, ...]:
        return self._show(values, lambda step, steps: step + 1)

    @tell
    def other(self, values: dict[Any, Any]) -> tuple[Any, ...]:
        return self._show(values, lambda step, steps: random.randint(1, steps))

    def _show(self, values: dict[Any, Any], choose: Callable[[int, int], int]) -> tuple[Any, ...]:
        settings = self.read(values)
        step = min(settings.steps, max(1, choose(int(values[self.widgets.step] or 1), settings.steps)))
        slider = gr.Slider(maximum=max(2, settings.steps), value=step)
        try:
            feed = self._feed(settings)
        except BoxwrightError as error:
            return slider, nothing_html(str(error))
        pictures = preview_step(feed, step, MOST_PICTURES)
        shown = min(settings.images_per_step, len(feed.pictures))
        return slider, step_html(step, settings.steps, pictures, shown - len(pictures), so_far(settings, step))

    def _feed(self, settings: TrainSettings) -> Feed:
        """The feed of these settings on what would be frozen now; kept until a phrase or a setting changes."""
        key = self.curation.version(), settings
        if self._kept is None or self._kept[0] != key:
            samples, _ = self.curation.would_be_frozen()
            # Not frozen yet, so it has no hash; its place says where a second snapshot is looked for by name.
            snapshot = Snapshot("now", self.snapshots / "now", "", tuple(samples))
            self._kept = key, feed_of(snapshot, settings)
        return self._kept[1]
