"""`python -m annotate`: import, repair, checks, lint, stats, snapshot, export and upkeep from the command line.

Progress and errors go to standard error; with --json, standard output holds one JSON document and nothing else.
Exit status: 0, 1 (the work failed, with a sentence that says why) or 2 (usage).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

from annotate.batches import batch_name
from annotate.checks import PROFILES
from annotate.exporters import export, exporters
from annotate.importers import find_importer, importers
from annotate.items import ImportReport
from annotate.leaks import LeakReport
from annotate.lint import lint
from annotate.partial_folders import partial_folder
from annotate.problems import check_profile, choose_profile
from annotate.snapshot import SnapshotInfo, freeze, read_snapshot
from annotate.store import Store
from annotate.templates import TemplatesFound, mark_templates
from annotate.upkeep import add_commands, tell_progress
from grounding.errors import BoxwrightError, Cancelled, StoreError
from grounding.progress import catch_interrupts, output_lost
from grounding.who import default_who
from grounding.workspace import Workspace, find_workspace

Document = dict[str, Any]
_ROWS_SHOWN = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    command: Callable[[Workspace, argparse.Namespace], tuple[Document, str]] = options.command
    try:
        document, text = command(find_workspace(options.workspace), options)
    except BoxwrightError as error:
        print(f"annotate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("annotate: stopped.", file=sys.stderr)
        return 1
    try:
        print(json.dumps(document) if options.json else text, flush=True)
    except OSError as error:
        print(f"annotate: {output_lost(error)}", file=sys.stderr)
        return 1
    return 0 if document.get("ok", True) else 1


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--workspace", metavar="DIR", help="default: $BOXWRIGHT_WORKSPACE, else data/workspace")
    common.add_argument("--who", default=default_who(), help="your name in the history (default: %(default)s)")
    common.add_argument("--json", action="store_true", help="print one JSON document on standard output")
    parser = argparse.ArgumentParser(prog="python -m annotate", description="Curate the phrases of a data set.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[..., tuple[Document, str]], summary: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, parents=[common], help=summary, description=summary)
        command.set_defaults(command=run)
        return command

    command = add("import", _import, "Take a data set into the workspace.")
    command.add_argument("source", metavar="SOURCE", type=Path, help="a file or folder")
    command.add_argument("--format", choices=("auto", *importers()), default="auto")
    command.add_argument("--dry-run", action="store_true", help="check everything, write nothing")
    command.add_argument("--link", action="store_true", help="hard-link pictures instead of copying them")
    command = add("repair", _repair, "Fill placeholders from the phrases that the source itself gave.")
    way = command.add_mutually_exclusive_group()
    way.add_argument("--dry-run", action="store_true", help="show what would change")
    way.add_argument("--undo", metavar="BATCH", help="take this repair or bulk edit back")
    add("batches", _batches, "List repairs and bulk edits, the newest first, by the names that repair --undo takes.")
    command = add("checks", _checks, "Say which checks this workspace goes by, and count the samples that fail them.")
    command.add_argument("--profile", choices=tuple(PROFILES), help="go by these from now on")
    command = add("lint", _lint, "Look for empty, placeholder, ambiguous and ill-written phrases.")
    command.add_argument("--profile", choices=tuple(PROFILES), help="by these (default: those of checks)")
    add("stats", _stats, "Count samples.")
    command = add("snapshot", _snapshot, "Freeze the samples with a usable phrase for training.")
    command.add_argument("name", metavar="NAME")
    command.add_argument("--approved-only", action="store_true", help="take approved samples alone")
    command.add_argument("--placeholders", action="store_true", help="take placeholders too: they teach nothing")
    command = add("export", _export, "Write a snapshot for other programs.")
    command.add_argument("name", metavar="NAME", help="of a snapshot")
    command.add_argument("--format", choices=tuple(exporters()), required=True)
    where = command.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", metavar="PATH", type=Path, help="a new or empty folder, or a new .zip file")
    where.add_argument("--push-to-hub", metavar="REPO_ID", help="OWNER/NAME on the Hugging Face Hub, with datasets")
    command.add_argument("--public", action="store_true", help="let everybody read what is pushed; else only you")
    command.set_defaults(wrong_usage=command.error)
    command.add_argument("--link", action="store_true", help="hard-link pictures instead of copying them")
    add_commands(add)
    return parser


def _open(workspace: Workspace) -> Store:
    if not workspace.exists:
        raise StoreError(
            f"There are no annotations in {workspace.root}. "
            "Import a data set first (python -m annotate import SOURCE), or name another --workspace DIR."
        )
    return Store(workspace.annotations_db, workspace.pictures)


def _import(workspace: Workspace, options: argparse.Namespace) -> tuple[Document, str]:
    importer = find_importer(options.source, options.format)

    def take_into(chosen: Workspace, scratch: Path) -> ImportReport:
        return Store(chosen.annotations_db, chosen.pictures).import_samples(
            importer.read(options.source, scratch),
            source=options.source.resolve().name,
            who=options.who,
            link=options.link,
            dry_run=options.dry_run,
            scratch=scratch,
            progress=lambda done: print(f"\r{done} rows", end="", file=sys.stderr, flush=True),
        )

    if not options.dry_run:
        workspace.check_writable()
    made_up = options.dry_run and not workspace.exists
    # Beside the pictures where something is written: there a picture out of an archive is moved, not copied.
    beside = tempfile.TemporaryDirectory() if options.dry_run else partial_folder(workspace.root, "import")
    with tempfile.TemporaryDirectory() as nowhere, beside as inside:
        try:
            report = take_into(Workspace(Path(nowhere)) if made_up else workspace, Path(inside))
        finally:
            print(file=sys.stderr)
    _tell_errors(report)
    if report.errors and not report.imported and not report.already_there:
        sentence = f"Nothing could be imported: all {len(report.errors)} rows have errors. {report.errors[0]}"
        if not options.json:
            raise StoreError(sentence)
        print(f"annotate: {sentence}", file=sys.stderr)
        return asdict(report) | {"format": importer.name, "ok": False}, sentence
    if options.dry_run:
        return _told(report, importer.name, None, None)
    found = mark_templates(workspace.annotations_db) if report.imported else None
    with _open(workspace).view() as view:
        leaks = view.leaks(by_looks=False)
    return _told(report, importer.name, found, leaks)


def _tell_errors(report: ImportReport) -> None:
    for error in report.errors[:_ROWS_SHOWN]:
        print(error, file=sys.stderr)
    if len(report.errors) > _ROWS_SHOWN:
        print(f"... and {len(report.errors) - _ROWS_SHOWN} more; --json lists them all.", file=sys.stderr)


def _told(
    report: ImportReport, format_name: str, found: TemplatesFound | None, leaks: LeakReport | None
) -> tuple[Document, str]:
    verb = "would be imported (dry run, nothing written)" if report.dry_run else "imported"
    text = (
        f"{report.imported} samples {verb}; {report.already_there} were there already; "
        f"{len(report.errors)} rows with errors; {report.clipped} with a box clipped at the edge."
    )
    if report.brought_back:
        back = "would come back" if report.dry_run else "are back"
        text += f" {report.brought_back} pictures that were missing or damaged {back}."
    document = asdict(report) | {"format": format_name, "templates": list(found.phrases) if found else []}
    if found and found.samples:
        text += f" {found.samples} of all now count as placeholders: they repeat {len(found.phrases)} wordings."
    if leaks is not None:
        counts = leaks.counts()
        pictures, samples = len(leaks.kind_of_picture()), sum(counts.values())
        document["leaks"] = {"pictures": pictures, "samples": samples, "counts": dict(counts)}
        if pictures:
            them = "1 picture stands" if pictures == 1 else f"{pictures} pictures stand"
            text += (
                f" {them} in train and also in val or test: snapshots leave the {samples} train samples on "
                f"{'it' if pictures == 1 else 'them'} out. python -m annotate leaks looks for copies as well."
            )
    return document, text


def _repair(workspace: Workspace, options: argparse.Namespace) -> tuple[Document, str]:
    store = _open(workspace)
    if options.undo:
        undone = store.undo_batch(options.undo, options.who, progress=tell_progress("Samples put back"))
        return asdict(undone), f"{undone.count} samples put back; {undone.left} were changed since and left alone."
    if options.dry_run:
        preview = store.repair_preview()
        lines = [f"{sample_id}: {before!r} -> {after!r}" for sample_id, before, after in preview.examples]
        lines.append(f"{preview.total} placeholders would be filled; {preview.left_for_people} are left for people.")
        return asdict(preview) | {"dry_run": True}, "\n".join(lines)
    name = batch_name("repair")
    try:
        report = store.repair(options.who, batch=name, progress=tell_progress("Placeholders looked at"))
    except KeyboardInterrupt as stop:
        raise Cancelled(
            f"stopped: what was filled stays. Take it back with: python -m annotate repair --undo {name}"
        ) from stop
    undo = f" Undo: python -m annotate repair --undo {report.batch}" if report.count else ""
    return asdict(report), f"{report.count} placeholders filled; {report.left} are left for people.{undo}"


def _batches(workspace: Workspace, options: argparse.Namespace) -> tuple[Document, str]:
    found = _open(workspace).batches()
    words = {
        "running": "under way",
        "broken": "ended in the middle",
        "undoing": "is put back",
        "undone": "was put back",
    }
    lines = [
        f"{one.name}: {one.action} by {one.who} at {one.began_at}, {one.count} samples"
        + (f", {words[one.state]}" if one.state in words else "")
        for one in found
    ]
    lines.append(
        "Undo one: python -m annotate repair --undo NAME" if found else "Nothing was changed many at once yet."
    )
    return {"batches": [asdict(one) for one in found]}, "\n".join(lines)


def _checks(workspace: Workspace, options: argparse.Namespace) -> tuple[Document, str]:
    store = _open(workspace)
    if options.profile:
        choose_profile(store.path, options.profile)
    counts = store.counts()
    profile = check_profile(store.path)
    document = {"profile": profile, "problems": counts.problems, "samples": counts.total}
    return document, f"{counts.problems} of {counts.total} samples fail the checks of {profile}."


def _lint(workspace: Workspace, options: argparse.Namespace) -> tuple[Document, str]:
    store = _open(workspace)
    report = lint(store, PROFILES[options.profile or check_profile(store.path)])
    lines = [f"empty: {sample_id}" for sample_id in report.empty]
    lines += [f"placeholder: {sample_id}" for sample_id in report.placeholders]
    lines += [f"same phrase for different boxes: {', '.join(group)}" for group in report.duplicates]
    lines += [f"on {each.rows} boxes, a template by its structure: {each.phrase!r}" for each in report.repeated]
    lines.append(f"{report.checked} samples checked ({report.profile}): {_listed(report.counts)}.")
    return asdict(report) | {"counts": report.counts}, "\n".join(lines)


def _stats(workspace: Workspace, options: argparse.Namespace) -> tuple[Document, str]:
    document = asdict(_open(workspace).counts())
    splits = document.pop("per_split")
    return document | {"per_split": splits}, f"{_listed(document)}; splits: {_listed(splits)}"


def _snapshot(workspace: Workspace, options: argparse.Namespace) -> tuple[Document, str]:
    info = freeze(
        _open(workspace),
        workspace.snapshots,
        options.name,
        who=options.who,
        approved_only=options.approved_only,
        placeholders=options.placeholders,
        progress=tell_progress("Pictures looked at"),
    )
    left_out = _listed(info.left_out) or "none"
    text = f"Snapshot {info.name}: {_listed(info.counts)}; left out: {left_out}; hash {info.sha256[:12]}; {info.path}"
    return asdict(info) | {"path": str(info.path)}, text


def _export(workspace: Workspace, options: argparse.Namespace) -> tuple[Document, str]:
    if options.push_to_hub is not None and options.format != "datasets":
        options.wrong_usage("--push-to-hub goes with --format datasets alone")
    if options.public and options.push_to_hub is None:
        options.wrong_usage("--public goes with --push-to-hub alone")
    snapshot = read_snapshot(workspace.snapshots, options.name)
    if options.push_to_hub is not None:
        return _push(snapshot, options)
    count = export(snapshot, options.format, options.out, link=options.link)
    document = {"snapshot": snapshot.name, "format": options.format, "out": str(options.out), "samples": count}
    return document, f"{count} samples of {snapshot.name} written to {options.out} as {options.format}."


def _push(snapshot: SnapshotInfo, options: argparse.Namespace) -> tuple[Document, str]:
    from annotate.exporters.hub import push_to_hub

    with redirect_stdout(sys.stderr):  # what the Hub's packages say on the way
        address = push_to_hub(snapshot, options.push_to_hub, private=not options.public)
    count = sum(snapshot.counts.values())
    document = {"snapshot": snapshot.name, "format": options.format, "samples": count}
    document |= {"address": address, "public": options.public}
    seen_by = "for everybody" if options.public else "for you alone"
    return document, f"{count} samples of {snapshot.name} are at {address}, {seen_by}."


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


if __name__ == "__main__":
    catch_interrupts()
    sys.exit(main())
