"""Every value of a training run, validated when built and saved beside the run."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grounding.errors import SettingsError


def _setting(default: Any, meaning: str, *, low: float | None = None, high: float | None = None) -> Any:
    return field(default=default, metadata={"meaning": meaning, "low": low, "high": high})


@dataclass(frozen=True)
class TrainSettings:
    """Settings of one run. Raises `SettingsError` naming the setting, its value and its range."""

    steps: int = _setting(470, "optimiser steps", low=1, high=1_000_000)
    images_per_step: int = _setting(4, "pictures in one step", low=1, high=1024)
    phrases_per_image: int = _setting(4, "most phrases that share one picture's pass", low=1, high=64)
    use_alternatives: bool = _setting(True, "also learn from the source's other phrases for the same box")
    augment: bool = _setting(True, "show each picture mirrored, farther away and in other colours by turns")
    mirrored_share: float = _setting(0.5, "share of the augmented views that are mirrored", low=0.0, high=1.0)
    cropped_share: float = _setting(
        0.0, "share of the augmented views cut to a part in which every phrase stays true", low=0.0, high=1.0
    )
    farther_share: float = _setting(0.5, "share of the augmented views that show it all smaller", low=0.0, high=1.0)
    colour_change: float = _setting(0.15, "largest change of brightness, contrast and colour", low=0.0, high=0.9)
    jittered_share: float = _setting(
        0.0, "share of the boxes in augmented views moved a little (IoU stays at 0.9 or more)", low=0.0, high=1.0
    )
    template_share: float = _setting(
        0.0, "share of the phrases reworded by rule, with the same meaning", low=0.0, high=1.0
    )
    negative_share: float = _setting(
        0.0, 'share of the phrases taken from other pictures and answered "nothing there"', low=0.0, high=0.9
    )
    rehearsal_share: float = _setting(
        0.0, "share of the pictures taken from the snapshot to rehearse", low=0.0, high=0.9
    )
    rehearse_snapshot: str = _setting("", "a second snapshot to rehearse, by name or folder")
    curriculum_share: float = _setting(
        0.0, "share of the steps in which nouns, then attributes, then relations come in", low=0.0, high=1.0
    )
    learning_rate: float = _setting(1.5e-3, "highest learning rate", low=1e-7, high=0.1)
    warmup_share: float = _setting(0.05, "share of the steps in which the learning rate rises", low=0.0, high=0.9)
    weight_decay: float = _setting(0.0, "AdamW weight decay", low=0.0, high=1.0)
    max_gradient_norm: float = _setting(1.0, "gradients are scaled down to this length", low=1e-3, high=1e3)
    lora_rank: int = _setting(16, "rank of the LoRA matrices", low=1, high=512)
    lora_alpha: int = _setting(32, "scale of LoRA: alpha / rank", low=1, high=2048)
    lora_dropout: float = _setting(0.0, "LoRA dropout", low=0.0, high=0.9)
    strength: float = _setting(0.85, "share of the learned change that is kept: less forgets less", low=0.05, high=1.0)
    digit_weights: tuple[float, float, float] = _setting(
        (3.0, 2.0, 0.4), "loss weight of the hundreds, tens and ones digit of a coordinate"
    )
    corner_weights: tuple[float, float, float, float] = _setting(
        (1.0, 1.0, 1.0, 1.0), "loss weight of the digits of x1, y1, x2 and y2"
    )
    nothing_weight: float = _setting(3.0, 'loss weight of an answer "nothing there"', low=0.0, high=1000.0)
    score_every_steps: int = _setting(157, "steps between scorings on the validation split", low=1, high=1_000_000)
    score_samples: int = _setting(100, "most validation samples to score on", low=1, high=100_000)
    seed: int = _setting(0, "random seed", low=0, high=2**31 - 1)

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            _check(spec, getattr(self, spec.name))

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> TrainSettings:
        """Settings from values by name, texts converted; raises `SettingsError` for an unknown name."""
        specs = {spec.name: spec for spec in dataclasses.fields(cls)}
        converted = {}
        for name, value in values.items():
            if name not in specs:
                raise SettingsError(f"There is no setting {name!r}. Known settings: {', '.join(specs)}.")
            converted[name] = _convert(specs[name], value)
        return cls(**converted)

    @classmethod
    def load(cls, path: Path) -> TrainSettings:
        return cls.from_mapping(json.loads(path.read_text(encoding="utf-8")))


def _convert(spec: dataclasses.Field[Any], value: Any) -> Any:
    """The value in the type of the setting's default."""
    expected: Any = type(spec.default)
    try:
        if expected is bool:
            return value if isinstance(value, bool) else {"true": True, "false": False}[str(value).strip().lower()]
        if expected is tuple:
            parts = value.strip("()[] ").split(",") if isinstance(value, str) else value
            return tuple(float(part) for part in parts)
        if expected is int:
            number = float(value)
            if number != int(number):
                raise ValueError
            return int(number)
        return expected(value)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise SettingsError(f"{spec.name}={value!r}: expected {_kind(spec)} ({spec.metadata['meaning']}).") from error


def _check(spec: dataclasses.Field[Any], value: Any) -> None:
    if not _is_of_kind(spec.default, value):
        raise SettingsError(f"{spec.name}={value!r}: expected {_kind(spec)} ({spec.metadata['meaning']}).")
    low, high = spec.metadata["low"], spec.metadata["high"]
    if low is not None and not low <= value <= high:
        raise SettingsError(
            f"{spec.name}={value!r} is out of range: expected {_kind(spec)} from {low:g} to {high:g} "
            f"({spec.metadata['meaning']})."
        )


def _is_of_kind(default: Any, value: Any) -> bool:
    if isinstance(default, tuple):
        numbers = isinstance(value, tuple) and all(isinstance(weight, int | float) for weight in value)
        return numbers and len(value) == len(default) and all(0 <= weight < math.inf for weight in value)
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    return isinstance(value, int | float) if isinstance(default, float) else isinstance(value, type(default))


def _kind(spec: dataclasses.Field[Any]) -> str:
    if isinstance(spec.default, bool):
        return "true or false"
    if isinstance(spec.default, tuple):
        return f"{len(spec.default)} numbers of at least 0, separated by commas"
    if isinstance(spec.default, str):
        return "text"
    return "a whole number" if isinstance(spec.default, int) else "a number"
