"""The Train tab: one button from curated phrases to an adapter in Compare. Wiring only; `train_form` lays it out."""

from __future__ import annotations

from typing import Any

import gradio as gr

from grounding.ui.suggested import take_suggestions
from grounding.ui.train_adapters import build_adapters
from grounding.ui.train_form import Widgets, lay_out, preset_of
from grounding.ui.train_gallery import GalleryParts, build_gallery
from grounding.ui.train_handlers import Handlers
from grounding.ui.train_parts import TrainParts
from grounding.ui.train_preflight import build_preflight
from grounding.ui.train_preview import build_preview
from grounding.ui.train_queue import QueueForm, build_queue
from grounding.ui.train_sweeps import SweepParts, build_sweeps
from grounding.ui.train_watch import Look, build_watch

__all__ = ["TrainParts", "build_train"]

_FREE: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}


def build_train(tab: gr.Tab, parts: TrainParts, tabs: gr.Tabs, model_choice: gr.Dropdown) -> Widgets:
    """Lay out the tab and connect it. `tabs` and `model_choice` are where "Show in Compare" leads."""
    widgets = lay_out(preset_of(parts.models.model), parts.models.model)
    handlers = Handlers(parts, widgets)
    w = widgets
    shown = [w.ready, w.view, w.start, w.stop, w.compare, w.back, w.looked_at, w.resume, w.shown, w.suggestion]
    tab.select(handlers.open, [w.name, w.looked_at], shown, **_FREE)
    looks: Any = w.queue.panel  # gradio finds out about events of an HTML component's own script when they are named
    looks.look(handlers.look, w.name, shown, **_FREE)
    w.back.click(handlers.back, w.name, shown, **_FREE)
    take_suggestions(w.suggestion, w.name, **_FREE)
    # "once": a second press while the first is under way is the same wish, not a second run.
    w.start.click(handlers.start, {w.name, *w.settings.values()}, shown, trigger_mode="once", **_FREE)
    w.preflight.force.click(handlers.start_anyway, {w.name, *w.settings.values()}, shown, trigger_mode="once", **_FREE)
    check = build_preflight(tab, handlers.desk, w.preflight, set(w.settings.values()), handlers.settings, w.others)
    w.stop.click(handlers.stop, [w.shown, w.name, w.looked_at], shown, **_FREE)
    w.resume.click(handlers.resume, [w.name, w.looked_at], shown, trigger_mode="once", **_FREE)
    build_preview(
        tab, w.preview, parts.curation, parts.workspace.snapshots, set(w.settings.values()), handlers.settings, w.others
    )
    with widgets.right:
        build_gallery(
            tab,
            GalleryParts(parts.workspace, lambda: parts.models.model),
            tabs,
            model_choice,
            w.view,
            w.looked_at,
        )
    widgets.compare.click(handlers.show_in_compare, w.looked_at, [tabs, model_choice], **_FREE)
    queue = build_queue(tab, parts.workspace, w.queue, QueueForm(w.name, w.start, w.accordion, w.settings))
    sweep_parts = SweepParts(parts.workspace, parts.models, parts.curation)
    sweeps = build_sweeps(tab, sweep_parts, w.sweeps, (handlers, w.settings), w.shown)
    build_adapters(tab, parts, w.shown, tabs, model_choice)
    run = Look(handlers.mark, handlers.tick, [w.shown, w.name, w.looked_at], shown)
    build_watch({"run": run, "queue": queue, "sweeps": sweeps, "check": check}, handlers.live)
    return widgets
