"""A report as one piece of HTML: tables, curve, the worst samples with their boxes. Nothing is fetched, all escaped."""

from __future__ import annotations

import base64
import io
from html import escape

from PIL import Image

from grounding.boxes import Box
from grounding.compared.comparison import AnswerRecord, SampleRecord
from grounding.compared.plots import COLOURS, accuracy_svg
from grounding.compared.report import SHOWN_SAMPLES, Report
from grounding.compared.wording import (
    chance_sentences,
    comparison_title,
    filter_sentence,
    headline_rows,
    outcome_sentence,
    over_sentence,
    side_title,
)
from grounding.errors import PictureError
from grounding.overlay import HALO_COLOUR, TRUTH_DASH_COLOUR
from grounding.pictures import open_picture

PICTURE_SIDE_PX = 280
_STYLE = (
    ".bw-report{font:13px/1.45 system-ui,sans-serif;max-width:960px}"
    ".bw-report table{border-collapse:collapse;margin:8px 0;font:inherit}"
    ".bw-report td,.bw-report th{padding:3px 12px 3px 0;text-align:right;font-variant-numeric:tabular-nums}"
    ".bw-report th:first-child{text-align:left}"
    ".bw-report .bw-plot{max-width:560px;display:block}"
    ".bw-report .bw-worst{display:grid;grid-template-columns:repeat(auto-fill,minmax(220px,1fr));gap:14px}"
    ".bw-report figure{margin:0}.bw-report figure svg{width:100%;height:auto;display:block}"
    ".bw-report figcaption{overflow-wrap:anywhere}"
    ".bw-report i{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:5px}"
)


def report_html(report: Report) -> str:
    """The report to be shown in a notebook."""
    found = report.headline
    said = [filter_sentence(report.filter), over_sentence(found), outcome_sentence(found)]
    said += [*chance_sentences(report.comparison.sides, report.chances), *report.notes]
    worst = report.samples("worst", SHOWN_SAMPLES)
    return (
        f'<div class="bw-report"><style>{_STYLE}</style><h3>{escape(comparison_title(report.comparison))}</h3>'
        f"{_table(report)}{''.join(f'<p>{escape(sentence)}</p>' for sentence in said if sentence)}"
        f"{accuracy_svg(report.curves())}"
        f'<h4>The worst samples</h4><div class="bw-worst">{"".join(map(sample_html, worst))}</div></div>'
    )


def sample_html(record: SampleRecord) -> str:
    """One sample: its picture with the true boxes (dashed) and those of each side, its phrase and IoUs."""
    answers = "".join(_answer_html(answer) for answer in record.answers)
    return (
        f"<figure>{picture_svg(record)}<figcaption><b>{escape(record.phrase)}</b><br>"
        f"<small>{escape(record.id)}{escape(_seen(record))}</small>{answers}</figcaption></figure>"
    )


def _seen(record: SampleRecord) -> str:
    return f", seen in training by {', '.join(record.seen)}" if record.seen else ""


def picture_svg(record: SampleRecord) -> str:
    """The picture, small, within the SVG, and boxes over it; without a picture the boxes alone."""
    content, (width, height) = _small_picture(record)
    image = f'<image href="{content}" width="{width}" height="{height}"/>' if content else ""
    boxes = [_rectangle(box, COLOURS[a.letter], a.name, "") for a in record.answers for box in a.boxes_xyxy_px]
    truth = [_rectangle(box, TRUTH_DASH_COLOUR, "truth", "6 4") for box in record.truth_xyxy_px]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(record.phrase)}">{image}{"".join([*boxes, *truth])}</svg>'
    )


def _small_picture(record: SampleRecord) -> tuple[str, tuple[int, int]]:
    """(the picture as a data address, its true size in pixels); ("", a size that the boxes fit in) without one."""
    try:
        picture = open_picture(record.image)
    except PictureError:
        return "", _room_wh(record)
    size_wh = picture.size
    picture.thumbnail((PICTURE_SIDE_PX, PICTURE_SIDE_PX), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}", size_wh


def _room_wh(record: SampleRecord) -> tuple[int, int]:
    if all(record.image_size_wh):
        return record.image_size_wh
    boxes = [*record.truth_xyxy_px, *(box for answer in record.answers for box in answer.boxes_xyxy_px)]
    return (
        max(1, *(round(box.x2) + 1 for box in boxes), 1),
        max(1, *(round(box.y2) + 1 for box in boxes), 1),
    )


def _rectangle(box: Box, colour: str, name: str, dashes: str) -> str:
    x1, y1, x2, y2 = box
    place = f'x="{x1:.1f}" y="{y1:.1f}" width="{x2 - x1:.1f}" height="{y2 - y1:.1f}" fill="none"'
    common = f'{place} vector-effect="non-scaling-stroke"'
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<g><title>{escape(name)}</title><rect {common} stroke="{HALO_COLOUR}" stroke-opacity=".6" '
        f'stroke-width="4.5"{dashed}/><rect {common} stroke="{colour}" stroke-width="2.5"{dashed}/></g>'
    )


def _answer_html(answer: AnswerRecord) -> str:
    sure = "" if answer.confidence is None else f", {answer.confidence:.0%} sure"
    return (
        f'<br><i style="background:{COLOURS[answer.letter]}"></i>{escape(answer.name)}: IoU {answer.iou:.2f} '
        f"({escape(str(answer.status))}{sure})"
    )


def _table(report: Report) -> str:
    sides = "".join(
        f'<th><i style="background:{COLOURS[side.letter]}"></i>{escape(side_title(side))}</th>'
        for side in report.comparison.sides
    )
    two = report.comparison.b is not None
    difference = "<th>b − a</th>" if two else ""
    lines = []
    for title, values, told, interval in headline_rows(report.headline):
        cells = [*values, *([told] if two else []), interval]
        lines.append(f"<tr><th>{escape(title)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>")
    return f"<table><tr><th></th>{sides}{difference}<th>95% interval</th></tr>{''.join(lines)}</table>"
