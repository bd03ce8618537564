"""Start, queue, stop and find runs. The worker is a process of its own: no pipe, no parent it depends on.

Whoever is alive drives the queue: the app, a command that follows a run, and each worker at its end all call
`advance`, and only one of them gets the next run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grounding.adapters import AdapterInfo
from grounding.errors import JobError, SettingsError, SnapshotError, StoreError
from grounding.jobs import endings
from grounding.jobs.files import adapters_folder, checkpoint_step, throw_away, tidy
from grounding.jobs.processes import AWAY_SECONDS, is_process, kill, machine_mark, seconds_since, start_time
from grounding.jobs.queue import RunQueue
from grounding.jobs.store import RunRecord, RunState, RunStore
from grounding.jobs.sweeps import see_to_sweeps, sweep_goes_on
from grounding.snapshots import read_snapshot
from grounding.training.preflight.records import Preflight
from grounding.training.preflight.start import clear_to_start
from grounding.training.settings import TrainSettings
from grounding.workspace import Workspace, check_name

# A run without a process for longer than this was never started: whoever took it died before starting its worker.
_SPAWN_SECONDS = 30.0
# The worker's heartbeat comes every few seconds, whatever its steps do.
HANG_SECONDS = 120.0
# How long a worker may take to obey before it is ended: to discard, nothing has to be saved.
_DISCARD_SECONDS = 20.0
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
    asked, preflight = _checked(workspace, request, force)
    store = RunStore(workspace.runs_db)
    end_lost_run(store)
    with _writing_the_folder():
        run = store.add(**asked, prepare=lambda run_id: preflight.save(workspace.runs / run_id))
    try:
        _spawn(workspace, store, run)
    except OSError as error:
        _not_started(store, run, error)
        raise JobError(
            f"The worker could not be started: {error}. Check the disk and the workspace's rights."
        ) from error
    return store.get(run.id)


def queue_run(workspace: Workspace, request: RunRequest, *, force: bool = False) -> RunRecord:
    """Check the request and put it at the end of the queue; its worker starts at once when nothing stands before it.

    Raises as `start_run` does, save that another run may be active.
    """
    asked, preflight = _checked(workspace, request, force)
    store = RunStore(workspace.runs_db)
    # Whoever drives the queue may take the run as soon as it stands there: what pre-flight said must stand before.
    with _writing_the_folder():
        run = store.enqueue(**asked, prepare=lambda run_id: preflight.save(workspace.runs / run_id))
    advance(workspace)
    return store.get(run.id)


@contextmanager
def _writing_the_folder() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise JobError(
            f"The run's folder can't be written: {error}. Check the disk and the workspace's rights; there is no run."
        ) from error


def _checked(workspace: Workspace, request: RunRequest, force: bool) -> tuple[dict[str, Any], Preflight]:
    """(what is recorded of the request, what pre-flight found)."""
    check_free_name(workspace, request.name)
    snapshot = read_snapshot(workspace.snapshots, request.snapshot)
    if not snapshot.split("train"):
        raise SnapshotError(f"The snapshot {snapshot.name!r} has no sample in its train split: nothing can be learned.")
    workspace.check_writable()
    checked = clear_to_start(workspace, snapshot, request.model_id, request.settings, force=force)
    asked = {
        "name": request.name,
        "model_id": request.model_id,
        "quantize": request.quantize,
        "snapshot": str(snapshot.path),
        "settings": request.settings.to_json(),
    }
    return asked, checked


def advance(workspace: Workspace) -> RunRecord | None:
    """See to the queue: end a run whose worker is gone, let sweeps queue their next run, and start the next one when
    none is active.

    Returns the run that was started here. May be called by anybody at any time; cheap when there is nothing to do.
    """
    store = RunStore(workspace.runs_db)
    end_lost_run(store)
    see_to_sweeps(workspace, store)
    queue = RunQueue(store)
    while queue.may_start() and (run := queue.take_next()) is not None:
        try:
            _spawn(workspace, store, run)
        except (OSError, SettingsError) as error:  # settings that another version has queued
            _not_started(store, run, error)
            continue
        return store.get(run.id)
    return None


def _not_started(store: RunStore, run: RunRecord, error: Exception) -> None:
    store.finish(run.id, RunState.FAILED, f"The run could not be started: {error}", judged=run)


def check_free_name(workspace: Workspace, name: str) -> str:
    """The name, when nothing among the adapters has it; raises `JobError` or `WorkspaceError` otherwise."""
    check_name(name, "an adapter")
    if (workspace.adapters / name).exists():
        raise JobError(f"An adapter called {name!r} stands already. Choose another name.")
    return name


def check_resumable(workspace: Workspace, run: RunRecord) -> RunRecord:
    """The run, when it may be queued once more. Raises `JobError` with the reason otherwise."""
    if not run.state.resumable:
        raise JobError(f"The run {run.name!r} is {run.state}: only a stopped or failed run can be resumed.")
    folder = adapters_folder(workspace, run.sweep) / run.name
    if folder.exists() and AdapterInfo.at(folder, run.id) is None:
        raise JobError(
            f"Another adapter is called {run.name!r} by now: the run can't be resumed. Duplicate it under a new name."
        )
    return run


def discarded_says(workspace: Workspace, run: RunRecord) -> str:
    """How a discarded run ended. What an earlier stop kept is a finished adapter, and stays."""
    if AdapterInfo.at(adapters_folder(workspace, run.sweep) / run.name, run.id) is None:
        return endings.DISCARDED
    if run.sweep:
        return (
            "Discarded: its checkpoints were thrown away. The adapter that was kept when it was stopped stays in the "
            f"sweep {run.sweep}, and counts there."
        )
    return endings.DISCARDED_SINCE


def resume_run(workspace: Workspace, run_id: str) -> RunRecord:
    """Queue a stopped, failed or lost run once more; it goes on from its newest checkpoint. Raises `JobError`."""
    store = RunStore(workspace.runs_db)
    end_lost_run(store)
    check_resumable(workspace, store.get(run_id))
    RunQueue(store).requeue(run_id)
    advance(workspace)
    return store.get(run_id)


def resume_says(workspace: Workspace, run_id: str) -> str:
    """Where a resumed run would begin, as half a sentence."""
    step = checkpoint_step(workspace.runs / run_id)
    return f"goes on after step {step:,}" if step else "begins anew: it has no checkpoint"


def remove_run(workspace: Workspace, run_id: str) -> None:
    """Take a run out of the queue, or one that has ended out of the record with its folder; its adapter stays.

    A run that was begun before and waits to be resumed only leaves the queue. Raises `JobError` for one that goes on.
    """
    store = RunStore(workspace.runs_db)
    end_lost_run(store)
    run, queue = store.get(run_id), RunQueue(store)
    if run.state is RunState.QUEUED and run.attempt > 0:
        queue.leave(run_id, endings.TAKEN_OUT)
        return
    if run.state is RunState.QUEUED and run.sweep and sweep_goes_on(store, run.sweep):
        raise JobError(
            f"The run {run.name!r} belongs to the sweep {run.sweep!r}, which would queue it again. "
            "Stop the sweep instead."
        )
    queue.remove(run_id)
    throw_away(workspace, run_id, log_too=True, sweep=run.sweep)


def _spawn(workspace: Workspace, store: RunStore, run: RunRecord) -> None:
    folder = workspace.runs / run.id
    folder.mkdir(parents=True, exist_ok=True)
    TrainSettings.from_mapping(run.settings).save(folder / "settings.json")
    command = [sys.executable, "-m", "grounding.jobs.worker", "--workspace", str(workspace.root), "--run", run.id]
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=_REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=worker_environment(os.environ),
        )
    store.set_process(run.id, process.pid, start_time(process.pid))
    # Whoever started a process must collect it when it ends, or it stays in the process table as a zombie.
    threading.Thread(target=process.wait, name=f"reap-{run.id}", daemon=True).start()


def worker_environment(own: Mapping[str, str]) -> dict[str, str]:
    """The environment of a worker: threads that wait for each other give way to other programs instead of spinning.

    What somebody has set already stays. The figures behind the choice stand in docs/train.md.
    """
    given = dict(own)
    if "OMP_WAIT_POLICY" not in given and "GOMP_SPINCOUNT" not in given:
        given["OMP_WAIT_POLICY"] = "PASSIVE"
    return given


def is_alive(run: RunRecord) -> bool:
    """Whether the run's own worker is there: a process of that number that names the run or started at that time.

    A worker that another machine or container started can't be seen: its heartbeat tells.
    """
    if run.pid is None or run.process_started is None:
        return False
    if _is_away(run):
        return seconds_since(run.heartbeat_at or run.started_at) < AWAY_SECONDS
    return is_process(run.pid, run.process_started, run.id)


def _is_away(run: RunRecord) -> bool:
    return bool(run.machine and machine_mark() and run.machine != machine_mark())


def is_hung(run: RunRecord) -> bool:
    """Whether an active run gave no sign of life for long: it is stopped, swapped out, or can't write to the disk."""
    silent = min(seconds_since(run.heartbeat_at), seconds_since(run.started_at))
    return run.state is RunState.RUNNING and silent > HANG_SECONDS


def end_lost_run(store: RunStore) -> None:
    """End the active run when its worker is gone (killed, out of memory, machine restarted), or doesn't obey.

    A run whose worker was never started goes back to the front of the queue.
    """
    run = store.active()
    if run is None:
        return
    if is_alive(run):
        _make_obey(run)
        return
    if run.pid is None:
        never_started = seconds_since(run.started_at) >= _SPAWN_SECONDS
        if never_started and not RunQueue(store).put_back(run):
            store.finish(run.id, RunState.FAILED, endings.NEVER_STARTED, judged=run)
        return
    end_without_worker(store, run, endings.of_lost(run))


def end_without_worker(store: RunStore, run: RunRecord, sentence: str) -> None:
    """Write down that the worker of `run` is gone, unless it has ended or begun anew since `run` was read."""
    workspace = Workspace(store.path.parent)
    if run.discard_requested:
        if store.finish(run.id, RunState.DISCARDED, discarded_says(workspace, run), judged=run):
            throw_away(workspace, run.id, sweep=run.sweep)
    elif store.finish(run.id, RunState.FAILED, sentence, judged=run):
        tidy(workspace, run.id, run.name, run.sweep)


def _make_obey(run: RunRecord) -> None:
    """End a worker that was asked to discard and doesn't, or that hangs and was asked to stop."""
    waited = seconds_since(run.asked_at) if run.asked_at else 0.0
    to_discard = run.discard_requested and waited > _DISCARD_SECONDS
    hangs = run.stop_requested and waited > _DISCARD_SECONDS and is_hung(run)
    if (to_discard or hangs) and not _is_away(run) and run.pid is not None and run.process_started is not None:
        kill(run.pid, run.process_started, run.id)


def stop_run(workspace: Workspace, run_id: str) -> None:
    """Ask a run to stop and save what it has; it ends within a step. Raises `JobError`."""
    store = RunStore(workspace.runs_db)
    end_lost_run(store)
    _request_stop(store, run_id)


def _request_stop(store: RunStore, run_id: str, *, discard: bool = False) -> None:
    """Ask the worker. One that hangs in the middle of writing keeps everybody from asking: it is then ended."""
    try:
        store.request_stop(run_id, discard=discard)
    except StoreError:
        run = store.get(run_id)
        if not is_hung(run) or _is_away(run) or run.pid is None or run.process_started is None:
            raise
        kill(run.pid, run.process_started, run.id)


def discard_run(workspace: Workspace, run_id: str) -> None:
    """Stop a run and throw away what it learned; of one that was stopped or failed, throw away the checkpoints.

    A finished adapter stays. Raises `JobError` for a run that waits (remove it), is done or was discarded.
    """
    store = RunStore(workspace.runs_db)
    end_lost_run(store)
    run = store.get(run_id)
    if run.state.active:
        _request_stop(store, run_id, discard=True)
    elif RunQueue(store).discard_ended(run_id, discarded_says(workspace, run)):
        throw_away(workspace, run_id, sweep=run.sweep)
    else:
        raise JobError(f"The run {run.name!r} is {run.state}: there is nothing to discard.")
