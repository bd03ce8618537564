"""`evaluate`: score a set of samples, and keep the report."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from grounding.commands.shared import Commands, answers, common, count, load, model, profile, progress
from grounding.errors import Cancelled, RecordError
from grounding.records import SPLITS, Sample, read_samples
from grounding.snapshots import read_snapshot
from grounding.workspace import Workspace, make_folder

if TYPE_CHECKING:
    from grounding.predict import Predictor
    from grounding.reports import KeptReport


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser(
        "evaluate", parents=[common(), model(), profile(), answers()], help="score a set of samples"
    )
    command.add_argument("samples", metavar="SAMPLES", help="a .jsonl file, or a snapshot by its name or its folder")
    command.add_argument("--split", choices=SPLITS, help="of a snapshot (default: test); of a file, only these")
    command.add_argument(
        "--out", type=Path, metavar="DIR", help="a folder for the report (default: the workspace's evaluations)"
    )
    command.add_argument("--limit", type=count, metavar="N", help="only the first N samples")
    command.set_defaults(run=run, refuse=command.error)


def run(options: argparse.Namespace, workspace: Workspace) -> int:
    from grounding.reports import REPORT, report_json

    samples, title = _samples(options, workspace)
    if options.out is None:
        workspace.check_writable()
    elif not (options.out / REPORT).is_file():
        make_folder(options.out, "The folder", "Choose another one (--out).")
    predictor = load(options, workspace)
    kept = _kept_evaluation(options, workspace, samples, title, predictor)
    if options.json:
        print(json.dumps(report_json(kept)))
        return 0
    scores = kept.scores
    print(f"{'adapter ' + kept.adapter if kept.adapter else 'base'} on {scores.count} samples with a target")
    if kept.seen is not None:
        print(f"  {kept.seen.sentence}")
    if scores.count:
        print(f"  detection rate {scores.detection_rate:7.1%}")
        print(f"  mean IoU       {scores.mean_iou:7.3f}")
        print(f"  median IoU     {scores.median_iou:7.3f}")
        for threshold, share in scores.accuracy.items():
            print(f"  Acc@{threshold:<10g} {share:7.1%}")
    if scores.multi_target_f1 is not None:
        print(f"  several: F1    {scores.multi_target_f1:7.3f} of {scores.multi_target_count}")
    if scores.no_target_accuracy is not None:
        print(f"  nothing there  {scores.no_target_accuracy:7.1%} of {scores.no_target_count}")
    print(f"kept in {kept.path}")
    return 0


def _samples(options: argparse.Namespace, workspace: Workspace) -> tuple[list[Sample], str]:
    """What is to be scored, and what it is called in the report. Raises `RecordError` where that is nothing."""
    file, split = Path(options.samples), options.split
    if file.is_file() or file.suffix == ".jsonl":
        found = [sample for sample in read_samples(file) if split in (None, sample.split)]
        # Named after the file: the page's own summary is of the workspace's test split, which this need not be.
        title = f"{split} of {file.name}" if split else file.name
    else:
        split = split or "test"
        snapshot = read_snapshot(workspace.snapshots, options.samples)
        found, title = snapshot.split(split), f"{split} of {snapshot.name}"
    if not found:
        raise RecordError(f"{title} holds no sample: there is nothing to score. Give a file or a split with some.")
    return found[: options.limit], title


def _kept_evaluation(
    options: argparse.Namespace, workspace: Workspace, samples: Sequence[Sample], title: str, predictor: Predictor
) -> KeptReport:
    """Ask what was not asked yet, and keep the report: in --out, else in a folder of the workspace."""
    from grounding.counted import counted_report
    from grounding.evaluation import evaluate
    from grounding.journal import JOURNAL, Journal, settings_of
    from grounding.reports import ReportStore, finished_report

    adapter = options.adapter
    if adapter and Path(adapter).name in ("", ".."):  # "." doesn't say later whose answers these are
        adapter = str(Path(adapter).resolve())
    named = {"rerank": options.rerank, "profile": options.profile}
    conditions = {"quantize": options.quantize} | {name: value for name, value in named.items() if value}
    settings = settings_of(samples, predictor, adapter, conditions)
    store = ReportStore(workspace.evaluations)
    folder = options.out or store.unfinished(settings) or store.new_folder()
    finished = finished_report(folder, settings)
    if finished is not None:
        print(f"{len(samples)} answers were kept: the report in {folder} is complete.", file=sys.stderr)
        return counted_report(finished, workspace)  # an earlier version may have kept it
    log = folder / JOURNAL
    with Journal(log, settings).held():
        answers = len(Journal(log, settings).read())
        if answers:
            print(f"{answers} of {len(samples)} answers were kept in {log}; asking for the rest.", file=sys.stderr)
        try:
            with progress() as show:
                report = evaluate(
                    samples,
                    predictor,
                    adapter,
                    progress=show,
                    log=log,
                    conditions=conditions,
                    workspace=workspace,
                )
        except KeyboardInterrupt as stop:
            answers = len(Journal(log, settings).read())
            raise Cancelled(
                f"stopped: {answers} of {len(samples)} answers are kept in {log}; the same command asks for the rest."
            ) from stop
        return store.keep(report, split=title, folder=folder)
