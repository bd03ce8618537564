"""Which models Compare shows: what the list offers, and what a client may send back."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from grounding.errors import AdapterError, SettingsError
from grounding.overlay import Kind

BASE = "base model"  # no adapter has this name: theirs hold no blanks
BASE_TITLE = "Base model"
MOST_MODELS = 4

Models = tuple[str | None, ...]
"""Adapters by name, None for the base, in the order in which they are shown."""

_ADAPTER_KINDS: tuple[Kind, ...] = ("adapter", "adapter2", "adapter3", "adapter4")


def model_choices(adapters: Sequence[str]) -> list[tuple[str, str]]:
    """(label, value) of the base and of every adapter."""
    return [(BASE_TITLE, BASE), *((name, name) for name in adapters)]


def first_choice(adapters: Sequence[str]) -> list[str]:
    """What stands in the list to begin with: the base, and the newest adapter where there is one."""
    return [BASE, *adapters[:1]]


def shown_in_compare(adapters: Sequence[str], adapter: str) -> gr.Dropdown:
    """Compare's list with the base and this adapter chosen."""
    return gr.Dropdown(choices=model_choices(adapters), value=[BASE, adapter], multiselect=True)


def check_models(chosen: object, adapters: Sequence[str], *, most: int = MOST_MODELS) -> Models:
    """The models out of the client's choice; none chosen: the base alone.

    Raises `AdapterError` for an unknown one, `SettingsError` for more than `most`.
    """
    if not isinstance(chosen, list | tuple):
        chosen = [] if chosen is None else [chosen]
    names = list(dict.fromkeys(str(one) for one in chosen))
    for name in names:
        if name != BASE and name not in adapters:
            raise AdapterError(f"There is no adapter {name[:80]!r} for this model. Choose one from the list.")
    if len(names) > most:
        raise SettingsError(f"{len(names)} models are chosen, and there is room for {most}: take some away.")
    return tuple(None if name == BASE else name for name in names) or (None,)


def first_adapter(models: Models) -> str | None:
    """The adapter that the base is held against in figures over many samples."""
    return next((name for name in models if name is not None), None)


def title_of(model: str | None) -> str:
    """What a model is called on the page."""
    return BASE_TITLE if model is None else model


def kinds_of(models: Models) -> tuple[Kind, ...]:
    """The colour of each: the base has its own, adapters theirs in order."""
    free = iter(_ADAPTER_KINDS)
    return tuple("base" if model is None else next(free) for model in models)
