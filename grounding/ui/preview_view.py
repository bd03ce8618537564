"""What the preview panel shows of a step. Pure functions; everything from the data is escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image

from grounding.boxes import Box
from grounding.overlay import Layer, figure_html
from grounding.training.preview import PreviewPhrase, PreviewPicture
from grounding.ui.wording import count_of

_SIDE_PX = 384
_PICTURE_MARKS = {
    "mirrored": "Left and right exchanged; the phrases follow",
    "cropped": "A part of the picture in which every phrase stays true",
    "farther away": "The whole picture, smaller",
    "other colours": "Brightness, contrast and colour changed a little, each by chance",
}


def step_html(step: int, steps: int, pictures: Sequence[PreviewPicture], left_out: int, so_far: str = "") -> str:
    """The pictures of a step with their boxes and phrases; `left_out` more are not drawn. `so_far` says what a
    curriculum lets through."""
    phrases = [phrase for picture in pictures for phrase in picture.phrases]
    counted = [
        (sum("mirrored" in picture.marks for picture in pictures), "mirrored"),
        (sum("cropped" in picture.marks for picture in pictures), "cropped"),
        (sum("other colours" in picture.marks for picture in pictures), "in other colours"),
        (sum(phrase.alternative for phrase in phrases), "from the other phrases of their boxes"),
        (sum(phrase.reworded for phrase in phrases), "reworded"),
        (sum(phrase.jittered for phrase in phrases), "with a moved box"),
        (sum(phrase.negative for phrase in phrases), "answered \u201cnothing there\u201d from elsewhere"),
    ]
    told = ", ".join(f"{count} {word}" for count, word in counted if count)
    are = "is" if left_out == 1 else "are"
    more = f" {count_of(left_out, 'more picture')} of this step {are} not drawn." if left_out else ""
    more += f" {escape(so_far)}" if so_far else ""
    return (
        f'<div class="bw-preview"><p class="bw-preview-sum">Step <b>{step:,}</b> of {steps:,}: '
        f"{count_of(len(pictures), 'picture')}, {count_of(len(phrases), 'phrase')}"
        f"{f' ({told})' if told else ''}.{more}</p>"
        f'<div class="bw-preview-grid">{"".join(map(_card, pictures))}</div></div>'
    )


def nothing_html(sentence: str) -> str:
    """The panel when there is nothing to show, with the reason."""
    return f'<div class="bw-empty bw-preview-empty"><p>{escape(sentence)}</p></div>'


def _card(picture: PreviewPicture) -> str:
    chips = "".join(_chip(mark, _PICTURE_MARKS[mark]) for mark in picture.marks)
    if picture.rehearsed:
        chips += _chip("rehearsed", "Old data, so that it is not forgotten")
    if picture.image is None:
        figure = f'<p class="bw-preview-problem">Left out: {escape(picture.problem)}</p>'
    else:
        if not picture.marks:
            chips = _chip("as it is", "Neither mirrored nor cropped nor smaller, in its own colours") + chips
        figure = figure_html(data_url(picture.image), picture.image.size, _layers(picture), alt=_alt(picture))
    listed = "".join(_line(number, phrase) for number, phrase in enumerate(picture.phrases, start=1))
    return (
        f'<article class="bw-preview-card">{figure}<p class="bw-preview-marks">{chips}</p><ol>{listed}</ol></article>'
    )


def _alt(picture: PreviewPicture) -> str:
    return f"The picture {picture.path.name} as the step shows it, {count_of(len(picture.phrases), 'phrase')}"


def _layers(picture: PreviewPicture) -> list[Layer]:
    """One layer for each different set of boxes, labelled with the numbers of its phrases."""
    numbers: dict[tuple[Box, ...], list[int]] = {}
    for number, phrase in enumerate(picture.phrases, start=1):
        if phrase.boxes_xyxy_px:
            numbers.setdefault(phrase.boxes_xyxy_px, []).append(number)
    return [Layer(", ".join(map(str, listed)), "target", boxes) for boxes, listed in numbers.items()]


def _line(number: int, phrase: PreviewPhrase) -> str:
    text = f"<b>{escape(phrase.phrase)}</b>"
    if phrase.changed:
        text = f'<s>{escape(phrase.written)}</s> <span aria-label="becomes">\u2192</span> {text}'
    chips = ""
    if phrase.negative:
        chips += _chip("negative", "A phrase of another picture: what it names is absent here")
    if phrase.alternative:
        chips += _chip("alternative", "Another phrase that the source has for this box")
    if phrase.reworded:
        chips += _chip("template", "Reworded by rule, with the same meaning")
    if phrase.jittered:
        chips += _chip("jittered", "The box moved a little: IoU with its own is 0.9 or more")
    if not phrase.boxes_xyxy_px:
        chips += '<span class="bw-preview-nothing">\u2192 nothing there</span>'
    return f'<li value="{number}"><span>{text}</span>{chips}</li>'


def _chip(word: str, meaning: str) -> str:
    kind = word.replace(" ", "-")
    return f'<span class="bw-mark" data-mark="{kind}" title="{escape(meaning)}">{escape(word)}</span>'


def data_url(image: Image.Image) -> str:
    """The picture as a WebP of at most 384 pixels a side, in the address itself: views stand in no file."""
    small = image.copy()
    small.thumbnail((_SIDE_PX, _SIDE_PX), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    small.save(content, "WEBP", quality=86, method=2)
    return "data:image/webp;base64," + base64.b64encode(content.getvalue()).decode("ascii")
