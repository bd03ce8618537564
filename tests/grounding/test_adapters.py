"""The registry of adapters: finished ones only, the newest first, by name or by folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from grounding.adapters import MANIFEST, AdapterInfo, AdapterRegistry
from grounding.adapters.provenance import check_base_files, folder_sha256
from grounding.errors import AdapterError
from grounding.profiles import PROFILE_FILE


@pytest.fixture
def registry(tmp_path: Path) -> AdapterRegistry:
    return AdapterRegistry(tmp_path / "adapters")


def add(folder: Path, name: str, created_at: str = "2026-01-01T00:00:00+00:00", **more: Any) -> AdapterInfo:
    (folder / name).mkdir(parents=True)
    info = AdapterInfo(name, folder / name, "demo", "qwen3-vl-demo", created_at, **more)
    info.save()
    return info


def test_what_is_saved_is_loaded(registry: AdapterRegistry) -> None:
    info = add(
        registry.folder,
        "tools-v1",
        snapshot="first",
        snapshot_sha256="ab" * 32,
        run_id="20260101T000000-abcdef",
        steps=440,
        settings=MappingProxyType({"steps": 440, "learning_rate": 1.5e-3, "use_alternatives": True}),
        scores=MappingProxyType({"mean_iou": 0.5, "count": 100}),
        versions=MappingProxyType({"torch": "2.14.1"}),
    )
    assert AdapterInfo.load(info.path) == info
    assert registry.find("tools-v1") == info
    assert registry.list() == [info]
    assert [path.name for path in info.path.iterdir()] == [MANIFEST], "nothing half-written is left behind"


def test_a_manifest_can_be_read_without_boxwright(registry: AdapterRegistry) -> None:
    info = add(registry.folder, "tools-v1", settings=MappingProxyType({"digit_weights": (3.0, 2.0, 0.4)}))
    values = json.loads((info.path / MANIFEST).read_text(encoding="utf-8"))
    assert values["format"] == "boxwright-adapter/1"
    assert (values["name"], values["base"], values["profile"]) == ("tools-v1", "demo", "qwen3-vl-demo")
    assert values["settings"] == {"digit_weights": [3.0, 2.0, 0.4]}
    assert "path" not in values, "the folder may move"


def test_saving_again_replaces_what_was_said(registry: AdapterRegistry) -> None:
    add(registry.folder, "a").save()
    AdapterInfo("a", registry.folder / "a", "demo", "p", "2026-02-02T00:00:00+00:00", steps=7).save()
    assert registry.find("a").steps == 7


def test_the_newest_comes_first(registry: AdapterRegistry) -> None:
    assert registry.list() == []
    add(registry.folder, "old", "2026-01-01T00:00:00+00:00")
    add(registry.folder, "new", "2026-03-01T00:00:00+00:00")
    add(registry.folder, "middle", "2026-02-01T00:00:00+00:00")
    add(registry.folder, "middle-too", "2026-02-01T00:00:00+00:00")
    assert [info.name for info in registry.list()] == ["new", "middle-too", "middle", "old"]


def test_an_adapter_without_its_manifest_is_not_there_yet(registry: AdapterRegistry) -> None:
    (registry.folder / "half").mkdir(parents=True)
    (registry.folder / "half" / "adapter_model.safetensors").touch()
    (registry.folder / "half" / f"{MANIFEST}.partial").touch()
    (registry.folder / "a-file").touch()
    assert registry.list() == []
    with pytest.raises(AdapterError, match=r"There is no adapter 'half'. Adapters here: none yet"):
        registry.find("half")
    with pytest.raises(AdapterError, match=r"no finished adapter at .*half: expected a folder with adapter.json"):
        AdapterInfo.load(registry.folder / "half")


@pytest.mark.parametrize(
    ("case", "content"),
    [
        ("empty", b""),
        ("cut short", b'{"format": "boxwright-adapter/1", "name": '),
        ("not UTF-8", b"\xff\xfe"),
        ("null", b"null"),
        ("a list", b"[]"),
        ("a text", b'"adapter"'),
        ("an object without anything", b"{}"),
        ("PEFT's own", b'{"peft_type": "LORA", "r": 16}'),
        ("no time", b'{"format": "boxwright-adapter/1", "name": "a", "base": "demo", "profile": "p"}'),
        (
            "a time that is a number",
            b'{"format": "boxwright-adapter/1", "name": "a", "base": "demo", "profile": "p", "created_at": 5}',
        ),
        (
            "an unknown key",
            b'{"format": "boxwright-adapter/1", "name": "a", "base": "demo", "profile": "p", '
            b'"created_at": "2026-01-01", "speed": 1}',
        ),
        (
            "a path of its own",
            b'{"format": "boxwright-adapter/1", "name": "a", "base": "demo", "profile": "p", '
            b'"created_at": "2026-01-01", "path": "/etc"}',
        ),
    ],
)
def test_a_damaged_adapter_is_left_out_and_named_when_asked_for(
    registry: AdapterRegistry, case: str, content: bytes
) -> None:
    good = add(registry.folder, "good")
    bad = add(registry.folder, "bad")
    (bad.path / MANIFEST).write_bytes(content)
    assert registry.list() == [good]
    with pytest.raises(AdapterError, match=r"bad/adapter\.json is damaged \(.*\)\. Train the adapter again"):
        registry.find("bad")


def test_an_adapter_by_its_folder(registry: AdapterRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = add(tmp_path / "elsewhere", "tools-v2")
    assert registry.find(str(info.path)) == info
    monkeypatch.chdir(tmp_path)
    assert registry.find("elsewhere/tools-v2").path == info.path.resolve()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert registry.find("~/elsewhere/tools-v2").path == info.path.resolve()


def test_a_name_in_the_workspace_wins_over_a_folder_here(
    registry: AdapterRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path, "a", steps=1)
    add(registry.folder, "a", steps=2)
    monkeypatch.chdir(tmp_path)
    assert registry.find("a").steps == 2
    assert registry.find("./a").steps == 2, "the same name, written otherwise"
    assert registry.find(str(tmp_path / "a")).steps == 1


def test_a_renamed_folder_is_found_under_its_new_name(registry: AdapterRegistry) -> None:
    info = add(registry.folder, "adapter-1")
    info.path.rename(registry.folder / "mugs")
    assert [found.name for found in registry.list()] == ["mugs"]
    assert all(registry.find(found.name) == found for found in registry.list())
    with pytest.raises(AdapterError, match=r"There is no adapter 'adapter-1'. Adapters here: mugs"):
        registry.find("adapter-1")


def test_a_name_does_not_lead_out_of_the_workspace(
    registry: AdapterRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path, "x")
    add(registry.folder, "good")
    monkeypatch.chdir(registry.folder.parent.parent)
    for name in ("../x", "good/../../x", "x/", "x/."):
        with pytest.raises(AdapterError, match=r"Adapters here: good"):
            registry.find(name)


@pytest.mark.parametrize("name", ["", ".", "gone", "~nobody-of-this-name", "nul\0character", "x" * 5000])
def test_an_unknown_adapter_is_a_sentence(
    registry: AdapterRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    add(registry.folder, "good")
    with pytest.raises(AdapterError, match=r"There is no adapter") as caught:
        registry.find(name)
    assert repr(name)[:40] in str(caught.value)


def model_folder(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"the weights")
    (folder / "README.md").write_text("a card", encoding="utf-8")
    return folder


def test_the_digest_of_a_base_is_of_what_answers(tmp_path: Path) -> None:
    base, copied = model_folder(tmp_path / "base"), model_folder(tmp_path / "copied")
    first = folder_sha256(base)
    assert folder_sha256(copied) == first, "wherever it stands"
    (base / "README.md").write_text("another card", encoding="utf-8")
    (base / PROFILE_FILE).write_text('{"calibration": {}}', encoding="utf-8")
    assert folder_sha256(base) == first, "neither a card nor a calibration changes the answers"
    (base / "model.safetensors").write_bytes(b"other weights")
    changed = folder_sha256(base)
    (base / "tokenizer.json").write_text("{}", encoding="utf-8")
    assert len({first, changed, folder_sha256(base)}) == 3


def test_an_adapter_is_held_against_the_files_of_its_base(tmp_path: Path, registry: AdapterRegistry) -> None:
    base = model_folder(tmp_path / "base")
    (base / PROFILE_FILE).write_text("{}", encoding="utf-8")
    names = ("boxwright.json", "config.json", "model.safetensors")
    told = "".join(f"{name}\0{hashlib.sha256((base / name).read_bytes()).hexdigest()}\n" for name in names)
    every_file = hashlib.sha256(told.encode()).hexdigest()
    kinds = {"own": folder_sha256(base), "of before 2026-12": every_file, "unknown": ""}
    infos = [replace(add(registry.folder, kind), base=str(base), base_sha256=sha256) for kind, sha256 in kinds.items()]
    for info in infos:
        check_base_files(info)
    (base / "model.safetensors").write_bytes(b"other weights")
    for info in infos[:2]:
        with pytest.raises(AdapterError, match=f"base of {info.name!r} in .* was changed since"):
            check_base_files(info)
    check_base_files(infos[2])
    check_base_files(replace(infos[0], base="Qwen/Qwen3-VL-2B-Instruct"))
