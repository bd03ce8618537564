"""The detached worker: `python -m grounding.jobs.worker --workspace DIR --run ID`, started by `jobs.launch`.

It is two processes: one that watches (`jobs.watch`), and one `--inside` that trains.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from grounding.adapters import AdapterInfo
from grounding.errors import BoxwrightError, Cancelled, JobError, StoreError
from grounding.jobs import endings
from grounding.jobs.device import hold, wait_for_device
from grounding.jobs.files import (
    adapter_place,
    adapters_folder,
    checkpoint_step,
    replace_adapter,
    throw_away,
    tidy,
)
from grounding.jobs.launch import discarded_says
from grounding.jobs.processes import start_time
from grounding.jobs.store import RunRecord, RunState, RunStore
from grounding.jobs.watch import see_to_the_queue, watch
from grounding.snapshots import read_snapshot
from grounding.training.events import Listener, PhaseEvent, StepEvent, TrainEvent
from grounding.training.settings import TrainSettings
from grounding.workspace import Workspace

log = logging.getLogger("boxwright.worker")
BEAT_SECONDS = 3.0
# A disk that is full may have room again soon: the end of a run is tried to be written after these seconds.
_FINISH_AFTER = (0.0, 0.5, 2.0, 10.0, 30.0)


class _Gone(Cancelled):
    """Nobody wants what this worker learns any more: it is to end without saving."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m grounding.jobs.worker", description=__doc__)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--inside", action="store_true", help="train here instead of watching a process that does")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    workspace = Workspace(options.workspace)
    if not options.inside:
        return watch(workspace, options.run)
    watcher = os.getppid()
    store = RunStore(workspace.runs_db)
    code = work(workspace, store, store.get(options.run))
    if os.getppid() != watcher:  # killed meanwhile: then nobody else is there to do it
        see_to_the_queue(workspace)
    return code


def work(workspace: Workspace, store: RunStore, run: RunRecord) -> int:
    """Train and record how it ends; returns the exit status."""
    if not store.claim(run.id, os.getpid(), start_time(os.getpid())):
        log.error("run %s is not waiting for a worker", run.id)
        return 1
    asked = _Asked(store, run)
    signal.signal(signal.SIGTERM, lambda number, frame: asked.signals.append(number))
    folder = workspace.runs / run.id
    folder.mkdir(parents=True, exist_ok=True)
    endings.keep_reserve(folder)
    log.info("run %s: training %r on %s, attempt %d", run.id, run.name, run.snapshot, run.attempt)
    beating = _Heart(store, run)
    beating.start()
    try:
        state, sentence = _train(workspace, run, _Teller(store, run, folder).tell, asked.should_stop)
    except _Gone:
        state, sentence = RunState.DISCARDED, discarded_says(workspace, run)
    except Cancelled as stopped:
        state, sentence = RunState.STOPPED, _stopped_early(folder, str(stopped))
    except BoxwrightError as error:
        full = endings.is_disk_full(error, folder)
        state, sentence = RunState.FAILED, endings.explain(error, folder) if full else str(error)
    except Exception as error:
        log.exception("run %s failed", run.id)
        state, sentence = RunState.FAILED, endings.explain(error, folder)
    beating.stop()
    _finish(workspace, store, run, state, sentence)
    return 1 if state is RunState.FAILED else 0


def _stopped_early(folder: Path, sentence: str) -> str:
    """How a run ended that was stopped before it took a step: a resumed one has its checkpoint all the same."""
    step = checkpoint_step(folder)
    if not step:
        return sentence
    return f"Stopped before it took another step: the checkpoint of step {step:,} stays. Press Resume to go on from it."


def _finish(workspace: Workspace, store: RunStore, run: RunRecord, state: RunState, sentence: str) -> None:
    """Write the end down; where the disk is full, with the room that was kept for it."""
    folder = workspace.runs / run.id
    endings.give_reserve(folder)
    for seconds in _FINISH_AFTER:
        time.sleep(seconds)
        try:
            mine = store.get(run.id)
            if mine.attempt == run.attempt and store.finish(run.id, state, sentence, judged=mine):
                if state is RunState.DISCARDED:
                    throw_away(workspace, run.id, sweep=run.sweep)
                elif state is RunState.FAILED:
                    tidy(workspace, run.id, run.name, run.sweep)
            log.info("run %s: %s. %s", run.id, state, sentence)
            return
        except StoreError as error:
            log.warning("run %s: its end can't be written yet: %s", run.id, error)


@dataclass
class _Asked:
    """What others ask of this run."""

    store: RunStore
    run: RunRecord
    signals: list[int] = field(default_factory=list)

    def should_stop(self) -> bool:
        """Whether to stop and save. Raises `_Gone` when there is nothing to be saved for anybody."""
        try:
            record = self.store.get(self.run.id)
        except StoreError as error:  # what can't be read now can be read at the next step
            log.warning("run %s can't see whether it is to stop: %s", self.run.id, error)
            return bool(self.signals)
        except JobError as error:
            raise _Gone(str(error)) from error
        if record.discard_requested or not record.state.active or record.attempt != self.run.attempt:
            raise _Gone(endings.DISCARDED)
        return bool(self.signals) or record.stop_requested


@dataclass
class _Teller:
    """Stores what the run tells. An earlier attempt's steps give way to those that are taken anew, and its scorings
    to those that the checkpoint in `folder`, the run's own, knows of."""

    store: RunStore
    run: RunRecord
    folder: Path
    rewound: bool = False

    def tell(self, event: TrainEvent) -> None:
        try:
            if isinstance(event, StepEvent) and not self.rewound:
                self.store.rewind(self.run.id, event.step, _scored_before(self.folder, event.step))
                self.rewound = True
            self.store.tell(self.run.id, event)
        except StoreError as error:  # what a run tells is worth less than what it learns
            log.warning("run %s could not tell %s: %s", self.run.id, event, error)


def _scored_before(folder: Path, step: int) -> set[int] | None:
    """The steps whose scorings are in the checkpoint that a run goes on from with this step; None where none can be
    read. The scoring of a stop comes after its checkpoint: a run that goes on has neither its figures nor its weights.
    """
    states = sorted((folder / "checkpoints").glob("step-*/state.json"))
    try:
        before = [path for path in states if int(path.parent.name.removeprefix("step-")) < step]
        return {int(score["step"]) for score in json.loads(before[-1].read_text(encoding="utf-8"))["scores"]}
    except (IndexError, OSError, ValueError, KeyError, TypeError):
        return None


class _Heart(threading.Thread):
    """A sign of life every few seconds, whatever the steps do."""

    def __init__(self, store: RunStore, run: RunRecord) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self.store = store
        self.run_record = run
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(BEAT_SECONDS):
            try:
                self.store.beat(self.run_record.id, self.run_record.attempt)
            except StoreError as error:
                log.warning("no sign of life could be written: %s", error)

    def stop(self) -> None:
        self._stopped.set()
        self.join(timeout=60)


def _train(
    workspace: Workspace, run: RunRecord, tell: Listener, should_stop: Callable[[], bool]
) -> tuple[RunState, str]:
    if not wait_for_device(RunStore(workspace.runs_db), lambda text: tell(PhaseEvent(text)), should_stop):
        log.warning("run %s: another program still holds the GPU; going on beside it", run.id)
    if should_stop():
        raise Cancelled("Stopped before it began: there is nothing to keep.")
    hold(RunStore(workspace.runs_db), f"the run {run.name}", beside_a_run=True)
    place = adapters_folder(workspace, run.sweep) / run.name
    if place.exists() and AdapterInfo.at(place, run.id) is None:
        raise JobError(f"An adapter called {run.name!r} stands already. Duplicate the run under another name.")
    # Imported here so that a run that can't even import torch still ends in a sentence.
    from grounding.training.ending import ended_before, ending

    # A worker that was killed between its last file and its last word leaves nothing to learn.
    replace_adapter(workspace, run.id, run.name, run.sweep)
    settings = TrainSettings.from_mapping(run.settings)
    info = ended_before(place, run.id) or _learn(workspace, run, settings, tell, should_stop)
    where = f"waits in the sweep {run.sweep}" if run.sweep else "is ready in Compare"
    done, sentence = ending(info, settings.steps, where)
    # Asked before the adapter moves to its place: how it ended is read from its folder.
    replace_adapter(workspace, run.id, run.name, run.sweep)
    if info.is_without_signal:
        sentence = f"{sentence} {info.phrase_signal['sentence']}"
    return (RunState.DONE if done else RunState.STOPPED), sentence


def _learn(
    workspace: Workspace,
    run: RunRecord,
    settings: TrainSettings,
    tell: Listener,
    should_stop: Callable[[], bool],
) -> AdapterInfo:
    from grounding.training.run import TrainPlan, train

    if run.sweep:
        from grounding.sweeps.pruning import watched

        tell, should_stop = watched(workspace, run, settings, tell, should_stop)
    plan = TrainPlan(
        name=run.name,
        snapshot=read_snapshot(workspace.snapshots, run.snapshot),
        model_id=run.model_id,
        quantize=run.quantize,
        settings=settings,
        adapter_folder=adapter_place(workspace, run.id, run.name, run.sweep),
        run_id=run.id,
        run_folder=workspace.runs / run.id,
    )
    return train(plan, tell, should_stop)


if __name__ == "__main__":
    sys.exit(main())
