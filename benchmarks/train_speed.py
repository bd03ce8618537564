"""How fast training steps are, against TRL's `SFTTrainer` with the same model, LoRA, data, batch and precision.

The embedded model, LoRA of rank 16 on all linear layers of its language model, 4 pictures with 4 phrases each a step.
Both ways lower the same loss on the same phrases in the same order, and their loss curves are compared step by step
(`training_ways.py` says how). Ours is timed twice: with the features of every picture kept, their computation counted,
and with every picture through the vision tower anew at every step, as augmentation needs it.

    python benchmarks/train_speed.py          # a few minutes on two cores
    python benchmarks/train_speed.py --tiny   # three steps, to see that it works: no figures are kept
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import psutil  # noqa: E402
import torch  # noqa: E402

from grounding.demo.phrases import true_phrases  # noqa: E402
from grounding.demo.scenes import draw_scene  # noqa: E402
from grounding.models import load_model  # noqa: E402
from grounding.training.data import PhraseTarget, PictureTargets  # noqa: E402
from grounding.training.precision import choose_precision  # noqa: E402
from grounding.training.settings import TrainSettings  # noqa: E402
from measuring import write_figures, write_result  # noqa: E402
from training_ways import PLAIN, Bench, Ran, curve_difference, ratios  # noqa: E402

WANTED = 2.0
PHRASES = 4


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--tiny", action="store_true", help="three steps, one round: to see that it works")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore", FutureWarning)  # TRL asks transformers for settings under their old names
    steps, rounds = (3, 1) if options.tiny else (options.steps, options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        pictures = draw_pictures(Path(folder), 4 if options.tiny else 40)
        dtype, reason = choose_precision("cpu")
        cases = [measure(pictures, steps, rounds, kind) for kind in dict.fromkeys((dtype, None))]
    result = {"precision": reason, "phrases_a_step": 4 * PHRASES, "steps": steps, "rounds": rounds, "cases": cases}
    for case in cases:
        print(case)
    if not options.tiny:
        write_result("train_speed", result, ("torch", "transformers", "peft", "trl"))
        write_figures("train_speed", figures_markdown(result))
    return 0


def figures_markdown(result: dict[str, Any]) -> str:
    """The README's table, from the result alone."""
    lines = ["| training the embedded model on two cores | samples a second | times TRL's | loss curves differ by |\n"]
    lines.append("|---|---|---|---|\n")
    for case in result["cases"]:
        for way, name in (("kept", "features kept"), ("fresh", "a vision pass a step"), ("trl", "TRL's `SFTTrainer`")):
            speed = f"| {name}, {case['precision']} | {case['samples_per_second'][way]:.1f} |"
            if way == "trl":
                lines.append(f"{speed} | |\n")
            else:
                lines.append(f"{speed} {case['times_trl'][way]:.1f} | {case['curves_differ_by'][way]:.2g} nats |\n")
    return "".join(lines)


def draw_pictures(folder: Path, count: int) -> list[PictureTargets]:
    """Scenes with four phrases each, true of one object."""
    rng = random.Random(5)
    pictures: list[PictureTargets] = []
    while len(pictures) < count:
        scene = draw_scene(rng)
        found = [
            PhraseTarget(phrase.text, (scene.objects[index].box_xyxy_px,))
            for index in range(len(scene.objects))
            for phrase in true_phrases(scene.objects, index)
        ]
        if len(found) >= PHRASES:
            path = folder / f"{len(pictures)}.png"
            scene.image.save(path)
            pictures.append(PictureTargets(path, tuple(rng.sample(found, PHRASES))))
    return pictures


def measure(pictures: Sequence[PictureTargets], steps: int, rounds: int, dtype: torch.dtype | None) -> dict[str, Any]:
    """All ways in turn, round by round, in one precision."""
    settings = TrainSettings(steps=steps, images_per_step=4, phrases_per_image=PHRASES, augment=False, **PLAIN)
    torch.manual_seed(0)
    bench = Bench(load_model("demo", trainable=True), load_model("demo", trainable=True), pictures, settings, dtype)
    rows = bench.rows()
    ways = {"kept": bench.kept, "fresh": bench.fresh, "trl": lambda: bench.trl(rows)}
    ran: dict[str, list[Ran]] = {name: [] for name in ways}
    for number in range(rounds + (rounds > 1)):  # the first of several is a warm-up
        for name, run in ways.items():
            ran[name].append(run())
        print(f"  {dtype or 'float32'}: round {number} of {rounds}, load {psutil.getloadavg()[0]:.1f}", file=sys.stderr)
    return compared(ran, samples=steps * 4 * PHRASES, precision="bfloat16" if dtype else "float32")


def compared(ran: dict[str, list[Ran]], *, samples: int, precision: str) -> dict[str, Any]:
    """Medians over the rounds, each round's ratio to TRL's, and how far the loss curves are apart."""
    timed = {name: runs[1:] or runs for name, runs in ran.items()}
    theirs = timed["trl"]
    ours = [name for name in ran if name != "trl"]
    return {
        "precision": precision,
        "samples_per_second": {
            name: round(samples / statistics.median(run.seconds for run in runs), 2) for name, runs in timed.items()
        },
        "times_trl": {name: ratios(timed[name], theirs)["clock"] for name in ours},
        "times_trl_by_processor_time": {name: ratios(timed[name], theirs)["processor"] for name in ours},
        "wanted": WANTED,
        "curves_differ_by": {name: curve_difference(timed[name][-1].losses, theirs[-1].losses) for name in ours},
        "losses": {name: [round(loss, 5) for loss in runs[-1].losses] for name, runs in timed.items()},
        "load_average": round(psutil.getloadavg()[0], 1),
    }


if __name__ == "__main__":
    sys.exit(main())
