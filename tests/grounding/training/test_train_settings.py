"""Settings are checked when built, kept as JSON, and say what is wrong with them; the data is drawn fairly."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from grounding.boxes import Box
from grounding.errors import SettingsError, SnapshotError
from grounding.records import Sample
from grounding.training.data import group_by_picture
from grounding.training.precision import choose_precision
from grounding.training.settings import TrainSettings


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"steps": 0}, ["steps=0", "from 1 to"]),
        ({"steps": "12.5"}, ["steps='12.5'", "a whole number"]),
        ({"steps": "nan"}, ["steps='nan'", "a whole number"]),
        ({"learning_rate": "fast"}, ["learning_rate='fast'", "a number", "highest learning rate"]),
        ({"learning_rate": 3}, ["learning_rate=3.0", "1e-07 to 0.1"]),
        ({"learning_rate": "nan"}, ["learning_rate=nan"]),
        ({"augment": "perhaps"}, ["augment='perhaps'", "true or false"]),
        ({"digit_weights": "1, 2"}, ["digit_weights=(1.0, 2.0)", "3 numbers"]),
        ({"digit_weights": "1, 2, -3"}, ["digit_weights=(1.0, 2.0, -3.0)"]),
        ({"corner_weights": "a,b,c,d"}, ["corner_weights='a,b,c,d'", "4 numbers"]),
        ({"rank": 8}, ["no setting 'rank'", "lora_rank"]),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(values: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(SettingsError) as error:
        TrainSettings.from_mapping(values)
    for part in said:
        assert part in str(error.value)


def test_texts_become_numbers() -> None:
    typed = {"steps": " 12 ", "learning_rate": "2e-3", "augment": "False", "digit_weights": "(3, 2, 0.4)"}
    settings = TrainSettings.from_mapping(typed)
    assert (settings.steps, settings.learning_rate, settings.augment) == (12, 2e-3, False)
    assert settings.digit_weights == (3.0, 2.0, 0.4)


def test_json_brings_everything_back(tmp_path: Path) -> None:
    settings = TrainSettings(steps=7, corner_weights=(4, 3, 2, 1), augment=False)
    settings.save(tmp_path / "settings.json")
    assert TrainSettings.load(tmp_path / "settings.json") == settings


def test_every_setting_says_what_it_means() -> None:
    assert all(spec.metadata["meaning"] for spec in fields(TrainSettings))


def sample(name: str, image: str, phrase: str, alternatives: tuple[str, ...] = ()) -> Sample:
    return Sample(name, Path("/") / image, phrase, (Box(0, 0, 5, 5),), "train", alternatives=alternatives)


def test_samples_of_a_picture_are_learned_together() -> None:
    samples = [
        sample("1", "a.png", "dog", ("the dog", "dog", " ")),
        sample("2", "b.png", "cat"),
        sample("3", "a.png", "car"),
    ]
    first, second = group_by_picture(samples, use_alternatives=True)
    assert [target.phrases for target in first.targets] == [("dog", "the dog"), ("car",)]
    assert [target.phrases for target in second.targets] == [("cat",)]
    plain, _ = group_by_picture(samples, use_alternatives=False)
    assert [target.phrases for target in plain.targets] == [("dog",), ("car",)]


def test_no_sample_is_an_error_with_the_way_out() -> None:
    with pytest.raises(SnapshotError, match="Annotate"):
        group_by_picture([], use_alternatives=True)


@pytest.mark.parametrize(
    ("device", "capabilities", "dtype", "reason"),
    [
        ("cpu", {"avx512_bf16": True}, "torch.bfloat16", "AVX-512"),
        ("cpu", {"amx_bf16": True, "avx512_bf16": True}, "torch.bfloat16", "AMX"),
        ("cpu", {"avx2": True, "avx512_bf16": False}, "None", "no instructions for bfloat16"),
        ("cuda", {}, "None", "type of the weights"),
    ],
)
def test_the_precision_says_why(device: str, capabilities: dict[str, bool], dtype: str, reason: str) -> None:
    chosen, why = choose_precision(device, capabilities)
    assert str(chosen) == dtype
    assert reason in why
