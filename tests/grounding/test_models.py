"""Loading a base: the embedded one, and broken ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from grounding.errors import ModelError, SettingsError
from grounding.models import DEMO_MODEL_FOLDER, full_model_id, load_model, training_settings


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A copy of the embedded model, to be damaged."""
    return shutil.copytree(DEMO_MODEL_FOLDER, tmp_path / "model")


def set_config(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def cut_in_half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def failure(model_id: str | Path, **options: Any) -> str:
    """The message of the ModelError that loading ends in: one sentence or two in one line, without a trace."""
    with pytest.raises(ModelError) as caught:
        load_model(str(model_id), **options)
    message = str(caught.value)
    assert "\n" not in message and "Traceback" not in message and 'File "' not in message
    assert message.endswith(".") and ".. " not in message and "!. " not in message
    return message


def test_the_embedded_model_is_a_stock_qwen3_vl_in_float32_on_the_cpu(loaded: Any) -> None:
    assert type(loaded.model).__name__ == "Qwen3VLForConditionalGeneration"
    assert type(loaded.model).__module__.startswith("transformers.")
    assert loaded.model_id == "demo"
    assert loaded.profile.name == "qwen3-vl-demo"
    assert loaded.device == "cpu"
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.float32}
    assert not loaded.model.training
    assert loaded.processor.tokenizer.padding_side == "left"


def test_the_notes_say_what_was_chosen_and_why(loaded: Any) -> None:
    device_note, number_note = loaded.notes
    assert device_note == "cpu: no GPU was found."
    assert number_note.startswith("float32: ") and number_note.endswith(".")


def test_a_loaded_base_has_nothing_to_train(loaded: Any) -> None:
    assert not any(weight.requires_grad for weight in loaded.model.parameters())


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        pytest.param(lambda f: (f / "config.json").unlink(), "holds no config.json", id="no config"),
        pytest.param(lambda f: (f / "config.json").write_text("{ damaged"), "config.json is damaged", id="no JSON"),
        pytest.param(lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "config.json is damaged", id="bytes"),
        pytest.param(lambda f: (f / "config.json").write_text("[1]"), "config.json is damaged", id="a list"),
        pytest.param(lambda f: (f / "config.json").write_text("{}"), "config.json is damaged", id="no model_type"),
        pytest.param(lambda f: (f / "model.safetensors").unlink(), "model.safetensors", id="no weights"),
        pytest.param(lambda f: cut_in_half(f / "model.safetensors"), "not fully covered", id="weights cut short"),
        pytest.param(lambda f: (f / "model.safetensors").write_bytes(b""), "header too small", id="weights empty"),
        pytest.param(lambda f: (f / "tokenizer.json").write_text("{"), "can't be loaded", id="tokenizer cut short"),
        pytest.param(lambda f: (f / "tokenizer.json").unlink(), "tokenizer", id="no tokenizer"),
        pytest.param(lambda f: (f / "preprocessor_config.json").unlink(), "preprocessor_config", id="no preprocessor"),
        pytest.param(lambda f: (f / "chat_template.jinja").unlink(), "has no chat template", id="no chat template"),
        pytest.param(lambda f: (f / "boxwright.json").write_text("{"), "boxwright.json is damaged", id="profile file"),
        pytest.param(
            lambda f: (f / "boxwright.json").write_text('{"profile": "nonsense"}'),
            "qwen3-vl, qwen3-vl-demo, qwen3-vl-floats",
            id="unknown profile",
        ),
    ],
)
def test_a_broken_folder_is_told_in_a_sentence(
    model_folder: Path, damage: Callable[[Path], object], told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    damage(model_folder)
    message = failure(model_folder)
    assert told in message
    assert str(model_folder) in message or "named by boxwright.json" in message
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("model_type", ["llama", "wonder_vl"], ids=["known to transformers", "unknown to it too"])
def test_an_unknown_family_names_the_known_ones(model_folder: Path, model_type: str) -> None:
    (model_folder / "boxwright.json").unlink()
    set_config(model_folder, model_type=model_type)
    message = failure(model_folder)
    assert repr(model_type) in message
    assert "Known types: " in message and "qwen2_vl, qwen3_vl" in message


def test_a_profile_of_another_family_is_refused(model_folder: Path) -> None:
    set_config(model_folder, model_type="qwen2_vl")
    assert "is for qwen3_vl models, but this model is a 'qwen2_vl'" in failure(model_folder)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        pytest.param({"num_hidden_layers": 7}, "incomplete: 11 weights are missing", id="a layer too few"),
        pytest.param({"hidden_size": 128}, "other shapes than its config says", id="other shapes"),
    ],
)
def test_weights_that_do_not_fit_the_config(
    model_folder: Path, changed: dict[str, int], told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    text_config = json.loads((model_folder / "config.json").read_text())["text_config"]
    set_config(model_folder, text_config=text_config | changed)
    assert told in failure(model_folder)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "model_id",
    [
        "/nowhere/at/all",
        "./nowhere",
        "../nowhere",
        "~/nowhere-at-all",
        "~nobody-here/x",
        "a/b/c",
        "gpt2",
        pytest.param("x" * 5000, id="long"),
    ],
)
def test_a_folder_that_is_not_there(model_id: str) -> None:
    message = failure(model_id)
    assert f"There is no model folder {model_id[:200]}" in message
    assert full_model_id(model_id) == model_id
    assert "Hub id" in message and '"demo"' in message


def test_an_empty_folder_is_no_model(tmp_path: Path) -> None:
    assert f"{tmp_path} holds no config.json" in failure(tmp_path)


@pytest.mark.parametrize("model_id", ["models/nowhere", "a b/c?d"], ids=["a path or a Hub id", "no Hub id"])
def test_a_hub_id_that_cannot_be_had_offline(model_id: str) -> None:
    message = failure(model_id)
    assert repr(model_id) in message
    assert "the Hub can be reached" in message


def test_an_unknown_quantisation_names_the_known_ones() -> None:
    message = failure("demo", quantize="2bit")
    assert "'2bit'" in message and "none, 4bit, 8bit" in message


def test_a_local_folder_loads_like_the_embedded_model(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    monkeypatch.chdir(model_folder.parent)
    again = load_model("model")
    assert again.model_id == str(model_folder) == full_model_id("model") == full_model_id("./model")
    assert again.profile.name == "qwen3-vl-demo"


def test_a_folder_without_a_named_profile_takes_the_familys(model_folder: Path, one_thread: None) -> None:
    (model_folder / "boxwright.json").unlink()
    again = load_model(str(model_folder))
    assert again.profile.name == "qwen3-vl"
    size = again.processor.image_processor.size
    assert (size["shortest_edge"], size["longest_edge"]) == again.profile.pixel_budget


def test_settings_start_from_the_profiles_preset(model_folder: Path) -> None:
    (model_folder / "boxwright.json").unlink()
    by_family = training_settings(str(model_folder), {})
    on_the_hub = training_settings("Qwen/Qwen3-VL-2B-Instruct", {})
    assert by_family == on_the_hub
    assert by_family.learning_rate == 1e-4
    assert by_family != training_settings("demo", {})


def test_a_setting_given_beats_the_preset(model_folder: Path) -> None:
    (model_folder / "boxwright.json").unlink()
    given = training_settings(str(model_folder), {"learning_rate": "0.002", "steps": "7"})
    assert (given.learning_rate, given.steps) == (0.002, 7)


def test_settings_of_a_model_that_is_not_there() -> None:
    with pytest.raises(ModelError, match="no model folder /nowhere"):
        training_settings("/nowhere", {})


def test_settings_of_a_damaged_model(model_folder: Path) -> None:
    (model_folder / "config.json").write_text("{ damaged")
    with pytest.raises(ModelError, match=r"config\.json is damaged"):
        training_settings(str(model_folder), {})


def test_settings_of_an_unknown_name() -> None:
    with pytest.raises(SettingsError, match="no setting 'stepps'"):
        training_settings("demo", {"stepps": 3})
