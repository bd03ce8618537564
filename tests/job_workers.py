"""Real workers of a workspace, for tests that start, watch and kill them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from grounding.jobs.launch import RunRequest
from grounding.jobs.queue import RunQueue
from grounding.jobs.store import RunRecord, RunStore
from grounding.training.settings import TrainSettings
from grounding.workspace import Workspace

# On PYTHONPATH, this folder puts a stand-in in the place of the training.
STAND_IN = Path(__file__).parent / "grounding" / "jobs" / "stand_in"


def workers_of(workspace: Workspace) -> list[psutil.Process]:
    """The processes that watch or train in this workspace, the watching ones first."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if "grounding.jobs.worker" in command and str(workspace.root) in command:
            found.append(process)
    return sorted(found, key=lambda process: "--inside" in process.info["cmdline"])


def end_workers(workspace: Workspace) -> None:
    """No run is begun any more, and whoever watches or trains is gone."""
    RunQueue(RunStore(workspace.runs_db)).pause()
    for process in workers_of(workspace):
        process.kill()


def request(name: str, steps: int = 5, model: str = "demo") -> RunRequest:
    return RunRequest(name, "first", model, TrainSettings(steps=steps))


def wait_for(what: Callable[[], Any], seconds: float = 90.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError("nothing came")


def ended(store: RunStore, run: RunRecord, seconds: float = 90.0) -> RunRecord:
    wait_for(lambda: store.get(run.id).state.ended, seconds)
    return store.get(run.id)
