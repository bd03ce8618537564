"""The widgets of the Train tab and where they stand: no wiring."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from grounding.errors import ModelError
from grounding.models import training_settings
from grounding.training.settings import TrainSettings
from grounding.ui.really_changed import really_changed
from grounding.ui.train_preflight import PreflightWidgets, lay_out_preflight
from grounding.ui.train_presets import connect_presets, lay_out_presets
from grounding.ui.train_preview import PreviewWidgets, lay_out_preview
from grounding.ui.train_queue import QueueWidgets, lay_out_bar, lay_out_panel
from grounding.ui.train_sweeps import SweepWidgets, lay_out_sweeps
from grounding.ui.train_values import GROUPS, as_typed
from grounding.ui.wording import setting_label

# Until the counts are there, in the place that they take: nothing jumps when they come.
_COUNTING = '<section class="bw-ready"><h3>What it learns from</h3><p>Counting the phrases…</p></section>'


@dataclass(frozen=True)
class Widgets:
    """The tab's controls. `settings` holds one input per field of `TrainSettings`. `looked_at` is the id of an earlier
    run that this page looks at, "" for the newest; `back` leads from it to the newest. `suggestion` is a name that a
    run has used and a free one to take its place. `others` is pressed when a setting has another value."""

    ready: gr.HTML
    name: gr.Textbox
    suggestion: gr.Textbox
    start: gr.Button
    stop: gr.Button
    resume: gr.Button
    compare: gr.Button
    view: gr.HTML
    back: gr.Button
    looked_at: gr.State
    queue: QueueWidgets
    accordion: gr.Accordion
    shown: gr.State
    settings: Mapping[str, Any]
    others: gr.Button
    preflight: PreflightWidgets
    preview: PreviewWidgets
    sweeps: SweepWidgets
    right: gr.Column


def preset_of(model_id: str) -> TrainSettings:
    """The model's preset; the plain defaults when it can't be read, which the status chip then explains."""
    try:
        return training_settings(model_id, {})
    except ModelError:
        return TrainSettings()


def lay_out(preset: TrainSettings, model_id: str) -> Widgets:
    """All of the tab but its gallery and its adapters, `preset` in the settings."""
    with gr.Row(elem_id="train", equal_height=False):
        with gr.Column(scale=0, min_width=316, elem_id="train-left"):
            ready = gr.HTML(_COUNTING, elem_id="train-ready", apply_default_css=False)
            bar, says, new_name, save, cancel = lay_out_bar()
            name = gr.Textbox(label="Name of the adapter", max_length=64, max_lines=1, elem_id="train-name")
            suggestion = gr.Textbox(visible="hidden", elem_id="train-suggestion")
            start = gr.Button("Train", variant="primary", size="lg", elem_id="train-start")
            stop = gr.Button("Stop and keep what is learned", visible=False, elem_id="train-stop")
            resume = gr.Button("Resume", visible=False, elem_id="train-resume")
            compare = gr.Button("Show in Compare", visible=False, elem_id="train-compare")
            presets = lay_out_presets(model_id)
            accordion = gr.Accordion("Settings", open=False, elem_id="train-settings")
            with accordion:
                settings = _lay_out_settings(preset)
            others = really_changed(list(settings.values()), "train-settings-others")
            connect_presets(presets, settings, others)
        with gr.Column(scale=1, min_width=420, elem_id="train-right") as right:
            preflight = lay_out_preflight()
            view = gr.HTML(elem_id="train-run", apply_default_css=False)
            back = gr.Button("Back to the newest run", size="sm", visible=False, elem_id="train-back")
            preview = lay_out_preview(preset.steps)
            panel, log = lay_out_panel()
            sweeps = lay_out_sweeps(preset)
    queue = QueueWidgets(panel, log, bar, says, new_name, save, cancel, gr.State(None), gr.State(""))
    return Widgets(
        *(ready, name, suggestion, start, stop, resume, compare, view, back),
        looked_at=gr.State(""),
        queue=queue,
        accordion=accordion,
        shown=gr.State(""),
        settings=settings,
        others=others,
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
    options: dict[str, Any] = {
        "label": setting_label(spec.name),
        "info": spec.metadata["meaning"],
        "elem_id": f"train-set-{spec.name}",
    }
    options["min_width"] = 118
    if isinstance(value, bool):
        return gr.Checkbox(value, **options)
    if spec.metadata["choices"]:
        return gr.Dropdown(list(spec.metadata["choices"]), value=value, **options)
    return gr.Textbox(as_typed(value), max_lines=1, **options)
