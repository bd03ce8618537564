"""Sweeps for tests: a small snapshot, settings, and a stand-in for the training that scores as the settings say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from grounding.boxes import Box
from grounding.records import Sample, write_samples
from grounding.sweeps.settings import SweepSettings
from grounding.sweeps.space import parse_space
from grounding.training.settings import TrainSettings
from grounding.workspace import Workspace

# On PYTHONPATH, this folder puts the stand-in in the place of the training.
STAND_IN = Path(__file__).parent / "grounding" / "sweeps" / "stand_in"
MakeSweep = Callable[..., SweepSettings]


def write_snapshot(workspace: Workspace, name: str = "first", *, val: bool = True) -> Path:
    """A snapshot of a train and, unless told otherwise, a validation picture."""
    folder = workspace.snapshots / name
    folder.mkdir(parents=True)
    samples = []
    for number, split in enumerate(("train", "val") if val else ("train",)):
        Image.new("RGB", (16, 16), (number * 90, 0, 0)).save(folder / f"{split}.png")
        samples.append(Sample(split, folder / f"{split}.png", "mug", (Box(0, 0, 9, 9),), split))
    write_samples(folder / "samples.jsonl", samples)
    sha256 = hashlib.sha256((folder / "samples.jsonl").read_bytes()).hexdigest()
    manifest = {"format": "boxwright-snapshot/1", "name": name, "samples_sha256": sha256}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def sweep_settings(
    name: str = "mugs", *, search: dict[str, str] | None = None, steps: int = 8, **values: Any
) -> SweepSettings:
    """The settings of a sweep over the snapshot "first"."""
    known: dict[str, Any] = {"steps": steps, "score_every_steps": 2, "learning_rate": 1e-3}  # the stand-in's best
    base = TrainSettings.from_mapping({**known, **values.pop("base", {})})
    typed = search or {"lora_rank": "4,8,16,32", "learning_rate": "1e-4..1e-2"}
    spaces = {key: parse_space(key, text) for key, text in typed.items()}
    return SweepSettings(name, "first", "demo", base, spaces, **{"runs": 4, **values})
