"""Starting, finding and stopping the detached worker, with a stand-in for the training itself."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from grounding.boxes import Box
from grounding.database import writing
from grounding.errors import JobError, SnapshotError, WorkspaceError
from grounding.jobs import launch
from grounding.jobs.launch import RunRequest, check_free_name, end_lost_run, is_alive, queue_run, start_run, stop_run
from grounding.jobs.queue import RunQueue
from grounding.jobs.store import RunRecord, RunState, RunStore
from grounding.records import Sample, write_samples
from grounding.training.settings import TrainSettings
from grounding.workspace import Workspace

REQUEST = RunRequest("tools-v1", "first", "demo", TrainSettings(steps=7))
# Writes what it was given into the workspace and stays until it is told to go.
STAY = """
import json, os, pathlib, sys, time
told = pathlib.Path(sys.argv[sys.argv.index("--workspace") + 1])
seen = {"arguments": sys.argv[1:], "group": os.getpgid(0) == os.getpid(), "folder": os.getcwd(), "pid": os.getpid()}
(told / "seen.partial").write_text(json.dumps(seen | {"input": sys.stdin.read()}))
(told / "seen.partial").rename(told / "seen.json")
print("a word for the log", flush=True)
while not (told / "go").exists():
    time.sleep(0.01)
"""
LEAVE = "import sys; sys.exit(3)"


@pytest.fixture
def workspace(own_workspace: Path) -> Workspace:
    workspace = Workspace(own_workspace)
    freeze(workspace)
    return workspace


def freeze(workspace: Workspace, name: str = "first", split: str = "train") -> None:
    folder = workspace.snapshots / name
    folder.mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(folder / "a.png")
    write_samples(folder / "samples.jsonl", [Sample("s", folder / "a.png", "mug", (Box(0, 0, 9, 9),), split)])
    sha256 = hashlib.sha256((folder / "samples.jsonl").read_bytes()).hexdigest()
    manifest = {"format": "boxwright-snapshot/1", "name": name, "samples_sha256": sha256}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


@pytest.fixture
def store(workspace: Workspace) -> RunStore:
    return RunStore(workspace.runs_db)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch, workspace: Workspace) -> Iterator[Callable[[str], None]]:
    """`worker(code)` puts `code` in the worker's place; all that were started are gone when the test ends."""
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def stand_in(code: str) -> None:
        def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
            assert command[:3] == [sys.executable, "-m", "grounding.jobs.worker"]
            assert options["stdin"] == subprocess.DEVNULL, "the terminal's keys are not for the worker"
            process = popen([sys.executable, "-c", code, *command[3:]], **options)
            started.append(process)
            return process

        monkeypatch.setattr(launch.subprocess, "Popen", start)

    yield stand_in
    (workspace.root / "go").touch()
    for process in started:
        process.wait(10)
    for thread in threading.enumerate():
        if thread.name.startswith("reap-"):
            thread.join(10)


def wait_for(what: Callable[[], Any], seconds: float = 10.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.01)
    raise AssertionError("nothing came")


def add(store: RunStore, **process: Any) -> RunRecord:
    run = store.add(name="tools-v1", model_id="demo", quantize="none", snapshot="first", settings={})
    if process:
        store.set_process(run.id, **process)
    return store.get(run.id)


def ended_process() -> tuple[int, float]:
    """The number and start time of a real process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = psutil.Process(process.pid).create_time()
    process.communicate(b"\n", timeout=10)
    return process.pid, started


def own_process() -> dict[str, Any]:
    return {"pid": os.getpid(), "process_started": psutil.Process().create_time()}


def test_a_run_starts_a_worker_of_its_own(workspace: Workspace, worker: Callable[[str], None], store: RunStore) -> None:
    worker(STAY)
    start = time.monotonic()
    run = start_run(workspace, REQUEST)
    assert time.monotonic() - start < 5, "it does not wait for the worker"
    assert (run.name, run.model_id, run.state) == ("tools-v1", "demo", RunState.STARTING)
    assert run.snapshot == str(workspace.snapshots / "first")
    assert TrainSettings.from_mapping(run.settings) == REQUEST.settings
    assert TrainSettings.load(workspace.runs / run.id / "settings.json") == REQUEST.settings
    assert is_alive(run)
    assert store.active() == run

    seen = json.loads(
        wait_for(lambda: (workspace.root / "seen.json").is_file() and (workspace.root / "seen.json").read_text())
    )
    assert seen["arguments"] == ["--workspace", str(workspace.root), "--run", run.id]
    assert seen["pid"] == run.pid
    assert seen["input"] == "", "it reads nothing from us"
    assert seen["group"], "closing the terminal or the app does not end it"
    assert Path(seen["folder"], "grounding", "jobs", "worker.py").is_file()
    log = workspace.runs / run.id / "log.txt"
    wait_for(lambda: "a word for the log" in log.read_text())

    (workspace.root / "go").touch()
    wait_for(lambda: not psutil.pid_exists(run.pid or 0))
    assert not is_alive(run), "an ended worker is collected, not left as a zombie"


def test_a_second_run_is_refused_while_the_first_goes_on(workspace: Workspace, worker: Callable[[str], None]) -> None:
    worker(STAY)
    run = start_run(workspace, REQUEST)
    with pytest.raises(JobError, match="The run 'tools-v1' is still going"):
        start_run(workspace, replace(REQUEST, name="tools-v2"))
    assert [path.name for path in workspace.runs.iterdir()] == [run.id]


def test_a_worker_that_died_at_once_makes_room_for_the_next(
    workspace: Workspace, worker: Callable[[str], None], store: RunStore
) -> None:
    worker(LEAVE)
    lost = start_run(workspace, REQUEST)
    wait_for(lambda: not psutil.pid_exists(lost.pid or 0))
    worker(STAY)
    run = start_run(workspace, REQUEST)
    assert store.active() == run
    assert store.get(lost.id).state is RunState.FAILED
    assert "The worker ended without a word" in store.get(lost.id).sentence


def add_adapter(workspace: Workspace, name: str) -> None:
    (workspace.adapters / name).mkdir(parents=True)
    (workspace.adapters / name / "adapter.json").write_text("{}")


def add_a_val_only_snapshot(workspace: Workspace) -> None:
    freeze(workspace, "val-only", split="val")


def change_the_snapshot(workspace: Workspace) -> None:
    with (workspace.snapshots / "first" / "samples.jsonl").open("a") as file:
        file.write("\n")


@pytest.mark.parametrize(
    ("case", "prepare", "changes", "error", "says"),
    [
        (
            "the name is taken",
            lambda workspace: add_adapter(workspace, "tools-v1"),
            {},
            JobError,
            "An adapter called 'tools-v1' stands already. Choose another name.",
        ),
        ("no folder's name", None, {"name": "../x"}, WorkspaceError, "'../x' can't name an adapter"),
        ("no name", None, {"name": ""}, WorkspaceError, "'' can't name an adapter"),
        ("no such snapshot", None, {"snapshot": "gone"}, SnapshotError, "There is no complete snapshot 'gone'"),
        ("a changed snapshot", change_the_snapshot, {}, SnapshotError, "changed since it was frozen"),
        (
            "nothing to learn",
            add_a_val_only_snapshot,
            {"snapshot": "val-only"},
            SnapshotError,
            "The snapshot 'val-only' has no sample in its train split: nothing can be learned.",
        ),
    ],
)
def test_what_is_refused_starts_nothing(
    workspace: Workspace,
    store: RunStore,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
    prepare: Callable[[Workspace], None] | None,
    changes: dict[str, Any],
    error: type[Exception],
    says: str,
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr(launch.subprocess, "Popen", never)
    if prepare is not None:
        prepare(workspace)
    with pytest.raises(error, match=re.escape(says)):
        start_run(workspace, replace(REQUEST, **changes))
    assert store.list() == []
    assert not workspace.runs.exists()


def test_a_worker_that_can_not_be_started_ends_the_run(
    workspace: Workspace, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(launch.subprocess, "Popen", refuse)
    with pytest.raises(JobError, match=r"could not be started: no more processes\. Check the disk and the workspace"):
        start_run(workspace, REQUEST)
    (run,) = store.list()
    assert run.state is RunState.FAILED
    assert "no more processes" in run.sentence
    store.check_free()


def test_a_queued_run_of_settings_that_nobody_knows_ends_with_the_reason(
    workspace: Workspace, store: RunStore, worker: Callable[[str], None]
) -> None:
    """As an older or a newer version may have queued it: it says why, and the next one begins."""
    worker(STAY)
    queue = RunQueue(store)
    queue.pause()
    strange, usual = (queue_run(workspace, replace(REQUEST, name=name)) for name in ("strange", "usual"))
    with writing(store.path) as connection:
        connection.execute("UPDATE runs SET settings = ? WHERE id = ?", ('{"sorcery": 3}', strange.id))
    queue.go_on()
    started = launch.advance(workspace)
    assert started is not None and started.id == usual.id
    ended = store.get(strange.id)
    assert ended.state is RunState.FAILED and "could not be started" in ended.sentence and "sorcery" in ended.sentence


def test_a_folder_that_stands_among_the_adapters_is_never_touched(
    workspace: Workspace, worker: Callable[[str], None]
) -> None:
    worker(STAY)
    (workspace.adapters / "tools-v1").mkdir(parents=True)
    weights = workspace.adapters / "tools-v1" / "adapter_model.safetensors"
    weights.write_text("somebody's PEFT folder")
    with pytest.raises(JobError, match=r"'tools-v1' stands already\. Choose another name"):
        start_run(workspace, REQUEST)
    assert weights.read_text() == "somebody's PEFT folder"


def test_a_free_name(workspace: Workspace) -> None:
    assert check_free_name(workspace, "tools-v1") == "tools-v1"


def test_a_process_is_alive_while_it_is_the_same_one(store: RunStore) -> None:
    assert is_alive(add(store, **own_process()))


@pytest.mark.parametrize(
    ("case", "process"),
    [
        ("the number was given to a later process", lambda: own_process() | {"process_started": 1_000_000.0}),
        ("a minute apart", lambda: own_process() | {"process_started": own_process()["process_started"] - 60}),
        ("the start time was never learned", lambda: own_process() | {"process_started": 0.0}),
        ("it has ended", lambda: dict(zip(("pid", "process_started"), ended_process(), strict=True))),
        ("no such number", lambda: {"pid": 2**31 - 1, "process_started": 1_764_000_000.0}),
        ("never started", dict),
    ],
)
def test_a_process_is_not_alive(store: RunStore, case: str, process: Callable[[], dict[str, Any]]) -> None:
    assert not is_alive(add(store, **process()))


def test_a_zombie_is_not_alive(store: RunStore) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    try:
        run = add(store, pid=process.pid, process_started=psutil.Process(process.pid).create_time())
        wait_for(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
        assert not is_alive(run)
    finally:
        process.wait(10)


def test_a_lost_worker_is_noticed(store: RunStore) -> None:
    pid, started = ended_process()
    run = add(store, pid=pid, process_started=started)
    store.claim(run.id, pid, started)
    end_lost_run(store)
    ended = store.get(run.id)
    assert ended.state is RunState.FAILED
    assert "killed, ran out of memory, or the machine restarted" in ended.sentence
    assert "Press Resume" in ended.sentence
    store.check_free()


def test_a_living_worker_is_left_alone(store: RunStore) -> None:
    run = add(store, **own_process())
    end_lost_run(store)
    assert store.get(run.id) == run


def test_nothing_is_lost_where_nothing_runs(store: RunStore) -> None:
    end_lost_run(store)
    run = add(store)
    store.finish(run.id, RunState.DONE, "Ready.")
    end_lost_run(store)
    assert store.get(run.id).sentence == "Ready."


@pytest.mark.parametrize(("seconds", "state"), [(0, RunState.STARTING), (20, RunState.STARTING), (60, RunState.QUEUED)])
def test_a_run_without_a_process_is_given_a_while_and_then_waits_again(
    store: RunStore, seconds: int, state: RunState
) -> None:
    run = add(store)
    created_at = (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
    with writing(store.path) as connection:
        connection.execute("UPDATE runs SET started_at = ?", (created_at,))
    end_lost_run(store)
    assert store.get(run.id).state is state


def test_a_worker_that_ends_properly_meanwhile_keeps_its_own_words(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = add(store, **own_process())

    def ends_while_we_look(looked_at: RunRecord) -> bool:
        store.finish(looked_at.id, RunState.DONE, "The adapter is ready.")
        return False

    monkeypatch.setattr(launch, "is_alive", ends_while_we_look)
    end_lost_run(store)
    assert (store.get(run.id).state, store.get(run.id).sentence) == (RunState.DONE, "The adapter is ready.")


def test_a_stop_is_asked_of_a_living_worker(workspace: Workspace, store: RunStore) -> None:
    run = add(store, **own_process())
    stop_run(workspace, run.id)
    assert store.get(run.id).stop_requested
    assert store.get(run.id).state.active


@pytest.mark.parametrize("how", ["lost", "ended", "unknown"])
def test_a_run_that_does_not_go_can_not_be_stopped(workspace: Workspace, store: RunStore, how: str) -> None:
    pid, started = ended_process()
    run = add(store, pid=pid, process_started=started)
    if how == "ended":
        store.finish(run.id, RunState.DONE, "Ready.")
    with pytest.raises(JobError, match="there is nothing to stop"):
        stop_run(workspace, "gone" if how == "unknown" else run.id)
    assert store.get(run.id).state is (RunState.DONE if how == "ended" else RunState.FAILED)
