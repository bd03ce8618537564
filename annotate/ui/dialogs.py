"""The overlays of the Annotate tab's menu. Plain HTML, escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from typing import cast

from annotate.bulk import BulkEdit, BulkKind, BulkPreview
from annotate.listening import ListeningState, Phase
from annotate.opinions import BlindAsk, Figures, Opinion
from annotate.people import PersonProgress
from annotate.ui.pages import count_of, options_html
from annotate.ui.screens import quoted, time_html
from grounding.records import SPLITS

_DAYS_DRAWN = 30
_KINDS = (
    ("replace", "Replace words"),
    ("approve", "Approve"),
    ("reject", "Reject"),
    ("flag", "Flag"),
    ("unflag", "Take the flag away"),
    ("split", "Move to a split"),
    ("category", "Set the category"),
)
_CLOSE = '<button type="button" class="an-button" data-close>Close</button>'


def bulk_edit(fields: Mapping[str, str]) -> BulkEdit:
    """The edit that the form asks for. Raises `StoreError` as `BulkEdit` does."""
    kind = fields.get("kind", "")
    put = fields.get("to_split" if kind == "split" else "put", "")
    return BulkEdit(
        kind=cast(BulkKind, kind),
        find=fields.get("find", ""),
        put=put,
        whole_words="parts" not in fields,
        ignore_case="ignore_case" in fields,
    )


def bulk_form_html(scope_words: str) -> str:
    """The form for changing many samples at once; `scope_words` say which, escaped here."""
    return (
        f"<h3>Change many at once</h3><p>It concerns {escape(scope_words)}. Nothing happens before you have seen what "
        'would, and all of it can be undone together.</p><form class="an-fields" onsubmit="return false">'
        f'<label><span>Do</span><select name="kind">{options_html(_KINDS, "replace")}</select></label>'
        '<label data-for="replace"><span>Find</span><input name="find" maxlength="500" autocomplete="off"></label>'
        '<label data-for="replace reject flag category"><span>With, or why</span>'
        '<input name="put" maxlength="500" autocomplete="off"></label>'
        '<label data-for="split" hidden><span>Split</span>'
        f'<select name="to_split">{options_html([(name, name) for name in SPLITS], "train")}</select></label>'
        '<label data-for="replace"><span>Also inside words</span><input type="checkbox" name="parts"></label>'
        '<label data-for="replace"><span>Any case</span><input type="checkbox" name="ignore_case"></label>'
        '</form><p class="an-dialog-status" role="status"></p>'
        f'<div class="an-preview"><div class="an-foot">{_CLOSE}</div></div>'
    )


def bulk_preview_html(preview: BulkPreview) -> str:
    """What the edit would do, before it does."""
    if not preview.total and not preview.refused:
        return f'<p>Nothing would change.</p><div class="an-foot">{_CLOSE}</div>'
    rows = [(sample_id, before, f"<b>{escape(after)}</b>") for sample_id, before, after in preview.examples]
    rows += [
        (sample_id, before, f'<i class="an-none">left: {escape(why)}</i>')
        for sample_id, before, why in preview.refusals
    ]
    body = "".join(
        f"<tr><td>{escape(sample_id)}</td><td>{quoted(before, 120)}</td><td>{after}</td></tr>"
        for sample_id, before, after in rows
    )
    left = f" {preview.refused:,} would be left as they are." if preview.refused else ""
    press = (
        f'<button type="button" class="an-button an-primary" data-bulk="{preview.as_of}">'
        f"Change {preview.total:,}</button>"
        if preview.total
        else ""
    )
    return (
        f"<p>{count_of(preview.total, 'sample')} would change.{left}</p>"
        '<div class="an-examples"><table><thead><tr><th>Sample</th><th>Before</th><th>After</th></tr></thead>'
        f'<tbody>{body}</tbody></table></div><div class="an-foot"><span>{len(rows)} shown</span>{_CLOSE}{press}</div>'
    )


def pass_html(state: ListeningState, scope_words: str) -> str:
    """Where the model's pass over many samples stands."""
    running = state.phase is Phase.RUNNING
    share = 100 * state.done / state.total if state.total else 0
    sentences = {
        Phase.IDLE: f"The base and the newest adapter are asked about {scope_words}, and where they point is kept.",
        Phase.RUNNING: f"{state.done:,} of {state.total:,} asked"
        if state.total
        else "Looking for phrases to ask about",
        Phase.DONE: f"Done: {count_of(state.done, 'phrase')} asked. The queues “Lowest IoU first” and “Base and "
        "adapter differ” have the doubtful ones.",
        Phase.STOPPED: f"Stopped after {count_of(state.done, 'phrase')}. What was heard is kept.",
        Phase.FAILED: "It ended early.",
    }
    button = (
        '<button type="button" class="an-button" data-pass="pass_stop">Stop</button>'
        if running
        else '<button type="button" class="an-button an-primary" data-pass="pass_start">Ask</button>'
    )
    return (
        f"<p>{escape(sentences[state.phase])}</p>"
        f'<div class="an-bar-track" role="progressbar" aria-valuenow="{share:.0f}">'
        f'<i style="width:{share:.1f}%"></i></div>'
        f'<p class="an-dialog-status">{escape(state.sentence)}</p><div class="an-foot">{_CLOSE}{button}</div>'
    )


def people_html(people: Sequence[PersonProgress], together: Figures, each: Sequence[Figures]) -> str:
    """Who did what, how fast, and how often people find the target from the phrase alone."""
    if not people and not together.asked:
        return f'<h3>Who did what</h3><p>Nobody has changed anything yet.</p><div class="an-foot">{_CLOSE}</div>'
    blind = {figures.who: figures for figures in each}
    names = [person.who for person in people]
    rows = "".join(_person_html(person, blind.get(person.who)) for person in people)
    rows += "".join(
        f"<tr><td>{escape(str(figures.who))}</td>{'<td></td>' * 6}<td>{_hits(figures)}</td><td></td></tr>"
        for figures in each
        if figures.who not in names
    )
    agreed = (
        f"<p>From the phrase alone {together.hits:,} of {together.asked:,} targets were found "
        f"({together.share:.0%}).</p>"
        if together.asked
        else ""
    )
    head = "".join(
        f"<th>{name}</th>"
        for name in ("Who", "Written", "Approved", "Rejected", "Flagged", "Pace", "Last", "Blind", "Last 30 days")
    )
    return (
        f'<h3>Who did what</h3>{agreed}<table class="an-people"><thead><tr>{head}</tr></thead>'
        f'<tbody>{rows}</tbody></table><div class="an-foot">{_CLOSE}</div>'
    )


def _person_html(person: PersonProgress, blind: Figures | None) -> str:
    pace = "–" if person.pace_seconds is None else f"{person.pace_seconds:.0f} s"
    counts = (person.written, person.approved, person.rejected, person.flagged)
    numbers = "".join(f"<td>{count:,}</td>" for count in counts)
    return (
        f"<tr><td>{escape(person.who)}</td>{numbers}<td>{pace}</td><td>{time_html(person.last_active_at)}</td>"
        f"<td>{_hits(blind)}</td><td>{_days_svg(person.per_day)}</td></tr>"
    )


def _hits(figures: Figures | None) -> str:
    return "–" if figures is None else f"{figures.hits:,} of {figures.asked:,}"


def _days_svg(per_day: Sequence[tuple[str, int]]) -> str:
    """A bar for each of the last days, today's at the right; the highest for the busiest."""
    today, counts = datetime.now(UTC).date(), dict(per_day)
    days = [(today - timedelta(days=ago)).isoformat() for ago in reversed(range(_DAYS_DRAWN))]
    most = max(counts.get(day, 0) for day in days) or 1
    bars = "".join(
        f'<rect x="{index * 5}" y="{26 - 26 * count / most:.1f}" width="4" height="{26 * count / most:.1f}">'
        f"<title>{escape(day)}: {count:,}</title></rect>"
        for index, day in enumerate(days)
        if (count := counts.get(day, 0))
    )
    size = 'viewBox="0 0 150 26" preserveAspectRatio="xMinYMax meet"'
    return f'<svg {size} role="img" aria-label="Phrases a day">{bars}</svg>'


def blind_html(ask: BlindAsk, figure_html: str) -> str:
    """A phrase and its picture, the target left out."""
    return (
        f'<h3>Where is it?</h3><p class="an-blind-phrase" dir="auto">{escape(ask.phrase)}</p>'
        f'<div class="an-blind-picture" tabindex="0">{figure_html}</div>'
        '<p class="an-blind-verdict">Drag a box around what the phrase speaks of. Of several: drag with Shift, then '
        "Enter.</p>"
        '<p class="an-dialog-status" role="status"></p><div class="an-foot">'
        "<span><kbd>0</kbd> nothing there <kbd>Enter</kbd> next <kbd>Esc</kbd> close</span>"
        '<button type="button" class="an-button" data-blind-nothing>Nothing there</button>'
        '<button type="button" class="an-button an-primary" data-blind-next>Pass</button></div>'
    )


def blind_done_html() -> str:
    """Nothing is left for this person."""
    return (
        "<h3>Nothing to check</h3><p>You have pointed at every phrase that somebody else wrote. When more are written, "
        f'they come here.</p><div class="an-foot">{_CLOSE}</div>'
    )


def verdict_html(opinion: Opinion) -> str:
    """How well the person pointed."""
    met = f"IoU {opinion.iou:.2f}" if opinion.iou is not None else ""
    if opinion.hit:
        return f'<b class="an-iou" data-hit="true">{met}</b> Found. The phrase says enough.'
    return (
        f'<b class="an-iou" data-hit="false">{met}</b> Another place than the writer meant: the sample now waits for '
        "a decision."
    )
