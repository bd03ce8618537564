"""From a sample anywhere on the page into Annotate, and back to Compare with the sample as it stands by then.

`annotate_link_html` makes the link; the script that `build_way_back` puts into the page follows every such link, and
leaves word where it stood. Annotate offers the way back, and tells the page with `boxwright-returned`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr

from grounding.training.preflight.records import annotate_address
from grounding.ui.theme import ASSETS

KEY = "E"
_QUIET: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}


def annotate_link_html(sample_id: str, words: str = "Annotate", *, has_key: bool = False) -> str:
    """A link that opens the sample in Annotate, for any HTML on the page. `has_key`: E presses it while it is seen,
    so there should be one such link on a tab."""
    key = f' aria-keyshortcuts="{KEY}" title="Open this sample in Annotate ({KEY})"' if has_key else ""
    hint = f" <kbd>{KEY}</kbd>" if has_key else ""
    return (
        f'<a class="bw-to-annotate" href="{escape(annotate_address(sample_id))}" data-annotate="{escape(sample_id)}"'
        f"{key}>{escape(words)}{hint}</a>"
    )


def build_way_back(
    lay_again: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Any], asking: Mapping[str, Any]
) -> gr.HTML:
    """The script behind all links, and what happens on return to Compare: `lay_again` gets the sample as `event.id`
    and fills `outputs`, then the event `asking` follows."""
    script = (ASSETS / "to_annotate.js").read_text(encoding="utf-8")
    html: Any = gr.HTML(elem_id="compare-way-back", js_on_load=script, apply_default_css=False)
    # gradio finds out about events of an HTML component's own script when they are named
    html.returned(lay_again, inputs, outputs, trigger_mode="multiple", **_QUIET).success(**asking)
    way_back: gr.HTML = html
    return way_back
