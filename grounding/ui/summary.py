"""The table over a split: what the base and an adapter scored, and the difference, to be seen rather than read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from grounding.metrics import Scores
from grounding.reports import KeptReport


@dataclass(frozen=True)
class KeptScores:
    """One report as it was kept: `when` in words, and how many samples were edited since."""

    report: KeptReport
    when: str
    edits: int = 0


@dataclass(frozen=True)
class _Row:
    label: str
    hint: str
    base: float | None
    adapter: float | None
    percent: bool = True


def summary_html(split: str, base: KeptScores | None, adapter: KeptScores | None, adapter_name: str | None) -> str:
    """The table, or what to do to get one. Everything is escaped."""
    if base is None and adapter is None:
        against = f" and {adapter_name}" if adapter_name else ""
        return (
            f'<div class="bw-empty bw-empty-small"><p>Not computed yet. <b>Evaluate</b> asks the base{escape(against)} '
            f"for every {escape(split)} sample, behind the page, and keeps the result.</p></div>"
        )
    rows = _rows(base.report.scores if base else None, adapter.report.scores if adapter else None)
    comparable = bool(base and adapter and base.report.samples_sha256 == adapter.report.samples_sha256)
    title = escape(adapter_name or "No adapter")
    return (
        '<div class="bw-summary"><table><thead><tr><th scope="col">Measure</th>'
        '<th scope="col"><i class="bw-key" data-kind="base"></i>Base</th>'
        f'<th scope="col"><i class="bw-key" data-kind="adapter"></i>{title}</th>'
        '<th scope="col">Difference</th>'
        '<th scope="col" class="bw-wide"><span class="bw-hidden">As bars</span></th></tr></thead>'
        f"<tbody>{''.join(_row_html(row, comparable) for row in rows)}</tbody></table>"
        f'<p class="bw-note">{_provenance(split, base, adapter, adapter_name)}</p></div>'
    )


def _rows(base: Scores | None, adapter: Scores | None) -> Sequence[_Row]:
    rows = [
        _Row("Detection rate", "Answers with a readable box", *_pair(base, adapter, lambda s: s.detection_rate)),
        _Row("Mean IoU", "Average overlap with the truth", *_pair(base, adapter, lambda s: s.mean_iou), percent=False),
        _Row(
            "Median IoU",
            "Half of the samples overlap more",
            *_pair(base, adapter, lambda s: s.median_iou),
            percent=False,
        ),
        _Row("Acc@0.5", "Samples with IoU of 0.5 or more", *_pair(base, adapter, lambda s: s.accuracy[0.5])),
        _Row("Acc@0.75", "Samples with IoU of 0.75 or more", *_pair(base, adapter, lambda s: s.accuracy[0.75])),
    ]
    nothing = _Row(
        "No-target accuracy",
        "Phrases that refer to nothing, answered with “nothing there”",
        *_pair(base, adapter, lambda s: s.no_target_accuracy),
    )
    if nothing.base is not None or nothing.adapter is not None:
        rows.append(nothing)
    return rows


def _pair(
    base: Scores | None, adapter: Scores | None, figure: Callable[[Scores], float | None]
) -> tuple[float | None, float | None]:
    return (figure(base) if base else None, figure(adapter) if adapter else None)


def _row_html(row: _Row, comparable: bool) -> str:
    """One row; no difference is drawn between figures of different samples."""
    both = comparable and row.adapter is not None and row.base is not None
    difference = row.adapter - row.base if both else None  # type: ignore[operator]
    return (
        f'<tr><th scope="row" title="{escape(row.hint)}">{row.label}</th>'
        f"<td>{format_figure(row.base, row.percent)}</td>"
        f"<td>{format_figure(row.adapter, row.percent)}</td>"
        f'<td class="bw-difference" data-sign="{_sign(difference)}">{format_difference(difference, row.percent)}</td>'
        f'<td class="bw-wide"><div class="bw-bars" aria-hidden="true">'
        f"{_bar('base', row.base)}{_bar('adapter', row.adapter)}</div></td></tr>"
    )


def _bar(kind: str, figure: float | None) -> str:
    return f'<i data-kind="{kind}" style="width:{100 * (figure or 0.0):.1f}%"></i>'


def format_figure(figure: float | None, percent: bool) -> str:
    """A share from 0.0 to 1.0 as a percentage with one decimal or a number with three; a dash where there is none."""
    if figure is None:
        return "–"
    return f"{figure:.1%}" if percent else f"{figure:.3f}"


def format_difference(difference: float | None, percent: bool) -> str:
    """The difference of two shares with its sign, in percentage points or as a number."""
    if difference is None:
        return "–"
    text = f"{100 * difference:+.1f}" if percent else f"{difference:+.3f}"
    if not float(text):
        text = text[1:]  # neither more nor less
    return text.replace("-", "−") + (" pts" if percent else "")


def _sign(difference: float | None) -> str:
    if difference is None or abs(difference) < 0.0005:
        return "same"
    return "up" if difference > 0 else "down"


def _provenance(split: str, base: KeptScores | None, adapter: KeptScores | None, adapter_name: str | None) -> str:
    """What was measured, on how much, when, and whether the samples are still the same."""
    parts = [_described("Base", base, split)]
    if adapter_name:
        parts.append(_described(adapter_name, adapter, split))
    return " ".join(f"<span>{escape(part)}</span>" for part in parts)


def _described(title: str, kept: KeptScores | None, split: str) -> str:
    if kept is None:
        return f"{title}: not computed yet."
    scores = kept.report.scores
    count = scores.count + scores.no_target_count
    since = f", before {kept.edits:,} edit{'s' if kept.edits != 1 else ''}" if kept.edits else ""
    return f"{title} ({kept.report.model_id}): {count:,} {split} samples, computed {kept.when}{since}."
