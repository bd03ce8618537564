"""What may be searched, how it is typed, and how it is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from grounding.errors import SettingsError, StoreError, WorkspaceError
from grounding.sweeps.settings import SweepSettings
from grounding.sweeps.space import SEARCHABLE, Choices, Range, parse_space
from grounding.training.settings import TrainSettings


@pytest.mark.parametrize(
    ("name", "text", "space"),
    [
        ("lora_rank", "4, 8,16", Choices((4, 8, 16))),
        ("lora_rank", "8,8,4", Choices((8, 4))),
        ("lora_rank", "4..64", Range(4, 64, True, True)),
        ("lora_rank", "8..16", Range(8, 16, False, True)),
        ("learning_rate", "1e-4..3e-3", Range(1e-4, 3e-3, True, False)),
        ("learning_rate", "1e-3..2e-3", Range(1e-3, 2e-3, False, False)),
        ("giou_weight", "0..1", Range(0.0, 1.0, False, False)),
        ("smooth_l1_weight", "0,0.5,1", Choices((0.0, 0.5, 1.0))),
        ("lora_dora", "true,false", Choices((True, False))),
        ("lora_layers", "all,attention", Choices(("all", "attention"))),
    ],
)
def test_what_is_typed_is_what_is_searched(name: str, text: str, space: Any) -> None:
    assert parse_space(name, text) == space
    assert parse_space(name, str(space)) == space, "it can be typed again as it is written"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("lora_rank", "4", "1 different value can't be searched"),
        ("lora_rank", "", "0 different values"),
        ("lora_rank", "4,many", "lora_rank='many': expected a whole number"),
        ("lora_rank", "4,8.5", "lora_rank='8.5'"),
        ("lora_rank", "0,8", "lora_rank=0 is out of range"),
        ("learning_rate", "1e-3..1e-4", "the first number must be the smaller one"),
        ("learning_rate", "..1e-4", "expected values such as"),
        ("learning_rate", "1e-4..5", "learning_rate=5.0 is out of range"),
        ("lora_dora", "false..true", "only numbers have a range"),
        ("steps", "10,20", "'steps' can't be searched"),
        ("lora_alpha", "8,16", "It follows the rank."),
        ("<b>", "1,2", "is no setting"),
    ],
)
def test_what_can_not_be_searched_is_named(name: str, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse_space(name, text)
    assert said in str(refused.value)


def test_everything_that_is_offered_is_a_setting_with_one_value() -> None:
    own = TrainSettings().to_json()
    assert all(not isinstance(own[name], tuple) for name in SEARCHABLE)


def test_alpha_follows_the_rank(make_sweep: Any) -> None:
    sweep = make_sweep(base={"lora_rank": 16, "lora_alpha": 24})
    run = sweep.of_trial({"lora_rank": 4, "learning_rate": 0.002})
    assert (run.lora_rank, run.lora_alpha, run.learning_rate, run.steps) == (4, 6, 0.002, 8)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"runs": 1}, "runs=1: a sweep takes a whole number of runs, from 2"),
        ({"runs": True}, "runs=True"),
        ({"seed": -1}, "seed=-1"),
        ({"search": {"lora_rank": "4,8"}, "runs": 3}, "there are only 2 different ways to try. Ask for 2 runs"),
        ({"name": "x" * 60}, "too long"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(make_sweep: Any, values: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        make_sweep(**values)
    assert said in str(refused.value)


def test_a_name_must_be_fit_for_a_folder(make_sweep: Any) -> None:
    with pytest.raises(WorkspaceError, match="can't name a sweep"):
        make_sweep("../out")


def test_it_comes_back_from_its_folder_as_it_was(make_sweep: Any, tmp_path: Path) -> None:
    sweep = make_sweep(search={"lora_rank": "4,8", "learning_rate": "1e-4..1e-3", "lora_dora": "true,false"})
    sweep.save(tmp_path)
    assert SweepSettings.load(tmp_path) == sweep
    values = json.loads((tmp_path / "sweep.json").read_text())
    for damage in ({**values, "runs": 1}, {**values, "search": {"steps": {"choices": [1, 2]}}}, {}):
        (tmp_path / "sweep.json").write_text(json.dumps(damage))
        with pytest.raises(StoreError, match="can't be read"):
            SweepSettings.load(tmp_path)
