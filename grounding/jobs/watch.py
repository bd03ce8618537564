"""Watch over a worker from a small process beside it: say how it ended when it can't, and start the next run."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from contextlib import suppress

from grounding.errors import BoxwrightError
from grounding.jobs import endings
from grounding.jobs.launch import advance, end_without_worker
from grounding.jobs.processes import oom_kills
from grounding.jobs.store import RunStore
from grounding.workspace import Workspace

log = logging.getLogger("boxwright.worker")


def watch(workspace: Workspace, run_id: str) -> int:
    """Run the worker to its end, whatever that is, and see to the queue; returns the worker's exit status.

    A SIGTERM is handed on to the worker, which saves; the queue then waits for the next start of the app, as the
    machine may be going down.
    """
    store = RunStore(workspace.runs_db)
    oom_before = oom_kills()
    terminated: list[int] = []
    command = [sys.executable, "-m", "grounding.jobs.worker", "--workspace", str(workspace.root), "--run", run_id]
    signal.signal(signal.SIGTERM, lambda number, frame: terminated.append(number))
    worker = subprocess.Popen([*command, "--inside"], stdin=subprocess.DEVNULL)

    def hand_on(number: int, frame: object) -> None:
        terminated.append(number)
        worker.send_signal(number)

    signal.signal(signal.SIGTERM, hand_on)
    if terminated:  # it came before there was a worker
        worker.terminate()
    code = worker.wait()
    with suppress(BoxwrightError):
        run = store.get(run_id)
        # Another worker may have the run: then this one's end says nothing about it.
        if run.state.active and run.pid in (worker.pid, os.getpid()):
            log.error("run %s: the worker ended with %s", run_id, code)
            end_without_worker(store, run, endings.of_exit(code, oom_before))
    if not terminated:
        see_to_the_queue(workspace)
    return code


def see_to_the_queue(workspace: Workspace) -> None:
    """Start the next run, if any. What goes wrong is logged: the app, or the next command, sees to it again."""
    try:
        following = advance(workspace)
    except BoxwrightError as error:
        log.warning("the queue could not be seen to: %s", error)
        return
    if following is not None:
        log.info("run %s: started as the next of the queue", following.id)
