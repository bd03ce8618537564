"""What the Train tab shows of a sweep: a table of its runs, their values side by side, and the best so far. Pure
functions of the report; everything is escaped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from grounding.charts import Axis, Line, chart_html
from grounding.sweeps.plan import Plan, in_words
from grounding.sweeps.record import SweepRecord, SweepState
from grounding.sweeps.report import SweepReport, TrialRow
from grounding.sweeps.space import Choices, Space, Value, value_text

_HEIGHT, _SIDE, _TOP, _BOTTOM = 230, 52, 34, 18
_NARROW, _WIDE = 560, 1140
_MOST_NARROW = 4
"""Axes that fit beside another chart."""
_SPELLED = {"Lora": "LoRA", "Giou": "GIoU", "l1": "L1", "rslora": "rsLoRA", "dora": "DoRA"}
_WORDS = {
    "waiting": "Waiting",
    "queued": "Queued",
    "running": "Training",
    "done": "Done",
    "pruned": "Pruned",
    "stopped": "Stopped",
    "failed": "Failed",
    "discarded": "Discarded",
    "going": "Going on",
}


def sweep_html(report: SweepReport | None, others: Sequence[SweepRecord] = (), told: str = "") -> str:
    """The sweep with its table and plots, or what to do when there is none. `others` may be shown instead; `told` is
    what the last press has done."""
    if report is None:
        return (
            '<div class="bw-empty bw-sweep-empty"><h3>No sweep yet</h3><p>Say above which settings to search and press '
            "<b>Start the sweep</b>. Its runs go through the queue one after another, and go on when this page is "
            "closed; the best of them goes to your adapters with one press.</p></div>"
        )
    done = f'<p class="bw-sweep-told" role="status">{escape(told)}</p>' if told else ""
    trouble = f'<p class="bw-sweep-trouble">{escape(report.record.trouble)}</p>' if report.record.trouble else ""
    return (
        f'<section class="bw-sweep" data-state="{report.record.state.value}">{_header(report)}{done}{trouble}'
        f'{_plots(report)}<div class="bw-sweep-rows bw-summary">{_table(report)}</div>{_others(others)}</section>'
    )


def broken_html(record: SweepRecord, problem: str, others: Sequence[SweepRecord] = ()) -> str:
    """A sweep whose files can't be read: why, and how to be rid of it."""
    way = ("stop", "Stop", "") if record.state is SweepState.GOING else ("remove", "Remove", "Delete it with its runs?")
    button = _button(way[0], way[1], record.name, confirm=way[2])
    return (
        f'<section class="bw-sweep" data-state="{record.state.value}"><header><h3>{escape(record.name)}</h3>'
        f'<nav>{button}</nav></header><p class="bw-sweep-trouble">{escape(problem)}</p>{_others(others)}</section>'
    )


def plan_html(plan: Plan | None, problem: str = "") -> str:
    """What is said before it begins; what is wrong with a value, as long as one is."""
    if plan is None:
        return f'<p class="bw-sweep-plan" data-wrong="true" role="alert">{escape(problem)}</p>'
    first, *rest = (escape(sentence) for sentence in plan.sentences)
    return f'<p class="bw-sweep-plan"><b>{first}</b> {" ".join(rest)}</p>'


def parallel_html(report: SweepReport) -> str:
    """Parallel coordinates: an axis a searched setting and one for the mean IoU, a line a run, the best one in front.
    A run without a score is left out."""
    search = report.settings.search
    rows = [row for row in report.rows if row.mean_iou is not None]
    wide = len(search) + 1 > _MOST_NARROW
    width = _WIDE if wide else _NARROW
    scores = [row.mean_iou or 0.0 for row in rows]
    low, high = _score_range(scores)
    lefts = [_SIDE + i * (width - 2 * _SIDE) / len(search) for i in range(len(search) + 1)]
    axes = "".join(f'<line x1="{left:.1f}" x2="{left:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>' for left in lefts)
    marks = "".join(_space_marks(left, name, space) for left, (name, space) in zip(lefts, search.items(), strict=False))
    levels = [(f"{v:.2f}", (v - low) / (high - low)) for v in (low, (low + high) / 2, high)]
    marks += _marks(lefts[-1], "Mean IoU", levels, right=True)
    best = report.best.number if report.best else -1
    in_front = sorted(rows, key=lambda row: (row.number == best, row.mean_iou))
    lines = "".join(
        _line(row, search, lefts, ((row.mean_iou or 0.0) - low) / (high - low), best=row.number == best)
        for row in in_front
    )
    legend = '<span><i data-kind="best"></i>best</span><span><i data-kind="other"></i>other runs</span>'
    return (
        f'<figure class="bw-chart bw-parallel" data-wide="{str(wide).lower()}"><figcaption><h4>Settings and what they '
        f'scored</h4><div>{legend}</div></figcaption><svg viewBox="0 0 {width} {_HEIGHT}" role="img" '
        f'aria-label="Searched settings and mean IoU of each run"><g class="bw-parallel-axes">{axes}</g>{lines}'
        f'<g class="bw-parallel-marks">{marks}</g></svg></figure>'
    )


def setting_words(name: str) -> str:
    """A setting's name as people read it."""
    words = name.replace("_", " ").capitalize().split()
    return " ".join(_SPELLED.get(word, word) for word in words)


def _header(report: SweepReport) -> str:
    record = report.record
    left = f" · about {in_words(report.seconds_left)} left" if report.seconds_left else ""
    sentence = record.sentence or f"{report.ended} of {report.settings.runs} runs have ended{left}"
    best = report.best
    buttons = ""
    if best is not None and not best.kept_as:
        buttons += _button("keep", "Keep the winner", record.name, main=True)
    if record.state is SweepState.GOING:
        buttons += _button("stop", "Stop and save", record.name)
        buttons += _button("discard", "Stop and discard this run", record.name, confirm="Throw this run away?")
    elif record.state is SweepState.STOPPED:
        buttons += _button("resume", "Resume", record.name)
    if record.state is not SweepState.GOING:
        buttons += _button("remove", "Remove", record.name, confirm="Delete it with its runs?")
    share = report.ended / report.settings.runs
    return (
        f'<header><h3>{escape(record.name)}</h3><span class="bw-state" data-state="{_state_of(record.state)}">'
        f"{_WORDS.get(record.state.value, record.state.value.capitalize())}</span><nav>{buttons}</nav></header>"
        f'<p class="bw-sweep-sentence">{escape(sentence)}</p>'
        f'<div class="bw-bar"><i style="width:{100 * share:.1f}%"></i></div>'
    )


def _state_of(state: SweepState) -> str:
    return {SweepState.GOING: "running", SweepState.DONE: "done"}.get(state, "stopped")


def _plots(report: SweepReport) -> str:
    scored = [row for row in report.rows if row.mean_iou is not None]
    if not scored:
        return ""
    return f'<div class="bw-charts">{parallel_html(report)}{_curve(report, scored)}</div>'


def _curve(report: SweepReport, scored: Sequence[TrialRow]) -> str:
    """Every run's mean IoU and the best so far, over the runs."""
    best, so_far = 0.0, []
    for row in scored:
        best = max(best, row.mean_iou or 0.0)
        so_far.append((row.number + 1, best))
    runs = Line("each run", "each-run", [(row.number + 1, row.mean_iou or 0.0) for row in scored], dots=True)
    low, high = _score_range([row.mean_iou or 0.0 for row in scored] + _base(report))
    # A multiple of four, so that every tick is a whole run.
    x, y = Axis(0, 4 * math.ceil(report.settings.runs / 4)), Axis(low, high, "{:.2f}")
    level = ("base", report.base_mean_iou) if report.base_mean_iou is not None else None
    return chart_html("Mean IoU, run by run", [runs, Line("best so far", "iou", so_far)], x, y, baseline=level)


def _base(report: SweepReport) -> list[float]:
    return [report.base_mean_iou] if report.base_mean_iou is not None else []


def _score_range(scores: Sequence[float]) -> tuple[float, float]:
    """A range around the scores with ends at twentieths, within 0.0 to 1.0."""
    if not scores:
        return 0.0, 1.0
    low, high = math.floor(min(scores) * 20) / 20, math.ceil(max(scores) * 20) / 20
    return (max(0.0, high - 0.05), max(high, 0.05)) if high - low < 0.05 else (low, high)


def _place(space: Space, value: Value) -> float:
    """Where a value stands on its axis, 0.0 (bottom) to 1.0."""
    if isinstance(space, Choices):
        order = _in_order(space)
        return order.index(value) / (len(order) - 1) if value in order else 0.5
    low, high, at = (float(number) for number in (space.low, space.high, value))
    if space.log:
        low, high, at = math.log(low), math.log(high), math.log(max(at, 1e-30))
    return min(1.0, max(0.0, (at - low) / (high - low)))


def _in_order(space: Choices) -> list[Value]:
    numbers = all(isinstance(value, int | float) for value in space.values)
    return sorted(space.values, key=float) if numbers else list(space.values)


def _space_marks(left: float, name: str, space: Space) -> str:
    if isinstance(space, Choices):
        ticks: list[Value] = _in_order(space)
    else:
        middle = math.sqrt(space.low * space.high) if space.log else (space.low + space.high) / 2
        ticks = [space.low, round(middle) if space.whole else float(f"{middle:.2g}"), space.high]
    return _marks(left, setting_words(name), [(_shown(value), _place(space, value)) for value in ticks])


def _marks(left: float, title: str, ticks: Sequence[tuple[str, float]], *, right: bool = False) -> str:
    """What is written along an axis. It stands before the lines, or a line would cross it out."""
    at, anchor = (left + 7, "start") if right else (left - 7, "end")
    texts = "".join(
        f'<text x="{at:.1f}" y="{_down(share) + 4:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
        for text, share in ticks
    )
    head = f'<text class="bw-parallel-title" x="{left:.1f}" y="{_TOP - 16}" text-anchor="middle">{escape(title)}</text>'
    return head + texts


def _shown(value: Value) -> str:
    """A value as it is read: three digits of a number are enough."""
    return f"{value:.3g}" if isinstance(value, float) else value_text(value)


def _line(row: TrialRow, search: Mapping[str, Space], lefts: Sequence[float], score: float, *, best: bool) -> str:
    shares = [_place(space, row.values.get(name, 0)) for name, space in search.items()] + [score]
    points = " ".join(f"{left:.1f},{_down(share):.1f}" for left, share in zip(lefts, shares, strict=True))
    values = ", ".join(f"{name} {_shown(value)}" for name, value in row.values.items())
    title = f"Run {row.number + 1}, {row.state}: {values}; mean IoU {row.mean_iou or 0.0:.3f}"
    kind = "best" if best else row.state
    # The wide line under it is what the pointer meets.
    return (
        f'<g class="bw-parallel-line" data-kind="{escape(kind)}"><title>{escape(title)}</title>'
        f'<polyline class="bw-parallel-hit" points="{points}"/><polyline points="{points}"/></g>'
    )


def _down(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _table(report: SweepReport) -> str:
    names = list(report.settings.search)
    heads = ["Run", *(setting_words(name) for name in names), "State", "Mean IoU", "Acc@0.5", "Pruned at", "Took", ""]
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    best = report.best.number if report.best else -1
    rows = "".join(_row(row, names, report.record.name, best=row.number == best) for row in report.rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _row(row: TrialRow, names: Sequence[str], sweep: str, *, best: bool) -> str:
    values = "".join(f"<td>{escape(_shown(row.values[name])) if name in row.values else '–'}</td>" for name in names)
    state = "running" if row.state == "running" else row.state
    cells = (
        f"{row.mean_iou:.3f}" if row.mean_iou is not None else "–",
        f"{row.accuracy_50:.0%}" if row.accuracy_50 is not None else "–",
        f"step {row.pruned_at:,}" if row.pruned_at is not None else "–",
        in_words(row.seconds) if row.seconds is not None and row.state != "running" else "–",
    )
    figures = "".join(f"<td>{cell}</td>" for cell in cells)
    kept = f"kept as {', '.join(row.kept_as)}" if row.kept_as else ""
    last = escape(kept) if kept else _button("keep", "Keep", sweep, run=row.number + 1) if row.has_adapter else ""
    star = ' <b class="bw-sweep-best">best</b>' if best else ""
    return (
        f'<tr data-best="{str(best).lower()}"><th scope="row">{row.number + 1}{star}</th>{values}'
        f'<td><span class="bw-state" data-state="{escape(state)}" title="{escape(row.sentence)}">'
        f"{escape(_WORDS.get(row.state, row.state))}</span></td>{figures}<td>{last}</td></tr>"
    )


def _others(others: Sequence[SweepRecord]) -> str:
    if not others:
        return ""
    chips = "".join(_button("show", sweep.name, sweep.name) for sweep in others)
    return f'<p class="bw-sweep-others"><span>Other sweeps</span>{chips}</p>'


def _button(action: str, text: str, sweep: str, *, run: int = 0, confirm: str = "", main: bool = False) -> str:
    more = f' data-confirm="{escape(confirm)}"' if confirm else ""
    more += f' data-run="{run}"' if run else ""
    more += ' class="bw-main"' if main else ""
    return f'<button type="button" data-action="{action}" data-sweep="{escape(sweep)}"{more}>{escape(text)}</button>'
