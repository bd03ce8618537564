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


def _setting(
    default: Any,
    meaning: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    return field(default=default, metadata={"meaning": meaning, "low": low, "high": high, "choices": choices})


@dataclass(frozen=True)
class TrainSettings:
    """Settings of one run. Raises `SettingsError` naming the setting, its value and its range."""

    steps: int = _setting(650, "optimiser steps", low=1, high=1_000_000)
    images_per_step: int = _setting(4, "pictures in one step", low=1, high=1024)
    phrases_per_image: int = _setting(4, "most phrases that share one picture's pass", low=1, high=64)
    group_lengths: bool = _setting(True, "pictures of like size stand together in a step: less padding")
    use_alternatives: bool = _setting(True, "also learn from the source's other phrases for the same box")
    augment: bool = _setting(True, "show pictures mirrored, cut, farther away or in other colours, by the shares below")
    mirrored_share: float = _setting(0.5, "share of the augmented views that are mirrored", low=0.0, high=1.0)
    cropped_share: float = _setting(
        0.0, "share of the augmented views cut to a part in which every phrase stays true", low=0.0, high=1.0
    )
    farther_share: float = _setting(0.0, "share of the augmented views that show it all smaller", low=0.0, high=1.0)
    colour_change: float = _setting(0.0, "largest change of brightness, contrast and colour", low=0.0, high=0.9)
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
    optimiser: str = _setting(
        "adamw",
        "AdamW, or with states of 8 bits (bitsandbytes), paged to the memory of the CPU or not",
        choices=("adamw", "adamw_8bit", "paged_adamw_8bit"),
    )
    accumulation: int = _setting(
        1, "parts in which the pictures of a step are computed: less memory, same learning", low=1, high=1024
    )
    gradient_checkpointing: bool = _setting(False, "compute layers a second time: much less memory, slower by a third")
    lora_rank: int = _setting(16, "rank of the LoRA matrices", low=1, high=512)
    lora_alpha: int = _setting(32, "scale of LoRA: alpha / rank", low=1, high=2048)
    lora_dropout: float = _setting(0.0, "LoRA dropout", low=0.0, high=0.9)
    lora_layers: str = _setting(
        "all",
        "layers of the language model that LoRA changes: all, those of attention, in it only what is passed on (v and "
        "o) and not where it looks, or those of the MLPs",
        choices=("all", "attention", "values", "mlp"),
    )
    lora_rslora: bool = _setting(False, "scale LoRA by alpha / square root of rank: for ranks far above 16")
    lora_b_rate: float = _setting(
        1.0, "learning rate of LoRA's B as a multiple of A's: above 1 is LoRA+", low=0.01, high=100.0
    )
    lora_dora: bool = _setting(False, "DoRA: learn the length of each weight's rows apart; slower")
    learn_new_words: bool = _setting(
        True, "also learn the embeddings of words in the phrases that the base was never taught, where there are any"
    )
    new_words_rate: float = _setting(
        5.0, "learning rate of new words as a multiple of that of LoRA", low=0.01, high=1000.0
    )
    lora_vision: bool = _setting(False, "also change the vision tower: slower, and it shares no picture's pass")
    strength: float = _setting(1.0, "share of the learned change that is kept: less forgets less", low=0.05, high=1.0)
    digit_weights: tuple[float, float, float] = _setting(
        (3.0, 2.0, 0.4), "loss weight of the hundreds, tens and ones digit of a coordinate"
    )
    corner_weights: tuple[float, float, float, float] = _setting(
        (1.0, 1.0, 1.0, 1.0), "loss weight of the digits of x1, y1, x2 and y2"
    )
    nothing_weight: float = _setting(1.0, 'loss weight of an answer "nothing there"', low=0.0, high=1000.0)
    smooth_l1_weight: float = _setting(
        0.0, "weight of the distance between expected and true coordinates (0: off)", low=0.0, high=1000.0
    )
    giou_weight: float = _setting(0.0, "weight of 1 - GIoU of the expected box (0: off)", low=0.0, high=1000.0)
    soft_labels: float = _setting(
        0.0, "how far, in thousandths of a side, numbers near the right one count too (0: off)", low=0.0, high=100.0
    )
    score_every_steps: int = _setting(217, "steps between scorings on the validation split", low=1, high=1_000_000)
    score_samples: int = _setting(100, "most validation samples to score on", low=1, high=100_000)
    score_each_epoch: bool = _setting(False, "score after each round of the run's own pictures instead")
    keep_best: bool = _setting(True, "keep the step that scored best by mean IoU, not the last")
    patience: int = _setting(0, "stop after so many scorings without a gain; 0: never", low=0, high=10_000)
    least_gain: float = _setting(0.0, "least gain of mean IoU that patience counts as one", low=0.0, high=1.0)
    checkpoint_every_steps: int = _setting(100, "steps between checkpoints to resume from", low=1, high=1_000_000)
    checkpoints_kept: int = _setting(2, "newest checkpoints that are kept", low=1, high=100)
    tensorboard: bool = _setting(False, "also write TensorBoard files into the run's folder")
    trackio: bool = _setting(False, "also log to trackio on this machine")
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
        if expected is str:
            return str(value).strip()
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
    choices = spec.metadata["choices"]
    if choices is not None and value not in choices:
        raise SettingsError(
            f"{spec.name}={value!r}: expected one of {', '.join(choices)} ({spec.metadata['meaning']})."
        )
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
