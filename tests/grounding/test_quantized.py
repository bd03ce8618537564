"""Weights in 4 and 8 bits on the CPU: really quantised, still answering, trainable; full precision where it fails."""

from __future__ import annotations

import builtins
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from grounding import models
from grounding.attached import AttachedAdapters
from grounding.boxes import iou, set_iou
from grounding.decoding.settings import Decoding
from grounding.errors import ModelError
from grounding.families import family_named
from grounding.models import LoadedModel, load_model
from grounding.predict import Predictor
from grounding.records import Sample, Status
from grounding.snapshots import Snapshot
from grounding.training import run
from grounding.training.events import StepEvent, TrainEvent
from grounding.training.settings import TrainSettings

BITS = ("4bit", "8bit")
LAYER_TYPE = {"4bit": "Linear4bit", "8bit": "Linear8bitLt"}
SHARE_OF_FULL_PRECISION = {"4bit": 0.35, "8bit": 0.6}
QUESTION_COUNT = 8


@pytest.fixture(scope="module", params=BITS)
def bits(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def quantized(bits: str, one_thread: None) -> LoadedModel:
    loaded = load_model("demo", quantize=bits)
    return replace(loaded, profile=replace(loaded.profile, max_new_tokens=28))


@pytest.fixture(scope="module")
def small_predictor(quantized: LoadedModel, adapters: Path) -> Predictor:
    return Predictor(quantized, adapters)


@pytest.fixture(scope="module")
def untouched(one_thread: None) -> LoadedModel:
    """The embedded model in full precision, to itself: no adapter of another test is attached to it."""
    return load_model("demo")


def text_linears(loaded: LoadedModel) -> list[Any]:
    return [m for m in loaded.model.model.language_model.modules() if isinstance(m, torch.nn.Linear)]


def bytes_of(layer: Any) -> int:
    """Memory of one layer: its weights and the constants to read them with."""
    tensors = [layer.weight]
    if hasattr(layer.weight, "quant_state"):
        state = layer.weight.quant_state
        tensors += [state.absmax] + ([state.state2.absmax] if state.nested else [])
    elif hasattr(layer, "state"):
        tensors.append(layer.weight.SCB if layer.weight.SCB is not None else layer.state.SCB)
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def test_every_layer_but_the_output_is_quantised(quantized: LoadedModel, bits: str, untouched: LoadedModel) -> None:
    full = {name for name, module in untouched.model.named_modules() if type(module) is torch.nn.Linear}
    layers = {name: type(module).__name__ for name, module in quantized.model.named_modules() if name in full}
    assert full - {"lm_head"} and {layers[name] for name in full - {"lm_head"}} == {LAYER_TYPE[bits]}
    assert layers["lm_head"] == "Linear"
    assert quantized.quantize == bits
    assert type(quantized.model) is type(untouched.model)
    assert quantized.model.config.quantization_config.to_dict()[f"load_in_{bits}"] is True
    assert not any(weight.requires_grad for weight in quantized.model.parameters())
    assert f"{bits[0]}-bit weights (bitsandbytes" in quantized.notes[2]
    assert f"{len(full) - 1} layers are quantised" in quantized.notes[2]


def test_the_weights_take_a_part_of_the_memory(quantized: LoadedModel, bits: str, untouched: LoadedModel) -> None:
    full = sum(bytes_of(layer) for layer in text_linears(untouched))
    small = sum(bytes_of(layer) for layer in text_linears(quantized))
    assert full == sum(4 * layer.in_features * layer.out_features for layer in text_linears(untouched))
    assert {"4bit": 0.12, "8bit": 0.25}[bits] < small / full < SHARE_OF_FULL_PRECISION[bits]


def test_four_bits_are_nf4_quantised_twice(one_thread: None) -> None:
    loaded = load_model("demo", quantize="4bit", trainable=True)  # a form that nothing repacks
    config = loaded.model.config.quantization_config
    assert (config.bnb_4bit_quant_type, config.bnb_4bit_use_double_quant) == ("nf4", True)
    assert config.bnb_4bit_compute_dtype == torch.float32
    for layer in text_linears(loaded):
        state = layer.weight.quant_state
        assert (state.quant_type, state.nested, state.blocksize) == ("nf4", True, 64)
        assert state.state2.blocksize == 256 and state.absmax.dtype == torch.uint8
        assert layer.weight.dtype == torch.uint8 and layer.compute_dtype == torch.float32
        assert tuple(state.shape) == (layer.out_features, layer.in_features)


def test_boxes_overlap_those_of_full_precision(
    small_predictor: Predictor, predictor: Predictor, questions: Sequence[tuple[Path, str]]
) -> None:
    full, small = predictor.predict_many(questions), small_predictor.predict_many(questions)
    assert len(questions) == QUESTION_COUNT
    found = [(a.boxes_xyxy_px[0], b.boxes_xyxy_px[0]) for a, b in zip(full, small, strict=True) if b.boxes_xyxy_px]
    assert sum(iou(*pair) > 0.5 for pair in found) >= QUESTION_COUNT - 2
    assert [a.raw_text for a in full] != [b.raw_text for b in small], "rounding shows somewhere"


def test_the_fast_pass_agrees_with_the_stock_one(
    small_predictor: Predictor, questions: Sequence[tuple[Path, str]]
) -> None:
    assert small_predictor._answerer._fast is not None, small_predictor.load_notes
    assert small_predictor.load_notes == small_predictor.loaded.notes
    fast = small_predictor.predict_many(questions)
    stock = small_predictor.predict_many(questions, decoding=Decoding(mode="free"))
    pairs = [(a, b) for a, b in zip(fast, stock, strict=True) if a.status is b.status is Status.OK]
    assert len(pairs) >= QUESTION_COUNT - 2
    assert all(iou(a.boxes_xyxy_px[0], b.boxes_xyxy_px[0]) > 0.9 for a, b in pairs)


def test_an_adapter_on_quantised_weights(
    small_predictor: Predictor,
    questions: Sequence[tuple[Path, str]],
    make_adapter: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    bits: str,
) -> None:
    """The fast pass and peft give the same answers, others than the base; the base is itself again afterwards."""
    name = f"quantised-{bits}"
    make_adapter(name, seed=3)
    base = small_predictor.predict_many(questions)
    before = [answer.raw_text for answer in base]
    fast = small_predictor.predict_many(questions, name)
    (factors,) = small_predictor._answerer.adapters._factors.values()
    with monkeypatch.context() as patch:
        patch.setattr(AttachedAdapters, "factors", lambda self, info: None)
        through_peft = small_predictor.predict_many(questions, name)
    after = small_predictor.predict_many(questions)
    # bitsandbytes may compute a weight in another layout after peft has touched it: a digit may differ, no box does.
    assert all(set_iou(a.boxes, b.boxes) > 0.8 for a, b in zip(after, base, strict=True))
    assert [answer.raw_text for answer in fast] != before
    same = sum(a.raw_text == b.raw_text for a, b in zip(fast, through_peft, strict=True))
    assert same >= QUESTION_COUNT - 2
    assert {part.dtype for pair in factors.factors.values() for part in pair} == {torch.float32}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_on_quantised_weights(
    bits: str,
    dtype: torch.dtype,
    tiny_samples: Sequence[Sample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    one_thread: None,
) -> None:
    """Every LoRA weight learns: where gradients are cut off, the early layers' B stays zero."""
    from safetensors.torch import load_file

    monkeypatch.setattr(models, "choose_device", lambda *given: ("cpu", dtype, ["cpu.", "a type."]))
    settings = TrainSettings(
        steps=2, images_per_step=2, phrases_per_image=2, score_samples=2, score_every_steps=1, augment=False
    )
    snapshot = Snapshot("tiny", tmp_path, "0" * 64, tuple(tiny_samples))
    plan = run.TrainPlan("mugs", snapshot, "demo", bits, settings, tmp_path / "adapters" / "mugs", run_id="run-1")
    plan.adapter_folder.parent.mkdir()
    events: list[TrainEvent] = []
    info = run.train(plan, events.append, lambda: False)
    losses = [event.loss for event in events if isinstance(event, StepEvent)]
    assert len(losses) == 2 and 0 < losses[0] < 5
    weights = load_file(info.path / "adapter_model.safetensors")
    ups = [weight for name, weight in weights.items() if "lora_B" in name]
    assert len(ups) == 42 and all(weight.abs().max() > 0 for weight in ups)


def test_the_first_gradients_are_close_to_those_of_full_precision(
    bits: str, tiny_samples: Sequence[Sample], tmp_path: Path, one_thread: None
) -> None:
    """After one step from zero, B moves against the gradient's sign: most signs are those of full precision."""
    from safetensors.torch import load_file

    settings = TrainSettings(
        steps=1, images_per_step=2, phrases_per_image=2, score_samples=1, warmup_share=0.0, augment=False
    )
    moved = {}
    for quantize in ("none", bits):
        snapshot = Snapshot("tiny", tmp_path, "0" * 64, tuple(tiny_samples))
        plan = run.TrainPlan("mugs", snapshot, "demo", quantize, settings, tmp_path / f"on-{quantize}", run_id=quantize)
        info = run.train(plan, lambda event: None, lambda: False)
        weights = load_file(info.path / "adapter_model.safetensors")
        moved[quantize] = torch.cat([w.flatten().sign() for name, w in sorted(weights.items()) if "lora_B" in name])
    assert (moved["none"] == moved[bits]).float().mean() > {"4bit": 0.75, "8bit": 0.85}[bits]


def failing_forward(error: Exception) -> Callable[..., Any]:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        raise error

    return forward


def fell_back(bits: str, reason: str, **options: Any) -> None:
    again = load_model("demo", quantize=bits, **options)
    assert again.notes[-1].startswith(f"Full precision instead of {bits}: ")
    assert reason in again.notes[-1] and again.notes[-1].endswith(".") and "\n" not in again.notes[-1]
    assert again.quantize == "none"
    assert {type(layer) for layer in text_linears(again)} == {torch.nn.Linear}
    assert not any(weight.requires_grad for weight in again.model.parameters())


def test_without_bitsandbytes(bits: str, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    fell_back(bits, "bitsandbytes does not work on this machine")


def test_kept_features_are_told_apart_by_what_the_weights_are(
    bits: str, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    """Not by what was asked for: those of full precision must not pass for others once bitsandbytes works."""
    quantised = load_model("demo", quantize=bits).fingerprint
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    assert load_model("demo", quantize=bits).fingerprint == load_model("demo").fingerprint != quantised


@pytest.mark.parametrize("error", [RuntimeError("no CUDA set-up\nsecond line"), OSError("libcudart.so is missing")])
def test_with_a_bitsandbytes_that_raises(error: Exception, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    real = builtins.__import__

    def importing(name: str, *rest: Any, **named: Any) -> Any:
        if name == "bitsandbytes":
            raise error
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", importing)
    fell_back("4bit", str(error).splitlines()[0])


def test_on_a_device_that_it_does_not_know(bits: str, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    import bitsandbytes

    monkeypatch.setattr(bitsandbytes, "supported_torch_devices", {"cuda"})
    fell_back(bits, "bitsandbytes does not know the device 'cpu'")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NotImplementedError("no kernel for float32"), "no kernel for float32"),
        (AssertionError("N must be divisible by block_n"), "N must be divisible by block_n"),
        (RuntimeError(), "RuntimeError"),
    ],
    ids=["number type", "shape", "no words"],
)
def test_where_a_product_fails(
    bits: str, error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    import bitsandbytes

    monkeypatch.setattr(getattr(bitsandbytes.nn, LAYER_TYPE[bits]), "forward", failing_forward(error))
    fell_back(bits, reason)


def test_where_a_product_overflows(bits: str, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    import bitsandbytes

    kind = getattr(bitsandbytes.nn, LAYER_TYPE[bits])
    monkeypatch.setattr(kind, "forward", lambda self, x: torch.full((len(x), self.out_features), torch.inf))
    fell_back(bits, "no finite numbers")


def test_where_loading_fails(bits: str, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer
    from transformers.quantizers.quantizer_bnb_8bit import Bnb8BitHfQuantizer

    def refuse(self: Any, *args: Any, **named: Any) -> None:
        raise ImportError("accelerate is too old")

    for quantizer in (Bnb4BitHfQuantizer, Bnb8BitHfQuantizer):
        monkeypatch.setattr(quantizer, "validate_environment", refuse)
    fell_back(bits, "accelerate is too old")


def test_settings_that_are_not_accepted(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    import transformers

    real = transformers.BitsAndBytesConfig

    def without_double(**options: Any) -> Any:
        return real(**{**options, "bnb_4bit_use_double_quant": False})

    monkeypatch.setattr(transformers, "BitsAndBytesConfig", without_double)
    fell_back("4bit", "did not accept the settings")


def test_a_broken_model_is_broken_in_every_precision(bits: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3_vl"}))
    with pytest.raises(ModelError, match="can't be loaded"):
        load_model(str(tmp_path), quantize=bits)


@pytest.mark.parametrize(
    ("device", "quantize", "told"),
    [("mps", "4bit", "double quantisation)."), ("mps", "8bit", "slower than full precision"), ("cuda:1", "8bit", ").")],
)
def test_an_apple_gpu_may_have_both(device: str, quantize: str, told: str) -> None:
    where = models._Placement(family_named("qwen3_vl"), device, torch.float32)
    config, note = models._quantization(quantize, where)
    assert getattr(config, f"load_in_{quantize}")
    assert note.endswith(told) or told in note
    assert ("slower" in note) == ((device, quantize) == ("mps", "8bit"))
