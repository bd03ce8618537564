"""The gallery under a run: on which samples the adapter gained and lost most, each a step from Compare and Annotate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from grounding.adapters import AdapterInfo, AdapterRegistry
from grounding.boxes import Box
from grounding.errors import AdapterError, BoxError, JobError, PictureError
from grounding.jobs.store import RunRecord, RunStore
from grounding.overlay import Layer, figure_html
from grounding.pictures import picture_size_wh
from grounding.training.gallery import Change, Gallery, read_gallery
from grounding.training.history import SampleRow
from grounding.ui.chosen import shown_in_compare
from grounding.ui.events import tell
from grounding.ui.pictures import find_picture, picture_url
from grounding.ui.to_annotate import annotate_link_html
from grounding.ui.wording import count_of
from grounding.workspace import Workspace

_SIDE_PX = 320
_QUIET: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}

# Compare's grid listens for `boxwright-lay`.
_ON_LOAD = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-go]');
  if (!button) return;
  window.scrollTo(0, 0);
  document.dispatchEvent(new CustomEvent('boxwright-lay', { detail: { id: button.dataset.sample } }));
  trigger('compare', {});
});
"""


@dataclass(frozen=True)
class GalleryParts:
    """What the gallery is built on. `model` gives the id of the base that Compare has."""

    workspace: Workspace
    model: Callable[[], str]


def build_gallery(
    tab: gr.Tab,
    parts: GalleryParts,
    tabs: gr.Tabs,
    model_choice: gr.Dropdown,
    view: gr.HTML,
    looked_at: gr.State,
) -> gr.HTML:
    """Lay out the gallery here and connect it. It follows `view`, the page's picture of a run: that of the id
    `looked_at`, or of the newest where it is ""."""
    handlers = Handlers(parts)
    html = gr.HTML(elem_id="train-gallery", js_on_load=_ON_LOAD, apply_default_css=False)
    key = gr.State("")
    gr.on([tab.select, view.change], handlers.show, [key, looked_at], [html, key], **_QUIET)
    html.compare(handlers.to_compare, looked_at, [tabs, model_choice], **_QUIET)
    return html


class Handlers:
    """Fills the gallery and leads on from it."""

    def __init__(self, parts: GalleryParts) -> None:
        self.parts = parts
        self.store = RunStore(parts.workspace.runs_db)
        self.adapters = AdapterRegistry(parts.workspace.adapters)

    @tell
    def show(self, key: str, looked_at: str = "") -> tuple[Any, Any]:
        """The gallery of the run on the page when it left an adapter; nothing is sent when it is shown already."""
        found = self._found(looked_at)
        if found is None:
            return ("", "none") if key != "none" else (gr.skip(), gr.skip())
        run, adapter = found
        now = f"{run.id} {run.state} {run.finished_at} {adapter.name}"
        if now == key:
            return gr.skip(), gr.skip()
        return gallery_html(read_gallery(adapter.path), adapter.name, self._picture), now

    @tell
    def to_compare(self, looked_at: str = "") -> tuple[Any, Any]:
        """Switch to Compare with that run's adapter. Raises `AdapterError` when it is gone."""
        found = self._found(looked_at)
        names = [info.name for info in self.adapters.fitting(self.parts.model())]
        if found is None or found[1].name not in names:
            raise AdapterError("The adapter of this run is gone, or its base is another than Compare has.")
        return gr.Tabs(selected="compare"), shown_in_compare(names, found[1].name)

    def _found(self, looked_at: str) -> tuple[RunRecord, AdapterInfo] | None:
        """The run on the page with its own adapter, when it has ended and that stands under whatever name."""
        run = self.store.shown()
        if looked_at:
            with suppress(JobError):  # removed meanwhile: the page shows the newest again
                run = self.store.get(looked_at)
        if run is None or not run.state.ended:
            return None
        adapter = self.adapters.of_run(run.id, run.name)
        return None if adapter is None else (run, adapter)

    def _picture(self, image: str) -> tuple[str, tuple[int, int]] | None:
        """(address, size) of a picture of the workspace, whose file is named by its SHA-256; None for any other."""
        sha256 = Path(image).stem
        try:
            return picture_url(sha256, _SIDE_PX), picture_size_wh(find_picture(self.parts.workspace, sha256))
        except PictureError:
            return None


Picture = Callable[[str], tuple[str, tuple[int, int]] | None]


def gallery_html(gallery: Gallery | None, name: str, picture: Picture) -> str:
    """Both halves of the gallery under the run's verdict. Everything is escaped."""
    if gallery is None or not gallery.count:
        return ""
    same = gallery.count - gallery.gained - gallery.lost
    of = count_of(gallery.count, "sample")
    counts = f"{gallery.gained:,} better, {gallery.lost:,} worse, {same:,} about the same, of {of}"
    return (
        f'<section class="bw-gallery"><header><h3>Where {escape(name)} differs from the base</h3>'
        f"<p>{escape(counts)}, by IoU</p></header>{_keys(name)}"
        f"{_half('Biggest gains', gallery.gains, name, picture)}"
        f"{_half('Biggest losses', gallery.losses, name, picture)}</section>"
    )


def _keys(name: str) -> str:
    kinds = (("truth", "truth"), ("base", "base"), ("adapter", name))
    return (
        '<p class="bw-gallery-keys">'
        + "".join(f'<span><i class="bw-key" data-kind="{kind}"></i>{escape(text)}</span>' for kind, text in kinds)
        + "</p>"
    )


def _half(title: str, changes: Sequence[Change], name: str, picture: Picture) -> str:
    if not changes:
        return f'<h4>{title}</h4><p class="bw-gallery-none">None by 0.05 IoU or more.</p>'
    cards = "".join(_card(change, name, picture) for change in changes)
    return f'<h4>{title}</h4><div class="bw-gallery-row" role="list">{cards}</div>'


def _card(change: Change, name: str, picture: Picture) -> str:
    row = change.after
    shown = picture(row.image)
    figure = '<div class="bw-gallery-gone">The picture is not in this workspace</div>'
    if shown is not None:
        layers = [
            Layer("truth", "truth", _boxes(row.truth), labelled=False),
            Layer("base", "base", _boxes(change.before.boxes), labelled=False),
            Layer(name, "adapter", _boxes(row.boxes), labelled=False),
        ]
        figure = figure_html(shown[0], shown[1], layers, alt=f"Boxes for “{row.phrase}”")
    sign = "up" if change.gain > 0 else "down"
    sample = escape(row.id, quote=True)
    return (
        f'<article class="bw-gallery-card" role="listitem"><div class="bw-gallery-figure">{figure}</div>'
        f'<p class="bw-gallery-phrase" title="{escape(row.phrase)}">{escape(row.phrase)}</p>'
        f'<p class="bw-gallery-figures"><b class="bw-gain" data-sign="{sign}">'
        f"{f'{change.gain:+.2f}'.replace('-', '−')}</b> {_answer(change.before)} → {_answer(row)}</p>"
        f'<p class="bw-gallery-links"><button type="button" data-go="compare" data-sample="{sample}">Compare</button>'
        f"{annotate_link_html(row.id)}</p></article>"
    )


def _answer(row: SampleRow) -> str:
    return "no box" if row.truth and not row.boxes else f"{row.iou:.2f}"


def _boxes(numbers: Sequence[Sequence[float]]) -> tuple[Box, ...]:
    boxes = []
    for four in numbers:
        try:
            boxes.append(Box(*four))
        except (BoxError, TypeError):
            continue
    return tuple(boxes)
