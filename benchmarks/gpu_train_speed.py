"""How fast a model of Qwen3-VL-2B's shape trains on a GPU, and in how much memory, against TRL's `SFTTrainer`.

Random weights in the stock classes, so this says nothing about quality. Pictures of 640x480 (300 visual tokens), LoRA
of rank 16 on all linear layers of the language model, 16 phrases a step: one on each of 16 pictures, and four on each
of 4. Answers in Qwen3-VL's own form. Same steps in both ways, see `training_ways.py`.

    python benchmarks/gpu_train_speed.py          # a GPU with 80 GiB; about ten minutes
    python benchmarks/gpu_train_speed.py --tiny   # the same steps on a small model, on any machine: no figures are kept
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import torch  # noqa: E402
from gpu_speed import PHRASES, PICTURE_WH, random_model  # noqa: E402
from PIL import Image  # noqa: E402

from grounding.boxes import Box  # noqa: E402
from grounding.formats import QwenJson1000  # noqa: E402
from grounding.models import LoadedModel  # noqa: E402
from grounding.training.data import PhraseTarget, PictureTargets  # noqa: E402
from grounding.training.settings import TrainSettings  # noqa: E402
from measuring import write_result  # noqa: E402
from training_ways import PLAIN, Bench, Ran, curve_difference, ratios  # noqa: E402

WANTED_SAMPLES_PER_SECOND = 60.0
SAMPLES = 16


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a small model: to see that the steps work")
    options = parser.parse_args(arguments)
    if not options.tiny and not torch.cuda.is_available():
        print("gpu_train_speed: no GPU was found. Run it where there is one, or with --tiny.", file=sys.stderr)
        return 1
    warnings.simplefilter("ignore", FutureWarning)  # TRL asks transformers for settings under their old names
    steps, rounds = (2, 1) if options.tiny else (20, 5)
    with tempfile.TemporaryDirectory() as folder:
        cases = []
        for phrases in (4,) if options.tiny else (1, 4):
            pictures = noise_pictures(Path(folder), SAMPLES // phrases, phrases, tiny=options.tiny)
            cases.append(measure(pictures, phrases, steps, rounds, tiny=options.tiny))
    for case in cases:
        print(case)
    if not options.tiny:
        write_result("gpu_train_speed", {"cases": cases}, ("torch", "transformers", "peft", "trl"))
    return 0


def trainable_model(*, tiny: bool) -> LoadedModel:
    """The random model, asked in Qwen3-VL's own form."""
    loaded = random_model(tiny=tiny)
    return replace(loaded, profile=replace(loaded.profile, box_format=QwenJson1000(fenced=True)))


def noise_pictures(folder: Path, count: int, phrases: int, *, tiny: bool) -> list[PictureTargets]:
    """Pictures of noise with so many phrases and boxes each; the phrases are of like length."""
    rng = random.Random(7)
    width, height = (256, 256) if tiny else PICTURE_WH
    pictures = []
    for i in range(count):
        path = folder / f"{phrases}-{i}.png"
        Image.effect_noise((width, height), 90).convert("RGB").save(path)
        targets = []
        for phrase in rng.sample(PHRASES, phrases):
            x, y = rng.uniform(0, width * 0.6), rng.uniform(0, height * 0.6)
            targets.append(PhraseTarget(phrase, (Box(x, y, x + width * 0.3, y + height * 0.3),)))
        pictures.append(PictureTargets(path, tuple(targets)))
    return pictures


def measure(pictures: Sequence[PictureTargets], phrases: int, steps: int, rounds: int, *, tiny: bool) -> dict[str, Any]:
    """All ways in turn, round by round: samples a second, peak memory, loss curves."""
    images = SAMPLES // phrases
    settings = TrainSettings(
        steps=steps, images_per_step=images, phrases_per_image=phrases, augment=False, learning_rate=1e-4, **PLAIN
    )
    torch.manual_seed(0)
    bench = Bench(trainable_model(tiny=tiny), trainable_model(tiny=tiny), pictures, settings, None)
    rows = bench.rows()
    ways = {"kept": bench.kept, "fresh": bench.fresh, "trl": lambda: bench.trl(rows)}
    ran: dict[str, list[Ran]] = {name: [] for name in ways}
    for number in range(rounds + (rounds > 1)):  # the first of several is a warm-up
        for name, run in ways.items():
            ran[name].append(run())
        print(f"  {phrases} phrases a picture: round {number} of {rounds}", file=sys.stderr)
    timed = {name: runs[1:] or runs for name, runs in ran.items()}
    samples = steps * SAMPLES
    return {
        "pictures_a_step": images,
        "phrases_a_picture": phrases,
        "samples_per_second": {
            name: round(samples / statistics.median(run.seconds for run in runs), 1) for name, runs in timed.items()
        },
        "wanted_samples_per_second": WANTED_SAMPLES_PER_SECOND,
        "times_trl": {name: ratios(timed[name], timed["trl"])["clock"] for name in ("kept", "fresh")},
        # Both models lie on the GPU while either trains; the other's weights are in each figure alike.
        "peak_memory_gib": {name: round(max(run.gib for run in runs), 2) for name, runs in timed.items()},
        "curves_differ_by": {
            name: curve_difference(timed[name][-1].losses, timed["trl"][-1].losses) for name in ("kept", "fresh")
        },
    }


if __name__ == "__main__":
    sys.exit(main())
