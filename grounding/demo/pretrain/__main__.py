"""`python -m grounding.demo.pretrain --out FOLDER`: an embedded model from the repository's own files."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from grounding.demo.pretrain.settings import SHAPES, PretrainSettings
from grounding.errors import BoxwrightError

if TYPE_CHECKING:
    from grounding.demo.pretrain.accuracy import Accuracy
    from grounding.demo.pretrain.loop import Pretraining, PretrainStep

_CHANGED = (
    *("steps", "pictures_per_step", "questions_per_picture", "learning_rate", "warmup_steps", "score_every_steps"),
    *("score_pictures", "checkpoint_every_steps", "teacher_steps", "seed"),
)

_MAKERS = "made-by.txt"  # the code's revision at each start


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, or go on with what `--out` holds; returns 0, or 1 when it failed."""
    try:
        settings, options = parsed(arguments)
        run(settings, options.shape, options.out, options.device, options.workers, options.minutes, options.teacher)
    except BoxwrightError as error:
        print(f"boxwright: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("boxwright: stopped; the same command goes on from the last checkpoint.", file=sys.stderr)
        return 1
    return 0


def parsed(arguments: Sequence[str] | None = None) -> tuple[PretrainSettings, argparse.Namespace]:
    """The settings of a command line, and its other options. Raises `SettingsError`."""
    parser = argparse.ArgumentParser(prog="python -m grounding.demo.pretrain", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="gets model/, checkpoints, history")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="today")
    parser.add_argument(
        "--teacher", type=Path, metavar="FOLDER", help="begin with the weights of this model; see --teacher-steps"
    )
    parser.add_argument("--device", help="cuda, cpu; without it the GPU where there is one")
    parser.add_argument("--minutes", type=float, help="stop after so long; the same command then goes on")
    parser.add_argument("--workers", type=int, help="processes that draw pictures; without it all cores but one")
    for field in dataclasses.fields(PretrainSettings):
        if field.name in _CHANGED:
            flag = f"--{field.name.replace('_', '-')}"
            parser.add_argument(flag, type=type(field.default), default=field.default, help=f"({field.default})")
    options = parser.parse_args(arguments)
    return PretrainSettings(**{name: getattr(options, name) for name in _CHANGED}), options


def run(
    settings: PretrainSettings,
    shape_name: str,
    out: Path,
    device: str | None = None,
    workers: int | None = None,
    minutes: float | None = None,
    teacher: Path | None = None,
) -> Path | None:
    """Train in `out` and return the folder of the model, with its card; None where it was stopped after `minutes`."""
    import torch

    from grounding.demo.pretrain.export import CARD, Making, code_revision, write_card
    from grounding.demo.pretrain.loop import Pretraining, seconds_of_steps

    began = time.monotonic()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if workers is None:
        workers = max(1, (os.cpu_count() or 1) - 1) if device.startswith("cuda") else 0
    training = Pretraining(settings, SHAPES[shape_name], out, device, teacher)
    model = out / "model"
    if training.step == settings.steps and (model / CARD).is_file():
        print(f"{model} is finished.", file=sys.stderr)
        return model
    if training.step:
        print(f"Going on from step {training.step:,}.", file=sys.stderr)
    with (out / _MAKERS).open("a", encoding="utf-8") as makers:
        makers.write(code_revision() + "\n")
    for event in training.steps(workers):
        print(
            f"\rStep {event.step:,} of {settings.steps:,}: {_main_loss(event)}, dense {event.dense:.3f} nats, "
            f"{settings.pictures_per_step / event.seconds:,.0f} pictures/s  ",
            end="\n" if event.step % 100 == 0 or event.step == settings.steps else "",
            file=sys.stderr,
            flush=True,
        )
        if event.step == settings.steps:
            break
        if settings.score_every_steps and event.step % settings.score_every_steps == 0:
            found = _scored(training, model)
            print(f"\nAcc@0.5 after {event.step:,} steps: {found.accuracy_50:.1%}", file=sys.stderr)
        if minutes is not None and time.monotonic() - began > 60 * minutes:
            training.keep()
            print(f"\nStopped after {event.step:,} steps; the same command goes on.", file=sys.stderr)
            return None
    found = _scored(training, model)
    revisions = ", then ".join(dict.fromkeys((out / _MAKERS).read_text(encoding="utf-8").splitlines()))
    began_as = training.teacher.sha256 if training.teacher else ""
    making = Making(settings, training.shape, revisions, sum(seconds_of_steps(out).values()) / 60, began_as)
    write_card(model, making, found)
    print(f"{model}: Acc@0.5 {found.accuracy_50:.1%} on {found.pictures} scenes of its own kind")
    return model


def _main_loss(event: PretrainStep) -> str:
    return f"apart {event.apart:.3f}" if event.answer is None else f"answers {event.answer:.3f}"


def _scored(training: Pretraining, model: Path) -> Accuracy:
    """Export what there is by now, ask it, and keep what it answered: `scores.jsonl` is the accuracy over the steps."""
    from grounding.demo.pretrain.accuracy import measure
    from grounding.demo.pretrain.export import export

    export(training.model, training.processor, model)
    found = measure(model, training.settings, device=training.device)
    line = {"step": training.step, "at": datetime.now(UTC).isoformat(timespec="seconds")} | asdict(found)
    with (training.folder / "scores.jsonl").open("a", encoding="utf-8") as scores:
        scores.write(json.dumps(line) + "\n")
    return found


if __name__ == "__main__":
    sys.exit(main())
