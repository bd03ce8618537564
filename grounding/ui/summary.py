"""The table over a split: what the base and an adapter scored, and the difference, to be seen rather than read.

Its figures, intervals and words are those of the whole-set part below it (`grounding.compared`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from grounding.compared import Report
from grounding.compared.figures import FIGURES, figure_of
from grounding.compared.wording import DASH, difference_text, figure_text, interval_text, over_sentence
from grounding.metrics import Scores
from grounding.paired import Difference
from grounding.reports import KeptReport
from grounding.ui.whole_figures import sign_of

_HINTS = {
    "accuracy_50": "Samples with IoU of 0.5 or more",
    "accuracy_75": "Samples with IoU of 0.75 or more",
    "mean_iou": "Average overlap with the truth",
    "detection_rate": "Answers with a readable box",
    "no_target_accuracy": "Phrases that refer to nothing, answered with “nothing there”",
}


@dataclass(frozen=True)
class KeptScores:
    """One report as it was kept: `when` in words, and how many samples were edited since."""

    report: KeptReport
    when: str
    edits: int = 0


def summary_html(
    split: str,
    base: KeptScores | None,
    adapter: KeptScores | None,
    adapter_name: str | None,
    figures: Sequence[Report],
) -> str:
    """The table, or what to do to get one. `figures` are `Scoreboard.figures` of the two. Everything is escaped."""
    if base is None and adapter is None:
        against = f" and {adapter_name}" if adapter_name else ""
        return (
            f'<div class="bw-empty bw-empty-small"><p>Not computed yet. <b>Evaluate</b> asks the base{escape(against)} '
            f"for every {escape(split)} sample, behind the page, and keeps the result.</p></div>"
        )
    found = iter([scores for report in figures for scores in report.headline.scores])
    columns = [next(found) if kept is not None else None for kept in (base, adapter)]
    differences = figures[0].headline.differences  # none where the two have no sample in common
    rows = "".join(
        _row_html(name, columns, differences.get(name))
        for name in FIGURES
        if any(_figure(scores, name) is not None for scores in columns)
    )
    title = escape(adapter_name or "No adapter")
    return (
        '<div class="bw-summary"><table><thead><tr><th scope="col">Measure</th>'
        '<th scope="col"><i class="bw-key" data-kind="base"></i>Base</th>'
        f'<th scope="col"><i class="bw-key" data-kind="adapter"></i><span title="{title}">{title}</span></th>'
        '<th scope="col">Difference</th><th scope="col">95% interval</th>'
        '<th scope="col" class="bw-wide"><span class="bw-hidden">As bars</span></th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
        f'<p class="bw-note">{_provenance(split, base, adapter, adapter_name, figures)}</p></div>'
    )


def _figure(scores: Scores | None, name: str) -> float | None:
    return figure_of(scores, name) if scores is not None else None


def _row_html(name: str, columns: Sequence[Scores | None], difference: Difference | None) -> str:
    """One row, coloured where the difference has a verdict."""
    base, adapter = (_figure(scores, name) for scores in columns)
    return (
        f'<tr data-figure="{name}"><th scope="row" title="{escape(_HINTS[name])}">{FIGURES[name]}</th>'
        f"<td>{figure_text(name, base)}</td><td>{figure_text(name, adapter)}</td>"
        f'<td class="bw-difference" data-sign="{sign_of(difference)}">{difference_text(name, difference)}</td>'
        f"<td>{interval_text(name, difference) if difference else DASH}</td>"
        f'<td class="bw-wide"><div class="bw-bars" aria-hidden="true">'
        f"{_bar('base', base)}{_bar('adapter', adapter)}</div></td></tr>"
    )


def _bar(kind: str, figure: float | None) -> str:
    return f'<i data-kind="{kind}" style="width:{100 * (figure or 0.0):.1f}%"></i>'


def _provenance(
    split: str,
    base: KeptScores | None,
    adapter: KeptScores | None,
    adapter_name: str | None,
    figures: Sequence[Report],
) -> str:
    """What was measured, on how much, when, whether the samples are still the same, and what was left out."""
    parts = [_described("Base", base, split)]
    if adapter_name:
        parts.append(_described(adapter_name, adapter, split))
    if len(figures) > 1:
        parts.append("The two have no sample in common, so there is no difference.")
    for report in figures:
        parts += [over_sentence(report.headline), *report.notes]
    return " ".join(f"<span>{escape(part)}</span>" for part in parts)


def _described(title: str, kept: KeptScores | None, split: str) -> str:
    if kept is None:
        return f"{title}: not computed yet."
    since = f", before {kept.edits:,} edit{'s' if kept.edits != 1 else ''}" if kept.edits else ""
    return f"{title} ({kept.report.model_id}): {kept.report.total:,} {split} samples, computed {kept.when}{since}."
