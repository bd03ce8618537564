"""`kill -9` of the worker, of who watches it and of the app, at random moments, again and again.

No run may be lost or falsely "running", no adapter half-written, no two trainers at once, and the queue goes on.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from grounding.adapters import MANIFEST, AdapterRegistry
from grounding.errors import JobError
from grounding.jobs.launch import end_lost_run, is_alive, queue_run, resume_run
from grounding.jobs.store import RunState, RunStore
from grounding.workspace import Workspace
from job_workers import request, wait_for, workers_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
STEPS = 25
KILLS = 12
# As the app does it, without its page: a model that is always ready on the CPU, and a look every moment.
APP = """
import sys
from types import SimpleNamespace
from grounding.ui import keeper
from grounding.ui.model_service import ModelService
from grounding.workspace import Workspace
keeper._LOOK_SECONDS = 0.1
workspace = Workspace(__import__("pathlib").Path(sys.argv[1]))
models = ModelService("demo", "none", workspace, load=lambda: SimpleNamespace(device="cpu", load_notes=()))
keeper.Keeper(workspace, models).start()
print("up", flush=True)
sys.stdin.read()
"""


class App:
    """The app's part in the runs, in a process of its own."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, "-c", APP, str(self.workspace.root)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


@contextmanager
def app_of(workspace: Workspace) -> Iterator[App]:
    app = App(workspace)
    app.start()
    yield app
    app.kill()


def check_adapters(workspace: Workspace) -> None:
    """Whatever stands among the adapters is whole."""
    for folder in workspace.adapters.glob("[!.]*"):
        assert (folder / MANIFEST).is_file(), f"{folder.name} is half-written"
        assert (folder / "adapter_model.safetensors").read_text().isdigit()


def check_states(store: RunStore) -> None:
    """Who looks twice sees no run as running whose worker is not there; once, as it may die in between."""

    def is_true() -> bool:
        end_lost_run(store)
        run = store.active()
        return run is None or run.state is not RunState.RUNNING or is_alive(run)

    assert is_true() or is_true(), store.active()


def strike(dice: random.Random, workspace: Workspace, app: App) -> str:
    """Kill something; returns what."""
    workers = workers_of(workspace)
    victims = {
        "worker": [process for process in workers if "--inside" in process.info["cmdline"]],
        "watcher": [process for process in workers if "--inside" not in process.info["cmdline"]],
        "both": workers,
        "app": [],
        "all": workers,
    }
    what = dice.choice(list(victims))
    if what in ("app", "all"):
        app.kill()
    for process in victims[what]:
        try:
            process.kill()
        except psutil.Error:
            continue
    return what


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.thorough) for seed in (1, 2))])
def test_nothing_is_lost_whatever_is_killed(stand_in: Workspace, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_SECONDS", "0.04")
    dice = random.Random(seed)
    store = RunStore(stand_in.runs_db)
    runs = [queue_run(stand_in, request(f"run-{number}", STEPS)) for number in range(5)]
    story: list[str] = []
    with app_of(stand_in) as app:
        for _ in range(KILLS):
            time.sleep(dice.uniform(0.1, 0.8))
            story.append(strike(dice, stand_in, app))
            check_adapters(stand_in)
            if dice.random() < 0.7:
                app.start()
            if dice.random() < 0.5:
                check_states(store)
            for run in store.list():
                if run.state is RunState.FAILED and dice.random() < 0.5:
                    resume_run(stand_in, run.id)
        app.start()
        deadline = time.monotonic() + 240
        while any(store.get(run.id).state is not RunState.DONE for run in runs):
            assert time.monotonic() < deadline, (story, [(run.name, run.state, run.sentence) for run in store.list()])
            for run in store.list():
                assert run.state not in (RunState.STOPPED, RunState.DISCARDED), "nobody asked for that"
                if run.state is RunState.FAILED:
                    assert "Press Resume" in run.sentence
                    resume_run(stand_in, run.id)
            time.sleep(0.1)
    wait_for(lambda: not workers_of(stand_in))
    assert store.active() is None
    assert not (stand_in.root / "two-at-once").exists(), story
    assert {info.name for info in AdapterRegistry(stand_in.adapters).list()} == {run.name for run in runs}
    for run in runs:
        weights = (stand_in.adapters / run.name / "adapter_model.safetensors").read_text()
        assert int(weights) == sum(range(STEPS + 1)), f"each step of {run.name} was taken once ({story})"
        assert [step.step for step in store.progress(run.id).steps] == list(range(1, STEPS + 1))
    assert not list(stand_in.adapters.glob(".*"))


def test_two_who_resume_at_once_queue_the_run_once(stand_in: Workspace) -> None:
    store = RunStore(stand_in.runs_db)
    run = queue_run(stand_in, request("mugs", 2, "kills-itself"))
    wait_for(lambda: store.get(run.id).state is RunState.FAILED)
    resume_run(stand_in, run.id)
    with pytest.raises(JobError, match="can be resumed"):
        resume_run(stand_in, run.id)
    wait_for(lambda: store.get(run.id).attempt == 2 and store.get(run.id).state.ended)
