"""Boxes over a picture: as HTML for the page, as pixels for a file. No gradio, no torch."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

from grounding.boxes import Box

Kind = Literal["truth", "base", "adapter", "adapter2", "adapter3", "adapter4", "target"]

# Orange against blue-violet stays apart for every common colour blindness; the truth is told by its dashes. Further
# adapters differ in lightness too, and always carry their names where they share a picture.
COLOURS: dict[Kind, str] = {
    "truth": "#ffffff",
    "base": "#ffa21f",
    "adapter": "#9389ff",
    "adapter2": "#2fd3e6",
    "adapter3": "#ff6fb5",
    "adapter4": "#d4ee4f",
    "target": "#2fd3e6",
}
TRUTH_DASH_COLOUR = "#12a150"
HALO_COLOUR = "#0b0d12"
LABEL_TEXT_COLOUR = "#14161c"

_LABEL_SHARE = 0.034
"""Height of a label's letters as a share of the picture's height, or of half its width where that is more: a page gives
pictures about twice as much width as height, so that letters are of one size there whatever the picture's shape."""
_LETTER_WIDTH_EM = 0.58
_LABEL_HEIGHT_EM = 1.5
_LABEL_PADDING_EM = 0.9

Corner = tuple[float, float]


@dataclass(frozen=True)
class Layer:
    """Boxes of one origin. `label` names them in the tooltip and, with `labelled`, on a tag beside each box."""

    label: str
    kind: Kind
    boxes_xyxy_px: tuple[Box, ...]
    labelled: bool = True


def figure_html(
    picture_url: str,
    image_size_wh: tuple[int, int],
    layers: Sequence[Layer],
    *,
    alt: str | None = None,
    heat_url: str | None = None,
) -> str:
    """The picture with its boxes drawn over it, as one `<figure>` that scales with the page.

    `picture_url` and every label are escaped, so text from a data set or a person is safe here. Boxes are
    clipped to the picture of `image_size_wh` pixels; labels stay inside it and never cover each other. `heat_url` is
    a transparent picture of any size that is stretched over this one, beneath the boxes.
    """
    width, height = image_size_wh
    font_px = _font_px(image_size_wh)
    drawn = _clipped(layers, image_size_wh)
    texts = [_tag(layer, width, font_px) for layer, _ in drawn]
    corners = place_labels([box for _, box in drawn], [_label_size_wh(text, font_px) for text in texts], image_size_wh)
    shapes = [_box_svg(layer, box) for layer, box in drawn]
    labels = [
        _label_svg(layer.kind, text, corner, font_px)
        for (layer, _), text, corner in zip(drawn, texts, corners, strict=True)
        if corner is not None
    ]
    heat = f'<img class="bw-heat" src="{escape(heat_url)}" alt="" draggable="false">' if heat_url else ""
    described = alt if alt is not None else _description(layers)
    return (
        f'<figure class="bw-figure" style="--bw-ratio:{width / height:.5f}">'
        f'<img src="{escape(picture_url)}" alt="{escape(described)}" width="{width}" height="{height}" '
        f'decoding="async" draggable="false">{heat}'
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(shapes)}{''.join(labels)}</svg></figure>"
    )


def draw_boxes(image: Image.Image, layers: Sequence[Layer]) -> Image.Image:
    """A copy of the picture as RGB with the boxes drawn into it, in the same colours as on the page."""
    drawing = image.convert("RGB")
    pen = ImageDraw.Draw(drawing)
    font_px = max(9.0, _font_px(drawing.size))
    font = ImageFont.load_default(font_px)
    line_px = max(2, round(max(drawing.size) / 300))
    drawn = _clipped(layers, drawing.size)
    for layer, box in drawn:
        _draw_rectangle(pen, layer.kind, box, line_px)
    texts = [_tag(layer, drawing.width, font_px) for layer, _ in drawn]
    sizes = [
        (font.getlength(text) + font_px * _LABEL_PADDING_EM, font_px * _LABEL_HEIGHT_EM) if text else (0.0, 0.0)
        for text in texts
    ]
    corners = place_labels([box for _, box in drawn], sizes, drawing.size)
    for (layer, _), text, (label_width, label_height), corner in zip(drawn, texts, sizes, corners, strict=True):
        if corner is None:
            continue
        left, top = corner
        pen.rectangle((left, top, left + label_width, top + label_height), fill=COLOURS[layer.kind])
        pen.text((left + label_width / 2, top + label_height / 2), text, LABEL_TEXT_COLOUR, font, anchor="mm")
    return drawing


def place_labels(
    boxes_xyxy_px: Sequence[Box], sizes_wh: Sequence[tuple[float, float]], image_size_wh: tuple[int, int]
) -> list[Corner | None]:
    """Top-left corner for each label, in pixels: inside the picture, near its box, over no other label.

    A label of no size, or one for which no free place is left, gets None.
    """
    placed: list[tuple[float, float, float, float]] = []
    corners: list[Corner | None] = []
    for box, (width, height) in zip(boxes_xyxy_px, sizes_wh, strict=True):
        corner = _free_corner(box, (width, height), image_size_wh, placed) if width > 0 else None
        corners.append(corner)
        if corner is not None:
            placed.append((corner[0], corner[1], corner[0] + width, corner[1] + height))
    return corners


def _free_corner(
    box: Box, size_wh: tuple[float, float], image_size_wh: tuple[int, int], placed: Sequence[tuple[float, ...]]
) -> Corner | None:
    width, height = size_wh
    room_x, room_y = image_size_wh[0] - width, image_size_wh[1] - height
    if room_x < 0 or room_y < 0:
        return None
    wanted = [
        (box.x1, box.y1 - height),
        (box.x1, box.y2),
        (box.x2 - width, box.y1 - height),
        (box.x2 - width, box.y2),
        (box.x1, box.y1),
        (box.x2 - width, box.y2 - height),
    ]
    # Once the places at the box are taken: the free row nearest to it.
    rows = sorted((row * height for row in range(int(room_y // height) + 1)), key=lambda y: abs(y - box.y1))
    wanted += [(x, y) for y in rows for x in (box.x1, box.x2 - width)]
    for x, y in wanted:
        left, top = min(max(0.0, x), room_x), min(max(0.0, y), room_y)
        if not any(left < x2 and left + width > x1 and top < y2 and top + height > y1 for x1, y1, x2, y2 in placed):
            return left, top
    return None


def _clipped(layers: Sequence[Layer], image_size_wh: tuple[int, int]) -> list[tuple[Layer, Box]]:
    # The truth comes last: its dashes let a box beneath show through, while a solid line would hide the truth.
    return [
        (layer, clipped)
        for layer in sorted(layers, key=lambda layer: layer.kind == "truth")
        for box in layer.boxes_xyxy_px
        if (clipped := box.clip(image_size_wh)) is not None
    ]


def _font_px(image_size_wh: tuple[int, int]) -> float:
    width, height = image_size_wh
    return max(height, width / 2) * _LABEL_SHARE


def _text_em(text: str) -> float:
    """Width of a text in em: wide characters such as Chinese ones count as one em each."""
    return sum(1.0 if unicodedata.east_asian_width(letter) in "WF" else _LETTER_WIDTH_EM for letter in text)


def _label_size_wh(text: str, font_px: float) -> tuple[float, float]:
    return ((_text_em(text) + _LABEL_PADDING_EM) * font_px, _LABEL_HEIGHT_EM * font_px) if text else (0.0, 0.0)


def _tag(layer: Layer, width_px: float, font_px: float) -> str:
    """The label on one line, cut with an ellipsis so that its tag takes at most 60% of the picture's width."""
    text = " ".join(layer.label.split()) if layer.labelled else ""
    room_em = 0.6 * width_px / font_px - _LABEL_PADDING_EM
    if _text_em(text) <= room_em:
        return text
    while text and _text_em(text) + _LETTER_WIDTH_EM > room_em:
        text = text[:-1]
    return text.rstrip() + "…" if text else ""


def _box_svg(layer: Layer, box: Box) -> str:
    place = f'x="{box.x1:.2f}" y="{box.y1:.2f}" width="{box.width_px:.2f}" height="{box.height_px:.2f}"'
    common = f'{place} fill="none" vector-effect="non-scaling-stroke"'
    truth = layer.kind == "truth"
    dashes, halo_width, width = (' stroke-dasharray="10 7"', 4, 2) if truth else ("", 6.5, 3.5)
    strokes = [
        f'<rect {common} stroke="{HALO_COLOUR}" stroke-opacity="0.75" stroke-width="{halo_width}"{dashes}/>',
        f'<rect {common} stroke="{COLOURS[layer.kind]}" stroke-width="{width}"{dashes}/>',
    ]
    if truth:
        strokes.append(f'<rect {common} stroke="{TRUTH_DASH_COLOUR}" stroke-width="{width}" stroke-dasharray="5 12"/>')
    return f'<g data-kind="{layer.kind}"><title>{escape(layer.label)}</title>{"".join(strokes)}</g>'


def _label_svg(kind: Kind, text: str, corner: Corner, font_px: float) -> str:
    width, height = _label_size_wh(text, font_px)
    left, top = corner
    return (
        f'<g class="bw-label" data-kind="{kind}"><rect x="{left:.2f}" y="{top:.2f}" width="{width:.2f}" '
        f'height="{height:.2f}" rx="{font_px * 0.22:.2f}" fill="{COLOURS[kind]}" stroke="{HALO_COLOUR}" '
        f'stroke-opacity="0.5" stroke-width="1" vector-effect="non-scaling-stroke"/>'
        f'<text x="{left + width / 2:.2f}" y="{top + height / 2:.2f}" font-size="{font_px:.2f}" '
        f'textLength="{width - _LABEL_PADDING_EM * font_px:.2f}" lengthAdjust="spacingAndGlyphs" text-anchor="middle" '
        f'dominant-baseline="central" font-weight="600" fill="{LABEL_TEXT_COLOUR}">{escape(text)}</text></g>'
    )


def _description(layers: Sequence[Layer]) -> str:
    counts = [f"{layer.label or layer.kind} ({len(layer.boxes_xyxy_px)})" for layer in layers]
    return f"Picture with boxes: {', '.join(counts)}" if counts else "Picture without boxes"


def _draw_rectangle(pen: ImageDraw.ImageDraw, kind: Kind, box: Box, line_px: int) -> None:
    x1, y1, x2, y2 = box
    halo_px = max(1, line_px // 2)
    pen.rectangle(
        (x1 - halo_px, y1 - halo_px, x2 + halo_px, y2 + halo_px), outline=HALO_COLOUR, width=line_px + 2 * halo_px
    )
    pen.rectangle((x1, y1, x2, y2), outline=COLOURS[kind], width=line_px)
    if kind == "truth":
        _draw_dashes(pen, box, line_px)


def _draw_dashes(pen: ImageDraw.ImageDraw, box: Box, line_px: int) -> None:
    dash_px = line_px * 3
    for start in range(round(box.x1), round(box.x2), 2 * dash_px):
        end = min(start + dash_px, box.x2)
        pen.rectangle((start, box.y1, end, box.y1 + line_px - 1), fill=TRUTH_DASH_COLOUR)
        pen.rectangle((start, box.y2 - line_px + 1, end, box.y2), fill=TRUTH_DASH_COLOUR)
    for start in range(round(box.y1), round(box.y2), 2 * dash_px):
        end = min(start + dash_px, box.y2)
        pen.rectangle((box.x1, start, box.x1 + line_px - 1, end), fill=TRUTH_DASH_COLOUR)
        pen.rectangle((box.x2 - line_px + 1, start, box.x2, end), fill=TRUTH_DASH_COLOUR)
