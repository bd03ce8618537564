"""The list of evaluations as the page shows it. Pure; everything is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from grounding.compared.wording import figure_text
from grounding.evaluating.queue import Evaluation, EvaluationState
from grounding.reports import KeptReport
from grounding.training.preflight.text import in_minutes
from grounding.ui.chosen import title_of
from grounding.ui.wording import count_of

_WORDS = {
    EvaluationState.WAITING: "Waiting",
    EvaluationState.RUNNING: "Running",
    EvaluationState.DONE: "Done",
    EvaluationState.STOPPED: "Stopped",
    EvaluationState.FAILED: "Failed",
}
_ANSWERS_FOR_A_PACE = 8


@dataclass(frozen=True)
class Row:
    """An evaluation as it is shown: its report, figures as `counted.counted_report` gives them (None: none is there),
    and why it waits ("": it comes by itself)."""

    evaluation: Evaluation
    report: KeptReport | None = None
    waits: str = ""


def evaluations_html(rows: Sequence[Row], *, bars: bool = True) -> str:
    """The list, "" where there is none. Without `bars`, what changes only when there is something else to be done."""
    if not rows:
        return ""
    listed = "".join(_row_html(row, bars) for row in rows)
    return f'<section class="bw-queue bw-evaluations" aria-label="Evaluations"><ul>{listed}</ul></section>'


def bars_html(rows: Sequence[Row]) -> Mapping[str, str]:
    """The bars of those that go on, by id, to be put into their rows by the page's script."""
    running = [row.evaluation for row in rows if row.evaluation.state is EvaluationState.RUNNING]
    return {one.id: _bar_html(one) for one in running}


def _row_html(row: Row, bars: bool) -> str:
    one = row.evaluation
    stopping = one.state is EvaluationState.RUNNING and one.stop_requested
    state, word = ("stopping", "Stopping") if stopping else (str(one.state), _WORDS[one.state])
    kind = "base" if one.adapter is None else "adapter"
    running = one.state is EvaluationState.RUNNING
    bar = f'<div class="bw-bar-place" data-of="{escape(one.id)}">{_bar_html(one) if bars else ""}</div>' * running
    said = row.waits if one.state is EvaluationState.WAITING and row.waits else one.sentence
    sentence = f"<p>{escape(said)}</p>" if said else ""
    return (
        f'<li data-id="{escape(one.id)}" data-state="{state}"><div><i class="bw-key" data-kind="{kind}"></i>'
        f"<b>{escape(title_of(one.adapter))}</b><span>{escape(one.selection.title)}</span>"
        f'<span class="bw-state" data-state="{state}">{word}</span>{_figures(row)}</div>'
        f"{bar}<nav>{_buttons(one, stopping)}</nav>{sentence}</li>"
    )


def _figures(row: Row) -> str:
    one = row.evaluation
    figures = [count_of(one.total, "sample")]
    if one.left_out:
        figures.append(f"{count_of(one.left_out, 'placeholder')} left out")
    if one.state is EvaluationState.DONE:
        figures += report_figures(row.report) if row.report else ["its report is gone"]
    elif one.done and one.state is not EvaluationState.RUNNING:
        figures.append(f"{one.done:,} answered")
    if one.finished_at and one.state.ended:
        figures.append(f"{datetime.fromisoformat(one.finished_at).astimezone(UTC):%d %b, %H:%M} UTC")
    return f"<span>{' · '.join(figures)}</span>"


def report_figures(kept: KeptReport) -> list[str]:
    """What a list says of a report: Acc@0.5, if a sample has a target, and how many seen samples that leaves out."""
    scores = kept.scores
    told = [f"Acc@0.5 {figure_text('accuracy_50', scores.accuracy[0.5])}"] if scores.count else []
    return [*told, *([kept.seen_words] if kept.seen_words else [])]


def _bar_html(one: Evaluation) -> str:
    share = 100 * one.done / max(1, one.total)
    left = ""
    if one.done >= _ANSWERS_FOR_A_PACE and one.done < one.total:
        left = f" · {in_minutes((one.total - one.done) * one.seconds / one.done)} left"
    numbers = f'aria-valuenow="{one.done}" aria-valuemax="{one.total}"'
    return (
        f'<div class="bw-progress"><span class="bw-done" role="progressbar" '
        f'aria-label="Answers" {numbers}><i style="width:{share:.1f}%"></i></span>'
        f"<span>{one.done:,} of {one.total:,} answers{left}</span></div>"
    )


def _buttons(one: Evaluation, stopping: bool) -> str:
    if not one.state.ended:
        return _button("stop", "Stop", one, disabled=stopping)
    go_on = _button("go-on", "Go on", one) if one.state.may_go_on else ""
    throws_away = one.state is not EvaluationState.DONE and one.done > 0
    return go_on + _button("remove", "Remove", one, confirm="Throw its answers away?" if throws_away else "")


def _button(action: str, text: str, one: Evaluation, *, confirm: str = "", disabled: bool = False) -> str:
    label = f"{text} {title_of(one.adapter)}, {one.selection.title}"
    more = f' data-confirm="{escape(confirm)}"' if confirm else ""
    if action == "remove" and one.state is EvaluationState.DONE:
        more += ' title="Takes it off this list. Its report stays."'
    return (
        f'<button type="button" data-action="{action}" data-id="{escape(one.id)}" aria-label="{escape(label)}"{more}'
        f"{' disabled' if disabled else ''}>{text}</button>"
    )
