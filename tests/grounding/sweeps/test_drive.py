"""Sweeps through the real queue with real workers, whose training is a stand-in that scores as the settings say."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from grounding.adapters import AdapterInfo, AdapterRegistry
from grounding.errors import JobError, SnapshotError
from grounding.jobs.launch import advance, discard_run, remove_run, stop_run
from grounding.jobs.queue import RunQueue
from grounding.jobs.store import RunRecord, RunState, RunStore
from grounding.sweeps.drive import drive, remove_sweep, resume_sweep, start_sweep, stop_sweep
from grounding.sweeps.record import SweepState, SweepStore
from grounding.sweeps.report import SweepReport, report_of
from grounding.sweeps.study import Study
from grounding.sweeps.winner import keep
from grounding.workspace import Workspace
from job_workers import wait_for, workers_of
from sweep_samples import MakeSweep, write_snapshot

pytestmark = pytest.mark.slow


def over(workspace: Workspace, name: str = "mugs") -> SweepReport:
    """The sweep's report once it is done and nobody works any more."""
    store = SweepStore(workspace.runs_db)
    wait_for(lambda: store.get(name).state is SweepState.DONE)
    wait_for(lambda: not workers_of(workspace))
    return report_of(workspace, name)


def running(workspace: Workspace, least: int = 1) -> RunRecord:
    """The active run, once it has taken some steps."""
    store = RunStore(workspace.runs_db)

    def found() -> RunRecord | None:
        run = store.active()
        last = store.progress(run.id).last_step if run else None
        return run if last and last.step >= least else None

    run: RunRecord = wait_for(found)
    return run


def states(report: SweepReport) -> list[str]:
    return [row.state for row in report.rows]


def test_a_sweep_goes_to_its_end_with_nobody_looking(stand_in: Workspace, make_sweep: MakeSweep) -> None:
    start_sweep(stand_in, make_sweep(runs=4, prune=False))
    report = over(stand_in)
    assert states(report) == ["done"] * 4
    assert report.rows[0].values == {"lora_rank": 16, "learning_rate": 1e-3}, "the settings as they stand"
    assert report.best is report.rows[0] and report.rows[0].mean_iou == pytest.approx(0.9)
    assert report.rows[0].accuracy_50 == pytest.approx(0.9) and report.rows[0].step == 8
    assert report.base_mean_iou == pytest.approx(0.1)
    assert len({(row.values["lora_rank"], row.values["learning_rate"]) for row in report.rows}) == 4
    runs = SweepStore(stand_in.runs_db).runs("mugs")
    for number, run in runs.items():
        assert run.name == f"mugs-run-{number + 1}"
        assert run.settings["lora_alpha"] == 2 * run.settings["lora_rank"]
        assert run.sentence == f"The adapter {run.name} waits in the sweep mugs."
        assert (stand_in.runs / run.id / "preflight.json").is_file()
    assert "4 runs: 4 done. The best is run 1, mean IoU 0.900 (base 0.100)" in report.record.sentence
    assert AdapterRegistry(stand_in.adapters).list() == [], "none of them floods the registry"


def test_a_run_that_falls_behind_ends_early_and_the_sweep_goes_on(stand_in: Workspace, make_sweep: MakeSweep) -> None:
    # The first two are the best there is; what comes then can only be worse.
    sweep = make_sweep(search={"lora_rank": "16,1,2,128"}, runs=4, steps=12)
    start_sweep(stand_in, sweep)
    report = over(stand_in)
    assert "pruned" in states(report)
    first = next(row for row in report.rows if row.state == "pruned")
    assert first.number >= 2, "two have to finish first"
    assert first.pruned_at is not None and 3 <= first.pruned_at < 12
    assert first.sentence.startswith(f"Stopped early: pruned after step {first.pruned_at}. Its best mean IoU so far, ")
    run = RunStore(stand_in.runs_db).get(first.run)
    assert run.state is RunState.STOPPED
    assert not (stand_in.runs / run.id / "checkpoints").exists() and not first.has_adapter
    last = RunStore(stand_in.runs_db).progress(run.id).last_step
    assert last is not None and last.step < 12


def test_a_failed_run_counts_as_one_and_the_sweep_goes_on(stand_in: Workspace, make_sweep: MakeSweep) -> None:
    start_sweep(stand_in, make_sweep(search={"lora_dropout": "0,0.1,0.2"}, runs=3))
    report = over(stand_in)
    assert sorted(states(report)) == ["done", "failed", "failed"]
    assert {row.sentence for row in report.rows if row.state == "failed"} == {"Lora dropout is what this one fails on."}
    assert report.best is not None and report.best.values == {"lora_dropout": 0.0}
    assert report.record.sentence.startswith("3 runs: 1 done, 2 failed. The best is run 1")


def test_a_run_whose_worker_was_killed_goes_on_where_it_was(stand_in: Workspace, make_sweep: MakeSweep) -> None:
    start_sweep(stand_in, make_sweep(search={"weight_decay": "0.1,0.2"}, runs=2))
    report = over(stand_in)
    assert states(report) == ["done", "done"]
    assert [run.attempt for run in SweepStore(stand_in.runs_db).runs("mugs").values()] == [2, 2]


@pytest.mark.thorough
def test_everything_killed_in_the_middle_the_next_who_looks_goes_on(
    stand_in: Workspace, make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_SECONDS", "0.5")  # time to kill them before its end
    start_sweep(stand_in, make_sweep(runs=3, prune=False))
    run = running(stand_in)
    for process in workers_of(stand_in):
        process.kill()
    wait_for(lambda: not workers_of(stand_in))
    monkeypatch.setenv("STAND_IN_SECONDS", "0.01")
    advance(stand_in)
    report = over(stand_in)
    assert states(report) == ["done"] * 3
    assert RunStore(stand_in.runs_db).get(run.id).attempt == 2


@pytest.mark.thorough
def test_a_run_that_saved_as_the_machine_went_down_goes_on(
    stand_in: Workspace, make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_SECONDS", "0.5")  # time to end it before its end
    start_sweep(stand_in, make_sweep(runs=2, prune=False))
    run = running(stand_in)
    workers_of(stand_in)[0].terminate()
    wait_for(lambda: not workers_of(stand_in))
    assert RunStore(stand_in.runs_db).get(run.id).state is RunState.STOPPED
    monkeypatch.setenv("STAND_IN_SECONDS", "0.01")
    advance(stand_in)
    assert states(over(stand_in)) == ["done", "done"]
    assert RunStore(stand_in.runs_db).get(run.id).attempt == 2


def test_a_start_broken_off_between_trial_and_run_is_gone_on_with(stand_in: Workspace, make_sweep: MakeSweep) -> None:
    RunQueue(RunStore(stand_in.runs_db)).pause()
    start_sweep(stand_in, make_sweep(runs=2))
    store = SweepStore(stand_in.runs_db)
    run = store.runs("mugs")[0]
    with pytest.raises(JobError, match="Stop the sweep instead"):
        remove_run(stand_in, run.id)
    RunQueue(RunStore(stand_in.runs_db)).remove(run.id)  # as if it had never been queued
    drive(stand_in, "mugs")
    drive(stand_in, "mugs")
    (again,) = store.runs("mugs").values()
    assert again.trial == 0 and again.settings == run.settings
    with Study(stand_in.sweeps / "mugs", make_sweep(runs=2)) as study:
        assert len(study.trials()) == 1


def test_two_who_drive_at_once_choose_one_run(
    stand_in: Workspace, make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    RunQueue(RunStore(stand_in.runs_db)).pause()
    propose, advance_later = Study.propose, monkeypatch.context()

    def slowly(study: Study) -> Any:
        time.sleep(0.3)  # the other has time to look too
        return propose(study)

    monkeypatch.setattr(Study, "propose", slowly)
    with advance_later as patched:
        patched.setattr("grounding.jobs.launch.advance", lambda workspace: None)
        start_sweep(stand_in, make_sweep(runs=4))
    both = [threading.Thread(target=drive, args=(stand_in, "mugs")) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert len(SweepStore(stand_in.runs_db).runs("mugs")) == 1
    assert states(report_of(stand_in, "mugs")) == ["queued"]


def test_stopping_keeps_what_was_learned_and_resuming_goes_on(
    stand_in: Workspace, make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_SECONDS", "0.1")
    start_sweep(stand_in, make_sweep(runs=3, prune=False))
    run = running(stand_in, 3)
    stop_sweep(stand_in, "mugs")
    wait_for(lambda: RunStore(stand_in.runs_db).get(run.id).state.ended)
    wait_for(lambda: not workers_of(stand_in))
    advance(stand_in)
    report = report_of(stand_in, "mugs")
    assert report.record.state is SweepState.STOPPED and states(report) == ["stopped"]
    assert report.best is not None and report.best.number == 0, "what it has learned so far is kept"
    with pytest.raises(JobError, match="nothing to stop"):
        stop_sweep(stand_in, "mugs")
    monkeypatch.setenv("STAND_IN_SECONDS", "0.01")
    resume_sweep(stand_in, "mugs")
    report = over(stand_in)
    assert states(report) == ["done"] * 3
    assert report.rows[0].mean_iou == pytest.approx(0.9), "it went on to its last step"
    with pytest.raises(JobError, match="only a stopped one can be resumed"):
        resume_sweep(stand_in, "mugs")


def test_stopping_before_the_run_began_takes_it_out_of_the_queue(stand_in: Workspace, make_sweep: MakeSweep) -> None:
    queue = RunQueue(RunStore(stand_in.runs_db))
    queue.pause()
    start_sweep(stand_in, make_sweep(runs=2))
    assert len(queue.waiting()) == 1
    stop_sweep(stand_in, "mugs")
    assert queue.waiting() == [] and states(report_of(stand_in, "mugs")) == ["waiting"]
    queue.go_on()
    resume_sweep(stand_in, "mugs")
    assert states(over(stand_in)) == ["done", "done"]


@pytest.mark.parametrize(("how", "state"), [(stop_run, "stopped"), (discard_run, "discarded")])
def test_one_run_may_be_stopped_by_itself(
    stand_in: Workspace, make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch, how: Any, state: str
) -> None:
    monkeypatch.setenv("STAND_IN_SECONDS", "0.1")
    start_sweep(stand_in, make_sweep(runs=2, prune=False))
    how(stand_in, running(stand_in, 3).id)
    report = over(stand_in)
    assert states(report) == [state, "done"]
    assert report.rows[0].has_adapter == (state == "stopped")


def test_the_winner_goes_to_the_registry_with_where_it_comes_from(stand_in: Workspace, make_sweep: MakeSweep) -> None:
    start_sweep(stand_in, make_sweep(search={"lora_rank": "4,16"}, runs=2))
    report = over(stand_in)
    with pytest.raises(JobError, match=r"Run 3 .* has left no adapter. Runs that have: 1, 2."):
        keep(stand_in, "mugs", run=3)
    kept = keep(stand_in, "mugs")
    assert kept.name == "mugs" and kept.path == stand_in.adapters / "mugs"
    assert (kept.path / "adapter_model.safetensors").read_text() == "0.9"
    assert kept.run_id == report.rows[0].run
    assert dict(kept.sweep) == {
        "name": "mugs",
        "run": 1,
        "of": 2,
        "seed": 0,
        "searched": {"lora_rank": "4, 16"},
        "values": {"lora_rank": 16},
        "best": True,
    }
    assert json.loads((kept.path / "adapter.json").read_text())["sweep"]["run"] == 1
    assert keep(stand_in, "mugs", run=2).name == "mugs-2"
    assert [row.kept_as for row in report_of(stand_in, "mugs").rows] == [("mugs",), ("mugs-2",)]
    with pytest.raises(JobError, match="stands already"):
        keep(stand_in, "mugs", name="mugs")
    assert sorted(path.name for path in stand_in.adapters.iterdir()) == ["mugs", "mugs-2"], "nothing half is left"
    remove_sweep(stand_in, "mugs")
    assert AdapterInfo.load(stand_in.adapters / "mugs").sweep["name"] == "mugs"
    assert not (stand_in.sweeps / "mugs").exists() and SweepStore(stand_in.runs_db).list() == []
    assert RunStore(stand_in.runs_db).list() == []


def test_a_sweep_that_nobody_could_judge_is_refused(stand_in: Workspace, make_sweep: MakeSweep) -> None:
    write_snapshot(stand_in, "blind", val=False)
    sweep = make_sweep()
    with pytest.raises(SnapshotError, match="nobody could tell which run is better"):
        start_sweep(stand_in, type(sweep)(**{**vars(sweep), "snapshot": "blind"}))
    assert SweepStore(stand_in.runs_db).list() == []


def test_what_keeps_a_sweep_from_going_on_is_said_and_keeps_nothing_else(
    stand_in: Workspace, make_sweep: MakeSweep
) -> None:
    queue = RunQueue(RunStore(stand_in.runs_db))
    queue.pause()
    start_sweep(stand_in, make_sweep(runs=2))
    with pytest.raises(JobError, match="stands already"):
        start_sweep(stand_in, make_sweep(runs=2))
    start_sweep(stand_in, make_sweep("other", runs=2))
    queue.remove(SweepStore(stand_in.runs_db).runs("mugs")[0].id)
    settings = stand_in.sweeps / "mugs" / "sweep.json"
    text = settings.read_text()
    settings.write_text("{}")
    advance(stand_in)
    assert "can't be read" in SweepStore(stand_in.runs_db).get("mugs").trouble
    queue.go_on()
    advance(stand_in)
    over(stand_in, "other")
    settings.write_text(text)
    advance(stand_in)
    assert states(over(stand_in)) == ["done", "done"] and SweepStore(stand_in.runs_db).get("mugs").trouble == ""
