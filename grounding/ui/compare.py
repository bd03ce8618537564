"""The Compare tab: where up to four models put the box for a phrase. Widgets and wiring only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from grounding.errors import BoxwrightError
from grounding.records import MAX_PHRASE_CHARACTERS, check_phrase
from grounding.ui.arena import build_arena
from grounding.ui.browser import build_browser, grid_html
from grounding.ui.cards import empty_html
from grounding.ui.chosen import MOST_MODELS, Models, first_adapter, first_choice, model_choices
from grounding.ui.desk import Compare, Desk
from grounding.ui.evaluations_panel import EvaluationWidgets, build_evaluations, lay_out_evaluations
from grounding.ui.events import tell
from grounding.ui.further import FurtherModels
from grounding.ui.further_panel import FurtherWidgets, connect_further, lay_out_further, show_button
from grounding.ui.really_changed import really_changed
from grounding.ui.scoreboard import SUMMARY_SPLIT, Scoreboard
from grounding.ui.sources import Parts
from grounding.ui.summary import summary_html
from grounding.ui.theme import ASSETS
from grounding.ui.to_annotate import build_way_back
from grounding.ui.whole import build_whole

MODEL_QUEUE: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1}
"""Everything that runs on the model waits in one line; everything else runs beside it."""
FREE_QUEUE: dict[str, Any] = {"concurrency_limit": None}
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
ALL_SPLITS = "all"
_VIEWS = (("side", "Side by side"), ("overlay", "Overlay"), ("slider", "Slider"))
_TOOLS = (
    '<div class="bw-tools"><fieldset class="bw-views" aria-label="View">'
    + "".join(
        f'<label><input type="radio" name="bw-view" value="{name}"{" checked" * (name == "side")}>{label}</label>'
        for name, label in _VIEWS
    )
    + '</fieldset><div class="bw-zooms" role="group" aria-label="Zoom">'
    '<button type="button" data-zoom="out" aria-label="Zoom out">−</button>'
    '<button type="button" data-zoom="whole" class="bw-zoom-now" title="Show the whole picture" '
    'aria-label="Show the whole picture">100%</button>'
    '<button type="button" data-zoom="in" aria-label="Zoom in">+</button></div></div>'
)


@dataclass(frozen=True)
class Widgets:
    """The tab's controls."""

    desk: gr.State
    split: gr.Dropdown
    grid: gr.HTML
    upload: gr.UploadButton
    phrase: gr.Textbox
    models: gr.Dropdown
    others: gr.Button
    run: gr.Button
    results: gr.HTML
    evaluations: EvaluationWidgets
    summary: gr.HTML
    further: FurtherWidgets


def build_compare(
    demo: gr.Blocks, tab: gr.Tab, parts: Parts, board: Scoreboard, further: FurtherModels | None = None
) -> Widgets:
    """Lay out the tab inside the current `gr.Tab` and connect it; `demo` gives the page-load event, `further` the
    models besides the app's own."""
    compare = Compare(parts, board, further)
    widgets = _lay_out(compare.further)
    handlers = Handlers(compare)
    _connect_desk(demo, tab, widgets, handlers)
    build_evaluations(demo, tab, widgets.evaluations, board, widgets.models, widgets.others)
    connect_further(widgets.further, widgets.models, compare.further, compare.adapter_names, {**FREE_QUEUE, **_QUIET})
    _connect_summary(demo, widgets, handlers)
    build_whole(tab, parts, widgets.models, [widgets.evaluations.newest.change], compare.further.keys)
    build_arena(demo, parts)
    return widgets


def _lay_out(models_besides: FurtherModels) -> Widgets:
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
                run = gr.Button("Run", variant="primary", scale=0, min_width=92, elem_id="compare-run")
            with gr.Row(elem_id="compare-view-bar", equal_height=True):
                models = gr.Dropdown(
                    label="Models",
                    show_label=False,
                    container=False,
                    multiselect=True,
                    max_choices=MOST_MODELS,
                    elem_id="compare-models",
                )
                others = really_changed([models], "compare-models-others")
                show = show_button()
                gr.HTML(_TOOLS, elem_id="compare-tools", apply_default_css=False)
            further = lay_out_further(show, models_besides)
            script = (ASSETS / "compare.js").read_text(encoding="utf-8")
            results = gr.HTML(elem_id="compare-results", js_on_load=script, apply_default_css=False)
    with gr.Column(elem_id="compare-summary-panel"):
        evaluations = lay_out_evaluations()
        summary = gr.HTML(elem_id="compare-summary", apply_default_css=False)
    return Widgets(desk, split, grid, upload, phrase, models, others, run, results, evaluations, summary, further)


def _connect_desk(demo: gr.Blocks, tab: gr.Tab, w: Widgets, h: Handlers) -> None:
    asking: dict[str, Any] = {
        "fn": h.ask_picked,
        "inputs": [w.desk, w.phrase, w.models],
        "outputs": w.results,
        # Each picture laid down asks for itself: by default gradio would drop the later ones while one is answered.
        "trigger_mode": "multiple",
        **MODEL_QUEUE,
        **_QUIET,
    }
    typed: dict[str, Any] = asking | {"fn": h.ask_typed, "trigger_mode": "always_last"}
    laid = [w.phrase, w.results]
    demo.load(h.open_page, w.desk, [w.split, w.grid, w.models, *laid], **FREE_QUEUE, **_QUIET).then(**asking)
    w.grid.pick(h.pick, [w.desk, w.models], laid, trigger_mode="multiple", **FREE_QUEUE, **_QUIET).success(**asking)
    w.grid.turn(h.turn, [w.desk, w.split], w.grid, **FREE_QUEUE, **_QUIET)
    w.split.input(h.turn_to_start, [w.desk, w.split], w.grid, **FREE_QUEUE, **_QUIET)
    w.upload.upload(
        h.upload, [w.upload, w.desk, w.split, w.phrase, w.models], [w.grid, *laid], **FREE_QUEUE, **_QUIET
    ).success(**asking)
    gr.on([w.run.click, w.phrase.submit], **typed)
    w.others.click(**typed | {"fn": h.ask_models})
    build_way_back(h.returned, [w.desk, w.split, w.models], [*laid, w.grid], asking)
    w.results.more(h.more, w.desk, w.results, trigger_mode="multiple", **MODEL_QUEUE, **_QUIET)
    tab.select(h.refresh_models, [w.desk, w.models], w.models, **FREE_QUEUE, **_QUIET)


def _connect_summary(demo: gr.Blocks, w: Widgets, h: Handlers) -> None:
    demo.load(h.show_newest_summary, None, w.summary, **FREE_QUEUE, **_QUIET)
    gr.on(
        [w.others.click, w.evaluations.newest.change],
        h.show_summary,
        w.models,
        w.summary,
        # By default gradio would drop a choice that comes while another one is being worked out. One after the other,
        # so that the last choice is what stands; "always_last" is taken: two of them on one event never end.
        trigger_mode="multiple",
        **{**FREE_QUEUE, "concurrency_limit": 1},
        **_QUIET,
    )


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
        phrase, adapters = first.phrase if first else "", compare.adapter_names()
        desk.offered, chosen = tuple(adapters), first_choice(adapters)
        counts = source.splits()
        splits = [(f"{name} · {count:,} samples", name) for name, count in counts.items() if count]
        splits.append((f"all · {sum(counts.values()):,} samples", ALL_SPLITS))
        return (
            gr.Dropdown(choices=splits, value=split or ALL_SPLITS),
            self._grid_html(desk, split),
            gr.Dropdown(choices=self._choices(adapters), value=chosen, multiselect=True),
            phrase,
            compare.waiting_html(desk, phrase, compare.check_models(chosen)),
        )

    @tell
    def pick(self, event: gr.EventData, desk: Desk, chosen: list[str] | None) -> tuple[str, str]:
        models = self.compare.check_models(chosen)  # first: a picture is not laid down for models that are gone
        sample = self.compare.pick(desk, getattr(event, "id", None))
        return sample.phrase, self.compare.waiting_html(desk, sample.phrase, models)

    @tell
    def returned(
        self, event: gr.EventData, desk: Desk, split: str | None, chosen: list[str] | None
    ) -> tuple[str, str, str]:
        """A sample that was open in Annotate, laid down as it stands now, and the grid with its new words."""
        return (*self.pick(event, desk, chosen), self._grid(desk, split, desk.offset))

    @tell
    def turn(self, event: gr.EventData, desk: Desk, split: str | None) -> str:
        offset = getattr(event, "offset", 0)
        return self._grid(desk, split, offset if isinstance(offset, int) else 0)

    @tell
    def turn_to_start(self, desk: Desk, split: str | None) -> str:
        return self._grid(desk, split, 0)

    @tell
    def upload(
        self, path: str | None, desk: Desk, split: str | None, phrase: str, chosen: list[str] | None
    ) -> tuple[str, str, str]:
        """The uploaded picture on the desk. A phrase that belonged to the sample before goes; one's own stays."""
        models = self.compare.check_models(chosen)
        if phrase == self.compare.phrase_of_sample(desk):
            phrase = ""
        self.compare.upload(desk, Path(path or ""))
        return self._grid(desk, split, desk.offset), phrase, self.compare.waiting_html(desk, phrase, models)

    @tell
    def ask_picked(self, desk: Desk, phrase: str, chosen: list[str] | None) -> Iterator[Any]:
        """Ask about the picture that was laid down last; those that were passed over quickly are not asked about."""
        if desk.picture_sha256 is None or desk.answered_number == desk.picture_number:
            yield gr.skip()
            return
        desk.answered_number = desk.picture_number
        try:
            phrase, models = self.compare.phrase_of_sample(desk) or phrase, self.compare.check_models(chosen)
        except BoxwrightError as error:  # the page says "Asking the model" by now
            yield empty_html(str(error))
            return
        if phrase.strip():
            yield from self.compare.ask(desk, phrase, models)
        else:
            yield gr.skip()

    @tell
    def ask_typed(self, desk: Desk, phrase: str, chosen: list[str] | None) -> Iterator[Any]:
        models = self.compare.check_models(chosen)
        if phrase.strip():
            yield from self.compare.ask(desk, check_phrase(phrase), models)
        else:
            desk.answered = None
            yield self.compare.waiting_html(desk, "", models)

    @tell
    def ask_models(self, desk: Desk, phrase: str, chosen: list[str] | None) -> Iterator[Any]:
        """Ask again with other models, chosen here or sent from the Train tab; not for the page's own first fill."""
        models, phrase = self.compare.check_models(chosen), " ".join(phrase.split())
        if desk.asked is not None and desk.asked[0] != desk.picture_number:
            # Laid down since the last question: the page may not have its words yet, and it need not be asked twice.
            phrase = self.compare.phrase_of_sample(desk) or phrase
            desk.answered_number = desk.picture_number
        if desk.asked is None or not phrase or desk.asked == (desk.picture_number, phrase, models):
            yield gr.skip()
        else:
            yield from self.compare.ask(desk, check_phrase(phrase), models)

    @tell
    def more(self, event: gr.EventData, desk: Desk) -> Any:
        """Heat, probes or the prompt for the answers on the page; nothing when they are gone by then."""
        html = self.compare.more(desk, getattr(event, "part", None))
        return gr.skip() if html is None else html

    @tell
    def refresh_models(self, desk: Desk, chosen: list[str] | None) -> Any:
        """The adapters as they stand now. The choice stays, unless some of it is gone or there was none to choose."""
        names, offered = self.compare.adapter_names(), desk.offered
        desk.offered = tuple(names)
        choices = self._choices(names)
        known = [value for _, value in choices]
        kept = [one for one in chosen or () if one in known]
        # Nothing chosen: gradio tells of the first tab before the page has filled the list.
        stays = bool(kept) and len(kept) == len(chosen or ()) and (bool(offered) or kept != first_choice(()))
        return gr.Dropdown(choices=choices, value=kept if stays else first_choice(names), multiselect=True)

    @tell
    def show_newest_summary(self) -> str:
        return self._summary(self.compare.check_models(first_choice(self.compare.adapter_names())))

    @tell
    def show_summary(self, chosen: list[str] | None) -> str:
        try:
            return self._summary(self.compare.check_models(chosen))
        except BoxwrightError as error:  # not asked for by this page alone: it is no notice's business
            return empty_html(str(error))

    def _choices(self, adapters: list[str]) -> list[tuple[str, str]]:
        return model_choices(adapters, self.compare.further.keys())

    def _grid(self, desk: Desk, split: str | None, offset: int) -> str:
        desk.offset = offset
        return self._grid_html(desk, self.compare.check_split(split))

    def _grid_html(self, desk: Desk, split: str | None) -> str:
        return grid_html(self.compare.parts.source, split, desk.offset, desk.sample_id, version=desk.picture_number)

    def _summary(self, models: Models) -> str:
        chosen = first_adapter(models)
        board = self.compare.board
        try:
            samples = board.samples()
            base, adapter = board.kept(None, samples), board.kept(chosen, samples) if chosen else None
            return summary_html(SUMMARY_SPLIT, base, adapter, chosen, board.figures(base, adapter))
        except BoxwrightError as error:
            return empty_html(str(error))
