"""Start, drive, stop and resume sweeps. Driven by whoever is alive: `jobs.launch.advance` comes here whenever a sweep
has no run on its way, so no process has to live as long as the sweep does.

A trial is written into the study before its run is queued, and its run is queued in one transaction that looks whether
the sweep has one on its way. Broken off anywhere in between, the next who looks goes on from there.
"""

from __future__ import annotations

import logging
import secrets
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from grounding.database import writing
from grounding.errors import BoxwrightError, JobError, SnapshotError, StoreError
from grounding.jobs import endings, launch
from grounding.jobs.queue import RunQueue
from grounding.jobs.store import RunRecord, RunState, RunStore
from grounding.snapshots import read_snapshot
from grounding.sweeps.record import SweepRecord, SweepState, SweepStore
from grounding.sweeps.report import build_report, outcome_of, standing_adapter, sweep_folder
from grounding.sweeps.settings import SweepSettings
from grounding.sweeps.study import Study, Trial
from grounding.training.preflight.records import Preflight
from grounding.training.preflight.start import clear_to_start
from grounding.workspace import Workspace

LOCK = "drive.lock"
MOST_ATTEMPTS = 3
"""A run whose worker was lost, or was ended with the machine, goes on from its checkpoint until it was started so
often."""

log = logging.getLogger(__name__)


def start_sweep(workspace: Workspace, settings: SweepSettings, *, force: bool = False) -> SweepRecord:
    """Check the data, write the sweep down and queue its first run; returns at once.

    Raises `JobError` for a name that is taken, `SnapshotError` for a snapshot with nothing to learn or to score on,
    `PreflightError` when the snapshot would teach nothing or something wrong, unless `force` is given.
    """
    check_sweep_name(workspace, settings.name)
    snapshot = read_snapshot(workspace.snapshots, settings.snapshot)
    if not snapshot.split("train"):
        raise SnapshotError(f"The snapshot {snapshot.name!r} has no sample in its train split: nothing can be learned.")
    if not any(sample.boxes_xyxy_px for sample in snapshot.split("val")):
        raise SnapshotError(
            f"The snapshot {snapshot.name!r} has no box in its val split: nobody could tell which run is better. "
            "Put some samples into the val split."
        )
    workspace.check_writable()
    preflight = clear_to_start(workspace, snapshot, settings.model_id, settings.base, force=force)
    _write(workspace, replace(settings, snapshot=str(snapshot.path)), preflight)
    launch.advance(workspace)
    return SweepStore(workspace.runs_db).get(settings.name)


def _write(workspace: Workspace, settings: SweepSettings, preflight: Preflight) -> None:
    """Write the sweep's folder beside its place, and put it there once the name is taken: of two who start one name,
    the second must not touch what the first has written. Raises `JobError`."""
    folder = sweep_folder(workspace, settings.name)
    partial = folder.with_name(f".partial-sweep-{secrets.token_hex(4)}")
    try:
        partial.mkdir(parents=True)
        preflight.save(partial)
        settings.save(partial)
        with Study(partial, settings, create=True):
            pass
        SweepStore(workspace.runs_db).add(settings.name, lambda: _put_in_place(partial, folder))
    except OSError as error:
        raise JobError(
            f"The sweep can't be written to {folder} ({error.strerror or error}). Check the disk."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _put_in_place(partial: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # what a start or a removal that was broken off has left
    partial.rename(folder)


def check_sweep_name(workspace: Workspace, name: str) -> None:
    """Raises `JobError` when a sweep has the name already."""
    if name in {sweep.name for sweep in SweepStore(workspace.runs_db).list()}:
        raise JobError(f"A sweep called {name!r} stands already. Choose another name.")


def drive_and_tell(workspace: Workspace, name: str) -> None:
    """`drive`; what keeps the sweep from going on is written down with it, so that nothing else waits for it."""
    trouble = ""
    try:
        drive(workspace, name)
    except BoxwrightError as error:
        trouble = str(error)
        log.warning("the sweep %s can't go on: %s", name, error)
    SweepStore(workspace.runs_db).set_trouble(name, trouble)


def drive(workspace: Workspace, name: str) -> None:
    """Close the trials whose runs have ended, and queue the next run; end the sweep when there is none.

    Raises `StoreError` for files that can't be used, `JobError` when a run can't be queued.
    """
    store, folder = SweepStore(workspace.runs_db), sweep_folder(workspace, name)
    settings = SweepSettings.load(folder)
    # One at a time, or two would each choose a next run. The lock is SQLite's: it ends with whoever holds it.
    with writing(folder / LOCK, to_disk=False), Study(folder, settings) as study:
        runs = store.runs(name)
        trials = study.trials()[: settings.runs]
        for trial in trials:
            if not trial.finished and trial.number in runs and not _close(workspace, study, trial, runs[trial.number]):
                return
        if store.get(name).state is not SweepState.GOING:
            return
        following = next((trial for trial in study.trials()[: settings.runs] if not trial.finished), None)
        if following is None and len(trials) < settings.runs:
            following = study.propose()
        if following is not None:
            _queue(workspace, settings, following)
            return
        report = build_report(workspace, store.get(name), settings, study.trials()[: settings.runs])
        if store.change(name, SweepState.GOING, SweepState.DONE, report.sentence):
            log.info("sweep %s: %s", name, report.sentence)


def stop_sweep(workspace: Workspace, name: str, *, discard: bool = False) -> None:
    """Queue no further run, and stop the one on its way: it saves what it has, or is thrown away with `discard`.

    Raises `JobError` for a sweep that doesn't go on.
    """
    store = SweepStore(workspace.runs_db)
    sentence = "Stopped by a person. Press Resume to go on with the remaining runs."
    if not store.change(name, SweepState.GOING, SweepState.STOPPED, sentence):
        raise JobError(f"The sweep {name!r} is {store.get(name).state}: there is nothing to stop.")
    _stop_runs(workspace, name, discard=discard)


def resume_sweep(workspace: Workspace, name: str) -> SweepRecord:
    """Go on with a stopped sweep: the run that was stopped with it goes on from its checkpoint, then the others.

    Raises `JobError` for a sweep that goes on or is done, `StoreError` for one whose files are gone.
    """
    store, folder = SweepStore(workspace.runs_db), sweep_folder(workspace, name)
    state = store.get(name).state
    if state is not SweepState.STOPPED:
        raise JobError(f"The sweep {name!r} is {state}: only a stopped one can be resumed.")
    launch.end_lost_run(RunStore(workspace.runs_db))
    settings = SweepSettings.load(folder)
    with Study(folder, settings) as study:
        open_numbers = {trial.number for trial in study.trials() if not trial.finished and trial.pruned_at is None}
    for number, run in store.runs(name).items():
        if run.state.active and run.stop_requested:
            raise JobError(f"The run {run.name!r} is still stopping. Wait until it has ended, then resume.")
        if number in open_numbers and run.state.resumable:
            launch.check_resumable(workspace, run)
            RunQueue(RunStore(workspace.runs_db)).requeue(run.id)
    store.change(name, SweepState.STOPPED, SweepState.GOING)
    launch.advance(workspace)
    return store.get(name)


def remove_sweep(workspace: Workspace, name: str) -> None:
    """Delete an ended sweep: its record, its runs with their folders, and the adapters that were not kept.

    Raises `JobError` while it goes on or one of its runs is on its way.
    """
    store = SweepStore(workspace.runs_db)
    runs = store.runs(name)
    if store.get(name).state is SweepState.GOING or any(not run.state.ended for run in runs.values()):
        raise JobError(f"The sweep {name!r} goes on: stop it first.")
    for run in runs.values():
        launch.remove_run(workspace, run.id)
    shutil.rmtree(sweep_folder(workspace, name), ignore_errors=True)  # while the name is not free for another yet
    store.remove(name)


def _stop_runs(workspace: Workspace, name: str, *, discard: bool = False) -> None:
    store = SweepStore(workspace.runs_db)
    for run in store.runs(name).values():
        with suppress(JobError):  # it may have ended, or begun, just now
            if run.state is RunState.QUEUED:
                launch.remove_run(workspace, run.id)
    for run in store.runs(name).values():
        if run.state.active:
            with suppress(JobError):
                (launch.discard_run if discard else launch.stop_run)(workspace, run.id)


def _close(workspace: Workspace, study: Study, trial: Trial, run: RunRecord) -> bool:
    """Write down how an ended run did. False when it is on its way, or is queued once more here."""
    if not run.state.ended:
        return False
    if _may_go_on(run, trial) and run.attempt < MOST_ATTEMPTS:
        _requeue(workspace, run)
        return False
    scores = RunStore(workspace.runs_db).progress(run.id, most_steps=1).scores
    outcome = outcome_of(run, scores, trial.pruned_at, standing_adapter(workspace, study.settings, trial.number))
    base = next((score.mean_iou for score in scores if score.step == 0), None)
    study.finish(trial.number, outcome | ({} if base is None else {"base_mean_iou": base}))
    return True


def _may_go_on(run: RunRecord, trial: Trial) -> bool:
    """Whether the run ended though nobody wanted it to: its worker was lost, or told by the system to end and save, as
    when the machine is shut down."""
    was_asked = run.stop_requested or trial.pruned_at is not None or run.sentence == endings.TAKEN_OUT
    return endings.is_lost(run) or (run.state is RunState.STOPPED and not was_asked)


def _requeue(workspace: Workspace, run: RunRecord) -> None:
    """Queue a run once more. Where the sweep is stopped in this very moment, either that or this takes it out again."""
    RunQueue(RunStore(workspace.runs_db)).requeue(run.id)
    if SweepStore(workspace.runs_db).get(run.sweep).state is not SweepState.GOING:
        _stop_runs(workspace, run.sweep)


def _queue(workspace: Workspace, settings: SweepSettings, trial: Trial) -> None:
    """Queue the run of a trial, unless somebody else has done so or the sweep was stopped meanwhile."""
    store, sweeps = RunStore(workspace.runs_db), SweepStore(workspace.runs_db)
    preflight = Preflight.load(sweep_folder(workspace, settings.name))
    if preflight is None:
        raise StoreError(f"The check of the sweep {settings.name!r} is gone from its folder. Stop it, start another.")
    try:
        store.enqueue(
            name=settings.run_name(trial.number),
            model_id=settings.model_id,
            quantize=settings.quantize,
            snapshot=settings.snapshot,
            settings=settings.of_trial(trial.values).to_json(),
            prepare=lambda run_id: preflight.save(workspace.runs / run_id),
            trial_of=(settings.name, trial.number),
        )
    except JobError:
        is_on_its_way = any(not run.state.ended for run in sweeps.runs(settings.name).values())
        if not is_on_its_way and sweeps.get(settings.name).state is SweepState.GOING:
            raise
