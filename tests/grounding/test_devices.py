"""Where models compute and in which numbers; a base in bfloat16 on a processor, from its folder to a merged adapter."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from grounding.adapters import AdapterRegistry, merge
from grounding.boxes import set_iou
from grounding.devices import choose_device, stored_numbers
from grounding.models import load_model
from grounding.predict import Predictor
from grounding.records import Sample
from grounding.snapshots import Snapshot
from grounding.training import run
from grounding.training.events import ScoreEvent
from grounding.training.settings import TrainSettings
from grounding.workspace import Workspace


def fake_torch(*, cuda: bool = False, mps: bool = False, bf16: bool = True, cpu: str = "") -> SimpleNamespace:
    return SimpleNamespace(
        cpu=SimpleNamespace(get_capabilities=lambda: {"avx2": True, "amx_bf16": False, **({cpu: True} if cpu else {})}),
        bfloat16="bfloat16",
        float32="float32",
        cuda=SimpleNamespace(
            is_available=lambda: cuda,
            get_device_name=lambda index: "H100",
            is_bf16_supported=lambda including_emulation: bf16 or including_emulation,
        ),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: mps)),
    )


@pytest.mark.parametrize(
    ("machine", "asked", "device", "dtype", "why"),
    [
        pytest.param(fake_torch(cuda=True), None, "cuda", "bfloat16", "a GPU was found (H100)", id="GPU"),
        pytest.param(fake_torch(cuda=True, bf16=False), None, "cuda", "float32", "a GPU was found", id="old GPU"),
        pytest.param(fake_torch(cuda=True, mps=True), None, "cuda", "bfloat16", "a GPU was found", id="both"),
        pytest.param(fake_torch(mps=True), None, "mps", "float32", "an Apple GPU was found", id="Mac"),
        pytest.param(fake_torch(), None, "cpu", "float32", "no GPU was found", id="CPU"),
        pytest.param(fake_torch(cuda=True), "cpu", "cpu", "float32", "it was asked for", id="CPU asked for"),
        pytest.param(fake_torch(cuda=True), "cuda:1", "cuda:1", "bfloat16", "it was asked for", id="GPU asked for"),
    ],
)
def test_choose_device(machine: Any, asked: str | None, device: str, dtype: str, why: str) -> None:
    chosen, number_type, notes = choose_device(machine, asked)
    assert (chosen, number_type) == (device, dtype)
    assert notes[0].startswith(f"{device}: {why}")
    assert notes[1].startswith(dtype)


@pytest.mark.parametrize(
    ("machine", "asked", "stored", "note"),
    [
        (fake_torch(cpu="avx512_bf16"), None, "bfloat16", "bfloat16: as its files, and this processor has AVX-512 in"),
        (fake_torch(cpu="amx_bf16"), None, "bfloat16", "bfloat16: as its files, and this processor has AMX instructio"),
        (fake_torch(cuda=True, cpu="amx_bf16"), "cpu", "bfloat16", "bfloat16: as its files"),
        (fake_torch(), None, "bfloat16", "float32: float16 overflows in training and bfloat16 is slow here."),
        (
            fake_torch(cpu="amx_bf16"),
            None,
            "float16",
            "float32: float16 overflows in training and bfloat16 would round",
        ),
        (fake_torch(cpu="amx_bf16"), None, "float32", "float32: as its files."),
        (fake_torch(cpu="amx_bf16"), None, "", "float32: float16 overflows in training and bfloat16 would"),
        (fake_torch(mps=True, cpu="amx_bf16"), None, "bfloat16", "float32: float16 overflows in training and bfl"),
        (fake_torch(cuda=True, bf16=False, cpu="amx_bf16"), None, "bfloat16", "float32: float16 overflows in training"),
    ],
)
def test_a_processor_computes_in_bfloat16_what_is_stored_so(
    machine: Any, asked: str | None, stored: str, note: str
) -> None:
    _, number_type, notes = choose_device(machine, asked, stored)
    assert notes[1].startswith(note)
    assert notes[1].startswith(f"{number_type}: ")


@pytest.mark.parametrize(
    ("says", "stored"),
    [
        ({"dtype": "bfloat16"}, "bfloat16"),
        ({"dtype": "float16", "text_config": {"dtype": "bfloat16"}}, "float16"),
        ({"text_config": {"dtype": "bfloat16"}}, "bfloat16"),
        ({}, ""),
    ],
)
def test_the_numbers_of_a_models_files(says: dict[str, Any], stored: str) -> None:
    from transformers import Qwen3VLConfig

    assert stored_numbers(Qwen3VLConfig.from_dict({"model_type": "qwen3_vl", **says})) == stored


@pytest.fixture
def stored_base(loaded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The embedded model as Qwen's own are stored: in bfloat16, which the config says of the language model alone.
    On a processor with instructions for it, whatever this one has."""
    from transformers import AutoConfig, Qwen3VLForConditionalGeneration

    from grounding.models import DEMO_MODEL_FOLDER

    folder = tmp_path / "stored"
    model: Any = Qwen3VLForConditionalGeneration.from_pretrained(str(DEMO_MODEL_FOLDER), dtype=torch.bfloat16)
    model.save_pretrained(str(folder))
    loaded.processor.save_pretrained(str(folder))
    (folder / "boxwright.json").write_text(json.dumps({"profile": loaded.profile.name}))
    config = json.loads((folder / "config.json").read_text())
    assert config.pop("dtype") == "bfloat16"
    (folder / "config.json").write_text(json.dumps(config))
    assert AutoConfig.from_pretrained(str(folder)).dtype is None
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    return folder


def test_a_base_in_bfloat16_answers_and_learns_on_a_processor(
    stored_base: Path, predictor: Predictor, tiny_samples: Sequence[Sample], own_workspace: Path
) -> None:
    base = load_model(str(stored_base))
    assert base.notes[1] == "bfloat16: as its files, and this processor has AVX-512 instructions for it."
    assert {weight.dtype for weight in base.model.parameters()} == {torch.bfloat16}
    workspace = Workspace(own_workspace)
    workspace.adapters.mkdir(parents=True)
    asked = [(sample.image, sample.phrase) for sample in tiny_samples]
    answers = Predictor(base, workspace.adapters).predict_many(asked)
    exact = predictor.predict_many(asked)
    same = [set_iou(own.boxes_xyxy_px, other.boxes_xyxy_px) > 0.9 for own, other in zip(answers, exact, strict=True)]
    assert sum(same) >= len(same) - 1

    settings = TrainSettings(
        steps=2, images_per_step=2, phrases_per_image=2, score_samples=2, score_every_steps=1, augment=False
    )
    snapshot = Snapshot("tiny", own_workspace, "0" * 64, tuple(tiny_samples))
    plan = run.TrainPlan("mugs", snapshot, str(stored_base), "none", settings, workspace.adapters / "mugs", run_id="r")
    told: list[Any] = []
    run.train(plan, told.append, lambda: False)
    assert [event.step for event in told if isinstance(event, ScoreEvent)] == [0, 1, 2]
    learned = Predictor(base, workspace.adapters).predict_many(asked[:2], "mugs")
    assert len(learned) == 2


def test_a_merge_is_summed_in_float32(stored_base: Path, make_adapter: Any, tmp_path: Path) -> None:
    """Rounded once, when it is written."""

    from safetensors.torch import load_file

    made = make_adapter("mugs", seed=3, base=str(stored_base))
    info = AdapterRegistry(made.parent).find("mugs")
    assert merge._write(info, tmp_path / "rounded", None) == "bfloat16", "the numbers of the base's files"
    merge._write(info, tmp_path / "exact", "float32")
    rounded, exact = (load_file(tmp_path / name / "model.safetensors") for name in ("rounded", "exact"))
    assert {weight.dtype for weight in rounded.values()} == {torch.bfloat16}
    assert {weight.dtype for weight in exact.values()} == {torch.float32}
    assert all(torch.equal(exact[name].bfloat16(), weight) for name, weight in rounded.items())
    before = load_file(stored_base / "model.safetensors")
    changed = [name for name, weight in exact.items() if not torch.equal(weight, before[name].float())]
    assert changed and any(not torch.equal(exact[name].bfloat16().float(), exact[name]) for name in changed)
