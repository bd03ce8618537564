"""How well an embedded model answers over the minutes of its training, beside the one that the repository ships.

Trains in FOLDER as `python -m grounding.demo.pretrain --out FOLDER` does (further options are passed on; a training
that was stopped goes on, one that has ended is only read), then asks the shipped model about the same scenes.

    python benchmarks/pretrain_accuracy.py FOLDER --steps 2000 --pictures-per-step 32

writes benchmarks/results/pretrain_accuracy-DEVICE.json, or -DEVICE-taught.json for one that the shipped model taught,
-DEVICE-taught-again.json for one whose teacher was another: that one is asked as well. All models are also asked about
a demo data set's test split, for nouns that phrases taught them and for the others.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from grounding.adapters.provenance import folder_sha256  # noqa: E402
from grounding.demo.dataset import DemoSize, write_demo  # noqa: E402
from grounding.demo.pretrain.__main__ import main as pretrain  # noqa: E402
from grounding.demo.pretrain.__main__ import parsed  # noqa: E402
from grounding.demo.pretrain.accuracy import measure  # noqa: E402
from grounding.demo.pretrain.loop import seconds_of_steps  # noqa: E402
from grounding.demo.sprites import known_nouns  # noqa: E402
from grounding.evaluation import Report, evaluate  # noqa: E402
from grounding.models import load_model  # noqa: E402
from grounding.predict import Predictor  # noqa: E402
from grounding.records import read_samples  # noqa: E402
from measuring import write_figures, write_result  # noqa: E402

DEMO_PICTURES = 400
DOCUMENT = ROOT / "docs" / "pretrain.md"
SHIPPED = ROOT / "data" / "demo" / "base-model"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    options, passed_on = parser.parse_known_args(arguments)
    given = ["--out", str(options.folder), *passed_on]
    failed = pretrain(given)
    settings, how = parsed(given)
    if failed or max(seconds_of_steps(options.folder), default=0) < settings.steps:
        return failed or 1
    import torch

    device = how.device or ("cuda" if torch.cuda.is_available() else "cpu")
    models = {"new": options.folder / "model", "shipped": SHIPPED}
    again = how.teacher is not None and how.teacher.resolve() != SHIPPED
    if again:
        models["teacher"] = how.teacher
    found = {
        "device": device,
        "shape": how.shape,
        "teacher": named(how.teacher) if how.teacher else None,
        "settings": settings.to_json(),
        "curve": curve(options.folder),
        "shipped_model": asdict(measure(SHIPPED, settings, device=device)),
        **({"teacher_model": asdict(measure(how.teacher, settings, device=device))} if again else {}),
        "demo_test_split": on_demo_data(models, device),
    }
    kind = "taught-again" if again else "taught" if how.teacher else ""
    name = f"pretrain_accuracy-{device.split(':')[0]}"
    kept = write_result(f"{name}-{kind}" if kind else name, found, ("torch", "transformers"))
    if kind:
        result = json.loads(kept.read_text(encoding="utf-8"))
        write_figures("pretrain_accuracy", figures_markdown(result), DOCUMENT, part=kind)
    return 0


def named(teacher: Path) -> str:
    """A folder of the repository by its path in it, another one by what its model's card calls it."""
    folder = teacher.resolve()
    return str(folder.relative_to(ROOT)) if folder.is_relative_to(ROOT) else f"SHA-256 {folder_sha256(folder)}"


def figures_markdown(result: Mapping[str, Any]) -> str:
    """The table of the documents for a model that began with a teacher, from the result alone."""
    curve, by_model = result["curve"], result["demo_test_split"]
    steps_taught = result["settings"]["teacher_steps"]
    if "teacher_model" in result:
        between, label = result["teacher_model"], "its teacher"
    else:
        between = next(point for point in curve if point["step"] == steps_taught)
        label = f"after the {steps_taught:,} steps with it as teacher"
    told = [result["shipped_model"], between, curve[-1]]
    seconds = curve[-1]["training_seconds"]
    pictures = result["settings"]["steps"] * result["settings"]["pictures_per_step"]
    targets = sum(group["samples"] for group in told[0]["groups"].values() if group["accuracy_50"] is not None)
    lines = [
        f"{seconds / 60:.0f} minutes on {result['machine']['cores']} cores, {pictures:,} pictures. Acc@0.5:\n",
        f"| | in the repository | {label} | at the end |",
        "|---|---|---|---|",
        f"| scenes of all shapes, as people ask ({targets} phrases with a target) | {_row(told, None)} |",
    ]
    for kind, group in told[0]["groups"].items():
        label = f"{kind}, and it says so" if group["accuracy_50"] is None else kind
        lines.append(f"| – {label} | {_row(told, kind)} |")
    for kind, new in by_model["new"].items():
        asked = (by_model.get(model, {}).get(kind) for model in ("shipped", "teacher", "new"))
        shares = " | ".join("not asked" if one is None else f"{one['accuracy_50']:.1%}" for one in asked)
        lines.append(f"| the demo's own scenes, {kind} ({new['samples']} phrases) | {shares} |")
    return "\n".join(lines) + "\n"


def _row(told: Sequence[Mapping[str, Any]], kind: str | None) -> str:
    groups = [one if kind is None else one["groups"][kind] for one in told]
    return " | ".join(f"{one['said_nothing' if one['accuracy_50'] is None else 'accuracy_50']:.1%}" for one in groups)


def on_demo_data(models: Mapping[str, Path], device: str) -> dict[str, Any]:
    """Each model on the test split of the demo data set of seed 8: figures by whether the base was taught the noun."""
    with tempfile.TemporaryDirectory() as folder:
        write_demo(Path(folder), seed=8, size=DemoSize(0, 0, DEMO_PICTURES))
        samples = [one for one in read_samples(Path(folder) / "test.jsonl") if len(one.boxes_xyxy_px) == 1]
        kinds = {
            "known nouns": [one for one in samples if one.category in known_nouns()],
            "unknown nouns": [one for one in samples if one.category not in known_nouns()],
        }
        found: dict[str, Any] = {}
        for name, model in models.items():
            predictor = Predictor(load_model(str(model), device=device), Path(folder))
            found[name] = {kind: figures(evaluate(asked, predictor)) for kind, asked in kinds.items()}
    return found


def figures(report: Report) -> dict[str, Any]:
    """Counts and shares of one evaluation."""
    scores = report.scores
    return {
        "samples": len(report.rows),
        "mean_iou": scores.mean_iou,
        "accuracy_50": scores.accuracy[0.5],
        "accuracy_75": scores.accuracy[0.75],
    }


def curve(folder: Path) -> list[dict[str, Any]]:
    """Each scoring with the seconds that the steps before it took; of a step that was scored again, the last."""
    seconds = seconds_of_steps(folder)
    lines = (folder / "scores.jsonl").read_text(encoding="utf-8").splitlines()
    scores = {score["step"]: score for score in map(json.loads, lines)}
    return [
        {
            "step": step,
            "training_seconds": sum(value for taken, value in seconds.items() if taken <= step),
            "accuracy_50": score["accuracy_50"],
            "groups": score["groups"],
        }
        for step, score in sorted(scores.items())
    ]


if __name__ == "__main__":
    raise SystemExit(main())
