"""What lanes (`grounding/training/lanes.py`) are worth: a step in one lane against a step in as many as there are.

The embedded model with its default settings, in the precision that a run chooses and in float32; the ways taken in
turn within one run, so that a busy machine slows both alike.

    python benchmarks/lanes.py     # two minutes on two cores; writes benchmarks/results/lanes.json
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import torch  # noqa: E402

from grounding.demo.dataset import DemoSize, write_demo  # noqa: E402
from grounding.models import load_model  # noqa: E402
from grounding.records import read_samples  # noqa: E402
from grounding.snapshots import Snapshot  # noqa: E402
from grounding.training.attach import attach_lora  # noqa: E402
from grounding.training.feeding import feed_of  # noqa: E402
from grounding.training.lanes import Lanes, lanes_for  # noqa: E402
from grounding.training.precision import choose_precision  # noqa: E402
from grounding.training.settings import TrainSettings  # noqa: E402
from grounding.training.steps import Learner  # noqa: E402
from grounding.training.views import KeptViews  # noqa: E402
from measuring import write_result  # noqa: E402


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args(arguments)
    chosen, reason = choose_precision("cpu")
    with tempfile.TemporaryDirectory() as folder:
        write_demo(Path(folder), size=DemoSize(60, 2, 2))
        snapshot = Snapshot("demo", Path(folder), "0" * 64, tuple(read_samples(Path(folder) / "train.jsonl")))
        cases = [measure(snapshot, dtype, options.rounds, options.steps) for dtype in dict.fromkeys((chosen, None))]
    for case in cases:
        print(case)
    write_result("lanes", {"precision": reason, "cases": cases}, ("torch", "transformers", "peft"))
    return 0


def measure(snapshot: Snapshot, dtype: torch.dtype | None, rounds: int, steps: int) -> dict[str, Any]:
    """Median seconds of a step each way, and the median over the rounds of their ratio."""
    settings = TrainSettings(steps=rounds * steps * 2)
    loaded = load_model("demo", trainable=True)
    feed = feed_of(snapshot, settings)
    views = KeptViews(loaded, feed.pictures, settings, dtype, lambda event: None, lambda: False)
    for step in range(1, steps + 2):
        views.show(feed.step(step))  # so that no way pays for the mirrored pictures
    learner = Learner(loaded, settings, attach_lora(loaded, settings), feed, views, dtype)
    ways = {count: Lanes(count) for count in (1, lanes_for(settings, loaded.device))}
    times: dict[int, list[float]] = {count: [] for count in ways}
    for number in range(rounds + 1):
        for count, lanes in ways.items():
            learner.lanes = lanes
            seconds = statistics.median(take(learner, step) for step in range(1, steps + 1))
            if number:  # the first round warms up
                times[count].append(seconds)
    one, several = times.values()
    return {
        "dtype": str(dtype or torch.float32).removeprefix("torch."),
        "lanes": list(ways)[1],
        "seconds_one_lane": round(statistics.median(one), 4),
        "seconds_lanes": round(statistics.median(several), 4),
        "times_as_fast": round(statistics.median(a / b for a, b in zip(one, several, strict=True)), 2),
    }


def take(learner: Learner, step: int) -> float:
    """Seconds of one step with its optimiser."""
    begin = time.perf_counter()
    learner.loaded.model.train()
    learner._backward(step)
    learner.optimiser.step()
    learner.optimiser.zero_grad(set_to_none=True)
    return time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main())
