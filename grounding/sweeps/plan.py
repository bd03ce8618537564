"""What is said before a sweep begins: how many runs, of what, and how long they may take."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from grounding.jobs.store import RunRecord, RunState, RunStore
from grounding.sweeps.settings import SweepSettings
from grounding.sweeps.study import NEVER_PRUNED, UNPRUNED_SHARE
from grounding.training.settings import TrainSettings
from grounding.workspace import Workspace

_LOOKED_AT = 200


@dataclass(frozen=True)
class Pace:
    """How long a run takes, in seconds, and in words where that is known from."""

    run_seconds: float
    source: str


@dataclass(frozen=True)
class Plan:
    """A sweep that has not begun. `pace` is None when nothing was measured yet."""

    settings: SweepSettings
    pace: Pace | None

    @property
    def seconds(self) -> float | None:
        """How long all runs take when none is pruned."""
        return None if self.pace is None else self.pace.run_seconds * self.settings.runs

    @property
    def sentences(self) -> tuple[str, ...]:
        """Number of runs, time, where the time is known from, and what pruning may do to it."""
        settings = self.settings
        runs = f"{settings.runs} runs of {settings.base.steps:,} steps"
        if self.pace is None or self.seconds is None:
            said = f"{runs}. How long they take isn't known before a run, or the check before training, has been timed."
        else:
            each = f"{in_words(self.pace.run_seconds)} a run"
            said = f"{runs}, about {in_words(self.seconds)}: {each}, estimated from {self.pace.source}."
        return said, self._pruning()

    def _pruning(self) -> str:
        settings = self.settings
        if not settings.prune:
            return "No run is pruned: each takes all of its steps."
        first = max(int(UNPRUNED_SHARE * settings.base.steps), 1)
        every = settings.base.score_every_steps
        if not settings.base.score_each_epoch and -(-first // every) * every >= settings.base.steps:
            return "Pruning can't shorten it: a run is scored at its end only. Lower score_every_steps."
        return (
            f"Pruning may shorten it: from the {NEVER_PRUNED + 1}rd run on, one whose mean IoU falls behind the median "
            "of the finished ones is ended."
        )


def plan_of(workspace: Workspace, settings: SweepSettings, measured_seconds: float | None = None) -> Plan:
    """The plan of a sweep. Former runs of the same model here tell how long one takes; where there is none,
    `measured_seconds`, what the check before training has measured for one."""
    pace = pace_of_runs(workspace, settings)
    if pace is None and measured_seconds is not None:
        pace = Pace(measured_seconds, "the pace that the check before training has measured")
    return Plan(settings, pace)


def pace_of_runs(workspace: Workspace, settings: SweepSettings) -> Pace | None:
    """From the newest run of the same model that ended by itself: what it took beside its steps, and the time of a step
    with the scorings in between, in proportion to the pictures of a step."""
    store = RunStore(workspace.runs_db)
    for run in store.list(_LOOKED_AT):
        same = run.model_id == settings.model_id and run.quantize == settings.quantize
        if same and run.state is RunState.DONE and run.attempt == 1:
            seconds = _seconds(store, run, settings.base)
            if seconds is not None:
                return Pace(seconds, f"the run {run.name}")
    return None


def in_words(seconds: float) -> str:
    """Such as "40 s", "12 min" or "3 h 20 min"."""
    whole = max(1, round(seconds))
    if whole < 90:
        return f"{whole} s"
    minutes = round(whole / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _seconds(store: RunStore, run: RunRecord, settings: TrainSettings) -> float | None:
    last = store.progress(run.id, most_steps=1).last_step
    if last is None or run.started_at is None or run.finished_at is None:
        return None
    took = (datetime.fromisoformat(run.finished_at) - datetime.fromisoformat(run.started_at)).total_seconds()
    pictures = settings.images_per_step / max(1, int(run.settings.get("images_per_step", settings.images_per_step)))
    return max(0.0, took - last.seconds) + last.seconds / last.step * settings.steps * pictures
