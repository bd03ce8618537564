"""A whole-set comparison in the Compare tab: two kept evaluations, their figures, and every sample behind them.

It fills itself when it comes into view. `build_whole` wires it; `finished` are events that tell of a new kept
evaluation, after which the lists are read again.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from grounding.adapters import AdapterRegistry
from grounding.adapters.evaluations import adapter_of
from grounding.compared.exports import FORMATS
from grounding.compared.filters import order_rows, page_of
from grounding.errors import BoxwrightError, RecordError, WorkspaceError
from grounding.reports import KeptReport
from grounding.ui.cards import empty_html
from grounding.ui.chosen import BASE, MOST_MODELS, model_choices
from grounding.ui.events import tell
from grounding.ui.kept import id_of
from grounding.ui.sources import Parts
from grounding.ui.theme import ASSETS
from grounding.ui.whole_bar import bar_html
from grounding.ui.whole_breakdowns import breakdowns_html
from grounding.ui.whole_figures import figures_html
from grounding.ui.whole_kept import ALONE, Opened, Shelf, first_pair, report_choices
from grounding.ui.whole_look import PAGE_SIZE, Looking
from grounding.ui.whole_samples import samples_html, suspects_html

NOTHING_YET = "Nothing is evaluated yet. Press Evaluate above: the result opens here, with every sample behind it."
_QUIET: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}
_FORMATS = {
    "markdown": "Markdown report",
    "csv": "CSV tables",
    "parquet": "Parquet tables",
    "json": "JSON document",
    "coco": "COCO results",
    "fiftyone": "FiftyOne data set",
}
_EXPORTS_KEPT = 4


@dataclass(frozen=True)
class Widgets:
    """The controls, in the order in which they stand on the page."""

    look: gr.State
    a: gr.Dropdown
    b: gr.Dropdown
    swap: gr.Button
    format: gr.Dropdown
    export: gr.Button
    download: gr.DownloadButton
    bar: gr.HTML
    figures: gr.HTML
    breakdowns: gr.HTML
    samples: gr.HTML

    @property
    def shown(self) -> list[gr.HTML]:
        return [self.bar, self.figures, self.breakdowns, self.samples]


def build_whole(
    tab: gr.Tab,
    parts: Parts,
    models: gr.Dropdown,
    finished: Sequence[Callable[..., Any]] = (),
    further: Callable[[], Sequence[str]] = tuple,
) -> Widgets:
    """Lay it out here and connect it. `models` is the list of the part for one picture, which follows the sample that
    is opened there; `finished` are events after which there may be another kept evaluation; `further` gives the keys of
    the further models that the list offers."""
    w = _lay_out()
    h = Handlers(parts, further)
    evaluations = [w.a, w.b]
    filled = {"outputs": [*evaluations, *w.shown], **_QUIET}
    w.figures.show(h.show, w.look, **filled)  # type: ignore[attr-defined]
    gr.on([tab.select, *finished], h.refresh, w.look, **filled)
    gr.on([w.a.input, w.b.input], h.choose, [w.look, *evaluations], trigger_mode="always_last", **filled)
    w.swap.click(h.swap, [w.look], [*evaluations, *w.shown], **_QUIET)
    for html in w.shown:
        html.ask(h.ask, w.look, w.shown, trigger_mode="multiple", **_QUIET)  # type: ignore[attr-defined]
    w.samples.lay(h.to_models, [w.look, models], models, **_QUIET)  # type: ignore[attr-defined]
    forgetting: dict[str, Any] = {"fn": h.forget_export, "inputs": None, "outputs": w.download, **_QUIET}
    gr.on([w.a.input, w.b.input, w.swap.click, w.format.input], trigger_mode="multiple", **forgetting)
    for html in w.shown:
        html.ask(trigger_mode="multiple", **forgetting)  # type: ignore[attr-defined]
    exporting: dict[str, Any] = _QUIET | {"concurrency_limit": 1}
    w.export.click(h.begin_export, None, [w.export, w.download], **_QUIET).then(
        h.export, [w.look, w.format], w.download, **exporting
    ).then(h.end_export, None, w.export, **_QUIET)
    return w


def _lay_out() -> Widgets:
    script = (ASSETS / "whole.js").read_text(encoding="utf-8")
    html: dict[str, Any] = {"js_on_load": script, "apply_default_css": False}
    look = gr.State(Looking())
    with gr.Column(elem_id="whole"):
        with gr.Row(elem_id="whole-head", equal_height=True):
            gr.HTML("<h2>Whole set</h2>", apply_default_css=False, elem_id="whole-title")
            b = _evaluations("Evaluation b: what is compared", "whole-b")
            gr.HTML("<span>against</span>", apply_default_css=False, elem_id="whole-against")
            a = _evaluations("Evaluation a: what it is compared with", "whole-a")
            swap = gr.Button("⇄", size="sm", scale=0, min_width=40, elem_id="whole-swap")
        bar = gr.HTML(elem_id="whole-bar", **html)
        figures = gr.HTML(elem_id="whole-figures", **html)
        breakdowns = gr.HTML(elem_id="whole-breakdowns", **html)
        with gr.Row(elem_id="whole-exports", equal_height=True):
            format_ = gr.Dropdown(
                label="Export as",
                choices=[(title, name) for name, title in _FORMATS.items()],
                value="markdown",
                show_label=False,
                container=False,
                filterable=False,
                min_width=180,
                scale=0,
                elem_id="whole-format",
            )
            export = gr.Button("Export these samples", size="sm", scale=0, min_width=168, elem_id="whole-export")
            download = gr.DownloadButton(
                "Download", size="sm", scale=0, min_width=168, interactive=False, elem_id="whole-download"
            )
        samples = gr.HTML(elem_id="whole-list", **html)
    return Widgets(look, a, b, swap, format_, export, download, bar, figures, breakdowns, samples)


def _evaluations(label: str, elem_id: str) -> gr.Dropdown:
    return gr.Dropdown(label=label, show_label=False, container=False, min_width=240, scale=1, elem_id=elem_id)


class Handlers:
    """What happens on each event: checks what the client sent, looks into the comparison, and fills the widgets."""

    def __init__(self, parts: Parts, further: Callable[[], Sequence[str]] = tuple) -> None:
        self.parts = parts
        self.further = further
        self.shelf = Shelf(parts.workspace)
        self._exports: deque[Callable[[], object]] = deque()

    @tell
    def show(self, look: Looking) -> Iterator[tuple[Any, ...]]:
        """The first filling, once somebody sees it."""
        if not look.shown:
            look.shown = True
            yield from self._fill(look)
        else:
            yield self._same()

    @tell
    def refresh(self, look: Looking) -> Iterator[tuple[Any, ...]]:
        """The lists as they stand now. The newest pair opens unless somebody has chosen evaluations by hand."""
        if look.shown:
            yield from self._fill(look)
        else:
            yield self._same()

    @tell
    def choose(self, look: Looking, a: object, b: object) -> Iterator[tuple[Any, ...]]:
        """Other evaluations, all of their samples."""
        look.by_hand = look.shown = True
        look.choose(str(a or ""), str(b or ALONE))
        yield from self._with_lists(look, self.shelf.list())

    @tell
    def swap(self, look: Looking) -> Iterator[tuple[Any, ...]]:
        """The same two the other way round."""
        if look.b == ALONE:
            raise RecordError("One evaluation alone can't be turned round: choose a second one first.")
        look.by_hand = True
        look.choose(look.b, look.a)
        yield from self._with_lists(look, self.shelf.list())

    @tell
    def ask(self, event: gr.EventData, look: Looking) -> Iterator[tuple[Any, ...]]:
        """A filter, an order, a page or the other list: samples and figures at once, intervals as soon as they are
        known, unless something else was asked for meanwhile."""
        before = look.subject
        look.change(getattr(event, "change", None))
        yield from self._everything(look, figures=before != look.subject)

    @tell
    def to_models(self, look: Looking, chosen: list[str] | None) -> Any:
        """The list of models above with those of this comparison, as far as the app has them."""
        wanted = self._models(look)
        if not wanted or wanted == chosen:
            return gr.skip()
        names = [info.name for info in self._adapters()]
        return gr.Dropdown(choices=model_choices(names, self.further()), value=wanted[:MOST_MODELS], multiselect=True)

    def begin_export(self) -> tuple[Any, Any]:
        return gr.Button("Writing…", interactive=False), gr.DownloadButton("Download", value=None, interactive=False)

    @tell
    def export(self, look: Looking, format_: object) -> Any:
        """The samples that pass the filter and their figures as one zip file."""
        opened = self._opened(look)
        if format_ not in FORMATS:
            raise WorkspaceError(f"There is no export {str(format_)[:40]!r}: expected one of {', '.join(FORMATS)}.")
        report = opened.report(look.filter, look.with_seen)
        name = f"comparison-{format_}"
        folder = Path(tempfile.mkdtemp(prefix="boxwright-export-"))
        # It goes with the app at the latest.
        self._exports.append(weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True))
        while len(self._exports) > _EXPORTS_KEPT:
            self._exports.popleft()()
        report.export(folder / name, str(format_))
        archive = Path(shutil.make_archive(str(folder / name), "zip", folder / name))
        shutil.rmtree(folder / name)
        size = archive.stat().st_size / 1e6
        told = f"Download {size:.1f} MB" if size >= 0.1 else f"Download {1000 * size:.0f} kB"
        return gr.DownloadButton(told, value=str(archive), interactive=True)

    def forget_export(self) -> Any:
        """What was written is of another look or in another format: it is not to be taken for this one."""
        return gr.DownloadButton("Download", value=None, interactive=False)

    def end_export(self) -> Any:
        return gr.Button("Export these samples", interactive=True)

    def _fill(self, look: Looking) -> Iterator[tuple[Any, ...]]:
        """Lists and figures; where nothing new is to be opened, the lists and the samples: they may be edited."""
        reports = self.shelf.list()
        there = [id_of(kept) for kept in reports]
        a, b = first_pair(reports)
        stays = look.a in there and look.b in (ALONE, *there) and (look.by_hand or (look.a, look.b) == (a, b))
        if not stays:
            look.choose(a, b)
        if stays:
            yield (*self._lists(look, reports), gr.skip(), gr.skip(), gr.skip(), self._listed_anew(look))
        else:
            yield from self._with_lists(look, reports)

    def _with_lists(self, look: Looking, reports: Sequence[KeptReport]) -> Iterator[tuple[Any, ...]]:
        """The two lists once, and everything below them."""
        lists = self._lists(look, reports)
        for shown in self._everything(look):
            yield (*lists, *shown)
            lists = (gr.skip(), gr.skip())

    def _lists(self, look: Looking, reports: Sequence[KeptReport]) -> tuple[Any, Any]:
        """What a and b may be, and which of it they are; what is gone is chosen nowhere."""
        choices, some = report_choices(reports), bool(reports)
        there = [id_of(kept) for kept in reports]
        alone = ("nothing: the other alone", ALONE)
        return (
            gr.Dropdown(choices=choices, value=look.a if look.a in there else None, interactive=some),
            gr.Dropdown(choices=[alone, *choices], value=look.b if look.b in there else ALONE, interactive=some),
        )

    def _everything(self, look: Looking, *, figures: bool = True) -> Iterator[tuple[Any, ...]]:
        """(bar, figures, breakdowns, list): first without intervals, then those two again with them."""
        number, subject = look.number, look.subject
        if not look.a:
            yield "", empty_html(NOTHING_YET), "", ""
            return
        try:
            opened = self._opened(look)
        except BoxwrightError as error:
            yield "", empty_html(str(error)), "", ""
            return
        asked, with_seen = look.filter, look.with_seen
        rows = self._rows(opened, look)
        bar = bar_html(opened.comparison, look, len(rows))
        if not figures:
            yield bar, gr.skip(), gr.skip(), self._list(opened, look, rows)
            return
        found = opened.figures(asked, with_seen, exact=False)
        if look.number == number:
            yield bar, figures_html(found), breakdowns_html(found), self._list(opened, look, rows)
        elif look.subject == subject:  # another order or page has come meanwhile, with its own bar and list
            yield gr.skip(), figures_html(found), breakdowns_html(found), gr.skip()
        if not found.exact and look.subject == subject:
            found = opened.figures(asked, with_seen, exact=True)
            if look.subject == subject:
                yield gr.skip(), figures_html(found), breakdowns_html(found), gr.skip()

    def _listed_anew(self, look: Looking) -> Any:
        try:
            opened = self._opened(look)
            return self._list(opened, look, self._rows(opened, look))
        except BoxwrightError:
            return gr.skip()  # the figures say why

    def _rows(self, opened: Opened, look: Looking) -> np.ndarray:
        """The samples that the figures are over, in the order asked for."""
        return order_rows(opened.comparison, opened.report(look.filter, look.with_seen).counted, look.order)

    def _list(self, opened: Opened, look: Looking, rows: np.ndarray) -> str:
        comparison = opened.comparison
        if look.list == "suspects" and comparison.b is not None:
            found = opened.suspects(look.filter)
            page = page_of(np.arange(len(found)), look.page, PAGE_SIZE)
            return suspects_html(comparison, found, page, self.parts)
        left_out = int(opened.report(look.filter, look.with_seen).listed.sum()) - len(rows)
        return samples_html(comparison, page_of(rows, look.page, PAGE_SIZE), self.parts, left_out=left_out)

    def _opened(self, look: Looking) -> Opened:
        if not look.a:
            raise WorkspaceError(NOTHING_YET)
        return self.shelf.open(look.a, look.b)

    def _models(self, look: Looking) -> list[str]:
        """The models of this comparison that the app has, by the values of its list."""
        found = []
        for side in self._opened(look).comparison.sides:
            kept = side.kept
            if kept is None or kept.model_id != self.parts.models.model:
                continue
            info = adapter_of(kept, self._adapters()) if kept.adapter else None
            if kept.adapter is None or info is not None:
                found.append(info.name if info else BASE)
        return list(dict.fromkeys(found))

    def _adapters(self) -> Sequence[Any]:
        return AdapterRegistry(self.parts.workspace.adapters).fitting(self.parts.models.model)

    def _same(self) -> tuple[Any, ...]:
        return tuple(gr.skip() for _ in range(6))
