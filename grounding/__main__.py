"""The command line of the core: `python -m grounding predict | evaluate | compare | calibrate | train | demo`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grounding.decoding.settings import MOST_SAMPLES
from grounding.errors import BoxwrightError, Cancelled, JobError, RecordError, SettingsError
from grounding.records import Prediction, Sample, check_phrase, read_samples
from grounding.training.settings import TrainSettings
from grounding.workspace import Workspace, find_workspace, make_folder

if TYPE_CHECKING:
    from grounding.predict import Predictor
    from grounding.reports import KeptReport


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns 0, or 1 when the work failed. Wrong usage exits with 2."""
    try:
        options = _parser().parse_args(arguments)
        if getattr(options, "rerank", None) and options.votes == 1:
            options.refuse("argument --rerank: there is nothing to choose from without --votes N, above 1")
        status = int(options.run(options, find_workspace(options.workspace)))
        sys.stdout.flush()
        return status
    except BoxwrightError as error:
        print(f"boxwright: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("boxwright: stopped.", file=sys.stderr)
    except OSError as error:
        if error.filename is not None:  # then it is no write to an open file, such as standard output
            raise
        _forget_output()
        print(
            f"boxwright: the output can't be written ({error.strerror}). Free some space, or send it elsewhere.",
            file=sys.stderr,
        )
    return 1


def _forget_output() -> None:
    """What can't be written now can't be written at the end of the program either, when Python tries again."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--workspace", metavar="DIR", help="default: $BOXWRIGHT_WORKSPACE, else data/workspace")
    shared.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    model = argparse.ArgumentParser(add_help=False)
    model.add_argument("--model", default="demo", help='"demo", a local folder or a Hub id (default: demo)')
    model.add_argument("--quantize", default="none", choices=("none", "4bit", "8bit"))
    profile = argparse.ArgumentParser(add_help=False)
    profile.add_argument("--profile", help="another prompt and box format than the model's default, by name")
    answers = argparse.ArgumentParser(add_help=False)
    way = answers.add_mutually_exclusive_group()
    way.add_argument("--free", action="store_true", help="let the model write freely: no fixed characters fed")
    way.add_argument("--expected", action="store_true", help="expected coordinates instead of the likeliest digits")
    answers.add_argument("--votes", type=_votes, default=1, metavar="N", help="draw N answers and merge them")
    answers.add_argument("--rerank", metavar="CLIP", help="with --votes: this CLIP or SigLIP model chooses")
    adapter = argparse.ArgumentParser(add_help=False)
    adapter.add_argument("--adapter", help="an adapter's name in the workspace, or its folder")

    parser = argparse.ArgumentParser(prog="python -m grounding", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    predict = commands.add_parser(
        "predict", parents=[shared, model, profile, adapter, answers], help="the box for a phrase"
    )
    predict.add_argument("image", type=Path)
    predict.add_argument("phrase")
    predict.add_argument("--out", type=Path, metavar="BOXED.png", help="write the picture with its boxes drawn")
    predict.set_defaults(run=_predict, refuse=predict.error)

    evaluate = commands.add_parser(
        "evaluate", parents=[shared, model, profile, adapter, answers], help="score a set of samples"
    )
    evaluate.add_argument("samples", type=Path, metavar="SAMPLES.jsonl")
    evaluate.add_argument("--out", type=Path, metavar="DIR", help="where to keep samples.parquet, report.md and .json")
    evaluate.add_argument("--limit", type=_count, metavar="N", help="only the first N samples")
    evaluate.set_defaults(run=_evaluate, refuse=evaluate.error)

    compare = commands.add_parser("compare", parents=[shared], help="two evaluations of the same samples, in pairs")
    compare.add_argument("report_a", type=Path, metavar="REPORT_A", help="the folder of a finished evaluation")
    compare.add_argument("report_b", type=Path, metavar="REPORT_B", help="that of another one")
    compare.set_defaults(run=_compare)

    calibrate = commands.add_parser(
        "calibrate", parents=[shared, model, profile], help="measure how far confidences can be trusted, and keep that"
    )
    calibrate.add_argument("samples", type=Path, metavar="SAMPLES.jsonl")
    calibrate.set_defaults(run=_calibrate)

    train = commands.add_parser(
        "train",
        parents=[shared, model],
        help="train an adapter on a snapshot",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_settings_help(),
    )
    train.add_argument("snapshot", help="a snapshot's name in the workspace, or its folder")
    train.add_argument("--name", required=True, help="the adapter's name")
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    train.set_defaults(run=_train)

    demo = commands.add_parser("demo", parents=[shared], help="write the demo data set")
    demo.add_argument("folder", type=Path, metavar="DIR")
    demo.add_argument("--seed", type=int, default=0)
    demo.set_defaults(run=_demo)
    return parser


def _settings_help() -> str:
    lines = [
        f"  {spec.name:<20} {spec.metadata['meaning']} (default: {spec.default})" for spec in fields(TrainSettings)
    ]
    return "settings for --set:\n" + "\n".join(lines)


def _load(options: argparse.Namespace, workspace: Workspace) -> Predictor:
    """The model that the options ask for, answering in the way they ask for."""
    import grounding
    from grounding.choose import ClipScorer

    decoding = grounding.Decoding(
        mode="free" if options.free else "forced",
        coordinates="expected" if options.expected else "likeliest",
        samples=options.votes,
        choose="rerank" if options.rerank else "vote",
    )
    scorer = ClipScorer(options.rerank) if options.rerank else None
    predictor = grounding.load(
        options.model,
        quantize=options.quantize,
        workspace=workspace,
        profile=options.profile,
        decoding=decoding,
        scorer=scorer,
    )
    if options.quantize != "none" or predictor.device != "cpu":  # what was chosen is then worth a line each
        for note in predictor.load_notes:
            print(note, file=sys.stderr)
    return predictor


def _calibrate(options: argparse.Namespace, workspace: Workspace) -> int:
    import grounding
    from grounding.calibration import keep_calibration

    samples = list(read_samples(options.samples))
    workspace.check_writable()
    predictor = grounding.load(options.model, quantize=options.quantize, workspace=workspace, profile=options.profile)
    with _progress() as show:
        calibration = predictor.calibrate(samples, progress=show)
    quantize = predictor.loaded.quantize
    keep_calibration(workspace.calibrations, predictor.model_id, predictor.profile.name, calibration, quantize)
    if options.json:
        print(json.dumps(calibration.to_json()))
    else:
        print(f"calibrated on {calibration.measured_on}; kept in {workspace.calibrations}")
    return 0


def _predict(options: argparse.Namespace, workspace: Workspace) -> int:
    from grounding.overlay import Layer, draw_boxes
    from grounding.pictures import open_picture

    picture, phrase = open_picture(options.image), check_phrase(options.phrase)
    predictor = _load(options, workspace)
    prediction = predictor.predict(picture, phrase, options.adapter)
    if options.out is not None:
        layer = Layer(phrase, "base" if options.adapter is None else "adapter", prediction.boxes_xyxy_px)
        _write_picture(draw_boxes(picture, [layer]), options.out)
    if options.json:
        print(json.dumps(_prediction_json(prediction)))
        return 0
    for box in prediction.boxes:
        print(" ".join(f"{value:.1f}" for value in box))
    if not prediction.boxes:
        print(f"{prediction.status}: {prediction.raw_text}")
    return 0


def _prediction_json(prediction: Prediction) -> dict[str, Any]:
    return {
        "boxes_xyxy_px": [list(box.rounded()) for box in prediction.boxes_xyxy_px],
        "status": str(prediction.status),
        "raw_text": prediction.raw_text,
        "confidence": prediction.confidence,
        "box_confidences": list(prediction.box_confidences),
        "seconds": prediction.seconds,
        "adapter": prediction.adapter,
    }


def _write_picture(picture: Any, path: Path) -> None:
    from grounding.errors import PictureError

    try:
        picture.save(path)
    except (OSError, ValueError) as error:
        misplaced = isinstance(error, ValueError | FileNotFoundError | NotADirectoryError | IsADirectoryError)
        way_out = "Give a .png path in a folder that exists." if misplaced else "Free space or rights there."
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise PictureError(f"The picture can't be written to {path} ({reason}). {way_out}") from error


def _evaluate(options: argparse.Namespace, workspace: Workspace) -> int:
    from grounding.reports import REPORT, report_json

    samples = list(islice(read_samples(options.samples), options.limit))
    if not samples:
        raise RecordError(f"{options.samples} holds no sample: there is nothing to score. Give a file with some.")
    if options.out is None:
        workspace.check_writable()
    elif not (options.out / REPORT).is_file():
        make_folder(options.out, "The folder", "Choose another one (--out).")
    predictor = _load(options, workspace)
    kept = _kept_evaluation(options, workspace, samples, predictor)
    if options.json:
        print(json.dumps(report_json(kept)))
        return 0
    scores = kept.scores
    print(f"{'adapter ' + kept.adapter if kept.adapter else 'base'} on {scores.count} samples with a target")
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


def _kept_evaluation(
    options: argparse.Namespace, workspace: Workspace, samples: Sequence[Sample], predictor: Predictor
) -> KeptReport:
    """Ask what was not asked yet, and keep the report: in --out, else in a folder of the workspace."""
    from grounding.evaluation import evaluate
    from grounding.journal import JOURNAL, Journal, settings_of
    from grounding.reports import ReportStore, finished_report

    named = {"rerank": options.rerank, "profile": options.profile}
    conditions = {"quantize": options.quantize} | {name: value for name, value in named.items() if value}
    settings = settings_of(samples, predictor, options.adapter, conditions)
    store = ReportStore(workspace.evaluations)
    folder = options.out or store.unfinished(settings) or store.new_folder()
    finished = finished_report(folder, settings)
    if finished is not None:
        print(f"{len(samples)} answers were kept: the report in {folder} is complete.", file=sys.stderr)
        return finished
    log = folder / JOURNAL
    with Journal(log, settings).held():
        answers = len(Journal(log, settings).read())
        if answers:
            print(f"{answers} of {len(samples)} answers were kept in {log}; asking for the rest.", file=sys.stderr)
        try:
            with _progress() as show:
                report = evaluate(samples, predictor, options.adapter, progress=show, log=log, conditions=conditions)
        except KeyboardInterrupt as stop:
            answers = len(Journal(log, settings).read())
            raise Cancelled(
                f"stopped: {answers} of {len(samples)} answers are kept in {log}; the same command asks for the rest."
            ) from stop
        # Named after the file: the page's own summary is of the workspace's test split, which this need not be.
        return store.keep(report, split=options.samples.name, folder=folder)


def _count(text: str) -> int:
    """A whole number from 1, for argparse."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _votes(text: str) -> int:
    """As many answers as can be drawn, for argparse."""
    if _count(text) > MOST_SAMPLES:
        raise ValueError(text)
    return int(text)


# What argparse says was expected.
_count.__name__ = "count (a whole number from 1)"
_votes.__name__ = f"count (a whole number from 1 to {MOST_SAMPLES})"


def _compare(options: argparse.Namespace, workspace: Workspace) -> int:
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


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Shows done and total on one line, which ends with the block however that ends."""
    shown = False

    def show(done: int, total: int) -> None:
        nonlocal shown
        shown = True
        print(f"\r{done} of {total}", end="", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        if shown:
            print(file=sys.stderr)


def _train(options: argparse.Namespace, workspace: Workspace) -> int:
    from grounding.jobs.launch import RunRequest, start_run
    from grounding.models import full_model_id, local_folder, training_settings

    settings = training_settings(options.model, _read_settings(options.settings))
    # The worker runs in another folder, where a relative path would lead elsewhere.
    model_id, snapshot = full_model_id(options.model), options.snapshot
    folder = local_folder(snapshot)
    if folder is not None and not (workspace.snapshots / snapshot).is_dir():
        snapshot = str(folder.resolve())
    run = start_run(workspace, RunRequest(options.name, snapshot, model_id, settings, options.quantize))
    print(f"run {run.id} started; log: {workspace.runs / run.id / 'log.txt'}", file=sys.stderr)
    return _follow(options, workspace, run.id)


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


def _demo(options: argparse.Namespace, workspace: Workspace) -> int:
    from grounding.demo.dataset import write_demo

    with _progress() as show:
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


class _Interrupt(KeyboardInterrupt):
    """Ctrl-C. Where a plain KeyboardInterrupt passes through an `exec` of text, as imports have them, Python 3.11 ends
    the process by the signal in the end, although it was caught."""


def _interrupt(*unused: object) -> None:
    raise _Interrupt


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it may be ignored, as behind nohup
        signal.signal(signal.SIGINT, _interrupt)
    sys.exit(main())
