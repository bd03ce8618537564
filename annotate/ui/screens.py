"""One sample as the page shows it. Every text from a person or a data set is escaped here."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from annotate.items import Change, Item, Place, Queue
from annotate.opinions import Agreement, Opinion
from annotate.phrases import clean_text, usable_phrase
from annotate.problems import is_rival
from grounding.overlay import Layer, figure_html

KEYED_CHIPS = 9
_MOST_CHIPS = 24
_MOST_CHANGES = 40
# A source may give a phrase of megabytes. What is cut can't be saved as it is: a phrase has fewer characters.
_MOST_CHARACTERS = 2000
_MOST_CATEGORY_CHARACTERS = 200
_STATE_WORDS = {
    "imported": "As imported",
    "repaired": "From the source",
    "written": "Written",
    "approved": "Approved",
    "rejected": "Rejected",
}
_PUT_BACK = ' <button type="button" class="an-link" data-revert="{}" title="As it stood then">put back</button>'
_ACTION_WORDS = {
    "import": "imported",
    "write": "wrote",
    "repair": "filled from the source",
    "skip": "skipped",
    "flag": "flagged",
    "unflag": "removed the flag",
    "approve": "approved",
    "reject": "rejected",
    "reopen": "opened again",
    "revert": "put back an earlier version",
    "add": "added",
    "decide": "decided",
    "bulk": "changed with others",
    "undo": "took back",
}
# Words that a person saved without changing them.
_TAKEN_WORDS = {"model": "took a suggestion", "source": "took the source’s phrase"}


@dataclass(frozen=True)
class Screen:
    """What the page needs to show a sample and to send an edit of it back; the `_html` parts are safe as they are.

    `phrase` is what the phrase box starts with: empty when a placeholder stands. `boxes` are x1, y1, x2, y2 in pixels
    of the original picture, whose (width, height) is `size_wh`. `undoable` says in a few words what
    undo would take back; empty when there is nothing.
    """

    id: str
    revision: int
    place: Place
    phrase: str
    placeholder: bool
    flagged: bool
    state: str
    boxes: list[list[float]]
    size_wh: tuple[int, int]
    undoable: str
    figure_html: str
    stands_html: str
    chips_html: str
    facts_html: str
    siblings_html: str
    history_html: str


def build_screen(
    item: Item,
    siblings: Sequence[Item],
    history: Sequence[Change],
    picture_url: Callable[[str], str],
    queue: Queue = "all",
    siblings_in_all: int = 0,
) -> Screen:
    """`history` is oldest first, as `Store.history` gives it; `queue` is the one that the page walks. `siblings_in_all`
    says how many there are when these are not all."""
    return Screen(
        id=item.id,
        revision=item.revision,
        place=item.place_in(queue),
        phrase="" if item.placeholder else item.phrase[:_MOST_CHARACTERS],
        placeholder=item.placeholder,
        flagged=item.flagged,
        state=item.state,
        boxes=[list(box) for box in item.sample.boxes_xyxy_px],
        size_wh=item.image_size_wh,
        undoable=_undoable(history),
        figure_html=target_figure_html(item, picture_url(item.picture_sha256)),
        stands_html=_stands_html(item),
        chips_html=_chips_html(choices(item)),
        facts_html=_facts_html(item),
        siblings_html=_siblings_html(item, siblings, max(len(siblings), siblings_in_all)),
        history_html=_history_html(history),
    )


def target_figure_html(item: Item, picture_url: str) -> str:
    """The picture with its target boxes."""
    boxes = item.sample.boxes_xyxy_px
    alt = f"The picture with {len(boxes)} target box{'es' if len(boxes) != 1 else ''}"
    layers = [Layer("target", "target", boxes, labelled=False)] if boxes else []
    return figure_html(picture_url, item.image_size_wh, layers, alt=alt)


def choices(item: Item) -> tuple[str, ...]:
    """The source's own phrases for this box that could be saved as they are, without what stands already."""
    usable = (usable_phrase(text) for text in item.sample.alternatives)
    distinct = dict.fromkeys(phrase for phrase in usable if phrase is not None and phrase != item.phrase)
    return tuple(distinct)[:_MOST_CHIPS]


def time_html(at: str) -> str:
    """A moment (ISO 8601, UTC); the page puts it into the reader's own time zone."""
    return f'<time datetime="{escape(at)}">{escape(at[:16].replace("T", " "))} UTC</time>'


def quoted(text: str, most_characters: int = 160) -> str:
    """A phrase in quotation marks, cut when it is very long, as HTML."""
    return f'<q class="an-q" dir="auto">{escape(_cut(text, most_characters))}</q>'


def _cut(text: str, most_characters: int) -> str:
    return text if len(text) <= most_characters else text[: most_characters - 1].rstrip() + "…"


def _stands_html(item: Item) -> str:
    badges = []
    if item.placeholder:
        badges.append('<b class="an-badge" data-kind="placeholder">Placeholder</b>')
    else:
        badges.append(f'<b class="an-badge" data-kind="{item.state}">{_STATE_WORDS[item.state]}</b>')
    if item.placeholder and item.state == "rejected":
        badges.append('<b class="an-badge" data-kind="rejected">Rejected</b>')
    if item.flagged:
        badges.append('<b class="an-badge" data-kind="flag">Flagged</b>')
    if item.skipped:
        badges.append('<b class="an-badge" data-kind="skip">Skipped</b>')
    said = "What the source says" if item.placeholder else "What stands now"
    wording = quoted(item.phrase) if clean_text(item.phrase) else '<i class="an-none">nothing at all</i>'
    notes = [("Flag", item.flag_note if item.flagged else ""), ("Rejected", item.reject_reason)]
    note = "".join(f'<p class="an-note">{name}: {escape(text)}</p>' for name, text in notes if text)
    return (
        f'<div class="an-badges">{"".join(badges)}<span>{said}</span></div>'
        f'<p class="an-wording" title="{escape(_cut(item.phrase, _MOST_CHARACTERS))}">{wording}</p>{note}'
    )


def _chips_html(phrases: Sequence[str]) -> str:
    chips = []
    for number, phrase in enumerate(phrases, start=1):
        key = f"<kbd>{number}</kbd>" if number <= KEYED_CHIPS else ""
        hint = f"Put it into the box (Alt+{number})" if key else "Put it into the box"
        chips.append(
            f'<button type="button" class="an-chip" data-text="{escape(phrase)}" title="{hint}">'
            f'{key}<span dir="auto">{escape(phrase)}</span></button>'
        )
    return "".join(chips)


def _facts_html(item: Item) -> str:
    sample = item.sample
    boxes = len(sample.boxes_xyxy_px)
    count = "1 box" if boxes == 1 else f"{boxes} boxes" if boxes else "no box: it refers to nothing"
    width, height = item.image_size_wh
    category = _cut(sample.category, _MOST_CATEGORY_CHARACTERS)
    facts = [("category", category), ("split", sample.split), ("boxes", count), ("size", f"{width} × {height}")]
    said = "".join(f'<span data-fact="{name}">{escape(value)}</span>' for name, value in facts if value)
    return f'<span data-fact="id" title="Sample id">{escape(item.id)}</span>{said}'


def _siblings_html(item: Item, siblings: Sequence[Item], in_all: int) -> str:
    # Of many, those of the same category matter most: the phrase must tell apart from them.
    sorted_siblings = sorted(siblings, key=lambda one: one.sample.category != item.sample.category)
    rows = [_sibling_html(sibling, item) for sibling in sorted_siblings]
    if in_all > len(siblings):
        rows.append(f'<li class="an-more">{len(siblings):,} of {in_all:,} shown; the checks look at all of them</li>')
    return "".join(rows)


def _sibling_html(sibling: Item, item: Item) -> str:
    clipped = (box.clip(item.image_size_wh) for box in sibling.sample.boxes_xyxy_px)
    boxes = json.dumps([box.rounded(1) for box in clipped if box is not None])
    phrase = "" if sibling.placeholder else _cut(sibling.phrase, _MOST_CHARACTERS)
    shown = escape(phrase) if phrase else '<i class="an-none">placeholder</i>'
    compared = escape(phrase.lower()) if is_rival(sibling, item) else ""
    kind = _cut(sibling.sample.category, _MOST_CATEGORY_CHARACTERS)
    category = f"<small>{escape(kind)}</small>" if kind else ""
    return (
        f'<li><button type="button" class="an-sibling" data-go="{escape(sibling.id)}" data-boxes="{escape(boxes)}"'
        f' data-phrase="{compared}" title="Go to {escape(sibling.id)}">'
        f'<span dir="auto">{shown}</span>{category}</button></li>'
    )


def _history_html(history: Sequence[Change]) -> str:
    standing = history[-1].id if history else 0
    rows = [_change_html(change, standing) for change in reversed(history[-_MOST_CHANGES:])]
    if len(history) > _MOST_CHANGES:
        rows.append(f'<li class="an-more">and {len(history) - _MOST_CHANGES} before</li>')
    return "".join(rows)


def _change_html(change: Change, standing: int) -> str:
    words = _ACTION_WORDS.get(change.action, change.action)
    if change.action == "write" and change.origin in _TAKEN_WORDS:
        words = _TAKEN_WORDS[change.origin]
    if change.phrase_before is not None and change.phrase_before != change.phrase_after:
        what = f"{quoted(change.phrase_before, 48)} → {quoted(change.phrase_after, 120)}"
    elif change.action == "import":
        what = quoted(change.phrase_after, 48)
    else:
        what = ""
    note = "" if change.action in ("undo", "revert") else change.note
    told = f" <em>{escape(note)}</em>" if note else ""
    boxes = " <i>boxes changed</i>" if change.boxes_changed else ""
    back = "" if change.id == standing else _PUT_BACK.format(change.id)
    return (
        f'<li data-undone="{str(change.undone).lower()}"><span>{time_html(change.at)} <b>{escape(change.who)}</b> '
        f"{escape(words)}</span>{told}{boxes} {what}{back}</li>"
    )


def opinions_html(opinions: Sequence[Opinion], agreement: Agreement, item: Item) -> str:
    """What others said about the sample, the newest first, and what to do about it."""
    if not opinions:
        return ""
    rows = [_opinion_html(opinion, item) for opinion in reversed(opinions)][:_MOST_CHANGES]
    if agreement.asked:
        found = f"{agreement.hits} of {agreement.asked} found it from the phrase alone"
        rows.insert(0, f'<li><b class="an-iou" data-hit="{str(not agreement.undecided).lower()}">{found}</b></li>')
    if agreement.undecided and not item.placeholder:
        button = '<button type="button" class="an-button" data-decide="0">Keep it</button>'
        rows.append(f"<li><span>What stands is right</span>{button}</li>")
    return "".join(rows)


def _opinion_html(opinion: Opinion, item: Item) -> str:
    who = f"<b>{escape(opinion.who)}</b>"
    if opinion.kind == "blind":
        verdict = "found it" if opinion.hit else "pointed elsewhere"
        other = "" if opinion.phrase == item.phrase else f" from {quoted(opinion.phrase, 60)}"
        boxes = escape(json.dumps([box.rounded(1) for box in opinion.boxes_xyxy_px]))
        return f'<li class="an-sibling" data-boxes="{boxes}">{who}<span>{verdict}{other}</span></li>'
    taken = opinion.phrase == item.phrase
    button = "" if taken else f'<button type="button" class="an-button" data-decide="{opinion.id}">Take it</button>'
    return f"<li>{who}<span>{quoted(opinion.phrase, 120)}</span>{button}</li>"


def _undoable(history: Sequence[Change]) -> str:
    """What undo would take back: the last change that still holds."""
    for change in reversed(history):
        if change.action == "undo" or change.undone:
            continue
        if change.phrase_before is None:  # the import, or the moment when a person added it
            return ""
        return f"{change.who} {_ACTION_WORDS.get(change.action, change.action)}"
    return ""
