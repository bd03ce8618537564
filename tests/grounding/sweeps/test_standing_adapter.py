"""Which figures count: where the run of a sweep has left an adapter, those of the adapter. No worker is started."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from grounding.adapters import AdapterInfo
from grounding.jobs.files import adapters_folder
from grounding.jobs.launch import discard_run
from grounding.jobs.queue import RunQueue
from grounding.jobs.store import RunRecord, RunState, RunStore
from grounding.sweeps.drive import drive
from grounding.sweeps.record import SweepStore
from grounding.sweeps.report import report_of
from grounding.sweeps.study import Study
from grounding.sweeps.winner import keep
from grounding.training.events import ScoreEvent
from grounding.workspace import Workspace


def score(step: int, mean_iou: float, *, best: bool = True) -> ScoreEvent:
    return ScoreEvent(step, 4, mean_iou, mean_iou, mean_iou, 1.0, 0.1, best=best)


def leave_adapter(workspace: Workspace, run: RunRecord, mean_iou: float, step: int) -> None:
    folder = adapters_folder(workspace, run.sweep) / run.name
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_text(str(mean_iou))
    info = AdapterInfo(run.name, folder, "demo", "none", "2026-01-01T00:00:00+00:00", run_id=run.id, steps=step)
    replace(info, scores={"mean_iou": mean_iou, "accuracy_50": mean_iou, "step": step}).save()


def begun(workspace: Workspace) -> RunRecord:
    """The run that waits, as if a worker had it."""
    queue = RunQueue(RunStore(workspace.runs_db))
    queue.go_on()
    run = queue.take_next()
    queue.pause()
    assert run is not None
    return run


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.DISCARDED, RunState.STOPPED])
def test_what_was_scored_after_the_adapter_does_not_count(waiting_sweep: Workspace, state: RunState) -> None:
    run, store = begun(waiting_sweep), RunStore(waiting_sweep.runs_db)
    store.tell(run.id, score(2, 0.5))
    leave_adapter(waiting_sweep, run, 0.5, 2)
    store.tell(run.id, score(4, 0.7))  # resumed, and broken off
    store.finish(run.id, state, "It was broken off.")
    row = report_of(waiting_sweep, "mugs").rows[0]
    assert (row.state, row.mean_iou, row.accuracy_50, row.step) == (str(state), 0.5, 0.5, 2)
    kept = keep(waiting_sweep, "mugs")
    assert (kept.path / "adapter_model.safetensors").read_text() == "0.5" and kept.scores["mean_iou"] == 0.5


def test_a_scoring_that_could_not_be_told_is_in_the_adapter(waiting_sweep: Workspace, make_sweep: Any) -> None:
    run, store = begun(waiting_sweep), RunStore(waiting_sweep.runs_db)
    leave_adapter(waiting_sweep, run, 0.6, 8)
    store.finish(run.id, RunState.DONE, "Done.")
    drive(waiting_sweep, "mugs")
    row = report_of(waiting_sweep, "mugs").rows[0]
    assert (row.state, row.mean_iou, row.sentence) == ("done", 0.6, "Done.")
    with Study(waiting_sweep.sweeps / "mugs", make_sweep()) as study:
        outcome = study.trials()[0].outcome
    assert (outcome["state"], outcome["mean_iou"]) == ("done", 0.6), "what the next values are drawn by"


def test_of_a_run_out_of_the_record_the_adapter_tells(waiting_sweep: Workspace) -> None:
    run, store = begun(waiting_sweep), RunStore(waiting_sweep.runs_db)
    store.tell(run.id, score(2, 0.5))
    leave_adapter(waiting_sweep, run, 0.5, 2)
    store.request_stop(run.id)
    store.finish(run.id, RunState.STOPPED, "Stopped.")
    drive(waiting_sweep, "mugs")
    folder = adapters_folder(waiting_sweep, "mugs") / run.name
    replace(AdapterInfo.load(folder), scores={"mean_iou": 0.8, "accuracy_50": 0.7, "step": 8}).save()
    RunQueue(store).remove(run.id)
    row = report_of(waiting_sweep, "mugs").rows[0]
    assert (row.state, row.mean_iou, row.accuracy_50, row.step) == ("stopped", 0.8, 0.7, 8)


def test_a_damaged_adapter_can_not_win(waiting_sweep: Workspace) -> None:
    run, store = begun(waiting_sweep), RunStore(waiting_sweep.runs_db)
    leave_adapter(waiting_sweep, run, 0.6, 8)
    (adapters_folder(waiting_sweep, "mugs") / run.name / "adapter.json").write_text("{}")
    store.tell(run.id, score(8, 0.6))
    store.finish(run.id, RunState.DONE, "Done.")
    report = report_of(waiting_sweep, "mugs")
    assert report.best is None and not report.rows[0].has_adapter
    assert SweepStore(waiting_sweep.runs_db).get("mugs").trouble == ""


def test_a_discarded_run_says_that_its_adapter_stays_in_the_sweep(waiting_sweep: Workspace) -> None:
    run, store = begun(waiting_sweep), RunStore(waiting_sweep.runs_db)
    leave_adapter(waiting_sweep, run, 0.5, 2)
    store.finish(run.id, RunState.STOPPED, "Stopped.")
    discard_run(waiting_sweep, run.id)
    discarded = store.get(run.id)
    assert discarded.state is RunState.DISCARDED
    assert discarded.sentence.endswith("stays in the sweep mugs, and counts there.")
