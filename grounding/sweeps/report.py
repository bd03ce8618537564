"""How a sweep stands: a row for each of its runs, which of them is best, and how long the rest may take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from grounding.adapters import AdapterInfo, AdapterRegistry
from grounding.jobs.files import adapters_folder
from grounding.jobs.store import RunRecord, RunState, RunStore
from grounding.sweeps.record import SweepRecord, SweepState, SweepStore
from grounding.sweeps.settings import SweepSettings
from grounding.sweeps.space import Value, value_text
from grounding.sweeps.study import Study, Trial
from grounding.training.events import ScoreEvent, kept_score
from grounding.workspace import Workspace

_NOT_ENDED = ("waiting", "queued", "running")
_ON_ITS_WAY = {RunState.QUEUED: "queued", RunState.STARTING: "running", RunState.RUNNING: "running"}


@dataclass(frozen=True)
class TrialRow:
    """One run of a sweep. `number` counts from 0. `state` is waiting, queued, running, done, pruned, stopped, failed or
    discarded. `mean_iou` and `accuracy_50` (0.0 to 1.0, None: not scored) are of `step`, whose weights it keeps: where
    an adapter stands, that one's own, whatever the run has scored since. `pruned_at` is the step after which it was
    pruned, `seconds` how long it took, `run` the run's id, `kept_as` the names that its adapter has in the registry."""

    number: int
    values: Mapping[str, Value]
    state: str
    mean_iou: float | None = None
    accuracy_50: float | None = None
    step: int | None = None
    pruned_at: int | None = None
    seconds: float | None = None
    run: str = ""
    sentence: str = ""
    has_adapter: bool = False
    kept_as: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        plain = {**vars(self), "values": dict(self.values), "kept_as": list(self.kept_as)}
        return {"run_number": self.number + 1, **{key: plain[key] for key in plain if key != "number"}}


@dataclass(frozen=True)
class SweepReport:
    """A sweep as it stands. `base_mean_iou` is the untouched model's, `seconds_left` the time that the runs to come may
    take (None: not known)."""

    record: SweepRecord
    settings: SweepSettings
    rows: tuple[TrialRow, ...]
    base_mean_iou: float | None
    seconds_left: float | None

    @property
    def best(self) -> TrialRow | None:
        """The run with the highest mean IoU among those that left an adapter, the first of equals."""
        kept = [row for row in self.rows if row.has_adapter and row.mean_iou is not None]
        return max(kept, key=lambda row: (row.mean_iou or 0.0, -row.number), default=None)

    @property
    def ended(self) -> int:
        """How many of its runs have ended."""
        return sum(row.state not in _NOT_ENDED for row in self.rows)

    @property
    def sentence(self) -> str:
        """How it went so far, such as "8 runs: 5 done, 3 pruned. The best is run 2 ..."."""
        counts = {row.state: 0 for row in self.rows}
        for row in self.rows:
            counts[row.state] += 1
        listed = ", ".join(f"{count} {state}" for state, count in counts.items())
        if self.best is None or self.best.mean_iou is None:
            return f"{len(self.rows)} runs: {listed or 'none yet'}. None has left an adapter."
        base = f" (base {self.base_mean_iou:.3f})" if self.base_mean_iou is not None else ""
        values = ", ".join(f"{name} {value_text(value)}" for name, value in self.best.values.items())
        return (
            f"{len(self.rows)} runs: {listed}. The best is run {self.best.number + 1}, mean IoU "
            f"{self.best.mean_iou:.3f}{base}, with {values}."
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.record.name,
            "state": str(self.record.state),
            "sentence": self.record.sentence or self.sentence,
            "trouble": self.record.trouble,
            "settings": self.settings.to_json(),
            "base_mean_iou": self.base_mean_iou,
            "seconds_left": self.seconds_left,
            "best_run": self.best.number + 1 if self.best else None,
            "runs": [row.to_json() for row in self.rows],
        }


def sweep_folder(workspace: Workspace, name: str) -> Path:
    """Where the sweep keeps its settings, its study and the adapters of its runs."""
    return workspace.sweeps / name


def report_of(workspace: Workspace, name: str) -> SweepReport:
    """Raises `JobError` for an unknown sweep, `StoreError` for one whose files are gone or damaged."""
    store = SweepStore(workspace.runs_db)
    record, folder = store.get(name), sweep_folder(workspace, name)
    settings = SweepSettings.load(folder)
    with Study(folder, settings) as study:
        trials = study.trials()
    return build_report(workspace, record, settings, trials[: settings.runs])


def build_report(
    workspace: Workspace, record: SweepRecord, settings: SweepSettings, trials: Sequence[Trial]
) -> SweepReport:
    """The same from a study that is open."""
    store = SweepStore(workspace.runs_db)
    runs, events = store.runs(record.name), RunStore(workspace.runs_db)
    kept = _kept(workspace, record.name)
    rows, base = [], None
    for trial in trials:
        run = runs.get(trial.number)
        scores = events.progress(run.id, most_steps=1).scores if run is not None else ()
        base = base if base is not None else next((score.mean_iou for score in scores if score.step == 0), None)
        standing = standing_adapter(workspace, settings, trial.number)
        rows.append(
            TrialRow(
                trial.number,
                MappingProxyType(dict(trial.values)),
                **outcome_of(run, scores, trial.pruned_at, standing) if run else _remembered(trial, standing),
                has_adapter=standing is not None,
                kept_as=kept.get(trial.number, ()),
            )
        )
    if base is None:
        base = next((t.outcome.get("base_mean_iou") for t in trials if "base_mean_iou" in t.outcome), None)
    return SweepReport(record, settings, tuple(rows), base, _seconds_left(record, settings, rows))


def standing_adapter(workspace: Workspace, settings: SweepSettings, trial: int) -> AdapterInfo | None:
    """The finished adapter that the run of a trial has left in the sweep's folder, if any."""
    return AdapterInfo.at(adapters_folder(workspace, settings.name) / settings.run_name(trial))


def outcome_of(
    run: RunRecord, scores: Sequence[ScoreEvent], pruned_at: int | None, standing: AdapterInfo | None
) -> dict[str, Any]:
    """What is known of a trial's run, as `TrialRow` has it. `standing` is the adapter that it has left."""
    pruned = pruned_at is not None and run.state is RunState.STOPPED
    kept = kept_score(scores, keep_best=bool(run.settings.get("keep_best", True)))
    told = {
        "mean_iou": kept.mean_iou if kept else None,
        "accuracy_50": kept.accuracy_50 if kept else None,
        "step": kept.step if kept else None,
    }
    figures = told if standing is None else _figures(standing)
    unscored = run.state is RunState.DONE and figures["mean_iou"] is None
    state = "pruned" if pruned else "failed" if unscored else str(run.state)
    return {
        "state": _ON_ITS_WAY.get(run.state, state),
        **figures,
        "pruned_at": pruned_at if pruned else None,
        "seconds": _seconds(run),
        "run": run.id,
        "sentence": ("It was never scored. " if unscored else "") + (run.sentence if run.state.ended else ""),
    }


def _figures(standing: AdapterInfo) -> dict[str, Any]:
    """The adapter's own scoring: the run may have told others since, of weights that nobody has any more."""
    return {name: standing.scores.get(name) for name in ("mean_iou", "accuracy_50", "step")}


def _remembered(trial: Trial, standing: AdapterInfo | None) -> dict[str, Any]:
    """What the study knows of a trial whose run is not in the record (any more)."""
    names = ("state", "mean_iou", "accuracy_50", "step", "pruned_at", "seconds", "run", "sentence")
    known = {"state": "waiting"} | {name: trial.outcome[name] for name in names if name in trial.outcome}
    return known if standing is None else known | _figures(standing)


def _seconds(run: RunRecord) -> float | None:
    if run.started_at is None or run.state is RunState.QUEUED:
        return None
    ended = datetime.fromisoformat(run.finished_at) if run.finished_at else datetime.now(UTC)
    return max(0.0, (ended - datetime.fromisoformat(run.started_at)).total_seconds())


def _seconds_left(record: SweepRecord, settings: SweepSettings, rows: Sequence[TrialRow]) -> float | None:
    """At the mean pace of the runs that have ended with a score; what the run on its way has taken counts."""
    took = [row.seconds for row in rows if row.state in ("done", "pruned") and row.seconds is not None]
    if record.state is not SweepState.GOING or not took:
        return None
    mean = sum(took) / len(took)
    ended = sum(row.state not in _NOT_ENDED for row in rows)
    running = sum(min(mean, row.seconds or 0.0) for row in rows if row.state == "running")
    return max(0.0, mean * (settings.runs - ended) - running)


def _kept(workspace: Workspace, name: str) -> dict[int, tuple[str, ...]]:
    """The adapters of the registry that come from this sweep, by the number of their trial."""
    found: dict[int, tuple[str, ...]] = {}
    for info in AdapterRegistry(workspace.adapters).list():
        if info.sweep.get("name") == name and isinstance(info.sweep.get("run"), int):
            number = info.sweep["run"] - 1
            found[number] = (*found.get(number, ()), info.name)
    return found
