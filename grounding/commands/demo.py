"""`demo`: write the demo data set."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from grounding.commands.shared import Commands, common, progress
from grounding.workspace import Workspace


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser("demo", parents=[common()], help="write the demo data set")
    command.add_argument("folder", type=Path, metavar="DIR")
    command.add_argument("--seed", type=int, default=0)
    command.set_defaults(run=run)


def run(options: argparse.Namespace, workspace: Workspace) -> int:
    from grounding.demo.dataset import write_demo

    with progress() as show:
        summary = write_demo(options.folder, seed=options.seed, progress=show)
    if options.json:
        counts = dict(summary.samples_by_split)
        document = {"folder": str(summary.folder), "pictures": summary.pictures, "samples": counts}
        print(json.dumps(document | {"placeholders": summary.placeholders}))
    else:
        counts_text = ", ".join(f"{n} {split}" for split, n in summary.samples_by_split.items())
        placeholders = f"{summary.placeholders} placeholders"
        print(f"{summary.folder}: {summary.pictures} pictures, {placeholders}; samples: {counts_text}")
    return 0
