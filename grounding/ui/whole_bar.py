"""The bar over a whole-set comparison: every filter as a chip, the order, which list, and how many samples are left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from grounding.buckets import FIXED_BUCKETS
from grounding.compared import Comparison, Filter
from grounding.records import Status
from grounding.ui.whole_breakdowns import DIMENSION_CHIPS, bucket_title
from grounding.ui.whole_look import Looking
from grounding.ui.whole_parts import press

STATUS_TITLES: Mapping[Status, str] = {
    Status.OK: "Found a box",
    Status.NO_BOX: "Says: nothing there",
    Status.UNREADABLE: "Unreadable",
    Status.DEGENERATE: "Box without area",
}
_OUTCOMES = {
    "win": "Wins",
    "loss": "Losses",
    "tie": "Ties",
    "both_right": "Both right",
    "both_wrong": "Both wrong",
}
_ORDERS = {
    "worst": "Worst first",
    "loss": "Biggest losses first",
    "gain": "Biggest gains first",
    "unsure": "Least sure first",
    "sample": "As evaluated",
}
_LISTS = {"samples": "Samples", "suspects": "Labels that may be wrong"}
_MOST_CHOICES = 200

Choices = Mapping[str, str]


def bar_html(comparison: Comparison, look: Looking, listed: int) -> str:
    """The bar; `listed` samples pass the filter. Everything is escaped."""
    asked = look.filter
    chips = [_chip(name, title, choices, asked) for name, title, choices in _filters(comparison, asked)]
    active = any(vars(asked).values())
    clear = press({"clear": "yes"}, "Clear all", 'class="bw-link"') if active else ""
    return (
        '<div class="bw-whole-bar"><div class="bw-filters" role="group" aria-label="Filters">'
        f'<span class="bw-filter bw-filter-words" data-active="{str(bool(asked.words)).lower()}">'
        f'<input type="search" data-name="words" data-value="{escape(asked.words, quote=True)}" maxlength="200" '
        f'placeholder="Words in the phrase" aria-label="Words in the phrase">{_remove("words", "words", asked)}</span>'
        f'{"".join(chips)}{clear}</div><div class="bw-whole-line">'
        f'<p class="bw-whole-count" role="status"><b>{listed:,}</b> of {len(comparison):,} samples</p>'
        f"{_lists(comparison, look)}{_order(comparison, look)}</div></div>"
    )


def _filters(comparison: Comparison, asked: Filter) -> Sequence[tuple[str, str, Choices]]:
    """(field of `Filter`, title, {value: label}) of the filters that tell these samples apart."""
    samples, two = comparison.samples, comparison.b is not None

    def buckets(dimension: str) -> Choices:
        there = set(samples.buckets[dimension].tolist())
        names = [name for name in samples.bucket_names(dimension) if name in there][:_MOST_CHOICES]
        return {name: bucket_title(dimension, name) for name in names}

    has_target = comparison.a.answers.measures.has_target
    found: list[tuple[str, str, Choices]] = [
        ("outcome", "Outcome", _OUTCOMES if two else {}),
        ("status", "Answer" if not two else "Answer of b", {str(s): title for s, title in STATUS_TITLES.items()}),
        ("iou", "IoU" if not two else "IoU of b", {name: name.replace("-", "–") for name in FIXED_BUCKETS["iou"]}),
        *((dimension, title, buckets(dimension)) for dimension, title in DIMENSION_CHIPS.items()),
    ]
    if not has_target.all() and has_target.any():
        found.append(("target", "Target", {"some": "Has a box", "none": "Refers to nothing"}))
    if comparison.seen.any():
        seen = {"unseen": "Not seen", "seen": "Seen", "sample_seen": "The very sample", "picture_seen": "Its picture"}
        found.append(("seen", "In training", seen))
    return [one for one in found if len(one[2]) > 1 or getattr(asked, one[0])]


def _chip(name: str, title: str, choices: Choices, asked: Filter) -> str:
    chosen = getattr(asked, name)
    if chosen and chosen not in choices:
        choices = {**choices, chosen: bucket_title(name, chosen)}
    options = "".join(
        f'<option value="{escape(value, quote=True)}"{" selected" * (value == chosen)}>{escape(label)}</option>'
        for value, label in {"": f"{title}: any", **choices}.items()
    )
    label = escape(f"{title}: {choices[chosen]}" if chosen else title)
    return (
        f'<span class="bw-filter" data-active="{str(bool(chosen)).lower()}"><span aria-hidden="true">{label}</span>'
        f'<select data-name="{name}" data-value="{escape(chosen, quote=True)}" aria-label="{escape(title)}">{options}'
        f"</select>{_remove(name, title, asked)}</span>"
    )


def _remove(name: str, title: str, asked: Filter) -> str:
    if not getattr(asked, name):
        return ""
    return press({name: ""}, "×", f'class="bw-remove" aria-label="Remove the filter: {escape(title.lower())}"')


def _lists(comparison: Comparison, look: Looking) -> str:
    """Samples, or labels that may be wrong; the latter need two models."""
    if comparison.b is None:
        return ""
    buttons = "".join(
        press({"list": name}, title, f'aria-pressed="{str(look.list == name).lower()}"')
        for name, title in _LISTS.items()
    )
    return f'<div class="bw-whole-lists" role="group" aria-label="List">{buttons}</div>'


def _order(comparison: Comparison, look: Looking) -> str:
    known = {name: title for name, title in _ORDERS.items() if comparison.b is not None or name not in ("gain", "loss")}
    options = "".join(
        f'<option value="{name}"{" selected" * (name == look.order)}>{title}</option>' for name, title in known.items()
    )
    off = " disabled" * (look.list == "suspects")
    return (
        f'<select class="bw-whole-order" data-name="order" data-value="{look.order}" aria-label="Order"{off}>'
        f"{options}</select>"
    )
