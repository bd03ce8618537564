"""The presets of the Train tab: a chooser, what differs from it, and every value explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from grounding.errors import ModelError, SettingsError
from grounding.training.presets import BALANCED, Explained, Preset, differences, explained, preset_named, presets_for
from grounding.training.settings import TrainSettings
from grounding.ui.events import tell
from grounding.ui.train_values import as_shown, as_typed
from grounding.ui.wording import count_of, setting_label

_FREE: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True)
class Chooser:
    """The presets with their controls."""

    presets: tuple[Preset, ...]
    radio: gr.Radio
    told: gr.HTML


def lay_out_presets(model_id: str) -> Chooser:
    """The chooser, the profile's own preset chosen; hidden for a model that can't be read, as the status chip says."""
    try:
        presets = presets_for(model_id)
    except ModelError:
        presets = ()
    choices = [(preset.title, preset.name) for preset in presets]
    radio = gr.Radio(
        choices, value=BALANCED if presets else None, label="Preset", visible=bool(presets), elem_id="train-preset"
    )
    first = preset_html(preset_named(presets, BALANCED), preset_named(presets, BALANCED).settings) if presets else ""
    told = gr.HTML(first, visible=bool(presets), elem_id="train-preset-told", apply_default_css=False)
    return Chooser(presets, radio, told)


def connect_presets(chooser: Chooser, settings: Mapping[str, Any], others: gr.Button) -> None:
    """Fill the settings when a preset is chosen, and tell what differs from it when one is changed.

    `settings` holds one input per field of `TrainSettings`; `others` is pressed when one has another value.
    """
    if not chooser.presets:
        return
    handlers = Handlers(chooser, settings)
    inputs = list(settings.values())
    # "input", not "change": it must not fire when a person's own values are put there, as after a reload.
    chooser.radio.input(handlers.choose, chooser.radio, [*inputs, chooser.told], **_FREE)
    # Not when the preset changes: the values of the one before still stand in the form then.
    others.click(handlers.describe, {chooser.radio, *inputs}, chooser.told, trigger_mode="multiple", **_FREE)


class Handlers:
    """What happens when a preset is chosen or a value changes."""

    def __init__(self, chooser: Chooser, settings: Mapping[str, Any]) -> None:
        self.chooser = chooser
        self.settings = settings

    @tell
    def choose(self, name: str) -> list[Any]:
        """The preset's values as the inputs show them, and what it is for."""
        preset = preset_named(self.chooser.presets, name)
        values = [getattr(preset.settings, key) for key in self.settings]
        typed = [value if isinstance(value, bool) else as_typed(value) for value in values]
        return [*typed, preset_html(preset, preset.settings)]

    @tell
    def describe(self, values: dict[Any, Any]) -> str:
        """What differs from the preset; what is wrong with a value, as long as one is."""
        preset = preset_named(self.chooser.presets, str(values[self.chooser.radio] or BALANCED))
        try:
            typed = {key: values[component] for key, component in self.settings.items()}
            return preset_html(preset, TrainSettings.from_mapping(typed))
        except SettingsError as error:
            return f'<div class="bw-preset"><p class="bw-preset-wrong" role="alert">{escape(str(error))}</p></div>'


def preset_html(preset: Preset, settings: TrainSettings) -> str:
    """What the preset is for, what differs from it, and every value explained. Everything is escaped."""
    changed = differences(preset, settings)
    listed = "".join(
        f"<li>{_words(value.name)} <s>{escape(as_shown(value.preset_value))}</s> "
        f"<b>{escape(as_shown(value.value))}</b></li>"
        for value in changed
    )
    told = f"<p>You changed {count_of(len(changed), 'value')}:</p><ul>{listed}</ul>" if changed else ""
    return (
        f'<div class="bw-preset"><p>{escape(preset.summary)}</p>{told}'
        f"<details><summary>Every value explained</summary>{_table(explained(preset, settings))}</details></div>"
    )


def _table(values: Sequence[Explained]) -> str:
    rows = "".join(
        f'<dt data-differs="{str(value.differs).lower()}">{_words(value.name)} '
        f"<b>{escape(as_shown(value.value))}</b></dt>"
        f"<dd>{escape(_sentence(value.meaning))} {escape(value.explanation)}{_reason(value)}</dd>"
        for value in values
    )
    return f"<dl>{rows}</dl>"


def _reason(value: Explained) -> str:
    return f" <i>Here: {escape(value.reason)}.</i>" if value.reason and not value.differs else ""


def _sentence(meaning: str) -> str:
    return f"{meaning[:1].upper()}{meaning[1:].rstrip('.')}."


def _words(name: str) -> str:
    return escape(setting_label(name))
