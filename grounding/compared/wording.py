"""Figures, differences and filters of a comparison in words, the same in every form of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from grounding.compared.chance import Chance
from grounding.compared.comparison import Comparison, Side
from grounding.compared.figures import FIGURES, SHARES, Headline, figure_of
from grounding.compared.filters import Filter
from grounding.paired import Difference

DASH = "–"
CHANCE_TITLE = "Acc@0.5 by chance"
ERRORS = {"calibration_error": "Calibration error", "box_calibration_error": "Calibration error, boxes"}
"""How far confidence lies from what is right, of whole answers and of their boxes: fields of `Scores`, 0.0 (honest) to
1.0, without intervals."""
DIMENSION_TITLES = {
    "phrase_words": "Words in the phrase",
    "spatial": "Says where",
    "box_size": "Box",
    "category": "Category",
    "source": "Source",
}


def figure_text(name: str, value: float | None) -> str:
    """A figure of `FIGURES`: a percentage with one decimal, or a number with three."""
    if value is None:
        return DASH
    return f"{value:.1%}" if name in SHARES else f"{value:.3f}"


def signed_text(name: str, value: float | None) -> str:
    """A difference with its sign, shares in percentage points."""
    if value is None:
        return DASH
    text = f"{100 * value:+.1f}" if name in SHARES else f"{value:+.3f}"
    return (text if float(text) else text[1:]).replace("-", "−")


def interval_text(name: str, difference: Difference | None) -> str:
    """Such as "−1.2 to +3.4"; a dash where there is none."""
    if difference is None or difference.low is None:
        return DASH
    return f"{signed_text(name, difference.low)} to {signed_text(name, difference.high)}"


def difference_text(name: str, difference: Difference | None) -> str:
    """Such as "+2.1 pts"."""
    if difference is None:
        return DASH
    return signed_text(name, difference.difference) + (" pts" if name in SHARES else "")


def error_rows(found: Headline) -> list[tuple[str, list[str], list[str]]]:
    """(name in `ERRORS`, each side's figure, over how many answers or boxes each) where a confidence is known."""
    rows = []
    for name in ERRORS:
        values: list[float | None] = [getattr(scores, name) for scores in found.scores]
        if any(value is not None for value in values):
            counts = [getattr(scores, name.replace("error", "count")) for scores in found.scores]
            what = "boxes" if name.startswith("box") else "answers"
            told = [f"Over {count:,} {what} with a confidence" for count in counts]
            rows.append((name, [DASH if value is None else f"{value:.3f}" for value in values], told))
    return rows


def headline_rows(found: Headline) -> list[tuple[str, list[str], str, str]]:
    """(measure, each side's figure, difference, interval) of every figure that there are samples for,
    what Acc@0.5 is by chance, and the errors of calibration."""
    rows = []
    for name, title in FIGURES.items():
        values = [figure_of(scores, name) for scores in found.scores]
        if all(value is None for value in values):
            continue
        difference = found.differences.get(name)
        interval = interval_text(name, difference)
        if name in found.estimates and found.estimates[name].low is not None:
            _, low, high = found.estimates[name]
            interval = f"{figure_text(name, low)} to {figure_text(name, high)}"
        shown = [figure_text(name, value) for value in values]
        rows.append((title, shown, difference_text(name, difference), interval))
    if any(found.chances):
        shares = [figure_text("accuracy_50", chance.share if chance else None) for chance in found.chances]
        rows.insert(1, (CHANCE_TITLE, shares, DASH, DASH))
    return rows + [(ERRORS[name], shown, DASH, DASH) for name, shown, _ in error_rows(found)]


def chance_sentences(sides: Sequence[Side], chances: Sequence[Chance | None]) -> list[str]:
    """One sentence for each side whose level of chance is known."""
    return [f"{side_title(side)}. {chance.sentence}" for side, chance in zip(sides, chances, strict=True) if chance]


def outcome_sentence(found: Headline) -> str:
    """How many samples b wins and loses; "" with one side."""
    if found.outcomes is None:
        return ""
    told = found.outcomes
    sentence = f"At IoU 0.5 b wins {told.wins:,}, loses {told.losses:,} and ties {told.ties:,}"
    sentence += f" (both right {told.both_right:,}, both wrong {told.both_wrong:,}); McNemar p = {told.mcnemar_p:.2g}."
    other = found.no_target_outcomes
    if other is not None and found.no_target_count:
        sentence += f" On phrases that refer to nothing it wins {other.wins:,}, loses {other.losses:,}."
    return sentence


def over_sentence(found: Headline) -> str:
    """What the figures are over."""
    nothing = f" and {found.no_target_count:,} that refer to nothing" if found.no_target_count else ""
    left = (
        f"; {found.left_out:,} seen in training {'is' if found.left_out == 1 else 'are'} left out"
        if found.left_out
        else ""
    )
    intervals = f"; 95% intervals, pictures resampled {found.resamples:,} times"
    samples = "1 sample" if found.count == 1 else f"{found.count:,} samples"
    pictures = "1 picture" if found.pictures == 1 else f"{found.pictures:,} pictures"
    return f"{samples} with a target{nothing} on {pictures}{left}{intervals}."


def side_title(side: Side) -> str:
    """Such as "a: base"."""
    return f"{side.letter}: {side.name}"


def comparison_title(comparison: Comparison) -> str:
    """Such as "tools against base"."""
    return " against ".join(side.name for side in reversed(comparison.sides[:2]))


def filter_sentence(asked: Filter) -> str:
    """What was asked for; "" for everything."""
    told = [f"{spec.name} {getattr(asked, spec.name)}" for spec in fields(asked) if getattr(asked, spec.name)]
    return f"Only samples with {', '.join(told)}." if told else ""
