"""Start, stop and find runs. The worker is a process of its own: no pipe, no parent it depends on."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from grounding.errors import JobError, SnapshotError
from grounding.jobs.store import RunRecord, RunState, RunStore
from grounding.snapshots import read_snapshot
from grounding.training.preflight.start import clear_to_start
from grounding.training.settings import TrainSettings
from grounding.workspace import Workspace, check_name

# A run without a process for longer than this was never started: the app died between recording and starting it.
_SPAWN_SECONDS = 30.0
_REPOSITORY = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class RunRequest:
    """What to train. `snapshot` is a name in the workspace or a folder; `name` becomes the adapter's."""

    name: str
    snapshot: str
    model_id: str
    settings: TrainSettings
    quantize: str = "none"


def start_run(workspace: Workspace, request: RunRequest, *, force: bool = False) -> RunRecord:
    """Check the request, record the run and start its worker; returns at once.

    Raises `JobError` for a name that is taken or while another run is active, `SnapshotError` for a snapshot that
    is missing or has nothing to learn, `WorkspaceError` for a name unfit for a folder, `PreflightError` when the
    snapshot would teach nothing or something wrong, unless `force` is given: the run's folder then says so.
    """
    check_free_name(workspace, request.name)
    snapshot = read_snapshot(workspace.snapshots, request.snapshot)
    if not snapshot.split("train"):
        raise SnapshotError(f"The snapshot {snapshot.name!r} has no sample in its train split: nothing can be learned.")
    workspace.check_writable()
    checked = clear_to_start(workspace, snapshot, request.model_id, request.settings, force=force)
    store = RunStore(workspace.runs_db)
    end_lost_run(store)
    run = store.add(
        name=request.name,
        model_id=request.model_id,
        quantize=request.quantize,
        snapshot=str(snapshot.path),
        settings=request.settings.to_json(),
    )
    try:
        checked.save(workspace.runs / run.id)
        _spawn(workspace, store, run, request)
    except OSError as error:
        store.finish(run.id, RunState.FAILED, f"The worker could not be started: {error}")
        raise JobError(
            f"The worker could not be started: {error}. Check the disk and the workspace's rights."
        ) from error
    return store.get(run.id)


def check_free_name(workspace: Workspace, name: str) -> str:
    """The name, when nothing among the adapters has it; raises `JobError` or `WorkspaceError` otherwise."""
    check_name(name, "an adapter")
    if (workspace.adapters / name).exists():
        raise JobError(f"An adapter called {name!r} stands already. Choose another name.")
    return name


def _spawn(workspace: Workspace, store: RunStore, run: RunRecord, request: RunRequest) -> None:
    folder = workspace.runs / run.id
    folder.mkdir(parents=True, exist_ok=True)
    request.settings.save(folder / "settings.json")
    command = [sys.executable, "-m", "grounding.jobs.worker", "--workspace", str(workspace.root), "--run", run.id]
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=_REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    store.set_process(run.id, process.pid, _started(process.pid))
    # Whoever started a process must collect it when it ends, or it stays in the process table as a zombie.
    threading.Thread(target=process.wait, name=f"reap-{run.id}", daemon=True).start()


def _started(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return 0.0


def is_alive(run: RunRecord) -> bool:
    """Whether the run's own worker is there: a process of that number that names the run or started at that time.

    The start time alone would not do: it moves when the machine's clock is set.
    """
    if run.pid is None or run.process_started is None:
        return False
    try:
        process = psutil.Process(run.pid)
        same = run.id in process.cmdline() or abs(process.create_time() - run.process_started) < 1.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def end_lost_run(store: RunStore) -> None:
    """Mark the active run as failed when its worker is gone (killed, out of memory, machine restarted)."""
    run = store.active()
    if run is None or is_alive(run) or (run.pid is None and _age_seconds(run) < _SPAWN_SECONDS):
        return
    # Read again: the worker may have ended properly between the two looks.
    if store.get(run.id).state.active:
        store.finish(
            run.id,
            RunState.FAILED,
            "The worker ended without a word: it was killed, ran out of memory, or the machine restarted. "
            "Its log stands in the run's folder. Press Train to start again.",
        )


def _age_seconds(run: RunRecord) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(run.created_at)).total_seconds()


def stop_run(workspace: Workspace, run_id: str) -> None:
    """Ask a run to stop and save what it has; it ends within a step. Raises `JobError`."""
    store = RunStore(workspace.runs_db)
    end_lost_run(store)
    store.request_stop(run_id)
