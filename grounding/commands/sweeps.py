"""`sweep`: try several settings through the queue. `sweeps`: those there are, and what may be done with them."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from grounding.commands.shared import Commands, again, common, count, model
from grounding.commands.train import chosen_settings
from grounding.errors import JobError, SettingsError
from grounding.workspace import Workspace

if TYPE_CHECKING:
    from grounding.sweeps.report import SweepReport, TrialRow
    from grounding.sweeps.settings import SweepSettings
    from grounding.sweeps.space import Space

_LOOK_SECONDS = 1.0
_MEANINGS = {
    "stop": "queue no further run; the one that goes on saves what it has learned",
    "resume": "go on with a stopped sweep where it was",
    "remove": "delete an ended sweep with its runs; adapters that were kept stay",
}


def add(commands: Commands) -> None:
    """Add both commands."""
    _add_sweep(commands)
    command = commands.add_parser("sweeps", parents=[common()], help="the sweeps: list, show, stop, resume, keep")
    command.set_defaults(run=_list)
    parts = command.add_subparsers(metavar="ACTION")
    parts.add_parser("list", parents=[again()], help="all of them (the default)").set_defaults(run=_list)
    shown = parts.add_parser("show", parents=[again()], help="the runs of one, with what each scored")
    shown.add_argument("which", metavar="NAME")
    shown.set_defaults(run=_show)
    for action, meaning in _MEANINGS.items():
        part = parts.add_parser(action, parents=[again()], help=meaning)
        part.add_argument("which", metavar="NAME")
        part.set_defaults(run=_change, action=action)
        if action == "stop":
            part.add_argument("--discard", action="store_true", help="throw away what the run that goes on has learned")
    kept = parts.add_parser("keep", parents=[again()], help="put the best run's adapter into the registry")
    kept.add_argument("which", metavar="NAME")
    kept.add_argument(
        "--as", dest="adapter", default="", metavar="ADAPTER", help="its name there (default: the sweep's)"
    )
    kept.add_argument("--trial", type=count, metavar="N", help="the run of this number instead of the best")
    kept.set_defaults(run=_keep)


def _add_sweep(commands: Commands) -> None:
    from grounding.sweeps.space import SEARCHABLE

    command = commands.add_parser(
        "sweep",
        parents=[common(), model()],
        help="train with several settings, one run after another, and find the best",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="settings for --search:\n  " + "\n  ".join(SEARCHABLE),
    )
    command.add_argument("snapshot", help="a snapshot's name in the workspace, or its folder")
    command.add_argument("--name", default="", help="the sweep's name (default: sweep-1, sweep-2, ...)")
    command.add_argument("--runs", type=count, default=8, metavar="N", help="how many runs (default: 8)")
    command.add_argument(
        "--search",
        action="append",
        default=[],
        metavar="KEY=VALUES",
        help="a setting with values, such as lora_rank=4,8,16, or a range, such as learning_rate=1e-4..3e-3",
    )
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    command.add_argument("--preset", metavar="NAME", help="quick, balanced or thorough (default: balanced)")
    command.add_argument("--seed", type=int, default=0, help="seed of the search; that of the runs is a setting")
    command.add_argument(
        "--prune", action=argparse.BooleanOptionalAction, default=True, help="end runs early that fall behind"
    )
    command.add_argument("--check", action="store_true", help="say how many runs and how long, and start nothing")
    command.add_argument("--force", action="store_true", help="train although the check says that it teaches nothing")
    command.add_argument("--queue", action="store_true", help="return at once instead of following the runs")
    command.set_defaults(run=run)


def run(options: argparse.Namespace, workspace: Workspace) -> int:
    """Say the plan, start the sweep, follow it."""
    from grounding.sweeps.drive import check_sweep_name, start_sweep
    from grounding.sweeps.plan import plan_of

    settings = _sweep_settings(options, workspace)
    check_sweep_name(workspace, settings.name)
    plan = plan_of(workspace, settings)
    if plan.pace is None:
        plan = plan_of(workspace, settings, _measured(options, workspace, settings))
    for sentence in plan.sentences:
        print(sentence, file=sys.stderr, flush=True)
    if options.check:
        if options.json:
            print(json.dumps({"sweep": settings.to_json(), "seconds": plan.seconds, "plan": plan.sentences}))
        return 0
    start_sweep(workspace, settings, force=options.force)
    print(
        f"sweep {settings.name} started; `python -m grounding sweeps show {settings.name}` tells how it stands",
        file=sys.stderr,
    )
    if not options.queue:
        return _follow(options, workspace, settings.name)
    if options.json:
        print(json.dumps({"sweep": settings.name, "state": "going"}))
    return 0


def _sweep_settings(options: argparse.Namespace, workspace: Workspace) -> SweepSettings:
    from grounding.models import full_model_id, local_folder
    from grounding.sweeps.settings import SweepSettings

    base = chosen_settings(options)
    folder, snapshot = local_folder(options.snapshot), options.snapshot
    if folder is not None and not (workspace.snapshots / snapshot).is_dir():
        snapshot = str(folder.resolve())
    return SweepSettings(
        name=options.name or _free_sweep_name(workspace),
        snapshot=snapshot,
        model_id=full_model_id(options.model),
        base=base,
        search=_searched(options.search),
        runs=options.runs,
        seed=options.seed,
        prune=options.prune,
        quantize=options.quantize,
    )


def _searched(pairs: Sequence[str]) -> Mapping[str, Space]:
    from grounding.sweeps.space import parse_space

    found = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise SettingsError(f"--search {pair}: expected KEY=VALUES, such as --search lora_rank=4,8,16.")
        found[key.strip()] = parse_space(key.strip(), text)
    return found


def _free_sweep_name(workspace: Workspace) -> str:
    from grounding.sweeps.record import SweepStore

    taken = {sweep.name for sweep in SweepStore(workspace.runs_db).list()}
    return next(name for name in (f"sweep-{number}" for number in range(1, 10_000)) if name not in taken)


def _measured(options: argparse.Namespace, workspace: Workspace, settings: SweepSettings) -> float | None:
    """Seconds of one run as `train --check` measures them, in a process of its own; None where it can't be measured."""
    print("no run of this model tells how long one takes: measuring a step", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "grounding", "train", settings.snapshot, "--check", "--json"]
    command += ["--workspace", str(workspace.root), "--model", settings.model_id, "--quantize", settings.quantize]
    for key, value in settings.base.to_json().items():
        command += ["--set", f"{key}={','.join(map(str, value)) if isinstance(value, list | tuple) else value}"]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        return float(json.loads(done.stdout)["cost"]["seconds"])
    except (ValueError, KeyError, TypeError):
        print(f"it could not be measured: {done.stderr.strip()[-300:] or 'no answer'}", file=sys.stderr)
        return None


def _follow(options: argparse.Namespace, workspace: Workspace, name: str) -> int:
    """Show the sweep until it ends. Ctrl-C stops it and saves; a second one leaves it to itself."""
    from grounding.jobs.launch import advance
    from grounding.sweeps.drive import stop_sweep
    from grounding.sweeps.record import SweepState
    from grounding.sweeps.report import report_of

    told: dict[int, str] = {}
    stopping = False
    while True:
        try:
            advance(workspace)
            report = report_of(workspace, name)
            for row in report.rows:
                line = _line(row)
                if row.state not in ("waiting", "queued", "running") and told.get(row.number) != line:
                    print(line, file=sys.stderr, flush=True)
                    told[row.number] = line
            on_its_way = any(row.state in ("queued", "running") for row in report.rows)
            if report.record.state is not SweepState.GOING and not on_its_way:
                break
            time.sleep(_LOOK_SECONDS)
        except KeyboardInterrupt:
            if stopping:
                raise
            stopping = True
            print("stopping and saving; press Ctrl-C again to leave the sweep to itself", file=sys.stderr)
            with suppress(JobError):  # it may have ended just now
                stop_sweep(workspace, name)
    print(report.record.sentence or report.sentence, file=sys.stderr)
    if report.best is not None:
        print(f"into the registry with: python -m grounding sweeps keep {name}", file=sys.stderr)
    if options.json:
        print(json.dumps(report.to_json()))
    return 0 if report.best is not None else 1


def _line(row: TrialRow) -> str:
    from grounding.sweeps.space import value_text

    values = ", ".join(f"{key} {value_text(value)}" for key, value in row.values.items())
    scored = f"mean IoU {row.mean_iou:.3f}, Acc@0.5 {row.accuracy_50:.1%}" if row.mean_iou is not None else ""
    took = f"{row.seconds:.0f} s" if row.seconds is not None else ""
    at = f"after step {row.pruned_at}" if row.pruned_at is not None else ""
    why = row.sentence if row.state == "failed" else ""
    kept = f"kept as {', '.join(row.kept_as)}" if row.kept_as else ""
    return f"run {row.number + 1:>3}  {row.state:<9} {values}" + "".join(
        f"  {part}" for part in (scored, at, took, kept, why) if part
    )


def _list(options: argparse.Namespace, workspace: Workspace) -> int:
    from grounding.jobs.launch import advance
    from grounding.sweeps.record import SweepStore

    advance(workspace)
    sweeps = SweepStore(workspace.runs_db).list()
    if options.json:
        print(json.dumps([{**vars(sweep), "state": str(sweep.state)} for sweep in sweeps]))
        return 0
    for sweep in sweeps:
        print(f"{sweep.name:<24}  {sweep.state:<8}  {sweep.trouble or sweep.sentence}".rstrip())
    if not sweeps:
        print("no sweeps yet: start one with `python -m grounding sweep SNAPSHOT --search KEY=VALUES`", file=sys.stderr)
    return 0


def _show(options: argparse.Namespace, workspace: Workspace) -> int:
    from grounding.jobs.launch import advance
    from grounding.sweeps.report import report_of

    advance(workspace)
    report = report_of(workspace, options.which)
    if options.json:
        print(json.dumps(report.to_json()))
        return 0
    for row in report.rows:
        print(_line(row))
    print(report.record.trouble or report.record.sentence or _going(report))
    return 0


def _going(report: SweepReport) -> str:
    from grounding.sweeps.plan import in_words

    left = f" About {in_words(report.seconds_left)} left." if report.seconds_left is not None else ""
    return f"{report.ended} of {report.settings.runs} runs have ended. {report.sentence}{left}"


def _change(options: argparse.Namespace, workspace: Workspace) -> int:
    from grounding.sweeps import drive

    name = options.which
    if options.action == "stop":
        drive.stop_sweep(workspace, name, discard=options.discard)
        told = "queues no further run"
    elif options.action == "resume":
        drive.resume_sweep(workspace, name)
        told = "goes on"
    else:
        drive.remove_sweep(workspace, name)
        told = "is removed"
    print(f"sweep {name} {told}", file=sys.stderr)
    if options.json:
        print(json.dumps({"sweep": name, "action": options.action}))
    return 0


def _keep(options: argparse.Namespace, workspace: Workspace) -> int:
    from grounding.sweeps.winner import keep

    info = keep(workspace, options.which, name=options.adapter, run=options.trial)
    run = info.sweep["run"]
    print(f"the adapter of run {run} is in the registry as {info.name}", file=sys.stderr)
    if options.json:
        print(json.dumps({"adapter": info.name, "sweep": options.which, "run": run}))
    return 0
