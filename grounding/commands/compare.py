"""`compare`: two evaluations of the same samples, in pairs."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from grounding.commands.shared import Commands, common
from grounding.workspace import Workspace


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser("compare", parents=[common()], help="two evaluations of the same samples, in pairs")
    command.add_argument("report_a", type=Path, metavar="REPORT_A", help="the folder of a finished evaluation")
    command.add_argument("report_b", type=Path, metavar="REPORT_B", help="that of another one")
    command.set_defaults(run=run)


def run(options: argparse.Namespace, workspace: Workspace) -> int:
    from grounding.paired import Difference, compare_rows
    from grounding.reports import read_report, read_rows

    found = compare_rows(read_rows(options.report_a), read_rows(options.report_b))
    if options.json:
        folders = {"report_a": str(options.report_a), "report_b": str(options.report_b)}
        print(json.dumps(folders | asdict(found)))
        return 0

    def line(name: str, figure: Difference, scale: float, digits: int) -> str:
        numbers = (figure.a, figure.b, figure.difference, figure.low, figure.high)
        a, b, *rest = (None if number is None else number * scale for number in numbers)
        signed = ["-" if number is None else f"{number:+.{digits}f}" for number in rest]
        return f"  {name:<12} {a:8.{digits}f} {b:8.{digits}f} {signed[0]:>8}   {signed[1]} to {signed[2]}"

    for letter, folder in (("A", options.report_a), ("B", options.report_b)):
        kept = read_report(folder)
        who = f": {f'adapter {kept.adapter} on' if kept.adapter else 'base'} {kept.model_id}" if kept else ""
        print(f"{letter}: {folder}{who}")
    print(f"{found.count} samples with a target on {found.pictures} pictures")
    print(f"  {'':<12} {'A':>8} {'B':>8} {'B - A':>8}   95% interval, pictures resampled {found.resamples} times")
    print(line("Acc@0.5, %", found.accuracy_50, 100, 1))
    print(line("mean IoU", found.mean_iou, 1, 3))
    print(f"At IoU 0.5 B wins {found.wins}, loses {found.losses}, ties {found.ties}; McNemar p = {found.mcnemar_p:.2g}")
    return 0
