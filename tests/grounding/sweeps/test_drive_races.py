"""What others do to a sweep while somebody drives or starts it. No worker is started."""

from __future__ import annotations

from typing import Any

import pytest

from grounding.jobs.queue import RunQueue
from grounding.jobs.store import RunRecord, RunState, RunStore
from grounding.sweeps.drive import drive, resume_sweep, stop_sweep
from grounding.sweeps.record import SweepState, SweepStore
from grounding.sweeps.report import report_of
from grounding.sweeps.study import Study
from grounding.workspace import Workspace


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
