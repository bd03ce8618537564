"""What others do to a sweep while somebody drives or starts it. No worker is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from grounding.errors import JobError
from grounding.jobs.endings import LOST
from grounding.jobs.launch import remove_run
from grounding.jobs.queue import RunQueue
from grounding.jobs.store import RunRecord, RunState, RunStore
from grounding.sweeps import drive as drive_module
from grounding.sweeps.drive import drive, resume_sweep, start_sweep, stop_sweep
from grounding.sweeps.pruning import watched
from grounding.sweeps.record import SweepState, SweepStore
from grounding.sweeps.report import report_of
from grounding.sweeps.study import Study
from grounding.training.events import NoteEvent, ScoreEvent, TrainEvent
from grounding.workspace import Workspace
from sweep_samples import MakeSweep


def test_a_sweep_that_is_stopped_while_its_next_run_is_chosen_queues_none(
    waiting_sweep: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, sweeps = RunQueue(RunStore(waiting_sweep.runs_db)), SweepStore(waiting_sweep.runs_db)
    end(waiting_sweep, RunState.DONE)
    propose = Study.propose

    def stopped_meanwhile(study: Study) -> Any:
        stop_sweep(waiting_sweep, "mugs")
        return propose(study)

    with monkeypatch.context() as patched:
        patched.setattr(Study, "propose", stopped_meanwhile)
        drive(waiting_sweep, "mugs")
    assert queue.waiting() == [] and list(sweeps.runs("mugs")) == [0]
    assert (sweeps.get("mugs").state, sweeps.get("mugs").trouble) == (SweepState.STOPPED, "")
    resume_sweep(waiting_sweep, "mugs")
    assert [run.trial for run in queue.waiting()] == [1], "the values that were chosen are tried now"
    assert len(report_of(waiting_sweep, "mugs").rows) == 2


def test_a_run_that_ended_with_the_machine_goes_on_three_starts_at_most(waiting_sweep: Workspace) -> None:
    queue = RunQueue(RunStore(waiting_sweep.runs_db))
    for _ in range(2):
        run = end(waiting_sweep, RunState.STOPPED, "Stopped after 4 of 8 steps; the adapter so far is kept.")
        drive(waiting_sweep, "mugs")
        assert [again.id for again in queue.waiting()] == [run.id]
    end(waiting_sweep, RunState.STOPPED)
    drive(waiting_sweep, "mugs")
    assert [row.state for row in report_of(waiting_sweep, "mugs").rows] == ["stopped", "queued"]


def test_a_run_that_a_person_has_stopped_counts_as_it_is(waiting_sweep: Workspace) -> None:
    end(waiting_sweep, RunState.STOPPED, asked=True)
    drive(waiting_sweep, "mugs")
    assert [row.state for row in report_of(waiting_sweep, "mugs").rows] == ["stopped", "queued"]


def test_a_run_that_a_person_took_out_of_the_queue_counts_as_it_is(waiting_sweep: Workspace) -> None:
    run = end(waiting_sweep, RunState.STOPPED)
    drive(waiting_sweep, "mugs")
    remove_run(waiting_sweep, run.id)
    drive(waiting_sweep, "mugs")
    assert [row.state for row in report_of(waiting_sweep, "mugs").rows] == ["stopped", "queued"]


def test_a_pruned_run_does_not_go_on(waiting_sweep: Workspace, make_sweep: MakeSweep) -> None:
    with Study(waiting_sweep.sweeps / "mugs", make_sweep()) as study:
        study.mark_pruned(0, 4)
    end(waiting_sweep, RunState.STOPPED)
    drive(waiting_sweep, "mugs")
    assert [row.state for row in report_of(waiting_sweep, "mugs").rows] == ["pruned", "queued"]


@pytest.mark.parametrize("sentence", [LOST, "Stopped after 4 of 8 steps; the adapter so far is kept."])
def test_a_sweep_that_is_stopped_while_its_run_is_queued_once_more_queues_none(
    waiting_sweep: Workspace, monkeypatch: pytest.MonkeyPatch, sentence: str
) -> None:
    run = end(waiting_sweep, RunState.FAILED if sentence == LOST else RunState.STOPPED, sentence)
    queue, requeue = RunQueue(RunStore(waiting_sweep.runs_db)), RunQueue.requeue

    def stopped_meanwhile(queue: RunQueue, run_id: str) -> RunRecord:
        stop_sweep(waiting_sweep, "mugs")
        return requeue(queue, run_id)

    with monkeypatch.context() as patched:
        patched.setattr(RunQueue, "requeue", stopped_meanwhile)
        drive(waiting_sweep, "mugs")
    assert queue.waiting() == []
    resume_sweep(waiting_sweep, "mugs")
    assert [again.id for again in queue.waiting()] == [run.id]


def test_of_two_who_start_one_name_the_first_stays_whole(
    stand_in: Workspace, make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    RunQueue(RunStore(stand_in.runs_db)).pause()
    checked = drive_module.clear_to_start

    def meanwhile(*given: Any, **options: Any) -> Any:
        monkeypatch.setattr(drive_module, "clear_to_start", checked)
        start_sweep(stand_in, make_sweep(seed=1))
        return checked(*given, **options)

    monkeypatch.setattr(drive_module, "clear_to_start", meanwhile)
    with pytest.raises(JobError, match="stands already"):
        start_sweep(stand_in, make_sweep(seed=2))
    assert report_of(stand_in, "mugs").settings.seed == 1
    assert [row.state for row in report_of(stand_in, "mugs").rows] == ["queued"], "its study is there too"
    assert [path.name for path in stand_in.sweeps.iterdir()] == ["mugs"], "nothing half is left"


def test_a_folder_that_nobody_has_the_name_of_gives_way(stand_in: Workspace, make_sweep: MakeSweep) -> None:
    RunQueue(RunStore(stand_in.runs_db)).pause()
    (stand_in.sweeps / "mugs").mkdir(parents=True)
    (stand_in.sweeps / "mugs" / "left.txt").touch()
    start_sweep(stand_in, make_sweep())
    assert not (stand_in.sweeps / "mugs" / "left.txt").exists() and len(report_of(stand_in, "mugs").rows) == 1


def test_a_folder_that_can_not_be_put_in_its_place_is_no_sweep(
    stand_in: Workspace, make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    RunQueue(RunStore(stand_in.runs_db)).pause()

    def full(partial: Path, folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(drive_module, "_put_in_place", full)
    with pytest.raises(JobError, match="No space left on device"):
        start_sweep(stand_in, make_sweep())
    assert SweepStore(stand_in.runs_db).list() == [] and list(stand_in.sweeps.iterdir()) == []


def test_a_study_that_does_not_know_the_run_never_ends_its_training(
    waiting_sweep: Workspace, make_sweep: MakeSweep, caplog: pytest.LogCaptureFixture
) -> None:
    folder, sweep = waiting_sweep.sweeps / "mugs", make_sweep()
    run = SweepStore(waiting_sweep.runs_db).runs("mugs")[0]
    for path in folder.glob("study.db*"):
        path.unlink()
    Study(folder, sweep, create=True).__exit__()
    told: list[TrainEvent] = []
    hear, should_stop = watched(waiting_sweep, run, sweep.of_trial({}), told.append, lambda: False)
    scoring = ScoreEvent(4, 1, 0.5, 0.5, 0.5, 1.0, 0.1, best=True)
    hear(scoring)
    assert not should_stop() and told[0] == scoring
    assert isinstance(told[1], NoteEvent) and "knows nothing of run 1" in told[1].text
    assert "can't be compared with the others" in caplog.text


def end(workspace: Workspace, state: RunState, sentence: str = "It ended.", *, asked: bool = False) -> RunRecord:
    """The run that waits begins and ends so."""
    store = RunStore(workspace.runs_db)
    queue = RunQueue(store)
    queue.go_on()
    run = queue.take_next()
    queue.pause()
    assert run is not None
    if asked:
        store.request_stop(run.id)
    store.finish(run.id, state, sentence)
    return store.get(run.id)
