"""The settings of a run: what is refused and how it is told, texts converted, JSON there and back."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from grounding.errors import SettingsError
from grounding.families import all_profiles
from grounding.training.settings import TrainSettings

FIELDS = {spec.name: spec for spec in dataclasses.fields(TrainSettings)}
RANGED = [name for name, spec in FIELDS.items() if spec.metadata["low"] is not None]
WHOLE = [name for name, spec in FIELDS.items() if type(spec.default) is int]
NUMBERS = [name for name, spec in FIELDS.items() if type(spec.default) is float]
SWITCHES = [name for name, spec in FIELDS.items() if type(spec.default) is bool]
TEXTS = [name for name, spec in FIELDS.items() if type(spec.default) is str]
LISTS = [name for name, spec in FIELDS.items() if type(spec.default) is tuple]


def failure(**values: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        TrainSettings.from_mapping(values)
    return str(caught.value)


def test_every_setting_is_of_a_kind_that_is_tested_here() -> None:
    assert sorted(WHOLE + NUMBERS + SWITCHES + LISTS + TEXTS) == sorted(FIELDS)
    assert sorted(RANGED) == sorted(WHOLE + NUMBERS)


@pytest.mark.parametrize("name", RANGED)
@pytest.mark.parametrize("side", ["low", "high"])
def test_a_value_out_of_range_names_setting_value_and_range(name: str, side: str) -> None:
    low, high = FIELDS[name].metadata["low"], FIELDS[name].metadata["high"]
    step = 1 if name in WHOLE else (high - low) / 1000
    value = low - step if side == "low" else high + step
    message = failure(**{name: value})
    assert message.startswith(f"{name}={value!r} is out of range")
    assert f"from {low:g} to {high:g}" in message
    assert FIELDS[name].metadata["meaning"] in message


@pytest.mark.parametrize("name", RANGED)
def test_both_ends_of_a_range_are_allowed(name: str) -> None:
    for side in ("low", "high"):
        value = FIELDS[name].metadata[side]
        assert getattr(TrainSettings(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("values", "told"),
    [
        pytest.param({"steps": "many"}, "steps='many': expected a whole number", id="words for a whole number"),
        pytest.param({"steps": "2.5"}, "steps='2.5': expected a whole number", id="half a step"),
        pytest.param({"steps": "nan"}, "steps='nan': expected a whole number", id="no number of steps"),
        pytest.param({"steps": "inf"}, "steps='inf': expected a whole number", id="endless steps"),
        pytest.param({"steps": None}, "steps=None: expected a whole number", id="nothing for a whole number"),
        pytest.param({"steps": ""}, "steps='': expected a whole number", id="empty text"),
        pytest.param({"learning_rate": "fast"}, "learning_rate='fast': expected a number", id="words for a number"),
        pytest.param({"learning_rate": "nan"}, "learning_rate=nan is out of range", id="NaN"),
        pytest.param({"learning_rate": "inf"}, "learning_rate=inf is out of range", id="infinity"),
        pytest.param({"learning_rate": [1]}, "learning_rate=[1]: expected a number", id="a list for a number"),
        pytest.param({"use_alternatives": "maybe"}, "use_alternatives='maybe': expected true or false", id="maybe"),
        pytest.param({"use_alternatives": 1}, "use_alternatives=1: expected true or false", id="1 for true"),
        pytest.param({"digit_weights": "1,2"}, "digit_weights=(1.0, 2.0): expected 3 numbers", id="two of three"),
        pytest.param({"digit_weights": "1,2,3,4"}, "expected 3 numbers", id="four of three"),
        pytest.param({"digit_weights": "1,2,x"}, "digit_weights='1,2,x': expected 3 numbers", id="a letter"),
        pytest.param({"digit_weights": "1,-2,3"}, "at least 0", id="negative weight"),
        pytest.param({"digit_weights": "nan,1,1"}, "digit_weights=(nan, 1.0, 1.0)", id="NaN weight"),
        pytest.param({"digit_weights": "inf,1,1"}, "digit_weights=(inf, 1.0, 1.0)", id="infinite weight"),
        pytest.param({"digit_weights": 5}, "digit_weights=5: expected 3 numbers", id="one number"),
        pytest.param({"stepps": 5}, "no setting 'stepps'. Known settings: steps, ", id="unknown name"),
    ],
)
def test_a_bad_value_is_told(values: dict[str, Any], told: str) -> None:
    message = failure(**values)
    assert told in message
    assert message.endswith(".")


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"steps": 2.5}, id="half a step"),
        pytest.param({"steps": "10"}, id="text for a whole number"),
        pytest.param({"steps": True}, id="a switch for a whole number"),
        pytest.param({"learning_rate": "0.001"}, id="text for a number"),
        pytest.param({"learning_rate": float("nan")}, id="NaN"),
        pytest.param({"use_alternatives": "yes"}, id="text for a switch"),
        pytest.param({"digit_weights": [3.0, 2.0, 1.0]}, id="a list that could be changed"),
        pytest.param({"digit_weights": "3,2"}, id="text for a list"),
    ],
)
def test_settings_built_directly_are_checked_too(values: dict[str, Any]) -> None:
    (name,) = values
    with pytest.raises(SettingsError, match=f"^{name}="):
        TrainSettings(**values)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("steps", "7", 7),
        ("steps", " 7 ", 7),
        ("steps", "1e3", 1000),
        ("steps", 7.0, 7),
        ("learning_rate", "2e-4", 2e-4),
        ("learning_rate", "0.05", 0.05),
        ("lora_dropout", "0", 0.0),
        ("use_alternatives", "false", False),
        ("use_alternatives", " True ", True),
        ("use_alternatives", False, False),
        ("digit_weights", "3,2,0.4", (3.0, 2.0, 0.4)),
        ("digit_weights", "(3, 2, 0.4)", (3.0, 2.0, 0.4)),
        ("digit_weights", "[1, 1, 1]", (1.0, 1.0, 1.0)),
        ("digit_weights", [0, 0, 0], (0.0, 0.0, 0.0)),
    ],
)
def test_texts_are_converted(name: str, text: Any, value: Any) -> None:
    converted = getattr(TrainSettings.from_mapping({name: text}), name)
    assert converted == value
    assert type(converted) is type(value)


def test_json_there_and_back(tmp_path: Path) -> None:
    given = TrainSettings(steps=3, learning_rate=2e-3, use_alternatives=False, digit_weights=(1.0, 0.5, 0.25), seed=9)
    given.save(tmp_path / "settings.json")
    assert TrainSettings.load(tmp_path / "settings.json") == given
    assert TrainSettings.from_mapping(json.loads(json.dumps(given.to_json()))) == given
    assert set(json.loads((tmp_path / "settings.json").read_text())) == set(FIELDS)


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainSettings().steps = 3  # type: ignore[misc]


@pytest.mark.parametrize("profile", all_profiles())
def test_the_presets_of_the_profiles_are_valid(profile: str) -> None:
    preset = all_profiles()[profile].training_preset
    made = TrainSettings.from_mapping(preset)
    assert all(getattr(made, name) == value for name, value in preset.items())
