"""The queue as its panel shows it: a row a run, with what may be done with it. Pure; everything is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from grounding.jobs.queue import QueueSettings
from grounding.jobs.store import RunRecord, RunState
from grounding.training.events import ScoreEvent
from grounding.ui.run_view import STATE_WORDS, shown_score
from grounding.ui.wording import count_of


@dataclass(frozen=True)
class Row:
    """A run as the panel shows it: its scorings, whether it hangs, the step of its newest checkpoint, and the scoring
    of the adapter that it has left."""

    run: RunRecord
    scores: Sequence[ScoreEvent] = ()
    hung: bool = False
    checkpoint: int | None = None
    own: ScoreEvent | None = None


def queue_html(rows: Sequence[Row], settings: QueueSettings) -> str:
    """The panel: those on their way first, in their order, then the ended ones, the last first. All is escaped."""
    if not rows:
        return ""
    ways = [row for row in rows if not row.run.state.ended]
    past = [row for row in rows if row.run.state.ended]
    waiting = [row for row in ways if row.run.state is RunState.QUEUED]
    body = ""
    if ways:
        body += f"<h4>On their way</h4><ol>{''.join(_row_html(row, waiting) for row in ways)}</ol>"
    if past:
        body += f"<h4>Ended</h4><ul>{''.join(_row_html(row, waiting) for row in past)}</ul>"
    return f'<section class="bw-queue"><header><h3>Runs</h3>{_switches(settings)}</header>{body}</section>'


def _switches(settings: QueueSettings) -> str:
    checked = "checked" if settings.go_on_after_failure else ""
    switch = f'<label><input type="checkbox" data-action="after-failure" {checked}> Go on after a failed run</label>'
    if settings.paused:
        reason = f'<p class="bw-paused">{escape(settings.reason)}</p>'
        return f"{reason}{switch}{_button('go-on', 'Go on')}"
    return f"{switch}{_button('pause', 'Pause the queue')}"


def _row_html(row: Row, waiting: Sequence[Row]) -> str:
    run = row.run
    state = "stopping" if run.state.active and run.stop_requested else run.state.value
    word = {"stopping": "Discarding" if run.discard_requested else "Stopping"}.get(state, STATE_WORDS[run.state])
    sentence = _sentence(row)
    said = f"<p>{escape(sentence)}</p>" if sentence else ""
    return (
        f'<li data-run="{escape(run.id)}" data-state="{escape(state)}"><div><b>{escape(run.name)}</b>'
        f'<span class="bw-state" data-state="{escape(state)}">{word}</span><span>{_figures(row)}</span></div>'
        f"<nav>{_buttons(row, waiting)}</nav>{said}</li>"
    )


def _sentence(row: Row) -> str:
    run = row.run
    if row.hung:
        return (
            "No sign of life for minutes: it hangs, or the machine is overloaded. Stop it; if it doesn't obey, it is "
            "ended and can be resumed from its last checkpoint."
        )
    if run.state is RunState.QUEUED:
        return (
            f"To be resumed: it {_from(row)}, with its own settings. Duplicate it to train with others."
            if run.attempt
            else ""
        )
    if run.state.resumable:
        return f"{run.sentence} It {_from(row)}."
    return "" if run.state is RunState.DONE else run.sentence


def _from(row: Row) -> str:
    return f"goes on after step {row.checkpoint:,}" if row.checkpoint else "begins anew, as it has no checkpoint"


def _figures(row: Row) -> str:
    run = row.run
    told = [count_of(int(run.settings.get("steps", 0)), "step")]
    if row.scores and not run.state.active:
        first, last = row.scores[0], shown_score(run, row.scores, row.own)
        told.append(f"Acc@0.5 {first.accuracy_50:.0%} → {last.accuracy_50:.0%}")
        told.append(f"IoU {first.mean_iou:.3f} → {last.mean_iou:.3f}")
    if run.state.ended and run.finished_at:
        told.append(f"{datetime.fromisoformat(run.finished_at).astimezone(UTC):%d %b, %H:%M} UTC")
    return " · ".join(told)


def _buttons(row: Row, waiting: Sequence[Row]) -> str:
    run, state = row.run, row.run.state
    copy, log = _button("copy", "Duplicate", run), _button("log", "Log", run)
    look = _button("look", "Show", run, label=f"Show the curves of {run.name}")
    if state is RunState.QUEUED:
        ids = [other.run.id for other in waiting]
        place = ids.index(run.id)
        return (
            _button("up", "↑", run, label="Earlier", disabled=place == 0)
            + _button("down", "↓", run, label="Later", disabled=place == len(ids) - 1)
            # What a sweep has chosen is neither changed nor taken out: the sweep is stopped instead. What was learned
            # under some settings can't be gone on with under others.
            + ("" if run.sweep or run.attempt else _button("edit", "Edit", run))
            + copy
            + ("" if run.sweep else _button("remove", "Remove", run))
        )
    if state.active:
        stop = _button("stop", "Stop and save", run, disabled=run.stop_requested)
        discard = _button("discard", "Discard", run, confirm="Throw it away?", disabled=run.discard_requested)
        return look + stop + discard + log
    resume = _button("resume", "Resume", run) if state.resumable else ""
    may_discard = state.resumable and row.checkpoint
    discard = _button("discard", "Discard", run, confirm="Delete its checkpoints?") if may_discard else ""
    return look + resume + copy + log + discard + _button("remove", "Remove", run, confirm="Remove from the list?")


def _button(
    action: str, text: str, run: RunRecord | None = None, *, label: str = "", confirm: str = "", disabled: bool = False
) -> str:
    more = f' aria-label="{escape(label)}" title="{escape(label)}"' if label else ""
    more += f' data-confirm="{escape(confirm)}"' if confirm else ""
    more += f' data-run="{escape(run.id)}"' if run is not None else ""
    return f'<button type="button" data-action="{action}"{more}{" disabled" if disabled else ""}>{text}</button>'
