"""Which models Compare shows: what the list offers, and what a client may send back."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from grounding.errors import AdapterError, ModelError, SettingsError
from grounding.overlay import Kind

BASE = "base model"  # no adapter has this name: theirs hold no blanks
BASE_TITLE = "Base model"
MOST_MODELS = 4

Models = tuple[str | None, ...]
"""Adapters by name, None for the base, further models by `further_key`, in the order in which they are shown."""

_FURTHER = "model: "  # nor does one hold a colon

_ADAPTER_KINDS: tuple[Kind, ...] = ("adapter", "adapter2", "adapter3", "adapter4")


def further_key(name: str) -> str:
    """How a further model of this name stands among `Models`."""
    return _FURTHER + name


def is_further(model: str | None) -> bool:
    """Whether this is a model of its own, neither the app's base nor an adapter on it."""
    return model is not None and model.startswith(_FURTHER)


def model_choices(adapters: Sequence[str], further: Sequence[str] = ()) -> list[tuple[str, str]]:
    """(label, value) of the base, of every adapter, and of further models, these by their keys."""
    return [(BASE_TITLE, BASE), *((name, name) for name in adapters), *((title_of(key), key) for key in further)]


def first_choice(adapters: Sequence[str]) -> list[str]:
    """What stands in the list to begin with: the base, and the newest adapter where there is one."""
    return [BASE, *adapters[:1]]


def shown_in_compare(adapters: Sequence[str], adapter: str) -> gr.Dropdown:
    """Compare's list with the base and this adapter chosen."""
    return gr.Dropdown(choices=model_choices(adapters), value=[BASE, adapter], multiselect=True)


def check_models(
    chosen: object, adapters: Sequence[str], further: Sequence[str] = (), *, most: int = MOST_MODELS
) -> Models:
    """The models out of the client's choice; none chosen: the base alone.

    Raises `AdapterError` for an unknown one, `ModelError` for an unknown further model, `SettingsError` for more than
    `most`.
    """
    if not isinstance(chosen, list | tuple):
        chosen = [] if chosen is None else [chosen]
    names = list(dict.fromkeys(str(one) for one in chosen))
    for name in names:
        if is_further(name) and name not in further:
            raise ModelError(f"The model {title_of(name)[:80]!r} is no longer offered. Choose one from the list.")
        if name != BASE and name not in adapters and name not in further:
            raise AdapterError(f"There is no adapter {name[:80]!r} for this model. Choose one from the list.")
    if len(names) > most:
        raise SettingsError(f"{len(names)} models are chosen, and there is room for {most}: take some away.")
    return tuple(None if name == BASE else name for name in names) or (None,)


def first_adapter(models: Models) -> str | None:
    """The adapter that the base is held against in figures over many samples."""
    return next((name for name in models if name is not None and not is_further(name)), None)


def title_of(model: str | None) -> str:
    """What a model is called on the page."""
    return BASE_TITLE if model is None else model.removeprefix(_FURTHER)


def kinds_of(models: Models) -> tuple[Kind, ...]:
    """The colour of each: the base has its own, adapters and further models theirs in order."""
    free = iter(_ADAPTER_KINDS)
    return tuple("base" if model is None else next(free) for model in models)
