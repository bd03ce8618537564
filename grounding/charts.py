"""Line charts as SVG: for the page, where they replace each other without a flicker, and as files of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 560, 230
_MOST_DOTS = 60  # on one curve; more would be a band, and a page of half a megabyte
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 14, 30
_MOST_INTERVALS = 5
# Greys that can be read on white and on black alike.
_PLOT_STYLE = (
    ".bw-plot text{font:12px system-ui,sans-serif;fill:#7a8394}"
    ".bw-plot .bw-plot-title{font-weight:600;font-size:13px}"
    ".bw-plot .bw-grid-line{stroke:#7a8394;stroke-opacity:.28}"
    ".bw-plot polyline{fill:none;stroke:currentColor;stroke-width:2.4;stroke-linejoin:round}"
    '.bw-plot [data-kind$="-dashed"] polyline{stroke-width:1.4;stroke-dasharray:5 5}'
    ".bw-plot circle{fill:currentColor}"
)


@dataclass(frozen=True)
class Line:
    """One curve. `points` are (x, y); `kind` names its colour in the stylesheet; `dots` marks every point, or every
    so many where there are too many to tell apart. `notes`, one a point or none at all, end the titles of dots."""

    label: str
    kind: str
    points: Sequence[tuple[float, float]]
    dots: bool = False
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Axis:
    """The range of one direction, low < high, and how its numbers are written. `whole`: it counts, so that nothing
    stands between two whole numbers."""

    low: float
    high: float
    form: str = "{:g}"
    whole: bool = False


def chart_html(
    title: str, lines: Sequence[Line], x: Axis, y: Axis, *, baseline: tuple[str, float] | None = None
) -> str:
    """A chart with its title and legend. `baseline` is a named level drawn dashed across. Everything is escaped."""
    shown = [line for line in lines if line.points]
    level = _level(baseline, x, y) if baseline else ""
    curves = "".join(_curve(line, x, y) for line in shown)
    legend = "".join(
        f'<span><i data-kind="{escape(line.kind)}"></i>{escape(line.label)}'
        f"{' <b>' + escape(y.form.format(line.points[-1][1])) + '</b>' if line.points else ''}</span>"
        for line in lines
    )
    if baseline:
        level_text = escape(y.form.format(baseline[1]))
        legend += f'<span><i data-kind="baseline"></i>{escape(baseline[0])} <b>{level_text}</b></span>'
    return (
        f'<figure class="bw-chart"><figcaption><h4>{escape(title)}</h4><div>{legend}</div></figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{_grid(x, y)}{level}{curves}</svg></figure>"
    )


def chart_svg(title: str, lines: Sequence[Line], x: Axis, y: Axis, colours: Mapping[str, str], x_title: str) -> str:
    """The same as an SVG document that needs no stylesheet: for a file, a notebook, a mail. `colours` gives each kind
    of line its colour; lines whose kind ends in "-dashed" are dashed. Everything is escaped."""
    shown = [line for line in lines if line.points]
    curves = "".join(f'<g color="{escape(colours[line.kind])}">{_curve(line, x, y)}</g>' for line in shown)
    legend, left = [], float(_LEFT)
    for line in shown:
        legend.append(
            f'<rect x="{left:.0f}" y="29" width="12" height="3" rx="1.5" fill="{escape(colours[line.kind])}"/>'
            f'<text x="{left + 17:.0f}" y="35">{escape(line.label)}</text>'
        )
        left += 34 + 6.6 * len(line.label)
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="bw-plot" viewBox="0 0 {_WIDTH} {_HEIGHT + 62}" role="img" '
        f'aria-label="{escape(title)}"><style>{_PLOT_STYLE}</style>'
        f'<text class="bw-plot-title" x="{_LEFT}" y="18">{escape(title)}</text>{"".join(legend)}'
        f'<g transform="translate(0 40)">{_grid(x, y)}{curves}</g>'
        f'<text x="{middle:.0f}" y="{_HEIGHT + 54}" text-anchor="middle">{escape(x_title)}</text>'
        "</svg>"
    )


def _grid(x: Axis, y: Axis) -> str:
    """Lines across and numbers on both axes."""
    across = "".join(_grid_line(value, x, y) for value in round_values(y))
    return across + "".join(_x_tick(value, x) for value in round_values(x))


def round_values(axis: Axis) -> list[float]:
    """The round numbers within an axis: multiples of 1, 2, 2.5 or 5 times a power of ten, two to six of them."""
    least = (axis.high - axis.low) / _MOST_INTERVALS
    power = 10.0 ** math.floor(math.log10(least))
    apart = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= least * 0.999999)
    if axis.whole:
        apart = max(1.0, math.ceil(apart))
    first = math.ceil(axis.low / apart - 1e-6)
    return [number * apart for number in range(first, math.floor(axis.high / apart + 1e-6) + 1)]


def smooth(points: Sequence[tuple[float, float]], weight: float = 0.9) -> list[tuple[float, float]]:
    """Exponential moving average of y, corrected for its start (as Adam corrects its moments)."""
    average, correction, smoothed = 0.0, 0.0, []
    for at, value in points:
        average = weight * average + (1 - weight) * value
        correction = weight * correction + (1 - weight)
        smoothed.append((at, average / correction))
    return smoothed


def _at(x_value: float, y_value: float, x: Axis, y: Axis) -> tuple[float, float]:
    """Where a point stands in the drawing; values beyond an axis stop at its end."""
    x_share = min(1.0, max(0.0, (x_value - x.low) / (x.high - x.low)))
    y_share = min(1.0, max(0.0, (y_value - y.low) / (y.high - y.low)))
    return _LEFT + x_share * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - y_share * (_HEIGHT - _TOP - _BOTTOM)


def _grid_line(value: float, x: Axis, y: Axis) -> str:
    _, top = _at(x.low, value, x, y)
    return (
        f'<line class="bw-grid-line" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{top:.1f}" y2="{top:.1f}"/>'
        f'<text x="{_LEFT - 8}" y="{top + 4:.1f}" text-anchor="end">{escape(y.form.format(value))}</text>'
    )


def _x_tick(value: float, x: Axis) -> str:
    left, _ = _at(value, 0, x, Axis(0, 1))
    return f'<text x="{left:.1f}" y="{_HEIGHT - 9}" text-anchor="middle">{escape(x.form.format(value))}</text>'


def _level(baseline: tuple[str, float], x: Axis, y: Axis) -> str:
    _, top = _at(x.low, baseline[1], x, y)
    return f'<line class="bw-baseline" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{top:.1f}" y2="{top:.1f}"/>'


def _curve(line: Line, x: Axis, y: Axis) -> str:
    points = [_at(at, value, x, y) for at, value in line.points]
    path = " ".join(f"{left:.1f},{top:.1f}" for left, top in points)
    dots = ""
    if line.dots:
        every = -(-len(points) // _MOST_DOTS)
        notes = [f", {note}" for note in line.notes] or [""] * len(points)
        dotted = list(zip(points, line.points, notes, strict=True))[::-1][::every][::-1]  # the newest is one of them
        dots = "".join(
            f'<circle cx="{left:.1f}" cy="{top:.1f}" r="3.4"><title>{escape(line.label)} at {at:g}: '
            f"{escape(y.form.format(value) + note)}</title></circle>"
            for (left, top), (at, value), note in dotted
        )
    return f'<g class="bw-curve" data-kind="{escape(line.kind)}"><polyline points="{path}"/>{dots}</g>'
