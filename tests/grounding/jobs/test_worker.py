"""The real worker in a process of its own: it finishes without its parent, stops on request, and its death is seen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from grounding.adapters import AdapterRegistry
from grounding.errors import JobError
from grounding.jobs.launch import RunRequest, end_lost_run, is_alive, start_run, stop_run
from grounding.jobs.store import RunRecord, RunState, RunStore
from grounding.predict import Predictor
from grounding.records import Sample
from grounding.training.settings import TrainSettings
from grounding.workspace import Workspace, find_workspace

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
ENDLESS = TrainSettings(
    steps=100_000, images_per_step=1, phrases_per_image=1, score_samples=1, score_every_steps=99_999
)


@pytest.fixture
def workspace(
    make_snapshot: Callable[[Sequence[Sample]], Path], tiny_samples: Sequence[Sample], monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    make_snapshot(tiny_samples)
    return find_workspace()


def wait_until(true: Callable[[], bool], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.1)


def ended(store: RunStore, run: RunRecord) -> RunRecord:
    wait_until(lambda: not store.get(run.id).state.active)
    return store.get(run.id)


def has_stepped(store: RunStore, run: RunRecord) -> bool:
    return store.progress(run.id).last_step is not None


def test_a_run_outlives_whoever_started_it(workspace: Workspace) -> None:
    starter = (
        "from grounding.jobs.launch import RunRequest, start_run\n"
        "from grounding.training.settings import TrainSettings\n"
        "from grounding.workspace import find_workspace\n"
        "settings = TrainSettings(steps=2, images_per_step=2, score_samples=2)\n"
        "start_run(find_workspace(), RunRequest('mugs', 'tiny', 'demo', settings))\n"
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    died = subprocess.run([sys.executable, "-c", starter], cwd=ROOT, check=False)
    assert died.returncode == -signal.SIGKILL
    store = RunStore(workspace.runs_db)
    (run,) = store.list()
    run = ended(store, run)
    assert run.state is RunState.DONE
    assert run.sentence.startswith("The adapter mugs is ready in Compare.")
    assert "signal" not in run.sentence  # two pictures are too few to say so
    progress = store.progress(run.id)
    assert [step.step for step in progress.steps] == [1, 2]
    assert [score.step for score in progress.scores] == [0, 2]
    (info,) = AdapterRegistry(workspace.adapters).list()
    assert (info.name, info.run_id, info.steps) == ("mugs", run.id, 2)
    assert "training 'mugs'" in (workspace.runs / run.id / "log.txt").read_text()
    assert (workspace.runs / run.id / "settings.json").is_file()


def test_a_stop_saves_a_kill_is_seen_and_another_run_may_follow(
    workspace: Workspace, loaded: object, tiny_samples: Sequence[Sample]
) -> None:
    store = RunStore(workspace.runs_db)
    stopped = start_run(workspace, RunRequest("stopped", "tiny", "demo", ENDLESS))
    with pytest.raises(JobError, match="still going"):
        start_run(workspace, RunRequest("second", "tiny", "demo", ENDLESS))
    wait_until(lambda: has_stepped(store, stopped))
    stop_run(workspace, stopped.id)
    stopped = ended(store, stopped)
    assert stopped.state is RunState.STOPPED
    assert "the adapter so far is kept" in stopped.sentence
    predictor = Predictor(loaded, workspace.adapters)  # type: ignore[arg-type]
    assert predictor.predict(tiny_samples[0].image, tiny_samples[0].phrase, "stopped").adapter == "stopped"

    killed = start_run(workspace, RunRequest("killed", "tiny", "demo", ENDLESS))
    wait_until(lambda: has_stepped(store, killed))
    end_lost_run(store)
    assert store.get(killed.id).state is RunState.RUNNING
    pid = store.get(killed.id).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(store.get(killed.id)))
    end_lost_run(store)
    lost = store.get(killed.id)
    assert lost.state is RunState.FAILED
    # Who looks first writes it down: the thread that waits for the worker knows the signal, `end_lost_run` doesn't.
    assert "ended without a word" in lost.sentence or "(SIGKILL)" in lost.sentence
    assert not (workspace.adapters / "killed" / "adapter.json").exists()
    store.check_free()


def test_a_failure_ends_in_a_sentence(workspace: Workspace, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text('{"model_type": "qwen3_vl"}')  # and no weights
    store = RunStore(workspace.runs_db)
    run = ended(store, start_run(workspace, RunRequest("mugs", "tiny", str(broken), TrainSettings(steps=1))))
    assert run.state is RunState.FAILED
    assert str(broken) in run.sentence
    assert "Traceback" not in run.sentence
