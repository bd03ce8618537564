"""`adapters`: what stands in the workspace, where it comes from, and everything that can be done with it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from grounding.commands.shared import Commands, again, common, count
from grounding.workspace import Workspace

_FIGURES = (("accuracy_50", "Acc@0.5"), ("mean_iou", "mean IoU"))


def add(commands: Commands) -> None:
    """Add the command with its own commands."""
    command = commands.add_parser(
        "adapters", parents=[common()], help="list (the default), rename, delete, export, merge and push adapters"
    )
    command.set_defaults(run=_list, deleted=False)
    actions = command.add_subparsers(metavar="ACTION")

    def action(name: str, help_: str, run: Callable[..., int], adapter: str | None = "the adapter's name") -> Any:
        added = actions.add_parser(name, parents=[again()], help=help_)
        if adapter:
            added.add_argument("name", metavar="NAME", help=adapter)
        added.set_defaults(run=run)
        return added

    listing = action("list", "the adapters with their scores", _list, None)
    listing.add_argument("--deleted", action="store_true", help="those in the bin instead")
    action("show", "where an adapter comes from, as its model card", _show)
    action("rename", "give it another name", _rename).add_argument("new_name", metavar="NEW_NAME")
    action("note", "say something about it", _note).add_argument("text", metavar="TEXT", help='"" takes the note away')
    action("delete", "move it to the bin, from which restore brings it back", _delete)
    restoring = action("restore", "bring it back from the bin", _restore, "its name, or its id in the bin")
    restoring.add_argument("--as", dest="new_name", metavar="NEW_NAME", help="where its name is taken now")
    purging = action("purge", "empty the bin for good, or take one adapter out of it", _purge, None)
    purging.add_argument("name", metavar="NAME", nargs="?", help="its name, or its id in the bin (default: all)")
    exporting = action("export", "a PEFT folder with a model card", _export)
    exporting.add_argument("--out", type=Path, metavar="PATH", help="default: exports/NAME in the workspace")
    exporting.add_argument("--zip", action="store_true", help="one zip file instead")
    merging = action("merge", "a model of its own, held against the adapter before it counts", _merge)
    merging.add_argument("--out", type=Path, metavar="DIR", help="default: exports/NAME-merged in the workspace")
    merging.add_argument("--samples", type=Path, metavar="SAMPLES.jsonl", help="hold it against these samples")
    merging.add_argument("--limit", type=count, default=20, metavar="N", help="at most N samples (default: 20)")
    merging.add_argument(
        "--numbers", metavar="TYPE", help="float32, bfloat16 or float16 (default: as the base's files)"
    )
    pushing = action("push", "upload it to the Hugging Face Hub with its model card", _push)
    pushing.add_argument("repo_id", metavar="OWNER/NAME")
    pushing.add_argument("--public", action="store_true", help="for everybody to see (default: private)")
    pushing.add_argument("--merged", type=Path, metavar="DIR", help="this merged model of it instead")
    for licensed in (exporting, merging, pushing):
        licensed.add_argument("--license", default="", metavar="ID", help="the licence that you give it, for the card")


def _list(options: argparse.Namespace, workspace: Workspace) -> int:
    from grounding.adapters import AdapterRegistry
    from grounding.adapters.changes import deleted, note_of

    if options.deleted:
        entries = deleted(workspace)
        if options.json:
            print(json.dumps([{**vars(entry), "path": str(entry.path)} for entry in entries]))
        for entry in [] if options.json else entries:
            print(f"{entry.id}  deleted {entry.deleted_at}")
        return 0
    infos = AdapterRegistry(workspace.adapters).list()
    if options.json:
        print(json.dumps([_document(workspace, info) for info in infos]))
        return 0
    for info in infos:
        note = note_of(info).partition("\n")[0]
        print(
            f"{info.name:<24} {info.created_at[:10]}  {info.base}  {_scores(workspace, info)}"
            + (f"  # {note}" * bool(note))
        )
    if not infos:
        print("No adapter yet. Train one: python -m grounding train SNAPSHOT --name NAME", file=sys.stderr)
    return 0


def _scores(workspace: Workspace, info: Any) -> str:
    from grounding.adapters.evaluations import standing_as_trained

    found = standing_as_trained(workspace, info)
    if found is None:
        return "not scored"
    base = found.base_scores or {}
    told = []
    for key, words in _FIGURES:
        was = f"{base[key]:.3f} to " if key in base else ""
        told.append(f"{words} {was}{found.scores[key]:.3f}")
    where = [found.source, found.split, str(found.count), *([found.seen_words] if found.seen_words else [])]
    return f"{', '.join(told)} ({', '.join(where)})"


def _document(workspace: Workspace, info: Any) -> dict[str, Any]:
    from grounding.adapters.changes import note_of
    from grounding.adapters.evaluations import standing_as_trained

    found = standing_as_trained(workspace, info)
    measured = None
    if found is not None:
        measured = {
            key: getattr(found, key) for key in ("source", "split", "count", "scores", "base_scores", "left_out")
        }
        measured["evaluation"] = found.report.id if found.report else None
    return {**info.to_json(), "path": str(info.path), "note": note_of(info), "measured": measured}


def _show(options: argparse.Namespace, workspace: Workspace) -> int:
    from grounding.adapters import AdapterRegistry
    from grounding.adapters.card import model_card
    from grounding.adapters.usage import Source

    info = AdapterRegistry(workspace.adapters).find(options.name)
    if options.json:
        print(json.dumps(_document(workspace, info)))
    else:
        print(model_card(workspace, info, Source(str(info.path))), end="")
    return 0


def _rename(options: argparse.Namespace, workspace: Workspace) -> int:
    from grounding.adapters.changes import rename

    info = rename(workspace, options.name, options.new_name)
    return _done(options, {"name": info.name, "path": str(info.path)}, f"{options.name} is called {info.name} now")


def _note(options: argparse.Namespace, workspace: Workspace) -> int:
    from grounding.adapters.changes import set_note

    note = set_note(workspace, options.name, options.text)
    return _done(options, {"name": options.name, "note": note}, "noted" if note else "the note is gone")


def _delete(options: argparse.Namespace, workspace: Workspace) -> int:
    from grounding.adapters.changes import delete

    entry = delete(workspace, options.name)
    undo = f"bring it back with: python -m grounding adapters restore {entry.id}"
    return _done(options, {"id": entry.id, "name": entry.name}, f"{entry.name} is in the bin; {undo}")


def _restore(options: argparse.Namespace, workspace: Workspace) -> int:
    from grounding.adapters.changes import restore

    info = restore(workspace, options.name, options.new_name)
    return _done(options, {"name": info.name, "path": str(info.path)}, f"{info.name} is back in {info.path}")


def _purge(options: argparse.Namespace, workspace: Workspace) -> int:
    from grounding.adapters.changes import purge

    gone = purge(workspace, options.name)
    return _done(options, {"purged": gone}, f"{gone} deleted for good")


def _export(options: argparse.Namespace, workspace: Workspace) -> int:
    from grounding.adapters import AdapterRegistry
    from grounding.adapters.export import export_folder, export_zip

    info = AdapterRegistry(workspace.adapters).find(options.name)
    suffix = ".zip" if options.zip else ""
    target = options.out or workspace.exports / f"{info.name}{suffix}"
    path = (export_zip if options.zip else export_folder)(workspace, info, target.absolute(), license=options.license)
    return _done(options, {"name": info.name, "path": str(path)}, f"written to {path}")


def _merge(options: argparse.Namespace, workspace: Workspace) -> int:
    from itertools import islice

    from grounding.adapters import AdapterRegistry
    from grounding.adapters.merge import merge, own_samples
    from grounding.records import read_samples

    info = AdapterRegistry(workspace.adapters).find(options.name)
    target = (options.out or workspace.exports / f"{info.name}-merged").absolute()
    if options.samples is None:
        samples = own_samples(workspace, info, options.limit)
    else:
        samples = list(islice(read_samples(options.samples), options.limit))
    agreement = merge(
        workspace,
        info,
        target,
        samples=samples,
        numbers=options.numbers,
        license=options.license,
        tell=lambda text: print(text, file=sys.stderr),
    )
    return _done(
        options,
        {"name": info.name, "path": str(target), **vars(agreement)},
        f"{agreement.sentence}\nwritten to {target}",
    )


def _push(options: argparse.Namespace, workspace: Workspace) -> int:
    from grounding.adapters import AdapterRegistry
    from grounding.adapters.hub import push, push_merged

    private = not options.public
    if options.merged is not None:
        url = push_merged(
            workspace,
            options.merged,
            options.repo_id,
            adapter=options.name,
            private=private,
            license=options.license,
        )
    else:
        info = AdapterRegistry(workspace.adapters).find(options.name)
        url = push(workspace, info, options.repo_id, private=private, license=options.license)
    return _done(options, {"url": url}, url)


def _done(options: argparse.Namespace, document: dict[str, Any], sentence: str) -> int:
    print(json.dumps(document) if options.json else sentence)
    return 0
