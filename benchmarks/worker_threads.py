"""How the waiting of threads for each other changes a worker's pace: alone, and beside other work on the same cores.

    python benchmarks/worker_threads.py            # some minutes; writes benchmarks/results/worker_threads.json

Each figure is the median over the steps of a short run of the embedded model in a process of its own, with the
variants taken in turn so that a busy machine slows all of them alike.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from grounding.demo.dataset import DemoSize, write_demo  # noqa: E402
from measuring import machine, versions, write_figures  # noqa: E402

DOCUMENT = ROOT / "docs" / "train.md"
VARIANTS: dict[str, dict[str, str]] = {
    "default": {},
    "GOMP_SPINCOUNT=100000": {"GOMP_SPINCOUNT": "100000"},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
}
_STEPS, _SKIPPED = 26, 6
_TRAIN = """
import itertools, json, sys
from pathlib import Path
from grounding.records import read_samples
from grounding.snapshots import Snapshot
from grounding.training.run import TrainPlan, train
from grounding.training.events import StepEvent
from grounding.training.settings import TrainSettings
data, out = Path(sys.argv[1]), Path(sys.argv[2])
samples = tuple(sample for split in ("train", "val") for sample in read_samples(data / f"{split}.jsonl"))
settings = TrainSettings(steps=int(sys.argv[3]), score_samples=1, score_every_steps=100000)
ends = []
def hear(event):
    if isinstance(event, StepEvent):
        ends.append(event.seconds)
train(TrainPlan("x", Snapshot("d", data, "0" * 64, samples), "demo", "none", settings, out / "x"), hear, lambda: False)
print(json.dumps([after - before for before, after in itertools.pairwise(ends)]))
"""
_BUSY = "while True: sum(range(10000))"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "worker_threads.json")
    options = parser.parse_args(arguments)
    cores = os.cpu_count() or 1
    beside = {"alone": 0, "beside one busy program": 1, "beside one for each core": cores}
    times: dict[str, dict[str, list[float]]] = {name: {key: [] for key in VARIANTS} for name in beside}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "demo"
        write_demo(data, size=DemoSize(60, 2, 2))
        for number in range(options.rounds):
            for name, busy in beside.items():
                for variant in VARIANTS:
                    times[name][variant] += steps_of(data, VARIANTS[variant], busy)
                    median = statistics.median(times[name][variant])
                    print(f"round {number + 1}, {name}, {variant}: {median * 1000:.0f} ms a step", flush=True)
    result = {
        "machine": machine(),
        "versions": versions("torch", "transformers", "peft"),
        "load_before": os.getloadavg()[2],
        "milliseconds_a_step": {
            name: {key: round(1000 * statistics.median(values), 1) for key, values in of.items()}
            for name, of in times.items()
        },
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    write_figures("worker_threads", figures_markdown(result), DOCUMENT)
    return 0


def figures_markdown(result: Mapping[str, Any]) -> str:
    """The table of docs/train.md, from the result alone."""
    of = result["milliseconds_a_step"]
    lines = [f"| ms a step on {result['machine']['cores']} cores | {' | '.join(of)} |", "|---|" + "---|" * len(of)]
    for variant in VARIANTS:
        name = "neither set" if variant == "default" else f"`{variant}`"
        lines.append(f"| {name} | {' | '.join(f'{times[variant]:,.0f}' for times in of.values())} |")
    return "\n".join(lines) + "\n"


def steps_of(data: Path, variant: dict[str, str], busy: int) -> list[float]:
    """Seconds of each step of a short run, the first ones left out."""
    with tempfile.TemporaryDirectory() as out, ExitStack() as others:
        for _ in range(busy):
            other = subprocess.Popen([sys.executable, "-c", _BUSY])
            others.callback(other.wait)
            others.callback(other.kill)
        environment = {
            key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
        }
        done = subprocess.run(
            [sys.executable, "-c", _TRAIN, str(data), out, str(_STEPS)],
            cwd=ROOT,
            env={**environment, **variant, "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
    return list(json.loads(done.stdout.splitlines()[-1]))[_SKIPPED:]


if __name__ == "__main__":
    sys.exit(main())
