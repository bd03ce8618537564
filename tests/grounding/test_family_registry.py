"""The registry of families: found by themselves, registered from elsewhere, never two for one name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from grounding import families
from grounding.errors import ModelError
from grounding.families import (
    DetectorFamily,
    Family,
    TextFamily,
    all_profiles,
    family_named,
    family_of_type,
    register,
)
from grounding.families.qwen_vl import Qwen3VL
from grounding.models import DEMO_MODEL_FOLDER, load_model

MODULES = [path for path in Path(families.__file__).parent.glob("*.py") if path.stem not in ("__init__", "base")]


@pytest.fixture(autouse=True)
def registry_as_it_was() -> Iterator[None]:
    """What a test registers is forgotten after it."""
    before = dict(families._REGISTERED)
    yield
    families._REGISTERED.clear()
    families._REGISTERED.update(before)


def new_family(**changes: Any) -> Family:
    """A family like Qwen3-VL under other names, but for the changes."""
    profiles = (replace(Qwen3VL.profiles[1], name="other-demo", family="other_vl"),)
    values = {"name": "other_vl", "model_types": ("other_vl",), "profiles": profiles, **changes}
    return type("OtherVL", (Qwen3VL,), values)()


def classes_in_source() -> set[str]:
    """Names of families that the modules give in so many words."""
    lines = [line.strip() for path in MODULES for line in path.read_text(encoding="utf-8").splitlines()]
    return {line.split('"')[1] for line in lines if line.startswith('name = "')}


def test_every_module_is_found() -> None:
    found = families._discovered()
    assert {type(family).__module__.rpartition(".")[2] for family in found.values()} == {path.stem for path in MODULES}
    assert set(found) == classes_in_source()
    assert len(found) >= 6
    assert all(name == family.name == family_named(name).name for name, family in found.items())
    assert not [family for family in found.values() if not isinstance(family, TextFamily | DetectorFamily)]


def test_every_type_and_every_profile_leads_to_its_one_family() -> None:
    found = list(families._discovered().values())
    types = [name for family in found for name in family.model_types]
    names = [profile.name for family in found for profile in family.profiles]
    assert len(set(types)) == len(types) and len(set(names)) == len(names)
    for family in found:
        assert family.profiles and {profile.family for profile in family.profiles} == {family.name}
        assert all(family_of_type(model_type) is family_named(family.name) for model_type in family.model_types)
        assert all(all_profiles()[profile.name] is profile for profile in family.profiles)


def test_a_registered_family_is_known() -> None:
    family = new_family()
    assert register(family) is family
    assert family_named("other_vl") is family
    assert family_of_type("other_vl") is family
    assert all_profiles()["other-demo"] is family.profiles[0]
    assert type(family_of_type("qwen3_vl")) is Qwen3VL


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": "qwen3_vl"}, "There is a family 'qwen3_vl' already"),
        ({"model_types": ("new", "qwen3_vl")}, "type 'qwen3_vl' belong to the family 'qwen3_vl' already"),
        ({"model_types": ("florence2",)}, "belong to the family"),
        ({"profiles": Qwen3VL.profiles[:1]}, "There is a profile 'qwen3-vl' already, of the family 'qwen3_vl'"),
    ],
)
def test_what_is_taken_is_refused(changes: dict[str, Any], told: str) -> None:
    before = set(families._families()), set(all_profiles())
    with pytest.raises(ModelError, match=told):
        register(new_family(**changes))
    assert (set(families._families()), set(all_profiles())) == before
    assert type(family_of_type("qwen3_vl")) is Qwen3VL


def test_a_registered_family_takes_its_names_too() -> None:
    register(new_family())
    with pytest.raises(ModelError, match="There is a family 'other_vl' already"):
        register(new_family())  # another class of the same name
    with pytest.raises(ModelError, match="type 'other_vl' belong to the family 'other_vl'"):
        register(new_family(name="third_vl", profiles=()))
    with pytest.raises(ModelError, match="There is a profile 'other-demo' already"):
        register(new_family(name="third_vl", model_types=("third_vl",)))


def test_registering_twice_changes_nothing() -> None:
    family = new_family()
    register(family)
    register(type(family)())
    assert list(families._REGISTERED) == ["other_vl"]


def test_what_is_unknown_names_what_is_known() -> None:
    register(new_family())
    with pytest.raises(ModelError, match=r"no model family 'nonsense'.*other_vl.*qwen3_vl"):
        family_named("nonsense")
    with pytest.raises(ModelError, match=r"models of type 'nonsense'.*other_vl.*qwen3_vl"):
        family_of_type("nonsense")


@pytest.mark.filterwarnings("ignore:You are using a model of type")
def test_load_model_finds_a_registered_family(
    one_thread: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo_samples: dict[str, Sequence[Any]]
) -> None:
    """A model type of its own: transformers is told of its classes, Boxwright of its family, and it answers."""
    from transformers import AutoConfig, AutoModelForImageTextToText, Qwen3VLConfig, Qwen3VLForConditionalGeneration
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from grounding.predict import Predictor

    config_class = type("OtherVLConfig", (Qwen3VLConfig,), {"model_type": "other_vl"})
    model_class = type("OtherVLModel", (Qwen3VLForConditionalGeneration,), {"config_class": config_class})
    monkeypatch.setattr(CONFIG_MAPPING, "_extra_content", dict(CONFIG_MAPPING._extra_content))
    mapping = AutoModelForImageTextToText._model_mapping
    monkeypatch.setattr(mapping, "_extra_content", dict(mapping._extra_content))
    AutoConfig.register("other_vl", config_class)
    AutoModelForImageTextToText.register(config_class, model_class)
    folder = shutil.copytree(DEMO_MODEL_FOLDER, tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "other_vl"}))
    (folder / "boxwright.json").unlink()
    with pytest.raises(ModelError, match="does not know models of type 'other_vl'"):
        load_model(str(folder))
    family = register(new_family())
    loaded = load_model(str(folder))
    assert loaded.family is family
    assert type(loaded.model).__name__ == "OtherVLModel"
    assert loaded.profile.name == "other-demo"
    sample = next(sample for sample in demo_samples["train"] if sample.boxes_xyxy_px)
    with Image.open(sample.image) as opened:
        picture = opened.convert("RGB")
    phrase = f"the {sample.category}"
    ours, demo = (Predictor(one, tmp_path).predict(picture, phrase) for one in (loaded, load_model("demo")))
    assert (ours.raw_text, ours.boxes_xyxy_px) == (demo.raw_text, demo.boxes_xyxy_px)
