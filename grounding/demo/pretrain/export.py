"""The result as a stock checkpoint folder: float16 weights, processor, chat template, profile, model card."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grounding.demo.pretrain.accuracy import Accuracy
from grounding.demo.pretrain.settings import PretrainSettings, Shape
from grounding.demo.pretrain.shape import profile
from grounding.demo.sprites import known_nouns, unknown_nouns
from grounding.errors import ModelError

CARD = "README.md"


def export(model: Any, processor: Any, folder: Path) -> None:
    """Write the folder anew: complete, or not at all. Raises `ModelError` when it can't be written."""
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        copy.deepcopy(model).cpu().half().save_pretrained(partial)
        processor.save_pretrained(partial)
        (partial / "boxwright.json").write_text(json.dumps({"profile": profile().name}) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise ModelError(
            f"The model can't be written to {folder} ({error.strerror or error}). Choose a folder with 30 MB of room."
        ) from error


@dataclass(frozen=True)
class Making:
    """How a model was made: by which revisions of the code, in how many minutes, and from which weights it began (the
    `folder_sha256` of the teacher; empty for none)."""

    settings: PretrainSettings
    shape: Shape
    revisions: str
    minutes: float
    began_as_sha256: str = ""

    @property
    def began(self) -> str:
        if not self.began_as_sha256:
            return "trained from nothing"
        return f"begun with the weights of the model of SHA-256 `{self.began_as_sha256[:16]}` and trained on"


def write_card(folder: Path, making: Making, measured: Accuracy | None) -> None:
    """The model card: what it is, what it was trained on, what it was measured to do, and which code made it."""
    weights, settings = folder / "model.safetensors", making.settings
    taught = f", the first {settings.teacher_steps:,} of them learning its sight" if settings.teacher_steps else ""
    lines = [
        "# An embedded model for Boxwright",
        "",
        f"A stock `Qwen3VLForConditionalGeneration` (float16, {weights.stat().st_size / 1e6:.1f} MB), "
        f"{making.began} by `python -m grounding.demo.pretrain` on drawn scenes of "
        f"{len(known_nouns()) + len(unknown_nouns())} drawings, 128 to 320 px a side. Its phrases named "
        f"{len(known_nouns())} of them; the other "
        f"{len(unknown_nouns())} (`known_to_base_model: false` in sprites.json) it has seen but never been told the "
        "names of. Licence: Apache-2.0.",
        "",
        f"Prompt: `{profile().prompt_for('{phrase}')}`, after the picture. Answer: "
        '`[{"bbox_2d": [x1, y1, x2, y2]}]` in 0 to 1000, one entry for each object that is meant, or `[]`.',
        "",
        f"Made by {making.revisions}: {settings.steps:,} steps of {settings.pictures_per_step} pictures with "
        f"{settings.questions_per_picture} questions each{taught}, {making.minutes:.1f} minutes, seed {settings.seed}.",
        "",
        *(_figures(measured) if measured else ["It was not measured."]),
        "",
        "## Settings",
        "",
        "```json",
        json.dumps({"settings": settings.to_json(), "shape": vars(making.shape)}, indent=1),
        "```",
    ]
    (folder / CARD).write_text("\n".join(lines) + "\n", encoding="utf-8")


def code_revision() -> str:
    """The commit of this code, said so when files differ from it; "an unknown revision" outside of a repository."""
    root = Path(__file__).resolve().parents[3]
    try:
        said = [
            subprocess.run(["git", *what], cwd=root, capture_output=True, text=True, check=True, timeout=20).stdout
            for what in (("rev-parse", "--short=12", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        ]
    except (OSError, subprocess.SubprocessError):
        return "an unknown revision of the code"
    return f"revision {said[0].strip()} of the code" + (", with changes of its own" if said[1].strip() else "")


def _figures(measured: Accuracy) -> list[str]:
    rows = [
        f"| {name} | {group.samples} | {_share(group.accuracy_50)} | {_share(group.accuracy_75)} | "
        f"{_share(group.said_nothing)} |"
        for name, group in measured.groups.items()
    ]
    return [
        f"Measured on {measured.pictures} scenes that no training shows:",
        "",
        "| | phrases | Acc@0.5 | Acc@0.75 | said that nothing is there |",
        "|---|---|---|---|---|",
        *rows,
    ]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
