"""The commands that look after a workspace: password, leaks, check, backup and restore."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from annotate.backup import back_up
from annotate.check import check
from annotate.restore import restore
from annotate.store import Store
from annotate.twins import fill_hashes
from grounding.errors import SettingsError, StoreError
from grounding.passwords import set_password
from grounding.progress import Rarely
from grounding.workspace import Workspace

Document = dict[str, Any]
Add = Callable[[str, Callable[[Workspace, argparse.Namespace], tuple[Document, str]], str], argparse.ArgumentParser]
_LINES_SHOWN = 20
_TELL_SECONDS = 0.2


def add_commands(add: Add) -> None:
    """Add the commands by `add(name, run, summary)`, which returns the parser of a command."""
    command = add("password", _password, "Add or replace a line of the file that app.py --auth takes.")
    command.add_argument("file", metavar="FILE", type=Path)
    command.add_argument("name", metavar="NAME", help="whom the password lets in; it is asked for, or read as one line")
    add("leaks", _leaks, "Name the pictures that stand in train and, as they are or as a copy, in val or test.")
    add("check", _check, "Check the databases and the snapshots, and that every picture is there and unchanged.")
    command = add("backup", _backup, "Write all that people and runs have made to one file; work may go on.")
    command.add_argument("path", metavar="PATH.zip", type=Path, help="a file that does not exist yet")
    command.add_argument("--no-pictures", action="store_true", help="leave the pictures out")
    command = add("restore", _restore, "Bring a backup back into an empty or new workspace. Stop the app first.")
    command.add_argument("path", metavar="PATH.zip", type=Path)
    command.add_argument(
        "--replace", action="store_true", help="move what stands in the workspace aside, to a folder that is named"
    )


def tell_progress(what: str) -> Callable[[int, int], None]:
    """A function that keeps one line on standard error up to date, a few times a second: what, how many of how many.
    Where nobody looks, as standard error is no terminal, it tells every few seconds."""

    def tell(done: int, total: int) -> None:
        end = "\n" if done >= total else ""
        sys.stderr.write(f"\r{what}: {done} of {total}{end}")
        sys.stderr.flush()

    return Rarely(tell, _TELL_SECONDS)


def _password(workspace: Workspace, options: argparse.Namespace) -> tuple[Document, str]:
    if sys.stdin.isatty():
        password = getpass.getpass(f"Password for {options.name}: ")
        if getpass.getpass("The same again: ") != password:
            raise SettingsError("The two passwords differ. Nothing was changed; try again.")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    replaced = set_password(options.file, options.name, password)
    text = f"{options.name} has a {'new ' if replaced else ''}password in {options.file}. Start the app anew to use it."
    return {"file": str(options.file), "name": options.name, "replaced": replaced}, text


def _leaks(workspace: Workspace, options: argparse.Namespace) -> tuple[Document, str]:
    _expect(workspace)
    store = Store(workspace.annotations_db, workspace.pictures)
    fill_hashes(store.path, store.pictures, tell_progress("Pictures looked at"))
    with store.view() as view:
        report = view.leaks()
    lines = [
        f"{leak.kind}: {', '.join(leak.train_samples)} of train, {', '.join(leak.held_out_samples)} held out"
        for leak in report.leaks
    ]
    counts = report.counts()
    told = ", ".join(f"{kind} {count}" for kind, count in counts.items())
    lines.append(f"Samples of train that leak: {told}. Snapshots leave them out.")
    document = {"counts": dict(counts), "not_compared": report.not_compared}
    return document | {"leaks": [leak.to_json() for leak in report.leaks]}, "\n".join(lines)


def _check(workspace: Workspace, options: argparse.Namespace) -> tuple[Document, str]:
    _expect(workspace)
    report = check(workspace, tell_progress("Pictures checked"))
    problems = report.problems
    lines = list(problems[:_LINES_SHOWN])
    if len(problems) > _LINES_SHOWN:
        lines.append(f"... and {len(problems) - _LINES_SHOWN} more; --json lists them all.")
    verdict = f"{len(problems)} problems: restore a backup, or import the pictures again" if problems else "All is well"
    lines.append(f"{verdict}; {report.pictures} pictures checked.")
    return asdict(report) | {"ok": not problems}, "\n".join(lines)


def _backup(workspace: Workspace, options: argparse.Namespace) -> tuple[Document, str]:
    _expect(workspace)
    report = back_up(workspace, options.path, pictures=not options.no_pictures, progress=tell_progress("Files"))
    for problem in report.left_out[:_LINES_SHOWN]:
        sys.stderr.write(f"left out: {problem}\n")
    text = f"{report.files} files, {report.bytes / 1e6:.1f} MB in {report.path}; {len(report.left_out)} files left out."
    return asdict(report) | {"path": str(report.path)}, text


def _restore(workspace: Workspace, options: argparse.Namespace) -> tuple[Document, str]:
    report = restore(workspace, options.path, replace=options.replace, progress=tell_progress("Files"))
    aside = f" What stood there is in {report.moved_aside}." if report.moved_aside else ""
    missing = "" if report.pictures else " The backup holds no pictures: put them back into images, then run check."
    text = f"{report.files} files of {report.created_at} restored into {workspace.root}.{aside}{missing}"
    return asdict(report) | {"moved_aside": str(report.moved_aside or "")}, text


def _expect(workspace: Workspace) -> None:
    if not workspace.exists:
        raise StoreError(
            f"There are no annotations in {workspace.root}. "
            "Import a data set first (python -m annotate import SOURCE), or name another --workspace DIR."
        )
