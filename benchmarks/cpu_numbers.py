"""What bfloat16 saves on a processor: a model of Qwen3-VL-2B's shape answers in it and in float32.

Random weights; a picture of 640x480 (300 visual tokens) through the vision tower, then one box by the forced skeleton;
both number types in turn, so 14 GiB of memory are wanted.

    python benchmarks/cpu_numbers.py            # writes benchmarks/results/cpu_numbers.json and README.md's figures
    python benchmarks/cpu_numbers.py --tiny     # a small model, to see that the steps work; writes nothing
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import torch  # noqa: E402
from gpu_speed import PHRASES, PICTURE_WH, random_model  # noqa: E402
from PIL import Image  # noqa: E402

from grounding import engine  # noqa: E402
from grounding.answering import Answerer, Ask  # noqa: E402
from grounding.decoding.settings import Decoding  # noqa: E402
from grounding.devices import bfloat16_instructions  # noqa: E402
from measuring import README, interleaved, medians, times_as_fast, write_figures, write_result  # noqa: E402

NUMBERS = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a small model: to see that the steps work")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    instructions = bfloat16_instructions(torch.cpu.get_capabilities())
    if not options.tiny and instructions is None:
        print("cpu_numbers: this processor has no instructions for bfloat16. Run it on one that has.", file=sys.stderr)
        return 1
    found = measure(tiny=options.tiny, rounds=options.rounds) | {"instructions": instructions}
    if options.tiny:
        print(json.dumps(found))
        return 0
    kept = write_result("cpu_numbers", found, ("torch", "transformers"))
    write_figures("cpu_numbers", figures_markdown(json.loads(kept.read_text(encoding="utf-8"))), README)
    return 0


def measure(*, tiny: bool, rounds: int) -> dict[str, Any]:
    """Median seconds of both parts of an answer in each number type, and how many GiB its weights take."""
    picture = Image.effect_noise(PICTURE_WH, 90).convert("RGB")
    ways: dict[str, Callable[[], object]] = {}
    found: dict[str, Any] = {}
    for name, dtype in NUMBERS.items():
        loaded = random_model(tiny=tiny, device="cpu", dtype=dtype)
        weights = list(loaded.model.parameters())
        found[name] = {"weights_gib": sum(one.numel() * one.element_size() for one in weights) / 2**30}
        found["parameters"] = sum(one.numel() for one in weights)
        seen = engine.encode_images(loaded, [picture])
        found["visual_tokens"] = seen[0].visual_tokens
        answerer = Answerer(loaded)
        ways[f"{name}, picture"] = lambda loaded=loaded: engine.encode_images(loaded, [picture])  # type: ignore[misc]
        ways[f"{name}, box"] = lambda answerer=answerer, seen=seen: answerer.answer(  # type: ignore[misc]
            [Ask(seen[0], PHRASES[0])], Decoding()
        )
    seconds = interleaved(ways, rounds=rounds)
    for way, median in medians(seconds).items():
        name, part = way.split(", ")
        found[name][f"seconds_{part}"] = median
    both = {
        name: list(map(sum, zip(seconds[f"{name}, picture"], seconds[f"{name}, box"], strict=True))) for name in NUMBERS
    }
    return found | {"times_as_fast": times_as_fast(both, "bfloat16", "float32")}


def figures_markdown(result: Mapping[str, Any]) -> str:
    """The sentence of the README, from the result alone."""
    half, whole = (result[name] for name in NUMBERS)
    seconds = [one["seconds_picture"] + one["seconds_box"] for one in (half, whole)]
    return (
        f"On {result['machine']['cores']} cores with {result['instructions']} instructions for bfloat16, a model of "
        f"the 2B's shape (random weights, {result['visual_tokens']} visual tokens) answers "
        f"{result['times_as_fast']:.1f} times as fast in it as in float32 ({seconds[0]:.0f} against "
        f"{seconds[1]:.0f} s for a picture and a box), and its weights take {half['weights_gib']:.1f} instead of "
        f"{whole['weights_gib']:.1f} GiB.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
