"""The figures of a whole-set comparison: a verdict, the table with its intervals drawn, wins and losses, both plots.

All of it is HTML with everything escaped. Numbers are `grounding.compared`'s as they stand there; intervals, which
take most of the time, may come later: what holds them has its place from the beginning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape

from grounding.compared import Report
from grounding.compared.columns import DIMENSIONS
from grounding.compared.figures import FIGURES, Bucket, Headline, Outcomes, figure_of
from grounding.compared.plots import accuracy_svg, calibration_svg
from grounding.compared.wording import (
    CHANCE_TITLE,
    DASH,
    ERRORS,
    difference_text,
    error_rows,
    figure_text,
    interval_text,
    over_sentence,
)
from grounding.paired import RESAMPLES, SURE_P, Difference
from grounding.ui.whole_parts import KINDS, press

_HALF_RANGES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_SURE, _VERY_SURE = SURE_P, 0.01
_LATER = "…"
_BY_ANSWER = ("outcome", "iou", "status")
_SIGNS = {"higher": "up", "lower": "down"}


@dataclass(frozen=True, eq=False)
class Figures:
    """The figures over the samples of a report, `exact` with their intervals.

    `outcomes` and each of `breakdowns` are over the same samples but for their own filter, so that they still say what
    else could be chosen: the samples that a click on one of their numbers opens.
    """

    report: Report
    exact: bool
    headline: Headline
    outcomes: Headline
    breakdowns: Mapping[str, tuple[Bucket, ...]]

    @property
    def silent_because(self) -> str:
        """Why no verdict is given and nothing coloured, in a sentence without an end; "" where it is."""
        if any(getattr(self.report.filter, name) for name in _BY_ANSWER):
            return "Chosen by their answers: these figures only describe them"
        if self.report.is_contaminated:
            return "Some were seen in training: these figures don’t say which is better"
        return ""

    def sign_of(self, difference: Difference | None) -> str:
        """Which way a difference is coloured: "up" or "down" where its verdict is sure, else "same"."""
        return "same" if self.silent_because else sign_of(difference)


def sign_of(difference: Difference | None) -> str:
    """Which way a difference may be coloured: "up" or "down" where its verdict is sure, else "same"."""
    return _SIGNS.get(difference.verdict, "same") if difference is not None else "same"


def without(report: Report, name: str) -> Report:
    """The same without one filter, by its name."""
    return replace(report, filter=replace(report.filter, **{name: ""})) if getattr(report.filter, name) else report


def faceted(report: Report, *, exact: bool, known: Mapping[str, tuple[Bucket, ...]] | None = None) -> Figures:
    """The figures of a report and, dimension by dimension, of what could be chosen instead. `known` are breakdowns that
    need no computing any more."""
    asked, known = report if exact else replace(report, resamples=0), known or {}
    quick = replace(without(asked, "outcome"), resamples=0)
    if exact:
        _ = report.chances  # with their intervals, behind the page: `figures_html` only writes down what is known
    return Figures(
        report=report,
        exact=exact,
        headline=asked.headline,
        outcomes=quick.headline if asked.filter.outcome else asked.headline,
        breakdowns={
            name: known[name] if name in known else without(asked, name).breakdown(name, ("accuracy_50",))
            for name in DIMENSIONS
        },
    )


def figures_html(figures: Figures) -> str:
    """Verdict, table, wins and losses on the left; curve and calibration on the right."""
    report, found = figures.report, figures.headline
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
    listed = f'<ul class="bw-whole-notes">{notes}</ul>' if notes else ""
    return (
        f'<div class="bw-whole-figures" data-exact="{str(figures.exact).lower()}"><section class="bw-whole-left">'
        f"{_verdict(figures)}{'' if _is_empty(found) else _of_samples(figures)}"
        f"{_seen_switch(report)}{listed}</section>"
        f'<section class="bw-whole-right">{_plots(report)}</section></div>'
    )


def _is_empty(found: Headline) -> bool:
    return not found.count + found.no_target_count


def _of_samples(figures: Figures) -> str:
    """What there is to say only of samples."""
    over = f'<p class="bw-whole-over">{escape(_over(figures.headline))}</p>'
    return f"{_table(figures)}{_outcomes(figures)}{over}"


def chance_sentence(outcomes: Outcomes, *, is_sure: bool = True) -> str:
    """McNemar's p in words; not `is_sure`: what is said of the pictures doesn't bear it out."""
    wins, losses, p = outcomes.wins, outcomes.losses, outcomes.mcnemar_p
    if not wins + losses:
        return "Both are right on the very same samples, so nothing tells them apart at IoU 0.5."
    share = "less than 0.1%" if p < 0.001 else f"{p:.1%}"
    split = f"{wins:,} {'win' if wins == 1 else 'wins'} to {losses:,} {'loss' if losses == 1 else 'losses'}"
    if p < _SURE and not is_sure:
        verdict = "but samples of one picture go together, and over whole pictures it may well be chance"
    elif p < _VERY_SURE:
        verdict = "hardly chance"
    elif p < _SURE:
        verdict = "probably not chance"
    else:
        verdict = "it may well be chance"
    return f"Were both equally good, a split as uneven as {split} would come in {share} of all cases: {verdict}."


def half_range(reach: float) -> float:
    """The end of an axis that holds -reach to +reach, both as shares."""
    return next((end for end in _HALF_RANGES if end >= reach - 1e-9), _HALF_RANGES[-1])


def _verdict(figures: Figures) -> str:
    found, sides = figures.headline, figures.report.comparison.sides
    if _is_empty(found) and figures.report.listed.any():
        told, sign = "All of these samples were seen in training, so none is counted.", "same"
    elif _is_empty(found):
        told, sign = "No sample passes these filters.", "same"
    elif not found.count:
        told, sign = "None of these samples has a target box.", "same"
    elif len(sides) == 1:
        figure = figure_text("accuracy_50", figure_of(found.scores[0], "accuracy_50"))
        told, sign = f"{escape(sides[0].name)}: {figure} Acc@0.5", "same"
    elif figures.silent_because:
        told, sign = figures.silent_because, "same"
    else:
        told, sign = _against(figures, escape(sides[0].name), escape(sides[1].name))
    return f'<h3 class="bw-whole-verdict" data-sign="{sign}">{told}</h3>'


def _against(figures: Figures, a: str, b: str) -> tuple[str, str]:
    difference = figures.headline.differences["accuracy_50"]
    points = f"<b>{difference_text('accuracy_50', difference)}</b> Acc@0.5"
    told = {
        "unknown": f"{b} against {a}: {points}",
        "few": f"Too few samples to tell {b} from {a}: {points}",
        "none": f"No difference between {b} and {a} that these samples could show: {points}",
        "higher": f"{b} is better than {a}: {points}",
        "lower": f"{b} is worse than {a}: {points}",
    }
    return told[difference.verdict], figures.sign_of(difference)


def _table(figures: Figures) -> str:
    found, sides = figures.headline, figures.report.comparison.sides
    two = len(sides) > 1
    heads = "".join(
        f'<th scope="col"><i class="bw-key" data-kind="{KINDS[side.letter]}"></i>'
        f'<span title="{escape(side.name)}">{escape(side.name)}</span></th>'
        for side in sides
    )
    end = _end(found, two=two) if figures.exact else None
    difference = '<th scope="col">b − a</th>' if two else ""
    lines = [_line(figures, name, end, two=two) for name in FIGURES if _has(found, name)]
    if any(found.chances):
        lines.insert(1, _chance_line(figures, two=two))
    lines += [_error_line(*row, DASH if figures.exact else _LATER, two=two) for row in error_rows(found)]
    return (
        f'<table class="bw-whole-table"><thead><tr><th scope="col"><span class="bw-hidden">Measure</span></th>{heads}'
        f'{difference}<th scope="col" class="bw-whole-interval">95% interval</th>'
        f'<th scope="col" class="bw-whole-axis">{_axis(end, two=two)}</th></tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def _has(found: Headline, name: str) -> bool:
    return any(figure_of(scores, name) is not None for scores in found.scores)


def _end(found: Headline, *, two: bool) -> float:
    """The end of the whiskers' axis, as a share."""
    if not two:
        return 1.0
    reach = [abs(v) for d in found.differences.values() for v in (d.difference, d.low, d.high) if v is not None]
    return half_range(max(reach, default=0.0))


def _axis(end: float | None, *, two: bool) -> str:
    if end is None:
        return "<span>&nbsp;</span>"
    ends = (f"−{100 * end:g}", "0", f"+{100 * end:g} pts") if two else ("0%", "50%", "100%")
    return "".join(f"<span>{text}</span>" for text in ends)


def _line(figures: Figures, name: str, end: float | None, *, two: bool) -> str:
    found = figures.headline
    values = "".join(f"<td>{figure_text(name, figure_of(scores, name))}</td>" for scores in found.scores)
    difference, estimate = found.differences.get(name), found.estimates.get(name)
    told = f'<td class="bw-difference">{difference_text(name, difference)}</td>' if two else ""
    sign, interval, drawn = "same", "", ""
    if two:
        sign, interval = figures.sign_of(difference), interval_text(name, difference)
        if difference is not None and end is not None:
            drawn = whisker_html(difference.difference, difference.low, difference.high, end)
    elif estimate is not None and estimate.low is not None:
        interval = f"{figure_text(name, estimate.low)} to {figure_text(name, estimate.high)}"
        if end is not None:
            value, low, high = (None if v is None else 2 * v - 1 for v in estimate)
            drawn = whisker_html(value, low, high, 1.0)
    if end is None:
        interval = _LATER
    return (
        f'<tr data-figure="{name}" data-sign="{sign}"><th scope="row">{FIGURES[name]}</th>{values}{told}'
        f'<td class="bw-whole-interval">{interval}</td><td class="bw-whole-axis">'
        f'<div class="bw-whisker">{drawn}</div></td></tr>'
    )


def _chance_line(figures: Figures, *, two: bool) -> str:
    """What Acc@0.5 is by chance, right below it: over how many samples, and each side's verdict as a title."""
    chances = figures.report.chances if figures.exact else figures.headline.chances
    values = "".join(
        f'<td title="{escape(chance.sentence if chance else "")}">'
        f"{figure_text('accuracy_50', chance.share if chance else None)}</td>"
        for chance in chances
    )
    count = max(chance.count for chance in chances if chance)
    told = f'<td class="bw-difference">{DASH}</td>' if two else ""
    hint = (
        "The model's answers exchanged among the phrases of each picture: what is left without the words. Only over "
        f"the {count:,} of {figures.headline.count:,} samples that have another one to exchange answers with."
    )
    return (
        f'<tr data-figure="chance" data-sign="same"><th scope="row" title="{escape(hint)}">{CHANCE_TITLE}'
        f"<small>, n = {count:,}</small></th>{values}{told}"
        f'<td class="bw-whole-interval">{DASH if figures.exact else _LATER}</td><td class="bw-whole-axis"></td></tr>'
    )


def _error_line(name: str, shown: Sequence[str], told: Sequence[str], interval: str, *, two: bool) -> str:
    """How far confidence lies from what is right; over how much, as a title."""
    values = "".join(f'<td title="{escape(over)}">{text}</td>' for text, over in zip(shown, told, strict=True))
    difference = f'<td class="bw-difference">{DASH}</td>' if two else ""
    hint = "The mean distance between confidence and the share that is right, in ten bins: 0 is honest."
    return (
        f'<tr data-figure="{name}" data-sign="same"><th scope="row" title="{hint}">{ERRORS[name]}</th>{values}'
        f'{difference}<td class="bw-whole-interval">{interval}</td><td class="bw-whole-axis"></td></tr>'
    )


def whisker_html(value: float | None, low: float | None, high: float | None, end: float) -> str:
    """A dot with its interval on an axis from -end to +end; what lies beyond stops there."""
    if value is None:
        return ""
    line = ""
    if low is not None and high is not None:
        left, right = _place(low, end), _place(high, end)
        line = f'<i style="left:{left:.2f}%;width:{max(right - left, 0.5):.2f}%"></i>'
    return f'{line}<b style="left:{_place(value, end):.2f}%"></b>'


def _place(value: float, end: float) -> float:
    return 50 + 50 * max(-1.0, min(1.0, value / end))


def _outcomes(figures: Figures) -> str:
    found, asked = figures.outcomes, figures.report.filter
    told, nothing = found.outcomes, found.no_target_outcomes
    if told is None or nothing is None:
        return ""
    target = {"target": "some"} if found.no_target_count else {}
    parts = (
        ("win", "Wins", told.wins, "b right, a not"),
        ("both_right", "Both right", told.both_right, "a tie"),
        ("both_wrong", "Both wrong", told.both_wrong, "a tie"),
        ("loss", "Losses", told.losses, "a right, b not"),
    )
    bar, legend = [], []
    for name, title, count, hint in parts:
        pressed = asked.outcome == name
        change = {"outcome": "", "target": ""} if pressed else {"outcome": name, **target}
        hint = f"{title}, {count:,}: {hint}"
        off = " disabled" * (not count and not pressed)
        attributes = f'data-outcome="{name}" aria-pressed="{str(pressed).lower()}"{off}'
        bar.append(press(change, "", f'{attributes} style="flex-grow:{count}" tabindex="-1" title="{hint}"'))
        legend.append(press(change, f"<i></i>{title} <b>{count:,}</b>", f'{attributes} title="{hint}"'))
    sentences = f"<p>{escape(chance_sentence(told, is_sure=_is_sure(found)))}</p>" if found.count else ""
    if found.no_target_count:
        sentences += f"<p>{_no_target(nothing, found.no_target_count)}</p>"
    return (
        '<div class="bw-outcomes" role="group" aria-label="Wins and losses of b against a at IoU 0.5">'
        f'<div class="bw-outcome-bar" aria-hidden="true">{"".join(bar)}</div>'
        f'<div class="bw-outcome-keys">{"".join(legend)}</div>{sentences}</div>'
    )


def _is_sure(found: Headline) -> bool:
    """Whether the pictures bear the wins and losses out, or nothing is known of them yet."""
    difference = found.differences.get("accuracy_50")
    return difference is None or difference.verdict in ("higher", "lower", "unknown")


def _no_target(told: Outcomes, count: int) -> str:
    parts = [
        press({"outcome": name, "target": "none"}, f"{n:,} {one if n == 1 else many}", 'class="bw-link"')
        if n
        else f"no {many}"
        for name, n, one, many in (("win", told.wins, "win", "wins"), ("loss", told.losses, "loss", "losses"))
    ]
    phrases = "1 phrase that refers" if count == 1 else f"{count:,} phrases that refer"
    return f"On {phrases} to nothing: {parts[0]}, {parts[1]}."


def _over(found: Headline) -> str:
    return over_sentence(replace(found, resamples=RESAMPLES))


def _seen_switch(report: Report) -> str:
    """The switch that counts seen samples all the same; only where there are any."""
    seen = int(report.comparison.seen.sum())
    if not seen:
        return ""
    checked = " checked" if report.with_seen else ""
    return (
        f'<label class="bw-whole-seen"><input type="checkbox" data-name="with_seen"{checked}>'
        f"Count the {seen:,} sample{' that was' if seen == 1 else 's that were'} seen in training too</label>"
    )


def _plots(report: Report) -> str:
    calibrations = report.calibrations()
    second = (
        calibration_svg(calibrations)
        if any(one.count for one in calibrations)
        else '<p class="bw-whole-none">No answer says how sure it is, so there is no calibration to show.</p>'
    )
    return f'<div class="bw-whole-plot">{accuracy_svg(report.curves())}</div><div class="bw-whole-plot">{second}</div>'
