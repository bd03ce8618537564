"""A workspace in which real workers run a stand-in that scores as the settings say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from grounding.jobs.queue import RunQueue
from grounding.jobs.store import RunStore
from grounding.sweeps.drive import start_sweep
from grounding.workspace import Workspace
from job_workers import workers_of
from sweep_samples import STAND_IN, MakeSweep, sweep_settings, write_snapshot


@pytest.fixture
def stand_in(own_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A workspace whose workers train nothing; none of them is left when the test ends."""
    monkeypatch.setenv("PYTHONPATH", str(STAND_IN))
    workspace = Workspace(own_workspace)
    write_snapshot(workspace)
    yield workspace
    for process in workers_of(workspace):
        process.kill()
    RunQueue(RunStore(workspace.runs_db)).pause()
    for process in workers_of(workspace):
        process.kill()


@pytest.fixture
def make_sweep() -> MakeSweep:
    """`make_sweep(search={...}, runs=4, steps=8, ...)`: the settings of a sweep over the snapshot "first"."""
    return sweep_settings


@pytest.fixture
def waiting_sweep(stand_in: Workspace) -> Workspace:
    """A workspace with the sweep "mugs" of four runs. Its queue is paused, so that no worker is ever started."""
    RunQueue(RunStore(stand_in.runs_db)).pause()
    start_sweep(stand_in, sweep_settings())
    return stand_in
