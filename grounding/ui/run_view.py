"""What the Train tab shows of a run: where it stands, its curves, its figures. Pure functions of the record."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from grounding.charts import Axis, Line, chart_html, smooth
from grounding.jobs.store import RunProgress, RunRecord, RunState
from grounding.training.events import ScoreEvent, kept_score
from grounding.training.preflight.text import in_minutes
from grounding.ui.wording import count_of

# Looking at the pictures takes about this share of a run, once for train and once for validation; the steps take
# the rest.
_PREPARING_SHARE = 0.12
_COUNTED_PHASES = 2
STATE_WORDS = {
    RunState.QUEUED: "Queued",
    RunState.STARTING: "Starting",
    RunState.RUNNING: "Training",
    RunState.DONE: "Done",
    RunState.STOPPED: "Stopped",
    RunState.FAILED: "Failed",
    RunState.DISCARDED: "Discarded",
}


def run_html(run: RunRecord | None, progress: RunProgress | None, own: ScoreEvent | None = None) -> str:
    """The run with its bar, charts and figures, or what to do when there is none. Everything is escaped.

    `own`: the scoring of the adapter that the run has left, if any (`own_score`).
    """
    if run is None or progress is None:
        return (
            '<div class="bw-empty bw-run-empty"><h3>No run yet</h3><p>Press <b>Train</b>. The phrases as they stand '
            "are frozen, an adapter is trained in the background, and its boxes are scored as it learns. You may "
            "close this page meanwhile.</p></div>"
        )
    steps = int(run.settings.get("steps", 1))
    percent = 100 * share_done(run, progress)
    return (
        f'<section class="bw-run" data-run="{escape(run.id)}" data-state="{run.state.value}">'
        f"<header><h3>{escape(run.name)}</h3>"
        f'<span class="bw-state" data-state="{run.state.value}">{_state_text(run)}</span>'
        f'<p id="train-message">{escape(_message(run, progress))}</p></header>'
        f'<div class="bw-bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent:.0f}"><i style="width:{percent:.1f}%"></i></div>'
        f"{_notes(run, progress)}{_tiles(run, progress.scores, own)}"
        f'<div class="bw-charts">{_score_chart(progress.scores, steps)}{_loss_chart(progress, steps)}</div></section>'
    )


def share_done(run: RunRecord, progress: RunProgress) -> float:
    """How much of the run is done, 0.0 to 1.0. Never falls while a run goes on."""
    if run.state is RunState.DONE:
        return 1.0
    if progress.last_step is not None:
        return _PREPARING_SHARE + (1 - _PREPARING_SHARE) * progress.last_step.step / progress.last_step.steps
    looked = sum(phase.done / phase.total for phase in progress.phases if phase.total)
    return _PREPARING_SHARE * min(1.0, looked / _COUNTED_PHASES)


def seconds_left(progress: RunProgress) -> float | None:
    """Seconds until the steps are done at the pace so far; None before the fifth step."""
    step = progress.last_step
    if step is None or step.step < 5:
        return None
    return step.seconds / step.step * (step.steps - step.step)


def _state_text(run: RunRecord) -> str:
    if run.state.active and run.stop_requested:
        return "Stopping"
    return STATE_WORDS[run.state]


def _message(run: RunRecord, progress: RunProgress) -> str:
    if run.state is RunState.QUEUED:
        return "Waiting for its turn in the queue"
    if not run.state.active:
        return run.sentence
    if run.discard_requested:
        return "Stopping and throwing away what was learned."
    if run.stop_requested:
        return "Stopping after this step and keeping what is learned."
    if progress.last_step is not None and not _is_before_its_steps(run, progress):
        step = progress.last_step
        left = seconds_left(progress)
        pace = step.phrases / step.seconds if step.seconds else 0.0
        text = f"Step {step.step:,} of {step.steps:,} · {_pace(pace)} a second"
        return f"{text} · {in_minutes(left)} left" if left is not None else text
    if progress.phase is not None:
        counted = f", {progress.phase.done:,} of {progress.phase.total:,}" if progress.phase.total else ""
        return f"{progress.phase.text}{counted}"
    return "Starting the worker"


def _is_before_its_steps(run: RunRecord, progress: RunProgress) -> bool:
    """Whether a resumed run still loads and looks at pictures: the steps that it has told are of an earlier start."""
    return bool(run.started_at and progress.last_step_at and progress.last_step_at < run.started_at)


def _pace(phrases_per_second: float) -> str:
    """A slow machine takes more than a second for a phrase: "0 phrases" would be wrong."""
    if phrases_per_second < 1:
        return f"{phrases_per_second:.2g} phrases"
    return count_of(round(phrases_per_second), "phrase")


def _notes(run: RunRecord, progress: RunProgress) -> str:
    """What went otherwise than asked while the run went on, save what its closing sentences say anyway."""
    texts = [text for text in dict.fromkeys(note.text for note in progress.notes) if text not in run.sentence]
    return (
        '<ul class="bw-run-notes">' + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>" if texts else ""
    )


def shown_score(run: RunRecord, scores: Sequence[ScoreEvent], own: ScoreEvent | None = None) -> ScoreEvent:
    """The scoring of what is kept: `own`, the adapter's, where there is one; that of the base while there is no
    other."""
    return own or kept_score(scores, keep_best=bool(run.settings.get("keep_best", False))) or scores[-1]


def _tiles(run: RunRecord, scores: Sequence[ScoreEvent], own: ScoreEvent | None) -> str:
    """Figures of the base and of what is kept, on the validation split, side by side."""
    if not scores:
        return ""
    first, last = scores[0], shown_score(run, scores, own)
    tiles = [
        _tile("Mean IoU", first.mean_iou, last.mean_iou, "{:.3f}"),
        _tile("Acc@0.5", first.accuracy_50, last.accuracy_50, "{:.0%}"),
        _tile("Acc@0.75", first.accuracy_75, last.accuracy_75, "{:.0%}"),
        _tile("Boxes found", first.detection_rate, last.detection_rate, "{:.0%}"),
    ]
    if first.perplexity is not None and last.perplexity is not None:
        tiles.append(_tile("Perplexity", first.perplexity, last.perplexity, "{:.3g}", less_is_better=True))
    is_best = last.step == shown_score(run, scores).step
    why = "the best so far by mean IoU, which is kept" if is_best else "those of the adapter that it has left"
    of = f'<p class="bw-kept">Figures of step {last.step:,}, {why}</p>'
    return f'<dl class="bw-tiles">{"".join(tiles)}</dl>{of if last.step != scores[-1].step else ""}'


def _tile(label: str, base: float, now: float, form: str, *, less_is_better: bool = False) -> str:
    sign = "same" if abs(now - base) < 0.0005 else ("up" if (now > base) != less_is_better else "down")
    return (
        f'<div><dt>{label}</dt><dd data-sign="{sign}">{form.format(now)}</dd>'
        f"<dd class='bw-was'>base {form.format(base)}</dd></div>"
    )


def _score_chart(scores: Sequence[ScoreEvent], steps: int) -> str:
    lines = [
        Line("Acc@0.5", "accuracy", [(s.step, s.accuracy_50) for s in scores], dots=True),
        Line("Mean IoU", "iou", [(s.step, s.mean_iou) for s in scores], dots=True),
    ]
    baseline = ("Acc@0.5 of the base", scores[0].accuracy_50) if scores else None
    title = (
        f"{count_of(scores[0].count, 'validation sample')} with a box" if scores else "Boxes on the validation samples"
    )
    return chart_html(title, lines, _step_axis(steps), Axis(0, 1, "{:.0%}"), baseline=baseline)


def _step_axis(steps: int) -> Axis:
    return Axis(0, max(1, steps), "{:,.0f}", whole=True)


def _loss_chart(progress: RunProgress, steps: int) -> str:
    """The loss of the steps, its terms where it has several, and the loss of the validation samples' true answers."""
    points = [(s.step, s.loss) for s in progress.steps]
    checked = [(s.step, s.loss) for s in progress.scores if s.loss is not None]
    lines = [Line("each step", "loss-raw", points), Line("smoothed", "loss", smooth(points))]
    names = list(dict.fromkeys(name for s in progress.steps for name in s.terms))
    for i, name in enumerate(names if len(names) > 1 else []):
        term = [(s.step, s.terms[name]) for s in progress.steps if name in s.terms]
        lines.append(Line(name.replace("_", " "), f"term-{i % 4}", smooth(term)))
    baseline = None
    if checked:
        lines.append(Line("validation", "validation", checked, dots=True))
        baseline = ("validation, base", checked[0][1])
    # What leaves the chart's top stops there: one wild step must not flatten all others.
    losses = sorted(loss for _, loss in points)
    usual = losses[int(0.98 * (len(losses) - 1))] if losses else 1.0
    high = max([usual, *(loss for _, loss in checked)])
    y = Axis(0, max(0.1, high * 1.05), "{:.2f}")
    return chart_html("Loss", lines, _step_axis(steps), y, baseline=baseline)
