"""The detached worker: `python -m grounding.jobs.worker --workspace DIR --run ID`, started by `jobs.launch`."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from grounding.errors import BoxwrightError, Cancelled, StoreError
from grounding.jobs.store import RunRecord, RunState, RunStore
from grounding.snapshots import read_snapshot
from grounding.training.events import Listener, TrainEvent
from grounding.training.settings import TrainSettings
from grounding.workspace import Workspace

log = logging.getLogger("boxwright.worker")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m grounding.jobs.worker", description=__doc__)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--run", required=True)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    workspace = Workspace(options.workspace)
    store = RunStore(workspace.runs_db)
    return work(workspace, store, store.get(options.run))


def work(workspace: Workspace, store: RunStore, run: RunRecord) -> int:
    """Train and record how it ends; returns the exit status."""
    if not store.claim(run.id, os.getpid(), psutil.Process().create_time()):
        log.error("run %s is not waiting for a worker", run.id)
        return 1
    terminated: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: terminated.append(number))
    log.info("run %s: training %r on %s", run.id, run.name, run.snapshot)

    def should_stop() -> bool:
        record = store.get(run.id)
        return bool(terminated) or record.stop_requested or not record.state.active

    def tell(event: TrainEvent) -> None:
        try:
            store.tell(run.id, event)
        except StoreError as error:  # what a run tells is worth less than what it learns
            log.warning("run %s could not tell %s: %s", run.id, event, error)

    try:
        state, sentence = _train(workspace, run, tell, should_stop)
    except Cancelled as stopped:
        state, sentence = RunState.STOPPED, str(stopped)
    except BoxwrightError as error:
        state, sentence = RunState.FAILED, str(error)
    except Exception as error:
        log.exception("run %s failed", run.id)
        state, sentence = RunState.FAILED, _explain(error, workspace.runs / run.id / "log.txt")
    store.finish(run.id, state, sentence)
    log.info("run %s: %s. %s", run.id, state, sentence)
    return 1 if state is RunState.FAILED else 0


def _train(
    workspace: Workspace, run: RunRecord, tell: Listener, should_stop: Callable[[], bool]
) -> tuple[RunState, str]:
    # Imported here so that a run that can't even import torch still ends in a sentence.
    from grounding.training.ending import ending
    from grounding.training.run import TrainPlan, train

    settings = TrainSettings.from_mapping(run.settings)
    plan = TrainPlan(
        name=run.name,
        snapshot=read_snapshot(workspace.snapshots, run.snapshot),
        model_id=run.model_id,
        quantize=run.quantize,
        settings=settings,
        adapter_folder=workspace.adapters / run.name,
        run_id=run.id,
        run_folder=workspace.runs / run.id,
    )
    info = train(plan, tell, should_stop)
    done, sentence = ending(info, settings.steps)
    return (RunState.DONE if done else RunState.STOPPED), sentence


def _explain(error: Exception, log_path: Path) -> str:
    """A sentence with the way out for failures that are nobody's bug; the log's place for the others."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "The memory ran out. Lower pictures or phrases per step, or choose 4-bit weights, and train again."
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "The disk is full. Free some space and train again."
    return f"The run failed on something Boxwright did not foresee ({type(error).__name__}: {error}). See {log_path}."


if __name__ == "__main__":
    sys.exit(main())
