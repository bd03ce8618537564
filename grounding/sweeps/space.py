"""What is searched for one setting: some values, or a range. As a person types it, checked and written down."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from grounding.errors import SettingsError
from grounding.training.settings import TrainSettings

Value = bool | int | float | str

# How long a run is and how it is scored stay the same, or runs could not be compared; alpha follows the rank.
SEARCHABLE: tuple[str, ...] = (
    *("lora_rank", "learning_rate", "smooth_l1_weight", "giou_weight", "soft_labels"),
    *("strength", "lora_dropout", "lora_layers", "lora_rslora", "lora_dora"),
    *("warmup_share", "weight_decay", "max_gradient_norm", "optimiser", "images_per_step", "phrases_per_image"),
    *("nothing_weight", "negative_share", "template_share", "curriculum_share", "learn_new_words", "new_words_rate"),
    *("augment", "mirrored_share", "cropped_share", "farther_share", "colour_change", "jittered_share"),
)
MOST_VALUES = 64
_LOG_FROM = 5.0
_EXAMPLE = "expected values such as 4,8,16 or a range such as 1e-4..3e-3"


@dataclass(frozen=True)
class Choices:
    """Some values, each of which may be tried; at least two, all different."""

    values: tuple[Value, ...]

    @property
    def count(self) -> float:
        """How many different values there are."""
        return len(self.values)

    def holds(self, value: Value) -> bool:
        """Whether the value may be tried."""
        return value in self.values

    def to_json(self) -> dict[str, Any]:
        return {"choices": list(self.values)}

    def __str__(self) -> str:
        return ", ".join(value_text(value) for value in self.values)


@dataclass(frozen=True)
class Range:
    """Every number from `low` to `high`, both included; `whole`: whole numbers only; `log`: each tenfold alike."""

    low: float
    high: float
    log: bool
    whole: bool

    @property
    def count(self) -> float:
        """How many different values there are; infinite for a range of numbers that aren't whole."""
        return self.high - self.low + 1 if self.whole else math.inf

    def holds(self, value: Value) -> bool:
        """Whether the value may be tried."""
        return not isinstance(value, bool | str) and self.low <= value <= self.high

    def to_json(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high, "log": self.log, "whole": self.whole}

    def __str__(self) -> str:
        return f"{value_text(self.low)}..{value_text(self.high)}"


Space = Choices | Range


def parse_space(name: str, text: str) -> Space:
    """What a person typed for a setting: `4,8,16` or `1e-4..3e-3`. A range over fivefold or more is searched by its
    logarithm. Raises `SettingsError` naming the setting, what was typed and what was expected."""
    _check_searchable(name)
    if ".." in text:
        low, _, high = text.partition("..")
        return space_of(name, {"low": _typed(name, low, text), "high": _typed(name, high, text)})
    values = [_typed(name, part, text) for part in text.split(",") if part.strip()]
    return space_of(name, {"choices": values})


def space_of(name: str, values: Mapping[str, Any]) -> Space:
    """From what `to_json` wrote. Raises `SettingsError`."""
    _check_searchable(name)
    if "choices" in values:
        return _choices(name, values["choices"])
    low, high = (_checked(name, values[key]) for key in ("low", "high"))
    if isinstance(low, bool | str) or isinstance(high, bool | str):
        raise SettingsError(f"{name}={low}..{high}: only numbers have a range. List the values: true,false.")
    if low >= high:
        raise SettingsError(f"{name}={low:g}..{high:g} is no range: the first number must be the smaller one.")
    whole = isinstance(low, int) and isinstance(high, int)
    wide = low > 0 and high / low >= _LOG_FROM
    return Range(low, high, bool(values.get("log", wide)) and low > 0, whole)


def value_text(value: Value) -> str:
    """A value as a person types it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _choices(name: str, values: Any) -> Choices:
    checked = tuple(dict.fromkeys(_checked(name, value) for value in values))
    if not 2 <= len(checked) <= MOST_VALUES:
        raise SettingsError(
            f"{name}: {len(checked)} different {'value' if len(checked) == 1 else 'values'} can't be searched; "
            f"{_EXAMPLE}, from 2 to {MOST_VALUES} values. A single value belongs into the settings themselves."
        )
    return Choices(checked)


def _typed(name: str, part: str, text: str) -> Value:
    if not part.strip():
        raise SettingsError(f"{name}={text.strip()!r} can't be searched: {_EXAMPLE}.")
    return _checked(name, part.strip())


def _checked(name: str, value: Any) -> Value:
    """The value in the setting's type. Raises `SettingsError` when a run could not have it."""
    known: Value = getattr(TrainSettings.from_mapping({name: value}), name)
    return float(known) if isinstance(getattr(TrainSettings(), name), float) else known


def _check_searchable(name: str) -> None:
    if name in SEARCHABLE:
        return
    known = {spec.name for spec in dataclasses.fields(TrainSettings)}
    why = "can't be searched" if name in known else "is no setting"
    more = " It follows the rank." if name == "lora_alpha" else ""
    raise SettingsError(f"{name[:60]!r} {why}.{more} A sweep searches over: {', '.join(SEARCHABLE)}.")
