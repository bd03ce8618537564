"""`train`: start a run and follow it; the same worker that the button starts."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from grounding.commands.shared import Commands, common, model
from grounding.errors import JobError, SettingsError
from grounding.training.settings import TrainSettings
from grounding.workspace import Workspace

if TYPE_CHECKING:
    from grounding.jobs.launch import RunRequest
    from grounding.jobs.store import RunRecord


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser(
        "train",
        parents=[common(), model()],
        help="train an adapter on a snapshot",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_settings_help(),
    )
    command.add_argument("snapshot", help="a snapshot's name in the workspace, or its folder")
    command.add_argument("--name", help="the adapter's name (not needed with --check)")
    command.add_argument("--check", action="store_true", help="look at what would be trained, and train nothing")
    command.add_argument("--force", action="store_true", help="train although the check says that it teaches nothing")
    command.add_argument(
        "--preset", metavar="NAME", help="quick, balanced or thorough (default: balanced); --set changes it"
    )
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    command.add_argument("--queue", action="store_true", help="put the run at the end of the queue and return at once")
    command.set_defaults(run=run, wrong_usage=command.error)


def _settings_help() -> str:
    lines = [f"  {spec.name:<20} {spec.metadata['meaning']}" for spec in fields(TrainSettings)]
    return "\n".join(["settings for --set (docs/presets.md has the values that a preset gives them):", *lines])


def run(options: argparse.Namespace, workspace: Workspace) -> int:
    from grounding.jobs.launch import RunRequest, queue_run, start_run
    from grounding.models import full_model_id, local_folder
    from grounding.training.presets import keep_choice

    settings = chosen_settings(options)
    if not options.check and not options.name:
        options.wrong_usage("a run needs a name for its adapter: give --name NAME, or --check to train nothing")
    # The worker runs in another folder, where a relative path would lead elsewhere.
    model_id, snapshot = full_model_id(options.model), options.snapshot
    folder = local_folder(snapshot)
    if folder is not None and not (workspace.snapshots / snapshot).is_dir():
        snapshot = str(folder.resolve())
    request = RunRequest(options.name or "", snapshot, model_id, settings, options.quantize)
    if options.check:
        return _check(options, workspace, request)
    begin = queue_run if options.queue else start_run
    run = begin(workspace, request, force=options.force)
    keep_choice(workspace.runs / run.id, options.model, settings, options.preset)
    if options.queue:
        return _tell_queued(options, workspace, run)
    print(f"run {run.id} started; log: {workspace.runs / run.id / 'log.txt'}", file=sys.stderr)
    return _follow(options, workspace, run.id)


def _check(options: argparse.Namespace, workspace: Workspace, request: RunRequest) -> int:
    """Print what pre-flight finds; exit status 1 when something blocks."""
    from grounding.snapshots import read_snapshot
    from grounding.training.preflight.text import as_text
    from grounding.training.preflight.with_model import check_fully

    snapshot = read_snapshot(workspace.snapshots, request.snapshot)

    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    workspace.check_writable()
    checked = check_fully(workspace, snapshot, request.model_id, request.quantize, request.settings, tell)
    print(json.dumps(checked.to_json()) if options.json else as_text(checked))
    return 1 if checked.blocking else 0


def _tell_queued(options: argparse.Namespace, workspace: Workspace, run: RunRecord) -> int:
    """Say what became of a queued run: it waits, or was begun as nothing stood before it."""
    log = workspace.runs / run.id / "log.txt"
    print(f"run {run.id} {'waits in the queue' if run.position else 'started'}; log: {log}", file=sys.stderr)
    if options.json:
        print(json.dumps({"run": run.id, "state": str(run.state), "adapter": run.name}))
    return 0


def chosen_settings(options: argparse.Namespace) -> TrainSettings:
    """The preset with the values of --set changed."""
    from grounding.models import training_settings
    from grounding.training.presets import preset_named, presets_for

    typed = _read_settings(options.settings)
    if options.preset is None:
        return training_settings(options.model, typed)
    preset = preset_named(presets_for(options.model), options.preset)
    return TrainSettings.from_mapping({**preset.settings.to_json(), **typed})


def _read_settings(pairs: Sequence[str]) -> dict[str, str]:
    values = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise SettingsError(f"--set {pair}: expected KEY=VALUE, such as --set steps=100.")
        values[key.strip()] = value.strip()
    return values


def _follow(options: argparse.Namespace, workspace: Workspace, run_id: str) -> int:
    """Show the run until it ends. Ctrl-C asks it to stop and save; a second one leaves it to itself."""
    from grounding.jobs.launch import end_lost_run, stop_run
    from grounding.jobs.store import RunState, RunStore

    store = RunStore(workspace.runs_db)
    told, stopping = "", False
    while store.get(run_id).state.active:
        try:
            told = _tell_progress(store.progress(run_id, most_steps=1), told)
            time.sleep(0.5)
            end_lost_run(store)
        except KeyboardInterrupt:
            if stopping:
                raise
            stopping = True
            print("stopping and saving; press Ctrl-C again to leave the run to itself", file=sys.stderr)
            with suppress(JobError):  # it may have ended just now
                stop_run(workspace, run_id)
    run = store.get(run_id)
    print(run.sentence, file=sys.stderr)
    if options.json:
        scores = store.progress(run_id, most_steps=1).scores
        print(
            json.dumps(
                {"run": run.id, "state": str(run.state), "adapter": run.name, "scores": [vars(s) for s in scores]}
            )
        )
    return 1 if run.state is RunState.FAILED else 0


def _tell_progress(progress: Any, told: str) -> str:
    """Print one line when there is something new; returns that line."""
    if progress.last_step is not None:
        step = progress.last_step
        line = f"step {step.step} of {step.steps}, loss {step.loss:.3f}"
    elif progress.phase is not None:
        phase = progress.phase
        line = f"{phase.text} {phase.done} of {phase.total}" if phase.total else phase.text
    else:
        line = "starting"
    if progress.scores:
        score = progress.scores[-1]
        line += f" | step {score.step}: mean IoU {score.mean_iou:.3f}, Acc@0.5 {score.accuracy_50:.1%}"
    if line != told:
        print(line, file=sys.stderr)
    return line
