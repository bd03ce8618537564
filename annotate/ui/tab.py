"""The Annotate tab: its parts on the page and how they reach the `Workbench`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any, Protocol, TypeVar

import gradio as gr

from annotate.listening import Listener
from annotate.store import Store
from annotate.ui.asides import AsideParts, Asides
from annotate.ui.pages import frame_html
from annotate.ui.workbench import Reply, Workbench

_ASSETS = Path(__file__).resolve().parent / "assets"
STYLESHEET = _ASSETS / "annotate.css"
_SCRIPTS = ("bench.js", "scope.js", "boxes.js", "view.js", "line.js", "asides.js", "dialogs.js", "return.js", "keys.js")

_SHOW_KEPT_NAME = """(kept, shown) => {
  const field = document.querySelector('#annotate-who input');
  return !kept || !field || field.disabled || field === document.activeElement ? shown : kept;
}"""

Handler = TypeVar("Handler", bound=Callable[..., Any])


class Tell(Protocol):
    """Decorates a handler so that each of its errors becomes a `gr.Error` whose message is HTML for the page."""

    def __call__(self, handler: Handler, /) -> Handler: ...


@dataclass(frozen=True)
class AnnotateParts:
    """What the tab is built on.

    `picture_url` and `thumbnail_url` make the address of a picture, relative to the page, from its SHA-256.
    `default_who` signs the edits of whoever gives no name and has not logged in. `listener` is the model that says
    where phrases point; None: none is asked.
    """

    store: Store
    tell: Tell
    picture_url: Callable[[str], str]
    thumbnail_url: Callable[[str], str]
    default_who: str
    listener: Listener | None = None


@dataclass(frozen=True)
class Widgets:
    """The tab's controls: `bench` holds the queue, the picture and the form; `who` the name."""

    bench: gr.HTML
    who: gr.Textbox
    who_kept: gr.BrowserState


def build_annotate(demo: gr.Blocks, tab: gr.Tab, parts: AnnotateParts) -> Widgets:
    """Lay out the tab inside the current `gr.Tab` and connect it; `demo` gives the page-load event.

    The page needs `STYLESHEET` among the `css_paths` of its launch. Saves and moves go to a server function of the
    bench rather than through the queue of events: that one call either brings the answer or fails where the page
    can see it, and people who save at the same time do not wait for each other.
    """
    bench = Workbench(parts.store, parts.picture_url, parts.thumbnail_url)
    asides = Asides(AsideParts(parts.store, parts.picture_url, parts.listener))
    with gr.Column(elem_id="annotate"):
        who = gr.Textbox(
            parts.default_who,
            label="You are",
            show_label=False,
            container=False,
            max_lines=1,
            max_length=100,
            html_attributes=gr.InputHTMLAttributes(autocomplete="off", spellcheck=False, autocorrect="off"),
            elem_id="annotate-who",
        )
        html = gr.HTML(
            frame_html(bench.workspace_key, has_listener=parts.listener is not None),
            elem_id="annotate-bench",
            js_on_load="\n".join((_ASSETS / name).read_text(encoding="utf-8") for name in _SCRIPTS),
            apply_default_css=False,
            server_functions=[
                server_function(bench.answer, "annotate", parts),
                server_function(asides.answer, "annotate_aside", parts),
            ],
        )
    who_kept = gr.BrowserState(parts.default_who, storage_key="boxwright-who", secret="boxwright-who")
    quiet: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}

    @parts.tell
    def open_name(request: gr.Request) -> Any:
        """The name of the log-in can't be changed here."""
        return gr.Textbox(value=request.username, interactive=False) if request.username else gr.skip()

    demo.load(open_name, None, who, **quiet)
    # Not as an input of the load event: gradio sends that before the browser's own storage was read.
    who_kept.change(None, [who_kept, who], who, js=_SHOW_KEPT_NAME, **quiet)
    gr.on([who.input, who.blur], None, who, who_kept, js="(name) => name", **quiet)
    return Widgets(html, who, who_kept)


def server_function(
    answer_page: Callable[..., Reply], name: str, parts: AnnotateParts
) -> Callable[[Any, gr.Request], Reply]:
    """What the page calls as `server.NAME` with each request. Never raises what `parts.tell` can put into words."""
    answer = parts.tell(answer_page)

    def annotate(sent: Any, request: gr.Request) -> Reply:
        """Each error becomes a sentence in the reply, so that the page can keep what was typed beside it."""
        try:
            return answer(sent, login_name(request), parts.default_who)
        except gr.Error as error:
            return {"problem": unescape(str(error.message))}

    annotate.__name__ = name
    return annotate


def login_name(request: Any) -> str | None:
    """Who is logged in, or None. A server function gets the bare request, so the name is looked up by its cookie,
    as gradio does for its own events (`get_current_user` in gradio/routes.py)."""
    app = request.app
    for cookie in (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}"):
        name = app.tokens.get(request.cookies.get(cookie))
        if name:
            return str(name)
    return None
