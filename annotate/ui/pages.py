"""What stands around a sample on the Annotate tab: the frame, the end of a queue, the overlays. Plain HTML, escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template

from annotate.items import Counts, Item, Queue, RepairPreview
from annotate.phrases import MAX_NOTE_CHARACTERS
from annotate.scopes import MAX_FILTER_CHARACTERS
from annotate.ui.screens import quoted, target_figure_html, time_html

_FRAME = Path(__file__).resolve().parent / "assets" / "frame.html"
QUEUE_LABELS: dict[Queue, str] = {
    "placeholders": "Placeholders",
    "problems": "Failed checks",
    "low_iou": "Lowest IoU first",
    "disagree": "Base and adapter differ",
    "review": "To review, at random",
    "unseen": "Never seen",
    "skipped": "Skipped",
    "flagged": "Flagged",
    "rejected": "Rejected",
    "all": "Everything",
}


def frame_html(workspace_key: str, *, has_listener: bool = False) -> str:
    """The tab before its first sample. `workspace_key` keeps the drafts of two workspaces apart in one browser."""
    frame = Template(_FRAME.read_text(encoding="utf-8"))
    return frame.substitute(
        workspace_key=escape(workspace_key),
        most_note_characters=MAX_NOTE_CHARACTERS,
        has_listener=str(has_listener).lower(),
    )


def repair_html(preview: RepairPreview, examples: Sequence[tuple[Item, str, str]], picture_urls: Sequence[str]) -> str:
    """What a repair would do, before it does. `examples` are (item, before, after)."""
    if not preview.total:
        return (
            "<h3>Nothing to fill</h3><p>The source gives no phrase of its own for the placeholders that are left "
            f"({preview.left_for_people:,}). They wait for people.</p>"
            '<div class="an-foot"><button type="button" id="annotate-repair-cancel" class="an-button an-primary">'
            "Close</button></div>"
        )
    rows = "".join(
        f"<tr><td>{target_figure_html(item, url)}</td><td>{quoted(before)}</td><td><b>{escape(after)}</b></td></tr>"
        for (item, before, after), url in zip(examples, picture_urls, strict=True)
    )
    left = _left_sentence(preview.left_for_people)
    return (
        f"<h3>Fill {count_of(preview.total, 'placeholder')} from the source’s own phrases?</h3>"
        f"<p>Each one gets the first usable phrase that the source gave for the same box. {left} "
        "You can undo this afterwards.</p>"
        f'<div class="an-examples"><table><thead><tr><th>Box</th><th>Before</th><th>After</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        '<div class="an-foot">'
        f"<span>{len(examples)} of {preview.total:,} shown</span>"
        '<button type="button" id="annotate-repair-cancel" class="an-button">Cancel</button>'
        f'<button type="button" id="annotate-repair-confirm" class="an-button an-primary" data-as-of="{preview.as_of}">'
        f"Fill {preview.total:,}</button></div>"
    )


def _left_sentence(left: int) -> str:
    if not left:
        return "None is left for people."
    return (
        f"{left:,} {'has' if left == 1 else 'have'} no such phrase and {'waits' if left == 1 else 'wait'} for people."
    )


def conflict_html(current: Item, who: str, at: str, mine: str, figures_html: tuple[str, str]) -> str:
    """Both versions side by side, when somebody saved the sample since the page showed it. `figures_html` are the
    picture with the boxes that stand, and with those that would stand with `mine`."""
    theirs_figure, mine_figure = figures_html
    theirs = quoted(current.phrase)
    if current.placeholder:
        theirs = f'{theirs} <i class="an-none">(a placeholder)</i>'
    return (
        "<h3>Somebody changed this sample meanwhile</h3><p>Nothing was overwritten. Which shall stand?</p>"
        f'<div class="an-versions"><section><h4>{escape(who)} · {time_html(at)}</h4>{theirs_figure}<p>{theirs}</p>'
        '<button type="button" class="an-button" data-choose="theirs">Keep theirs</button></section>'
        f"<section><h4>Yours, not saved</h4>{mine_figure}<p>{quoted(mine)}</p>"
        '<button type="button" class="an-button an-primary" data-choose="mine">Save mine over it</button></section>'
        "</div>"
        "<p>Esc closes this and keeps yours in the box.</p>"
    )


def done_html(queue: Queue, split: str | None, here: Counts, everywhere: Counts) -> str:
    """The end of a queue, and what to do next. `here` counts the split chosen, `everywhere` all of them."""
    if not everywhere.total:
        return _done(
            "No samples yet",
            "Bring a data set in from the terminal: <code>python -m annotate import SOURCE</code>. "
            "Then reload the page.",
        )
    if not here.total:
        return _done(f"No samples in {split}", "The other splits have some.", _all_splits_button(queue))
    return _DONE.get(queue, _others_done)(queue, split, here, everywhere)


def filtered_done_html(found: int, is_capped: bool) -> str:
    """The end of a queue that a filter narrows down; `found` samples of it match the filter."""
    buttons = ['<button type="button" class="an-button" data-unfilter>Show all</button>']
    if not found:
        return _done("Nothing matches the filter", "Other words, another category or queue may find some.", *buttons)
    more = " and more" if is_capped else ""
    buttons.insert(0, '<button type="button" class="an-button an-primary" data-again>From the first again</button>')
    return _done("The end of what the filter finds", f"{count_of(found, 'sample')}{more} in this queue.", *buttons)


def _placeholders_done(queue: Queue, split: str | None, here: Counts, everywhere: Counts) -> str:
    buttons = ['<button type="button" class="an-button an-primary" data-tab="Train">Train on it →</button>']
    where = f"in {split}" if split else "here"
    sentence = f"{count_of(here.repaired + here.written, 'phrase')} written or filled, no placeholder waits."
    if everywhere.placeholders:
        buttons = [_all_splits_button("placeholders", everywhere.placeholders), *buttons]
        sentence = f"{count_of(everywhere.placeholders, 'placeholder')} wait in the other splits."
    if everywhere.flagged:
        buttons.append(_open_button("flagged", "", f"Look at the flagged ({everywhere.flagged:,})"))
    return _done(f"Nothing left {where}", sentence, *buttons)


def _flags_done(queue: Queue, split: str | None, here: Counts, everywhere: Counts) -> str:
    if here.flagged:
        again = _open_button(queue, split or "", f"From the first again ({here.flagged:,})")
        return _done("The end of the flagged ones", "A flag stays until somebody takes it away (Alt+F).", again)
    return _done("Nothing is flagged", "Alt+F flags a sample for somebody to look at.", *_on_buttons(split, here))


def _skips_done(queue: Queue, split: str | None, here: Counts, everywhere: Counts) -> str:
    return _done("Nothing is skipped", "What you skip with Esc comes here.", *_on_buttons(split, here))


def _all_done(queue: Queue, split: str | None, here: Counts, everywhere: Counts) -> str:
    again = _open_button(queue, split or "", "From the first again")
    where = f"of {split}" if split else "of everything"
    return _done(f"The end {where}", f"{count_of(here.total, 'sample')} in all.", again, *_on_buttons(split, here))


def _others_done(queue: Queue, split: str | None, here: Counts, everywhere: Counts) -> str:
    title, sentence = _WORDS_AT_END[queue]
    buttons = _on_buttons(split, here)
    if getattr(here, queue):
        buttons.insert(0, _open_button(queue, split or "", "From the first again"))
    return _done(title, sentence, *buttons)


_WORDS_AT_END: dict[Queue, tuple[str, str]] = {
    "problems": ("No more failed checks", "A check only warns: what you approve stays as it is."),
    "low_iou": (
        "The end of what the model was asked",
        "Ask the model about more phrases: ⋯, “Ask the model about all of these”.",
    ),
    "disagree": ("No more differences", "Ask the model about more phrases: ⋯, “Ask the model about all of these”."),
    "review": ("Nothing left to review", "Every phrase written or filled here has been approved."),
    "unseen": ("All seen", "Somebody has had every sample here open."),
    "rejected": ("The end of the rejected ones", "Alt+R opens one again."),
}
_DONE = {"placeholders": _placeholders_done, "flagged": _flags_done, "skipped": _skips_done, "all": _all_done}


def _on_buttons(split: str | None, here: Counts) -> list[str]:
    if here.placeholders:
        return [_open_button("placeholders", split or "", f"To the placeholders ({here.placeholders:,})")]
    return ['<button type="button" class="an-button" data-tab="Train">Train on it →</button>']


def _all_splits_button(queue: Queue, count: int | None = None) -> str:
    return _open_button(queue, "", "Show all splits" + (f" ({count:,})" if count else ""))


def _open_button(queue: Queue, split: str, label: str) -> str:
    return (
        f'<button type="button" class="an-button" data-queue="{queue}" data-split="{escape(split)}">'
        f"{escape(label)}</button>"
    )


def _done(title: str, sentence_html: str, *buttons: str) -> str:
    return f"<div><h3>{escape(title)}</h3><p>{sentence_html}</p><p>{''.join(buttons)}</p></div>"


def options_html(options: Iterable[tuple[str, str]], chosen: str) -> str:
    """The `(value, label)` pairs as the options of a select."""
    return "".join(
        f'<option value="{escape(value)}"{" selected" if value == chosen else ""}>{escape(label)}</option>'
        for value, label in options
    )


def chosen_html(nobody: str, names: Iterable[str], chosen: str) -> str:
    """Options of a filter, the first one for no filter; what is chosen is among them even where it is none by now.
    Names that are too long to filter by are left out."""
    listed = [name for name in names if 0 < len(name) <= MAX_FILTER_CHARACTERS]
    if chosen and chosen not in listed:
        listed.insert(0, chosen)
    return options_html([("", nobody), *((name, name) for name in listed)], chosen)


def count_of(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
