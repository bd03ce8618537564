"""What tells the Train tab that something has changed.

An event of gradio costs the browser and the server about a tenth of a second on a page of this size, whatever it
carries: with a timer for each panel, an open page took half a core from the training that it showed. So a script asks
one small question while the tab is looked at, draws the run's progress itself, and sends an event only for a panel
that would look different.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from grounding.ui.theme import ASSETS

_FREE: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}
_LONGEST_TEXT = 200


@dataclass(frozen=True)
class Look:
    """A panel that follows the workspace. `mark`, given the id of the run on the page, is another text whenever the
    panel would look different; `fn` is the listener that then fills `outputs` from `inputs`."""

    mark: Callable[[str], str]
    fn: Callable[..., Any]
    inputs: Any
    outputs: Sequence[Any]


@dataclass(frozen=True)
class Live:
    """The picture of a run as it changes from step to step. `key` is another text for every other `html`, which is
    None when the page has it already."""

    key: str
    html: str | None


def build_watch(looks: Mapping[str, Look], live: Callable[[str, str], Live]) -> None:
    """Connect the panels. `looks` by the names in assets/watch.js: run, queue, sweeps, check. `live` gives the picture
    of the run whose id stands on the page ("": none), where its key is another than the given one of what is there."""
    watch: Any = gr.HTML(
        elem_id="train-watch",
        js_on_load=(ASSETS / "watch.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        server_functions=[changes_of(looks, live)],
    )
    for name, look in looks.items():
        # What changes while the panel is being drawn must not be dropped.
        getattr(watch, name)(look.fn, look.inputs, look.outputs, trigger_mode="always_last", **_FREE)


def changes_of(looks: Mapping[str, Look], live: Callable[[str, str], Live]) -> Callable[[Any], dict[str, Any]]:
    """What the script asks: {"run": id on the page, "live": key of its picture} -> the marks of all panels, and the
    picture where it is another one by now."""

    def changes(asked: Any) -> dict[str, Any]:
        given = asked if isinstance(asked, dict) else {}
        run, known = (str(given.get(key) or "")[:_LONGEST_TEXT] for key in ("run", "live"))
        now = live(run, known)
        return {
            "marks": {name: look.mark(run) for name, look in looks.items()},
            "live": now.key,
            "html": now.html,
        }

    return changes
