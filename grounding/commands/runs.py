"""`runs`: the queue and the runs so far, and what may be done with them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from grounding.commands.shared import Commands, again, common, count
from grounding.errors import JobError
from grounding.workspace import Workspace

if TYPE_CHECKING:
    from grounding.jobs.store import RunRecord, RunStore

_ACTIONS = ("stop", "discard", "resume", "remove")
_MEANINGS = {
    "stop": "stop the run and keep what it has learned",
    "discard": "stop the run and throw away what it has learned, or the checkpoints of one that has ended",
    "resume": "queue a stopped, failed or lost run again, to go on from its last checkpoint",
    "remove": "take a run out of the queue, or one that has ended out of the record; its adapter stays",
}


def add(commands: Commands) -> None:
    """Add the command with its parts."""
    command = commands.add_parser("runs", parents=[common()], help="the queue of training runs: list and change it")
    command.set_defaults(run=_list, limit=20)
    parts = command.add_subparsers(metavar="ACTION")
    listing = parts.add_parser("list", parents=[again()], help="runs that go on, wait and have ended (the default)")
    listing.add_argument("--limit", type=count, default=20, metavar="N", help="most ended runs to list (default: 20)")
    listing.set_defaults(run=_list)
    for action in _ACTIONS:
        part = parts.add_parser(action, parents=[again()], help=_MEANINGS[action])
        _takes_a_run(part)
        part.set_defaults(run=_change, action=action)
    move = parts.add_parser("move", parents=[again()], help="give a queued run another place")
    _takes_a_run(move)
    move.add_argument("place", type=count, help="1 is the next to start")
    move.set_defaults(run=_change, action="move")
    logged = parts.add_parser("log", parents=[again()], help="print a run's log")
    _takes_a_run(logged)
    logged.set_defaults(run=_log)
    queue = parts.add_parser("queue", parents=[again()], help="whether the queue goes on")
    way = queue.add_mutually_exclusive_group()
    way.add_argument("--pause", action="store_true", help="start no further run")
    way.add_argument("--go-on", action="store_true", help="start runs again")
    queue.add_argument("--after-failure", choices=("go-on", "pause"), help="what to do after a run has failed")
    queue.set_defaults(run=_queue)


def _takes_a_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("which", metavar="RUN", help="its id, the beginning of it, or the run's name")


def find(store: RunStore, which: str) -> RunRecord:
    """The run of this id, the one whose id begins so, or the newest of this name. Raises `JobError`."""
    runs = store.list(100_000)
    found = (
        [run for run in runs if run.id == which]
        or [run for run in runs if run.name == which][:1]
        or [run for run in runs if which and run.id.startswith(which)]
    )
    if len(found) != 1:
        many = f"{len(found)} runs begin with" if found else "There is no run"
        raise JobError(f"{many} {which!r}. `python -m grounding runs` lists them.")
    return found[0]


def _list(options: argparse.Namespace, workspace: Workspace) -> int:
    from grounding.jobs.launch import advance
    from grounding.jobs.queue import RunQueue
    from grounding.jobs.store import RunStore

    advance(workspace)  # a run whose worker is gone is not shown as running
    store = RunStore(workspace.runs_db)
    queue = RunQueue(store)
    active, settings = store.active(), queue.settings()
    runs = [*([active] if active else []), *queue.waiting(), *queue.ended(options.limit)]
    if options.json:
        print(json.dumps({"queue": asdict(settings), "runs": [_plain(run) for run in runs]}))
        return 0
    if settings.paused:
        print(f"{settings.reason} Go on with: python -m grounding runs queue --go-on", file=sys.stderr)
    for run in runs:
        place = f"queued, {run.position}" if run.position is not None else str(run.state)
        print(f"{run.id}  {place:<10}  {run.name:<24}  {_words(run)}".rstrip())
    if not runs:
        print("no runs yet", file=sys.stderr)
    return 0


def _words(run: RunRecord) -> str:
    from grounding.jobs.launch import is_hung

    if is_hung(run):
        return "hangs: no sign of life for minutes"
    return "stopping" if run.state.active and run.stop_requested else run.sentence


def _plain(run: RunRecord) -> dict[str, Any]:
    return {**vars(run), "settings": dict(run.settings), "state": str(run.state)}


def _change(options: argparse.Namespace, workspace: Workspace) -> int:
    from grounding.jobs import launch
    from grounding.jobs.queue import RunQueue
    from grounding.jobs.store import RunStore

    store = RunStore(workspace.runs_db)
    run = find(store, options.which)
    actions: dict[str, Callable[[], object]] = {
        "stop": lambda: launch.stop_run(workspace, run.id),
        "discard": lambda: launch.discard_run(workspace, run.id),
        "resume": lambda: launch.resume_run(workspace, run.id),
        "remove": lambda: launch.remove_run(workspace, run.id),
        "move": lambda: RunQueue(store).move(run.id, options.place),
    }
    told = {
        "stop": "is asked to stop and save",
        "discard": "is discarded",
        "resume": launch.resume_says(workspace, run.id),
        "remove": "is removed",
        "move": "was moved",
    }
    actions[options.action]()
    print(f"run {run.id} ({run.name}) {told[options.action]}", file=sys.stderr)
    if options.json:
        left = next((kept for kept in store.list(100_000) if kept.id == run.id), None)
        print(json.dumps(_plain(left) if left else {"id": run.id, "state": "removed"}))
    return 0


def _log(options: argparse.Namespace, workspace: Workspace) -> int:
    from grounding.jobs.store import RunStore

    run = find(RunStore(workspace.runs_db), options.which)
    path = workspace.runs / run.id / "log.txt"
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise JobError(f"The run {run.name!r} has no log yet ({path}: {error.strerror}).") from error
    print(json.dumps({"run": run.id, "log": text}) if options.json else text, end="" if not options.json else "\n")
    return 0


def _queue(options: argparse.Namespace, workspace: Workspace) -> int:
    from grounding.jobs.launch import advance
    from grounding.jobs.queue import RunQueue
    from grounding.jobs.store import RunStore

    queue = RunQueue(RunStore(workspace.runs_db))
    if options.after_failure:
        queue.set_go_on_after_failure(options.after_failure == "go-on")
    if options.pause:
        queue.pause()
    if options.go_on:
        queue.go_on()
    advance(workspace)
    settings = queue.settings()
    if options.json:
        print(json.dumps(asdict(settings)))
        return 0
    after = "goes on" if settings.go_on_after_failure else "waits"
    print(settings.reason or f"The queue goes on; after a failed run it {after}.")
    return 0
