"""The grid of thumbnails: a page of samples at a time, every key and click told to the server by id."""

from __future__ import annotations

from html import escape

import gradio as gr

from grounding.records import Sample
from grounding.ui.pictures import picture_url
from grounding.ui.sources import SampleSource, picture_id

PAGE_SIZE = 12

_ON_LOAD = """
const marked = () => element.querySelector('.bw-thumb[aria-pressed="true"]');
element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button || button.disabled) return;
  if (button.dataset.sample !== undefined) {
    marked()?.setAttribute('aria-pressed', 'false');
    button.setAttribute('aria-pressed', 'true');
    trigger('pick', { id: button.dataset.sample });
  } else if (button.dataset.offset !== undefined) {
    trigger('turn', { offset: Number(button.dataset.offset) });
  }
});
// Another tab lays a sample down: the gallery of a run.
document.addEventListener('boxwright-lay', (event) => {
  if (!element.isConnected) return;
  marked()?.setAttribute('aria-pressed', 'false');
  trigger('pick', { id: event.detail.id });
});
element.addEventListener('keydown', (event) => {
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 3, ArrowUp: -3 };
  if (!(event.key in steps) || !event.target.classList.contains('bw-thumb')) return;
  const thumbs = [...element.querySelectorAll('.bw-thumb')];
  const next = thumbs[thumbs.indexOf(event.target) + steps[event.key]];
  if (next) { next.focus(); event.preventDefault(); }
});
"""


def build_browser(elem_id: str) -> gr.HTML:
    """An empty grid. Its events: `pick` with `id`, `turn` with `offset`; fill it with `grid_html`."""
    return gr.HTML(elem_id=elem_id, js_on_load=_ON_LOAD, apply_default_css=False)


def grid_html(source: SampleSource, split: str | None, offset: int, selected: str | None, *, version: int = 0) -> str:
    """One page of thumbnails from `offset` on, moved to the last page when that lies beyond the end.

    A new `version` makes the page draw the grid anew even where nothing else is new: the browser marks the
    chosen thumbnail by itself, and gradio compares with what the server sent last.
    """
    offset = max(0, offset) // PAGE_SIZE * PAGE_SIZE
    samples, total = source.page(split, offset, PAGE_SIZE)
    if not samples and total:
        offset = (total - 1) // PAGE_SIZE * PAGE_SIZE
        samples, total = source.page(split, offset, PAGE_SIZE)
    if not samples:
        return '<div class="bw-grid-empty">No samples here yet. Upload a picture to try one.</div>'
    thumbs = "".join(_thumb(sample, sample.id == selected) for sample in samples)
    opening = f'<div class="bw-grid" data-version="{version}" role="group" aria-label="Samples">'
    return f"{opening}{thumbs}</div>{_pager(offset, total)}"


def _thumb(sample: Sample, selected: bool) -> str:
    phrase = escape(sample.phrase or "(no phrase)")
    return (
        f'<button type="button" class="bw-thumb" data-sample="{escape(sample.id)}" title="{phrase}" '
        f'aria-pressed="{str(selected).lower()}"><img src="{escape(picture_url(picture_id(sample), 160))}" alt="" '
        f'loading="lazy" decoding="async" draggable="false"><span>{phrase}</span></button>'
    )


def _pager(offset: int, total: int) -> str:
    last = min(offset + PAGE_SIZE, total)
    back, on = max(0, offset - PAGE_SIZE), offset + PAGE_SIZE
    return (
        '<nav class="bw-pager" aria-label="Pages">'
        f'<button type="button" data-offset="{back}" aria-label="Previous page" {"disabled" if offset == 0 else ""}>'
        f"‹</button><span>{offset + 1:,}–{last:,} of {total:,}</span>"
        f'<button type="button" data-offset="{on}" aria-label="Next page" {"disabled" if last >= total else ""}>'
        "›</button></nav>"
    )
