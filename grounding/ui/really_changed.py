"""Events for values that have really changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

_PRESS = """(...values) => {
  const now = JSON.stringify(values), button = document.querySelector('#ID');
  if (!button || button.dataset.told === now) return [];
  button.dataset.told = now;
  button.click();
  return [];
}"""


def really_changed(inputs: Sequence[Any], elem_id: str) -> gr.Button:
    """A hidden button that is pressed whenever one of the inputs has another value than before: hang on its `click`
    what would hang on their `change`.

    Once a list has been filled anew, gradio 6.31 tells of its change whenever anything on the page is written; what an
    event answers is written, and so on without end, with the page and the server half busy. At most one of those that
    hang on one event may be "always_last": when such a one is done that has to run once more, gradio sends the whole
    event again, so that two of them keep each other going (`DependencyManager.dispatch` in its Blocks script).
    """
    button = gr.Button("Changed", visible="hidden", elem_id=elem_id)
    gr.on(
        [one.change for one in inputs],
        None,
        list(inputs),
        None,
        js=_PRESS.replace("ID", elem_id),
        show_progress="hidden",
        trigger_mode="always_last",
        api_visibility="private",
    )
    return button
