"""What helps an adapter and what doesn't: one setting changed at a time, several seeds, intervals.

Every run trains on the demo data as the Train button would, its placeholders filled from the source, and is measured
on the demo's test split and on more pictures drawn alike, none of which a run has seen. The runs of all variants are
interleaved, seed by seed, and kept as they end, so that a broken-off measurement goes on where it was. Several run side
by side, each with its share of the cores: the seconds are those of such a run. Writes
benchmarks/results/ablations.json and docs/ablations.md.

    python benchmarks/ablations.py --folder /tmp/ablations                # hours on two cores
    python benchmarks/ablations.py --folder /tmp/ablations --seeds 1 --steps 20 --only default "rank 4"   # a look
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from measuring import write_result  # noqa: E402

DOCUMENT = ROOT / "docs" / "ablations.md"
RESAMPLES = 4000
MORE_PICTURES = 200
DEFAULT = "default"
# Each changes the default preset in one thing.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    DEFAULT: {},
    "all digits weigh the same": {"digit_weights": (1.0, 1.0, 1.0)},
    "smooth L1 of the expected box": {"smooth_l1_weight": 1.0},
    "GIoU of the expected box": {"giou_weight": 1.0},
    "labels soft over 10 thousandths": {"soft_labels": 10.0},
    "LoRA on all of attention": {"lora_layers": "attention"},
    "LoRA on all of attention, lower rate": {"lora_layers": "attention", "learning_rate": 1.5e-3},
    "LoRA on all layers, lower rate": {"lora_layers": "all", "learning_rate": 1e-3},
    "half the rate": {"learning_rate": 2e-3},
    "4 pictures of 4 phrases a step": {"images_per_step": 4, "phrases_per_image": 4},
    "rank 4": {"lora_rank": 4, "lora_alpha": 8},
    "rank 64": {"lora_rank": 64, "lora_alpha": 128},
    "new words not learned as such": {"learn_new_words": False},
    "the whole change kept": {"strength": 1.0},
    "half the pictures mirrored": {"augment": True},
    "a third of the views cut": {"augment": True, "mirrored_share": 0.0, "cropped_share": 0.33},
    "half the views farther away, colours shifted": {
        "augment": True,
        "mirrored_share": 0.0,
        "farther_share": 0.5,
        "colour_change": 0.15,
    },
    "without the source's other phrases": {"use_alternatives": False},
    "no phrases of what is absent": {"negative_share": 0.0},
    "a tenth of the phrases of what is absent": {"negative_share": 0.1},
    "nothing rehearsed": {"rehearsal_share": 0.0},
    "half the pictures rehearsed": {"rehearsal_share": 0.5},
    "curriculum over a third of the steps": {"curriculum_share": 0.33},
}
GROUPS = ("new nouns", "known nouns", "nothing there")


@dataclass(frozen=True)
class Measured:
    """One run: for each group, each test picture's hits (0.0 to 1.0) in the order of the split; seconds of training."""

    variant: str
    seed: int
    hits: Mapping[str, Mapping[str, Sequence[float]]]
    seconds: float
    steps: int


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the data, the adapters and the runs stand")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="instead of the preset's; written into the document")
    parser.add_argument("--only", nargs="+", choices=sorted(VARIANTS), help="these variants alone")
    parser.add_argument("--at-once", type=int, default=2, help="runs side by side, each with its share of the cores")
    parser.add_argument("--out", type=Path, help="write the document there instead of into docs")
    parser.add_argument("--slot", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    names = options.only or list(VARIANTS)
    if DEFAULT not in names:
        names = [DEFAULT, *names]
    todo = [(name, seed) for seed in range(options.seeds) for name in names]
    if options.slot is not None:
        keep_features()
        for name, seed in todo[options.slot :: options.at_once]:
            if not path_of(options.folder, name, seed).exists():
                run_one(options.folder, name, seed, options.steps)
                print(f"seed {seed}: {name}", file=sys.stderr, flush=True)
        return 0
    make_data(options.folder)
    run_slots(options.at_once)
    measured = [read_run(path_of(options.folder, name, seed)) for seed in range(options.seeds) for name in names]
    figures = {name: figures_of(name, measured) for name in names}
    write_result(
        "ablations",
        {
            "seeds": options.seeds,
            "steps": measured[0].steps,
            "default": (default := settings_of_default(options.folder)),
            "groups": counts_of(measured[0]),
            "variants": figures,
        },
        ("torch", "transformers", "peft"),
    )
    (options.out or DOCUMENT).write_text(document(figures, measured, options.seeds, default), encoding="utf-8")
    return 0


def run_slots(at_once: int) -> None:
    """This script once more for each slot, side by side, each with its share of the cores."""
    threads = max(1, (os.cpu_count() or 1) // at_once)
    given = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
    slots = [
        subprocess.Popen([sys.executable, __file__, *sys.argv[1:], "--slot", str(slot)], env=given)
        for slot in range(at_once)
    ]
    codes = [slot.wait() for slot in slots]
    if any(codes):
        raise SystemExit("A slot broke off; what it measured is kept. Start the script again.")


def keep_features() -> None:
    """Let the runs of this process share the features of the pictures: they are the same in all, and half the time."""
    from grounding.training.views import KeptViews

    compute = KeptViews._encode
    known: dict[tuple[bool, tuple[Path, ...]], Any] = {}

    def encode(views: KeptViews, paths: Sequence[Path], *, mirrored: bool) -> Any:
        key = mirrored, tuple(paths)
        if key not in known:
            known[key] = compute(views, paths, mirrored=mirrored)
        return known[key]

    setattr(KeptViews, "_encode", encode)  # noqa: B010  (mypy allows no other way)


def path_of(folder: Path, name: str, seed: int) -> Path:
    return folder / "runs" / f"{name.replace(' ', '-')}-{seed}.json"


def make_data(folder: Path) -> None:
    """A workspace with the demo data, its placeholders filled from the source, and a snapshot `ablations` of it."""
    from annotate.curation import CuratedSet
    from app import open_workspace
    from grounding.demo.dataset import DemoSize, write_demo
    from grounding.workspace import Workspace

    workspace = Workspace(folder / "workspace")
    if (workspace.snapshots / "ablations").exists():
        return
    write_demo(folder / "more", seed=3, size=DemoSize(0, 0, MORE_PICTURES))
    workspace.root.mkdir(parents=True, exist_ok=True)
    store = open_workspace(workspace)
    store.repair(who="ablations")
    CuratedSet(store, workspace.snapshots, "ablations").freeze("ablations")


def run_one(folder: Path, name: str, seed: int, steps: int | None) -> None:
    """Train and measure one variant with one seed, and keep the result."""
    import grounding
    from grounding.demo.sprites import unknown_nouns
    from grounding.evaluation import evaluate
    from grounding.metrics import MATCH_MIN_IOU
    from grounding.models import full_model_id, training_settings
    from grounding.records import Status, read_samples
    from grounding.snapshots import read_snapshot
    from grounding.training.plan import TrainPlan
    from grounding.training.run import train
    from grounding.workspace import Workspace

    workspace = Workspace(folder / "workspace")
    snapshot = read_snapshot(workspace.snapshots, "ablations")
    model_id = full_model_id("demo")
    values = {**VARIANTS[name], "seed": seed, **({} if steps is None else {"steps": steps})}
    settings = training_settings(model_id, values)
    adapter_name = path_of(folder, name, seed).stem
    began = time.perf_counter()
    plan = TrainPlan(
        name=adapter_name,
        snapshot=snapshot,
        model_id=model_id,
        quantize="none",
        settings=settings,
        adapter_folder=workspace.adapters / adapter_name,
        run_folder=workspace.runs / adapter_name,
    )
    workspace.adapters.mkdir(parents=True, exist_ok=True)
    info = train(plan, lambda event: None, lambda: False)
    seconds = time.perf_counter() - began
    samples = [*snapshot.split("test"), *read_samples(folder / "more" / "test.jsonl")]
    report = evaluate(samples, grounding.load(model_id, workspace=workspace), str(info.path))
    hits: dict[str, dict[str, list[float]]] = {group: {} for group in GROUPS}
    unknown = set(unknown_nouns())
    for row in report.rows:
        if row.has_target:
            group, is_hit = "new nouns" if row.sample.category in unknown else "known nouns", row.iou >= MATCH_MIN_IOU
        else:
            group, is_hit = "nothing there", row.prediction.status is Status.NO_BOX
        hits[group].setdefault(row.sample.image.name, []).append(float(is_hit))
    path = path_of(folder, name, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(
        json.dumps({"variant": name, "seed": seed, "hits": hits, "seconds": seconds, "steps": info.steps})
    )
    partial.replace(path)


def settings_of_default(folder: Path) -> dict[str, Any]:
    """What the default's runs were trained with, where that differs from what holds without a preset."""
    from grounding.adapters import AdapterInfo
    from grounding.training.settings import TrainSettings

    name = path_of(folder, DEFAULT, 0).stem
    usual = json.loads(json.dumps(TrainSettings().to_json()))
    kept = AdapterInfo.load(folder / "workspace" / "adapters" / name).settings
    return {key: value for key, value in kept.items() if key != "steps" and value != usual.get(key)}


def read_run(path: Path) -> Measured:
    return Measured(**json.loads(path.read_text(encoding="utf-8")))


def counts_of(run: Measured) -> dict[str, int]:
    """Test samples of each group."""
    return {group: sum(map(len, run.hits[group].values())) for group in GROUPS}


def figures_of(name: str, measured: Sequence[Measured]) -> dict[str, Any]:
    """A variant's share of hits in each group, mean over the seeds, and its difference to the default with bounds."""
    mine = [run for run in measured if run.variant == name]
    default = {run.seed: run for run in measured if run.variant == DEFAULT}
    groups = {}
    for group in GROUPS:
        low, high = bounds([(run.hits[group], default[run.seed].hits[group]) for run in mine])
        share, of_default = share_of(mine, group), share_of(list(default.values()), group)
        groups[group] = {
            "share": round(share, 4),
            "difference": round(share - of_default, 4),
            "low": round(low, 4),
            "high": round(high, 4),
        }
    return {"seconds": round(sorted(run.seconds for run in mine)[len(mine) // 2], 1), "groups": groups}


def share_of(runs: Sequence[Measured], group: str) -> float:
    all_hits = [hit for run in runs for hits in run.hits[group].values() for hit in hits]
    return sum(all_hits) / len(all_hits) if all_hits else 0.0


def bounds(
    pairs: Sequence[tuple[Mapping[str, Sequence[float]], Mapping[str, Sequence[float]]]], seed: int = 0
) -> tuple[float, float]:
    """The 2.5th and the 97.5th percentile of the difference, over resamples of the seeds and of the test pictures.

    The same pictures are drawn for both sides of a pair, as the same pictures make both right or wrong; phrases of one
    picture stay together (Field and Welsh, Bootstrapping clustered data, JRSS B 69, 2007).
    """
    rng = random.Random(seed)
    pictures = list(pairs[0][0])
    if not pictures:
        return 0.0, 0.0
    sums = [{p: (sum(mine[p]) - sum(theirs[p]), len(mine[p])) for p in pictures} for mine, theirs in pairs]
    found = []
    for _ in range(RESAMPLES):
        drawn = rng.choices(pictures, k=len(pictures))
        difference, count = 0.0, 0
        for of_seed in rng.choices(sums, k=len(sums)):
            difference += sum(of_seed[picture][0] for picture in drawn)
            count += sum(of_seed[picture][1] for picture in drawn)
        found.append(difference / count)
    found.sort()
    return found[round(0.025 * RESAMPLES)], found[round(0.975 * RESAMPLES) - 1]


def document(figures: Mapping[str, Any], measured: Sequence[Measured], seeds: int, default: Mapping[str, Any]) -> str:
    """docs/ablations.md."""
    counts = counts_of(measured[0])
    head = (
        "# What helps an adapter, and what doesn't\n\n"
        f"Made by `benchmarks/ablations.py`: the demo data, {measured[0].steps} steps, {seeds} seeds a variant, each "
        "variant differing from the default preset in what its name says. Measured on the demo's test split and "
        f"{MORE_PICTURES} more pictures, drawn alike ("
        + ", ".join(f"{counts[group]} phrases {_in_words(group)}" for group in GROUPS)
        + "). In brackets the difference to the default in points, with the interval that holds 95 of 100 resamples of "
        "seeds and pictures; **bold** where it leaves out zero. What is not bold may be chance.\n\n"
        "| | new nouns, Acc@0.5 | known nouns, Acc@0.5 | nothing there, said so | seconds |\n|---|---|---|---|---|\n"
    )
    rows = [
        f"| {name} | "
        + " | ".join(_cell(one["groups"][group], name) for group in GROUPS)
        + f" | {one['seconds']:.0f} |\n"
        for name, one in figures.items()
    ]
    changes = "".join(f"- {name}: {_values(VARIANTS[name])}.\n" for name in figures if name != DEFAULT)
    about = f"Without a preset other values hold; the default here has {_values(default)}.\n"
    return head + "".join(rows) + _findings(figures) + f"\n## What was changed\n\n{about}\n{changes}"


def _findings(figures: Mapping[str, Any]) -> str:
    """The differences that are surely none of chance, best first, and what differed in none."""
    sure = [
        (one["groups"][group]["difference"], name, group)
        for name, one in figures.items()
        for group in GROUPS
        if name != DEFAULT and is_sure(one["groups"][group])
    ]
    sure.sort(reverse=True)
    lines = [f"- {name}: {100 * difference:+.0f} points on {group}.\n" for difference, name, group in sure]
    others = [name for name in figures if name not in {DEFAULT, *(name for _, name, _ in sure)}]
    rest = f"- Not told apart from the default: {', '.join(others)}.\n" if others else ""
    return "\n## Beyond chance\n\n" + "".join(lines) + rest


def _values(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}` {_plain(value)}" for name, value in settings.items())


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def is_sure(one: Mapping[str, float]) -> bool:
    """Whether the interval of a difference leaves out zero."""
    return one["low"] > 0 or one["high"] < 0


def _in_words(group: str) -> str:
    return {"new nouns": "of new nouns", "known nouns": "of known nouns", "nothing there": "of what is not there"}[
        group
    ]


def _cell(one: Mapping[str, float], name: str) -> str:
    share = f"{one['share']:.0%}"
    if name == DEFAULT:
        return share
    text = f"{100 * one['difference']:+.0f}, {100 * one['low']:+.0f} to {100 * one['high']:+.0f}"
    return f"{share} ({f'**{text}**' if is_sure(one) else text})"


if __name__ == "__main__":
    sys.exit(main())
