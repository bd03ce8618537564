"""The Compare tab: where the base and an adapter put the box for a phrase. Widgets and wiring only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from grounding.errors import BoxwrightError, Cancelled
from grounding.records import MAX_PHRASE_CHARACTERS, check_phrase
from grounding.ui.browser import build_browser, grid_html
from grounding.ui.cards import empty_html
from grounding.ui.desk import Compare, Desk
from grounding.ui.events import tell
from grounding.ui.scoreboard import SUMMARY_SPLIT, Scoreboard
from grounding.ui.sources import Parts
from grounding.ui.summary import progress_html, summary_html

MODEL_QUEUE: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1}
"""Everything that runs on the model waits in one line; everything else runs beside it."""
FREE_QUEUE: dict[str, Any] = {"concurrency_limit": None}
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
ALL_SPLITS = "all"
BASE_ONLY = ""


@dataclass(frozen=True)
class Widgets:
    """The tab's controls."""

    desk: gr.State
    split: gr.Dropdown
    grid: gr.HTML
    upload: gr.UploadButton
    phrase: gr.Textbox
    adapter: gr.Dropdown
    run: gr.Button
    results: gr.HTML
    summary_run: gr.Button
    summary_stop: gr.Button
    progress: gr.HTML
    summary: gr.HTML


def build_compare(demo: gr.Blocks, tab: gr.Tab, parts: Parts, board: Scoreboard) -> Widgets:
    """Lay out the tab inside the current `gr.Tab` and connect it; `demo` gives the page-load event."""
    widgets = _lay_out()
    handlers = Handlers(Compare(parts, board))
    _connect_desk(demo, tab, widgets, handlers)
    _connect_summary(demo, widgets, handlers)
    return widgets


def _lay_out() -> Widgets:
    desk = gr.State(Desk())
    with gr.Row(elem_id="compare", equal_height=False):
        with gr.Column(scale=0, min_width=296, elem_id="compare-left"):
            with gr.Row(elem_id="compare-source", equal_height=True):
                split = gr.Dropdown(
                    label="Split", show_label=False, container=False, filterable=False, elem_id="compare-split"
                )
                upload = gr.UploadButton(
                    "Upload…", size="sm", scale=0, min_width=92, file_types=["image"], elem_id="compare-upload"
                )
            grid = build_browser("compare-grid")
        with gr.Column(scale=1, min_width=420, elem_id="compare-right"):
            with gr.Row(elem_id="compare-bar", equal_height=True):
                phrase = gr.Textbox(
                    label="Phrase",
                    show_label=False,
                    container=False,
                    placeholder="What to look for, such as: the left mug",
                    max_length=MAX_PHRASE_CHARACTERS,
                    scale=1,
                    elem_id="compare-phrase",
                )
                adapter = gr.Dropdown(
                    label="Adapter",
                    show_label=False,
                    container=False,
                    scale=0,
                    min_width=190,
                    elem_id="compare-adapter",
                )
                run = gr.Button("Run", variant="primary", scale=0, min_width=92, elem_id="compare-run")
            results = gr.HTML(elem_id="compare-results", apply_default_css=False)
    with gr.Column(elem_id="compare-summary-panel"):
        with gr.Row(elem_id="compare-summary-bar", equal_height=True):
            gr.HTML(f"<h2>Over the {SUMMARY_SPLIT} split</h2>", apply_default_css=False)
            progress = gr.HTML(elem_id="compare-summary-progress", apply_default_css=False)
            stop = gr.Button("Stop", size="sm", visible=False, scale=0, min_width=84, elem_id="compare-summary-stop")
            compute = gr.Button("Compute", size="sm", scale=0, min_width=110, elem_id="compare-summary-run")
        summary = gr.HTML(elem_id="compare-summary", apply_default_css=False)
    return Widgets(desk, split, grid, upload, phrase, adapter, run, results, compute, stop, progress, summary)


def _connect_desk(demo: gr.Blocks, tab: gr.Tab, w: Widgets, h: Handlers) -> None:
    asking: dict[str, Any] = {
        "fn": h.ask_picked,
        "inputs": [w.desk, w.phrase, w.adapter],
        "outputs": w.results,
        # Each picture laid down asks for itself: by default gradio would drop the later ones while one is answered.
        "trigger_mode": "multiple",
        **MODEL_QUEUE,
        **_QUIET,
    }
    typed: dict[str, Any] = asking | {"fn": h.ask_typed, "trigger_mode": "always_last"}
    laid = [w.phrase, w.results]
    demo.load(h.open_page, w.desk, [w.split, w.grid, w.adapter, *laid], **FREE_QUEUE, **_QUIET).then(**asking)
    w.grid.pick(h.pick, [w.desk, w.adapter], laid, trigger_mode="multiple", **FREE_QUEUE, **_QUIET).then(**asking)
    w.grid.turn(h.turn, [w.desk, w.split], w.grid, **FREE_QUEUE, **_QUIET)
    w.split.input(h.turn_to_start, [w.desk, w.split], w.grid, **FREE_QUEUE, **_QUIET)
    w.upload.upload(
        h.upload, [w.upload, w.desk, w.split, w.phrase, w.adapter], [w.grid, *laid], **FREE_QUEUE, **_QUIET
    ).success(**asking)
    gr.on([w.run.click, w.phrase.submit], **typed)
    w.adapter.change(**typed | {"fn": h.ask_adapter})
    tab.select(h.refresh_adapters, [w.desk, w.adapter], w.adapter, **FREE_QUEUE, **_QUIET)


def _connect_summary(demo: gr.Blocks, w: Widgets, h: Handlers) -> None:
    buttons = [w.summary_run, w.summary_stop]
    computing = w.summary_run.click(h.begin_summary, w.desk, buttons, **FREE_QUEUE, **_QUIET).then(
        h.compute_summary, [w.desk, w.adapter], [w.progress, w.summary], **MODEL_QUEUE, **_QUIET
    )
    # Both, as `then` alone does not follow a failure in gradio 6.31.
    computing.success(h.end_summary, None, buttons, **FREE_QUEUE, **_QUIET)
    computing.failure(h.end_summary, None, buttons, **FREE_QUEUE, **_QUIET)
    w.summary_stop.click(h.stop_summary, w.desk, w.summary_stop, **FREE_QUEUE, **_QUIET)
    w.adapter.change(h.show_summary, w.adapter, w.summary, **FREE_QUEUE, **_QUIET)
    demo.load(h.show_newest_summary, None, w.summary, **FREE_QUEUE, **_QUIET)


class Handlers:
    """What happens on each event: checks what the client sent, calls `Compare`, and fills the widgets."""

    def __init__(self, compare: Compare) -> None:
        self.compare = compare

    @tell
    def open_page(self, desk: Desk) -> tuple[Any, ...]:
        """The page with the first sample on the desk, so that it is never blank."""
        compare, source = self.compare, self.compare.parts.source
        split = compare.default_split()
        first = compare.first_sample(split)
        if first is not None:
            compare.pick(desk, first.id)
        phrase, adapters = first.phrase if first else "", self._adapter_choices()
        desk.offered = tuple(name for _, name in adapters if name)
        counts = source.splits()
        splits = [(f"{name} · {count:,} samples", name) for name, count in counts.items() if count]
        splits.append((f"all · {sum(counts.values()):,} samples", ALL_SPLITS))
        return (
            gr.Dropdown(choices=splits, value=split or ALL_SPLITS),
            self._grid_html(desk, split),
            gr.Dropdown(choices=adapters, value=adapters[0][1]),
            phrase,
            compare.waiting_html(desk, phrase, adapters[0][1] or None),
        )

    @tell
    def pick(self, event: gr.EventData, desk: Desk, adapter: str | None) -> tuple[str, str]:
        sample = self.compare.pick(desk, getattr(event, "id", None))
        return sample.phrase, self.compare.waiting_html(desk, sample.phrase, self.compare.check_adapter(adapter))

    @tell
    def turn(self, event: gr.EventData, desk: Desk, split: str | None) -> str:
        offset = getattr(event, "offset", 0)
        return self._grid(desk, split, offset if isinstance(offset, int) else 0)

    @tell
    def turn_to_start(self, desk: Desk, split: str | None) -> str:
        return self._grid(desk, split, 0)

    @tell
    def upload(
        self, path: str | None, desk: Desk, split: str | None, phrase: str, adapter: str | None
    ) -> tuple[str, str, str]:
        """The uploaded picture on the desk. A phrase that belonged to the sample before goes; one's own stays."""
        chosen = self.compare.check_adapter(adapter)
        if phrase == self.compare.phrase_of_sample(desk):
            phrase = ""
        self.compare.upload(desk, Path(path or ""))
        return self._grid(desk, split, desk.offset), phrase, self.compare.waiting_html(desk, phrase, chosen)

    @tell
    def ask_picked(self, desk: Desk, phrase: str, adapter: str | None) -> Iterator[Any]:
        """Ask about the picture that was laid down last; those that were passed over quickly are not asked about."""
        if desk.picture_sha256 is None or desk.answered_number == desk.picture_number:
            yield gr.skip()
            return
        desk.answered_number = desk.picture_number
        phrase = self.compare.phrase_of_sample(desk) or phrase
        if not phrase.strip():
            yield gr.skip()
            return
        yield from self.compare.ask(desk, phrase, self.compare.check_adapter(adapter))

    @tell
    def ask_typed(self, desk: Desk, phrase: str, adapter: str | None) -> Iterator[Any]:
        chosen = self.compare.check_adapter(adapter)
        if phrase.strip():
            yield from self.compare.ask(desk, check_phrase(phrase), chosen)
        else:
            yield self.compare.waiting_html(desk, "", chosen)

    @tell
    def ask_adapter(self, desk: Desk, phrase: str, adapter: str | None) -> Iterator[Any]:
        """Ask again with another adapter, chosen here or sent from the Train tab; not for the page's own first fill."""
        chosen, phrase = self.compare.check_adapter(adapter), " ".join(phrase.split())
        if desk.asked is None or not phrase or desk.asked == (desk.picture_number, phrase, chosen):
            yield gr.skip()
        else:
            yield from self.compare.ask(desk, check_phrase(phrase), chosen)

    @tell
    def refresh_adapters(self, desk: Desk, adapter: str | None) -> Any:
        """The adapters as they stand now. The choice stays, unless it is gone or there was nothing to choose from."""
        choices, offered = self._adapter_choices(), desk.offered
        desk.offered = tuple(name for _, name in choices if name)
        # None: gradio tells of the first tab before the page has filled the list.
        stays = bool(offered) if adapter == BASE_ONLY else adapter in desk.offered
        return gr.Dropdown(choices=choices, value=adapter if stays else choices[0][1])

    @tell
    def show_newest_summary(self) -> str:
        return self._summary(self._adapter_choices()[0][1])

    @tell
    def show_summary(self, adapter: str | None) -> str:
        return self._summary(adapter)

    @tell
    def begin_summary(self, desk: Desk) -> tuple[Any, Any]:
        desk.stop_summary = False
        return gr.Button(interactive=False), gr.Button("Stop", visible=True, interactive=True)

    @tell
    def compute_summary(self, desk: Desk, adapter: str | None) -> Iterator[tuple[Any, Any]]:
        """Score the test split. What was computed before a stop or a failure is kept and shown."""
        chosen = self.compare.check_adapter(adapter)
        try:
            for done, total in self.compare.board.computing(chosen, lambda: desk.stop_summary):
                yield progress_html(done, total), gr.skip()
        except BoxwrightError as error:
            (gr.Info if isinstance(error, Cancelled) else gr.Warning)(escape(str(error)), title="Not computed")
        yield "", self._summary(chosen)

    @tell
    def stop_summary(self, desk: Desk) -> Any:
        desk.stop_summary = True
        return gr.Button("Stopping…", interactive=False)

    def end_summary(self) -> tuple[Any, Any]:
        return gr.Button(interactive=True), gr.Button(visible=False)

    def _grid(self, desk: Desk, split: str | None, offset: int) -> str:
        desk.offset = offset
        return self._grid_html(desk, self.compare.check_split(split))

    def _grid_html(self, desk: Desk, split: str | None) -> str:
        return grid_html(self.compare.parts.source, split, desk.offset, desk.sample_id, version=desk.picture_number)

    def _adapter_choices(self) -> list[tuple[str, str]]:
        """(label, value), newest first; the base alone comes last and has the value ""."""
        return [(info.name, info.name) for info in self.compare.board.adapters()] + [("Base only", BASE_ONLY)]

    def _summary(self, adapter: str | None) -> str:
        chosen = self.compare.check_adapter(adapter)
        board = self.compare.board
        try:
            samples = board.samples()
            adapter_scores = board.kept(chosen, samples) if chosen else None
            return summary_html(SUMMARY_SPLIT, board.kept(None, samples), adapter_scores, chosen)
        except BoxwrightError as error:
            return empty_html(str(error))
