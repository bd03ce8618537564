"""`compare`: two evaluations of the same samples, in pairs."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from grounding.commands.shared import Commands, common
from grounding.workspace import Workspace

if TYPE_CHECKING:
    from grounding.compared import Report
    from grounding.paired import PairedComparison

FORMATS = ("csv", "parquet", "json", "markdown", "coco", "fiftyone")
"""Those of `grounding.compared.exports`, named here so that the help needs no numpy."""


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser("compare", parents=[common()], help="two evaluations of the same samples, in pairs")
    command.add_argument("report_a", type=Path, metavar="REPORT_A", help="the folder of a finished evaluation")
    command.add_argument("report_b", type=Path, metavar="REPORT_B", help="that of another one")
    seen = command.add_mutually_exclusive_group()
    seen.add_argument("--with-seen", action="store_true", help="count what an adapter saw in training too")
    seen.add_argument("--unseen", action="store_true", help="leave it out: the default")
    command.add_argument("--common", action="store_true", help="compare what stands in both, where they differ")
    command.add_argument("--export", choices=FORMATS, help="write the whole comparison into --out as well")
    command.add_argument("--out", type=Path, metavar="DIR", help="with --export: a new folder")
    command.set_defaults(run=run, refuse=command.error)


def run(options: argparse.Namespace, workspace: Workspace) -> int:
    from grounding.compared import open as open_report
    from grounding.counted import paired

    if (options.export is None) != (options.out is None):
        options.refuse("arguments --export and --out belong together: what to write, and where")
    folders = options.report_a, options.report_b
    report = open_report(*folders, workspace=workspace, with_seen=options.with_seen)
    if not options.common:
        _check_same(report)
    found = paired(report)
    told = list(report.notes)
    if options.export is not None:
        written = report.export(options.out, options.export)
        told += [*written.notes, f"{options.export} written to {written.folder}: {', '.join(written.files[:8])}"]
    for sentence in told:
        print(sentence, file=sys.stderr)
    if options.json:
        print(json.dumps({"report_a": str(options.report_a), "report_b": str(options.report_b)} | asdict(found)))
    else:
        _print(report, found)
    return 0


def _check_same(report: Report) -> None:
    """Raises `RecordError` where a sample stands in one of the two only."""
    from grounding.errors import RecordError

    a, b = report.comparison.sides
    if a.only or b.only:
        sizes = [len(report.comparison) + len(side.only) for side in (a, b)]
        raise RecordError(
            f"The two evaluations are not of the same samples: {len(a.only)} of {sizes[0]} stand only in the first and "
            f"{len(b.only)} of {sizes[1]} only in the second, such as {(a.only or b.only)[0]!r}. Evaluate both on the "
            "same file, or compare what they have in common (--common)."
        )


def _print(report: Report, found: PairedComparison) -> None:
    from grounding.paired import Difference

    def line(name: str, figure: Difference, scale: float, digits: int) -> str:
        numbers = (figure.a, figure.b, figure.difference, figure.low, figure.high)
        a, b, *rest = (None if number is None else number * scale for number in numbers)
        signed = ["-" if number is None else f"{number:+.{digits}f}" for number in rest]
        return f"  {name:<12} {a:8.{digits}f} {b:8.{digits}f} {signed[0]:>8}   {signed[1]} to {signed[2]}"

    for letter, side in zip("AB", report.comparison.sides, strict=True):
        kept = side.kept
        who = f": {f'adapter {kept.adapter} on' if kept.adapter else 'base'} {kept.model_id}" if kept else ""
        print(f"{letter}: {side.folder}{who}")
    print(f"{found.count} samples with a target on {found.pictures} pictures")
    print(f"  {'':<12} {'A':>8} {'B':>8} {'B - A':>8}   95% interval, pictures resampled {found.resamples} times")
    print(line("Acc@0.5, %", found.accuracy_50, 100, 1))
    print(line("mean IoU", found.mean_iou, 1, 3))
    print(f"At IoU 0.5 B wins {found.wins}, loses {found.losses}, ties {found.ties}; McNemar p = {found.mcnemar_p:.2g}")
