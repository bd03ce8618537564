"""Presets: one set of three for every profile, every value with its reason, kept beside the run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from grounding.errors import SettingsError
from grounding.families import all_profiles
from grounding.models import training_settings
from grounding.profiles import EMBEDDED_MODEL_PRESET
from grounding.training import presets
from grounding.training.presets import (
    BALANCED,
    EXPLANATIONS,
    PRESET,
    differences,
    explained,
    nearest,
    preset_named,
    presets_for,
    presets_of,
)
from grounding.training.settings import TrainSettings

NAMES = {spec.name for spec in dataclasses.fields(TrainSettings)}


@pytest.mark.parametrize("profile", sorted(name for name, p in all_profiles().items() if p.lora_targets))
def test_every_profile_has_three_and_the_middle_one_is_its_own(profile: str) -> None:
    own = TrainSettings.from_mapping(all_profiles()[profile].training_preset)
    found = presets_of(profile, own)
    assert [preset.name for preset in found] == ["quick", "balanced", "thorough"]
    quick, balanced, thorough = (preset.settings for preset in found)
    assert balanced == own
    assert quick.steps < own.steps < thorough.steps
    assert thorough.learning_rate < own.learning_rate
    assert thorough.lora_alpha / thorough.lora_rank == own.lora_alpha / own.lora_rank
    for preset in found:
        assert {value.name for value in differences(found[1], preset.settings)} == set(preset.reasons)
        assert preset.settings.score_every_steps < preset.settings.steps, "at least one scoring on the way"


def test_the_embedded_model_is_trained_as_its_profile_says() -> None:
    own = training_settings("demo", {})
    assert preset_named(presets_for("demo"), BALANCED).settings == own == TrainSettings(**EMBEDDED_MODEL_PRESET)


def test_every_value_is_explained() -> None:
    assert set(EXPLANATIONS) <= NAMES, "an explanation of a setting that is not there any more"
    for value in explained(presets_for("demo")[0], TrainSettings()):
        assert value.meaning
    assert {"steps", "learning_rate", "lora_rank", "strength", "seed"} <= set(EXPLANATIONS)


def test_what_differs_is_named_but_not_the_seed() -> None:
    balanced = presets_for("demo")[1]
    changed = dataclasses.replace(balanced.settings, lora_rank=8, seed=5)
    (difference,) = differences(balanced, changed)
    assert (difference.name, difference.preset_value, difference.value) == ("lora_rank", 16, 8)
    assert nearest(presets_for("demo"), changed).name == BALANCED
    quick = presets_for("demo")[0]
    assert nearest(presets_for("demo"), dataclasses.replace(quick.settings, lora_rank=8)).name == "quick"


def test_an_unknown_preset_is_a_sentence() -> None:
    with pytest.raises(SettingsError, match=r"no preset 'huge'. Presets of this model: quick, balanced, thorough"):
        preset_named(presets_for("demo"), "huge")


def test_the_choice_is_kept_beside_the_run(tmp_path: Path) -> None:
    quick = presets_for("demo")[0]
    presets.keep_choice(tmp_path / "run", "demo", dataclasses.replace(quick.settings, lora_rank=8), "quick")
    kept = json.loads((tmp_path / "run" / PRESET).read_text())
    assert kept == {
        "format": "boxwright-preset/1",
        "preset": "quick",
        "profile": "qwen3-vl-demo",
        "differs": {"lora_rank": {"preset": 16, "run": 8}},
    }


def test_a_run_goes_on_without_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "run").touch()  # no folder can be made there
    presets.keep_choice(tmp_path / "run", "demo", TrainSettings())
    presets.keep_choice(tmp_path / "other", "/no/such/model", TrainSettings())
    assert caplog.text.count("preset.json was not written") == 2
