"""The breakdowns of a whole-set comparison: a small table a dimension, every row a way to its samples."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from types import MappingProxyType

from grounding.buckets import NO_CATEGORY
from grounding.compared.figures import Bucket, figure_of
from grounding.compared.wording import figure_text, interval_text, signed_text
from grounding.ui.whole_figures import Figures, half_range, whisker_html, without
from grounding.ui.whole_parts import KINDS, press

_ROWS_AT_ONCE = 10
DIMENSION_CHIPS: Mapping[str, str] = MappingProxyType(
    {
        "phrase_words": "Length",
        "spatial": "Says where",
        "box_size": "Box",
        "category": "Category",
        "source": "Source",
    }
)
"""Each dimension in a word: over its table and on its chip."""
_LUCK = "Rows are coloured one by one: by luck alone about one in twenty would be."
_OPEN = ("category", "source")  # as many rows as the data set likes: a column of their own
_NAMES: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("phrase_words", "1"): "1 word",
        ("phrase_words", "2-3"): "2–3 words",
        ("phrase_words", "4-7"): "4–7 words",
        ("phrase_words", "8+"): "8 or more",
        ("spatial", "spatial"): "Says where",
        ("spatial", "plain"): "Doesn’t",
        ("box_size", "small"): "Small",
        ("box_size", "medium"): "Medium",
        ("box_size", "large"): "Large",
        ("box_size", "none"): "Refers to nothing",
    }
)


def bucket_title(dimension: str, name: str) -> str:
    """What a bucket is called on the page."""
    return "None given" if name == NO_CATEGORY else _NAMES.get((dimension, name), name)


def breakdowns_html(figures: Figures) -> str:
    """A table for each dimension that tells samples apart. Everything is escaped."""
    asked, two = figures.report.filter, figures.report.comparison.b is not None
    telling = {
        name: buckets
        for name, buckets in figures.breakdowns.items()
        if len(buckets) > 1 or (buckets and getattr(asked, name))
    }
    if not telling:
        return ""
    end = _end(telling)
    tables = {name: _table(name, buckets, figures, end) for name, buckets in telling.items()}
    columns = ("".join(tables[name] for name in tables if (name in _OPEN) == is_open) for is_open in (False, True))
    luck = f'<p class="bw-whole-over">{_LUCK}</p>' if two and not figures.silent_because else ""
    return f'<div class="bw-breakdowns">{"".join(f"<div>{column}</div>" for column in columns if column)}</div>{luck}'


def _end(breakdowns: Mapping[str, tuple[Bucket, ...]]) -> float:
    """One scale for all, of the differences alone: it stays as it is when intervals come."""
    reach = [abs(d.difference) for buckets in breakdowns.values() for b in buckets for d in b.differences.values()]
    return half_range(max(reach, default=0.0))


def _table(dimension: str, buckets: tuple[Bucket, ...], figures: Figures, end: float) -> str:
    two = len(buckets[0].scores) > 1
    sides = "".join(
        f'<th scope="col"><i class="bw-key" data-kind="{KINDS[letter]}"></i>{letter}</th>'
        for letter in ("ab" if two else "a")
    )
    last = f'<th scope="col">b − a</th><th scope="col"><span class="bw-hidden">±{100 * end:g} pts</span></th>'
    head = (
        f'<tr><th scope="col">{DIMENSION_CHIPS[dimension]}</th><th scope="col">n</th>{sides}{last if two else ""}</tr>'
    )
    # A breakdown is over more samples than the figures above where its own filter is on.
    judged = not figures.silent_because and not without(figures.report, dimension).is_contaminated
    rows = [_row(dimension, bucket, figures, end, two=two, judged=judged) for bucket in buckets]
    more = ""
    if len(rows) > _ROWS_AT_ONCE:
        more = (
            f'<details><summary>{len(rows) - _ROWS_AT_ONCE:,} more</summary><table aria-label="More of '
            f'{DIMENSION_CHIPS[dimension].lower()}"><tbody>{"".join(rows[_ROWS_AT_ONCE:])}</tbody></table></details>'
        )
    return (
        f'<section class="bw-breakdown" data-dimension="{dimension}"><table><thead>{head}</thead>'
        f"<tbody>{''.join(rows[:_ROWS_AT_ONCE])}</tbody></table>{more}</section>"
    )


def _row(dimension: str, bucket: Bucket, figures: Figures, end: float, *, two: bool, judged: bool) -> str:
    chosen = getattr(figures.report.filter, dimension) == bucket.name
    # The row's figures are over the samples with a target where it has any: so it opens those, and all again.
    target = {"target": "some"} if bucket.count and bucket.no_target_count else {}
    opened = {"target": ""} if target or figures.report.filter.target == "some" else {}
    change = {dimension: "", **opened} if chosen else {dimension: bucket.name, **target}
    figure = "accuracy_50" if bucket.count else "no_target_accuracy"
    difference = bucket.differences.get(figure)
    sign = figures.sign_of(difference) if judged else "same"
    title = bucket_title(dimension, bucket.name)
    hint = "" if bucket.count else ' title="No-target accuracy: answered “nothing there”"'
    name = press(
        change, escape(title), f'class="bw-open-row" aria-pressed="{str(chosen).lower()}" title="{escape(title)}"'
    )
    values = "".join(f"<td{hint}>{figure_text(figure, figure_of(scores, figure))}</td>" for scores in bucket.scores)
    last = ""
    if two and difference is not None:
        order = {"order": "gain" if difference.difference > 0 else "loss" if difference.difference < 0 else "worst"}
        told = press(
            {dimension: bucket.name, **target, **order},
            signed_text(figure, difference.difference),
            f'class="bw-open-gain" title="95%: {interval_text(figure, difference)}. Opens the samples, '
            f'{"gains" if difference.difference > 0 else "losses" if difference.difference < 0 else "worst"} first"',
        )
        drawn = whisker_html(difference.difference, difference.low, difference.high, end)
        last = (
            f'<td class="bw-difference" data-sign="{sign}">{told}</td>'
            f'<td class="bw-whole-axis"><div class="bw-whisker">{drawn}</div></td>'
        )
    elif two:
        last = "<td>–</td><td></td>"
    count = bucket.count or bucket.no_target_count
    nothing = f' title="and {bucket.no_target_count:,} that refer to nothing"' if bucket.count else ""
    return (
        f'<tr data-chosen="{str(chosen).lower()}" data-sign="{sign}"><th scope="row">{name}</th>'
        f"<td{nothing if bucket.no_target_count else ''}>{count:,}</td>{values}{last}</tr>"
    )
