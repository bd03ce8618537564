"""The samples of a whole-set comparison as cards, and the labels that may be wrong with their evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from grounding.boxes import Box
from grounding.compared.comparison import AnswerRecord, Comparison, SampleRecord
from grounding.compared.filters import Page
from grounding.compared.suspects import Suspect
from grounding.errors import BoxwrightError, PictureError
from grounding.overlay import Layer, figure_html
from grounding.pictures import picture_size_wh
from grounding.records import Status
from grounding.ui.pictures import find_picture, picture_url
from grounding.ui.sources import Parts
from grounding.ui.to_annotate import KEY, annotate_link_html
from grounding.ui.whole_bar import STATUS_TITLES
from grounding.ui.whole_parts import KINDS, press

_SIDE_PX = 320
_HINT = f"Enter opens a sample above, {KEY} opens it in Annotate, the arrow keys move."


@dataclass(frozen=True)
class Placed:
    """Where a sample of an evaluation stands now. `picture` is (address, size in pixels), None where it is not in the
    workspace; `here`: it can be opened; `edited`: its phrase or boxes are others by now."""

    picture: tuple[str, tuple[int, int]] | None
    here: bool
    edited: bool


def placed(parts: Parts, record: SampleRecord) -> Placed:
    """Look a sample up in the workspace; pictures go by the SHA-256 of their content alone."""
    sha256 = record.image_sha256 or record.image.stem
    picture = None
    try:
        path = find_picture(parts.workspace, sha256)
        size_wh = record.image_size_wh if all(record.image_size_wh) else picture_size_wh(path)
        picture = (picture_url(sha256, _SIDE_PX), size_wh)
    except PictureError:
        pass
    try:
        sample = parts.source.get_sample(record.id)
    except BoxwrightError:
        return Placed(picture, False, False)
    now, then = _question(sample.phrase, sample.boxes_xyxy_px), _question(record.phrase, record.truth_xyxy_px)
    return Placed(picture, True, now != then)


def _question(phrase: str, boxes_xyxy_px: Sequence[Box]) -> tuple[str, list[tuple[float, ...]]]:
    return phrase, [box.rounded() for box in boxes_xyxy_px]  # as reports of earlier versions have them


def samples_html(comparison: Comparison, page: Page, parts: Parts, *, left_out: int = 0) -> str:
    """One page of cards with its pager; `left_out` more samples pass and were seen in training. Everything is
    escaped."""
    if not page.total and left_out:
        told = "The only sample was" if left_out == 1 else f"All {left_out:,} samples were"
        count = press({"with_seen": "yes"}, "Count them too", 'class="bw-link"')
        return f'<div class="bw-empty"><p>{told} seen in training. {count} to see them.</p></div>'
    if not page.total:
        clear = press({"clear": "yes"}, "Clear them", 'class="bw-link"')
        return f'<div class="bw-empty"><p>No sample passes these filters. {clear} to see all.</p></div>'
    records = [comparison.record(row) for row in page.rows]
    cards = "".join(_card(record, placed(parts, record)) for record in records)
    return (
        f'{_keys(comparison)}<div class="bw-sample-cards" role="list" aria-label="Samples">{cards}</div>{_pager(page)}'
    )


def suspects_html(comparison: Comparison, found: Sequence[Suspect], page: Page, parts: Parts) -> str:
    """One page of the labels that may be wrong, the likeliest first. Everything is escaped."""
    if not found:
        return (
            '<div class="bw-empty"><p>No label stands against all models here: nowhere do they agree with each other '
            "and none with the truth.</p></div>"
        )
    rows = "".join(_suspect(found[k], placed(parts, found[k].record)) for k in page.rows)
    count = len(found)
    told = (
        f"{count:,} {'sample' if count == 1 else 'samples'} on which the models agree with each other and none with "
        "the truth, the likeliest mistake first. A base and its own adapter share most of their weights: two different "
        "bases say more."
    )
    return (
        f'<p class="bw-whole-told">{told}</p>{_keys(comparison)}'
        f'<div class="bw-suspects" role="list" aria-label="Labels that may be wrong">{rows}</div>{_pager(page)}'
    )


def _keys(comparison: Comparison) -> str:
    sides = "".join(
        f'<span><i class="bw-key" data-kind="{KINDS[side.letter]}"></i>{escape(side.name)}</span>'
        for side in comparison.sides
    )
    return (
        f'<p class="bw-gallery-keys bw-whole-keys"><span><i class="bw-key" data-kind="truth"></i>truth</span>{sides}'
        f"<span>{_HINT}</span></p>"
    )


def _card(record: SampleRecord, place: Placed) -> str:
    last = record.answers[-1]
    return (
        f'<article class="bw-sample-card" role="listitem" data-right="{str(last.is_right).lower()}">'
        f"{_open(record, place)}"
        f'<p class="bw-sample-phrase" title="{escape(record.phrase)}">{escape(record.phrase)}</p>'
        f'<p class="bw-sample-figures">{_figures(record)}</p>'
        f'<p class="bw-sample-facts">{_facts(record, place)}</p>{_links(record, place)}</article>'
    )


def _suspect(suspect: Suspect, place: Placed) -> str:
    record = suspect.record
    return (
        f'<article class="bw-suspect" role="listitem" data-kind="{escape(suspect.kind)}">{_open(record, place)}<div>'
        f'<p class="bw-sample-phrase">{escape(record.phrase)}</p><p>{escape(suspect.sentence)}</p>'
        f'<p class="bw-sample-facts">Suspicion {suspect.score:.2f} · {_facts(record, place)}</p>'
        f"{_links(record, place)}</div></article>"
    )


def _open(record: SampleRecord, place: Placed) -> str:
    """The picture as the button that opens the sample in the part for one picture."""
    if place.picture is None:
        figure = '<span class="bw-gallery-gone">The picture is not in this workspace</span>'
    else:
        layers = [
            Layer("truth", "truth", record.truth_xyxy_px, labelled=False),
            *(Layer(a.name, KINDS[a.letter], a.boxes_xyxy_px, labelled=False) for a in record.answers[:2]),
        ]
        figure = figure_html(*place.picture, layers, alt="").replace("<img ", '<img loading="lazy" ', 1)
    told = "; ".join(f"{answer.name} {_words(answer)}" for answer in record.answers)
    off = "" if place.here else ' aria-disabled="true"'
    return (
        f'<button type="button" class="bw-sample-open" data-go="compare" data-sample="{escape(record.id, quote=True)}"'
        f'{off} aria-label="{escape(record.phrase)}: {escape(told)}"><span class="bw-sample-figure">{figure}</span>'
        "</button>"
    )


def _words(answer: AnswerRecord) -> str:
    return f"IoU {answer.iou:.2f}" if answer.status is Status.OK else STATUS_TITLES[answer.status].lower()


def _figures(record: SampleRecord) -> str:
    """IoU of a, of b, and what is gained."""
    shown = " → ".join(
        f'<span title="{escape(answer.name)}"><i class="bw-key" data-kind="{KINDS[answer.letter]}"></i>'
        f"{_figure(record, answer)}</span>"
        for answer in record.answers[:2]
    )
    if len(record.answers) < 2 or not record.truth_xyxy_px:
        return shown
    gain = record.answers[1].iou - record.answers[0].iou
    sign = "same" if abs(gain) < 0.005 else "up" if gain > 0 else "down"
    amount = "±0" if sign == "same" else f"{gain:+.2f}".replace("-", "−")
    return f'{shown}<b class="bw-gain" data-sign="{sign}">{amount}</b>'


def _figure(record: SampleRecord, answer: AnswerRecord) -> str:
    if not record.truth_xyxy_px:
        return "right" if answer.is_right else "wrong"
    return f"{answer.iou:.2f}" if answer.status is Status.OK else "none"


def _facts(record: SampleRecord, place: Placed) -> str:
    newest = record.answers[min(1, len(record.answers) - 1)]
    facts = [] if record.truth_xyxy_px else ["refers to nothing"]
    if newest.status is not Status.OK:
        facts.append(STATUS_TITLES[newest.status].removeprefix("Says: ").lower())
    if newest.confidence is not None:
        facts.append(f"{newest.confidence:.0%} sure")
    badges = ""
    if record.seen:
        names = ", ".join(record.seen)
        badges += f'<b class="bw-chip-note" title="Seen in training by {escape(names)}">seen in training</b>'
    if place.edited:
        badges += '<b class="bw-chip-note" title="Its phrase or boxes are others than when it was evaluated">edited</b>'
    told = escape(" · ".join(facts))
    return f'<span title="{told}">{told}</span>{badges}' if facts or badges else "&nbsp;"


def _links(record: SampleRecord, place: Placed) -> str:
    if not place.here:
        return '<p class="bw-gallery-links"><small>Not in this workspace any more</small></p>'
    sample = escape(record.id, quote=True)
    return (
        f'<p class="bw-gallery-links"><button type="button" data-go="compare" data-sample="{sample}">Compare</button>'
        f"{annotate_link_html(record.id)}</p>"
    )


def _pager(page: Page) -> str:
    if page.pages == 1:
        return ""
    back, on = (
        press({"page": str(number)}, sign, f'aria-label="{title} page"{" disabled" * (not 1 <= number <= page.pages)}')
        for number, sign, title in ((page.number - 1, "‹", "Previous"), (page.number + 1, "›", "Next"))
    )
    told = f"<span>Page {page.number:,} of {page.pages:,}</span>"
    return f'<nav class="bw-pager bw-whole-pager" aria-label="Pages of samples">{back}{told}{on}</nav>'
