"""How fast an embedded model is trained here, and what the candidates for a quicker tower would save.

Pictures and questions a second of whole steps (drawing included), and of the pass alone; then the image pass of each
shape with fresh weights, one picture and twenty at a time, interleaved. Accuracy is not a matter of this script: a
whole training says it (`python -m grounding.demo.pretrain`).

    python benchmarks/pretrain_speed.py            # writes benchmarks/results/pretrain_speed-DEVICE.json
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from measuring import interleaved, write_result  # noqa: E402

GRID = (8, 8)
BATCH = 20


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--pictures", type=int, help="in a step; without it 16 on a CPU, 192 on a GPU")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args(arguments)
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    pictures = options.pictures or (192 if device == "cuda" else 16)
    found = {
        "device": device,
        "training": training_speed(device, options.steps, pictures),
        "image_pass": image_passes(device, options.rounds),
    }
    write_result(f"pretrain_speed-{device}", found, ("torch", "transformers"))
    return 0


def training_speed(device: str, steps: int, pictures: int) -> dict[str, Any]:
    """Seconds of a step, drawing included, once what was drawn ahead is used up; and of its pass alone (a median)."""
    import os

    from grounding.demo.pretrain.answers import Writer
    from grounding.demo.pretrain.loop import BATCHES_AHEAD, Pretraining
    from grounding.demo.pretrain.settings import SHAPES, PretrainSettings

    workers = max(1, (os.cpu_count() or 1) - 1) if device == "cuda" else 0
    ahead = 1 + workers * BATCHES_AHEAD
    settings = PretrainSettings(
        steps=ahead + max(steps, 2 * workers),
        pictures_per_step=pictures,
        score_every_steps=0,
        checkpoint_every_steps=0,
        square_share=1.0,
    )
    with tempfile.TemporaryDirectory() as folder:
        training = Pretraining(settings, SHAPES["today"], Path(folder), device)
        seconds = [event.seconds for event in training.steps(workers)][ahead:]
        batch = Writer(training.processor, settings.digit_weights).batch(settings, 0)
        passes = [timed(lambda: training._learn(batch), device) for _ in range(steps)]
    # Drawn by several processes, batches come in gusts: only their mean is a pace.
    whole, alone = statistics.mean(seconds), statistics.median(passes)
    asked = pictures * settings.questions_per_picture
    return {
        "pictures_per_step": pictures,
        "drawing_processes": workers,
        "pictures_per_second": pictures / whole,
        "questions_per_second": asked / whole,
        "pictures_per_second_of_the_pass_alone": pictures / alone,
    }


def image_passes(device: str, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds a picture of the stock tower of each shape, and as a share of today's in the same rounds."""
    import torch

    from grounding.demo.pretrain.settings import SHAPES
    from grounding.demo.pretrain.shape import build_model
    from grounding.families.qwen_vl import Qwen3VL

    ways: dict[str, Callable[[], object]] = {}
    for name, shape in SHAPES.items():
        model = build_model(shape, 0).to(device).eval()
        Qwen3VL().prepare_model(model)
        patches = GRID[0] * GRID[1] * shape.merge**2
        pixels = torch.randn(patches, 3 * 2 * shape.patch_px**2, device=device)
        thw = torch.tensor([[1, GRID[0] * shape.merge, GRID[1] * shape.merge]], device=device)

        def run(model: Any = model, pixels: Any = pixels, thw: Any = thw, count: int = 1) -> None:
            with torch.inference_mode():
                model.get_image_features(pixels.repeat(count, 1), thw.repeat(count, 1), return_dict=True)
            if device == "cuda":
                torch.cuda.synchronize()

        ways[f"{name}, 1"] = run
        ways[f"{name}, {BATCH}"] = lambda run=run: run(count=BATCH)  # type: ignore[misc]
    seconds = interleaved(ways, rounds=rounds, warm_ups=2)
    found: dict[str, dict[str, float]] = {}
    for name in SHAPES:
        one, many = (seconds[f"{name}, {count}"] for count in (1, BATCH))
        ratios = [a / b for a, b in zip(many, seconds[f"today, {BATCH}"], strict=True)]
        found[name] = {
            "ms_one_picture": 1000 * statistics.median(one),
            f"ms_a_picture_of_{BATCH}": 1000 * statistics.median(many) / BATCH,
            "share_of_today": statistics.median(ratios),
        }
    return found


def timed(work: Callable[[], object], device: str) -> float:
    """Seconds of one call."""
    import torch

    begin = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


if __name__ == "__main__":
    raise SystemExit(main())
