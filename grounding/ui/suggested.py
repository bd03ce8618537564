"""A name that the server suggests for a text field: it takes the place of the one that it answers to and no other."""

from __future__ import annotations

from typing import Any

import gradio as gr

# An answer of the server may come after a person has begun to type the next name: what was typed then stays.
_TAKE = """(suggestion, name) => {
  const [instead_of, free] = suggestion.split('\\n');
  return free && (name ?? '') === instead_of ? free : name;
}"""


def suggested(instead_of: str | None, free: str) -> str:
    """What to fill the suggestion with: `free` in place of the name `instead_of`."""
    return f"{instead_of or ''}\n{free}"


def take_suggestions(suggestion: gr.Textbox, name: gr.Textbox, **event: Any) -> None:
    """Let the field take what the hidden `suggestion` is filled with."""
    suggestion.change(None, [suggestion, name], name, js=_TAKE, **event)
