"""The lean training pass of every family that can be trained: logits and gradients of the stock forward under peft."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image
from small_models import LEAN_KINDS, Small, random_boxes

from grounding import engine
from grounding.formats.grid import GridFormat
from grounding.training import lean
from grounding.training.batches import BranchBuilder, PackedBatch, pack, packed_logits
from grounding.training.lean import StepLogits
from grounding.training.losses import LossWeights, answer_loss
from grounding.training.views import trainable

Loader = Callable[[str], tuple[Small, Any]]
ASKED = (("dog", 1), ("a 犬, 2nd", 2), ("cup", 0))  # phrase, boxes


def with_lora(loaded: Any, **settings: Any) -> Any:
    """A copy of the model with a LoRA of random weights on it, both matrices."""
    from peft import LoraConfig, get_peft_model

    model = copy.deepcopy(loaded.model).requires_grad_(False)
    config = LoraConfig(r=4, lora_alpha=6, target_modules=loaded.profile.lora_targets, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a property under its old name; a bias that can't be merged
        get_peft_model(model, config)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                weight.copy_(torch.randn(weight.shape, generator=generator) * (1.0 if "magnitude" in name else 0.2))
    return replace(loaded, model=model.train())


def batch_of(
    loaded: Any, pictures: Sequence[Image.Image], *, geometric: bool = True
) -> tuple[PackedBatch, list[engine.ImageFeatures]]:
    """Three pictures of different sizes with three, two and one phrases."""
    features = trainable(engine.encode_images(loaded, pictures[:3]))
    builder = BranchBuilder(loaded, geometric=geometric, soft_labels=2.0 if geometric else 0.0)
    branches = [
        [builder.branch(phrase, random_boxes(count, f.image_size_wh, count), f.frame) for phrase, count in ASKED[:many]]
        for f, many in zip(features, (3, 2, 1), strict=True)
    ]
    return pack(loaded, builder, features, branches), features


def gradients(loaded: Any, logits: torch.Tensor, batch: PackedBatch) -> dict[str, torch.Tensor]:
    weights = LossWeights(smooth_l1=1.0, giou=1.0) if batch.numbers is not None else None
    answer_loss(logits, batch, weights).total.backward()
    found = {name: weight.grad for name, weight in loaded.model.named_parameters() if weight.grad is not None}
    loaded.model.zero_grad(set_to_none=True)
    return found


def check_same(loaded: Any, batch: PackedBatch, features: Sequence[engine.ImageFeatures]) -> StepLogits:
    """Logits and gradients of both ways on this batch."""
    step_logits = StepLogits(loaded)
    ours, stock = step_logits(batch, features), packed_logits(loaded, batch, features)
    assert "lean pass that agrees" in step_logits.reason
    torch.testing.assert_close(ours, stock, rtol=1e-3, atol=1e-3)
    wanted = gradients(loaded, stock, batch)
    found = gradients(loaded, ours, batch)
    assert found.keys() == wanted.keys()
    assert found
    for name, expected in wanted.items():
        assert torch.allclose(found[name], expected, rtol=1e-2, atol=1e-3 * float(expected.abs().max()) + 1e-9), name
    return step_logits


@pytest.mark.parametrize("kind", LEAN_KINDS)
def test_logits_and_gradients_are_those_of_the_stock_forward(
    small: Loader, noise_pictures: Sequence[Image.Image], kind: str
) -> None:
    _, loaded = small(kind)
    trained = with_lora(loaded)
    fits = isinstance(loaded.profile.box_format, GridFormat) and kind != "internvl_joined_digits"
    try:
        batch, features = batch_of(trained, noise_pictures, geometric=fits)
    except engine.ModelError as error:  # a tokenizer that joins digits says so
        assert "joins" in str(error)
        batch, features = batch_of(trained, noise_pictures, geometric=False)
    check_same(trained, batch, features)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"use_dora": True}, id="DoRA"),
        pytest.param({"use_rslora": True}, id="rsLoRA"),
        pytest.param({"rank_pattern": {"q_proj": 2, "down_proj": 7}}, id="several ranks"),
        pytest.param({"exclude_modules": ["k_proj", "up_proj", "o_proj"]}, id="not on all layers"),
        pytest.param({"lora_bias": True}, id="a bias"),
    ],
)
def test_unusual_loras_give_the_same(
    small: Loader, noise_pictures: Sequence[Image.Image], settings: dict[str, Any]
) -> None:
    _, loaded = small("qwen3_vl")
    trained = with_lora(loaded, **settings)
    check_same(trained, *batch_of(trained, noise_pictures))


def test_gradient_checkpointing_gives_the_same(
    small: Loader, noise_pictures: Sequence[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, loaded = small("qwen3_vl")
    trained = with_lora(loaded)
    batch, features = batch_of(trained, noise_pictures)
    wanted = gradients(trained, StepLogits(trained)(batch, features), batch)
    trained.model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    passes = []
    layer = lean.LeanPass._layer
    monkeypatch.setattr(lean.LeanPass, "_layer", lambda *given: passes.append(1) or layer(*given))
    found = gradients(trained, StepLogits(trained)(batch, features), batch)
    assert len(passes) == 2 + 2 * 2  # the comparison, then each layer twice
    for name, expected in wanted.items():
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [pytest.param({}, id="plain"), pytest.param({"use_dora": True}, id="DoRA")])
def test_bfloat16_is_as_near_as_the_stock_forward_in_it(
    small: Loader, noise_pictures: Sequence[Image.Image], settings: dict[str, Any]
) -> None:
    _, loaded = small("qwen3_vl")
    trained = with_lora(loaded, **settings)
    batch, features = batch_of(trained, noise_pictures)
    with torch.no_grad():
        exact = packed_logits(trained, batch, features)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            stock, ours = packed_logits(trained, batch, features), StepLogits(trained)(batch, features)
    assert (ours.float() - exact).abs().mean() < 2 * (stock.float() - exact).abs().mean()


def test_dropout_is_left_to_the_modules(small: Loader, noise_pictures: Sequence[Image.Image]) -> None:
    """With dropout no two passes are alike: what counts is that it drops, and not when the model is asked."""
    _, loaded = small("qwen3_vl")
    trained = with_lora(loaded, lora_dropout=0.5)
    batch, features = batch_of(trained, noise_pictures)
    step_logits = StepLogits(trained)
    step_logits(batch, features)
    assert "lean pass that agrees" in step_logits.reason
    assert trained.model.training
    assert (step_logits(batch, features) - step_logits(batch, features)).abs().max() > 1e-3


def test_a_model_that_computes_otherwise_is_left_to_the_stock_forward(
    small: Loader, noise_pictures: Sequence[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, loaded = small("qwen3_vl")
    trained = with_lora(loaded)
    batch, features = batch_of(trained, noise_pictures)
    mlp = trained.model.model.language_model.layers[0].mlp
    real = type(mlp).forward
    monkeypatch.setattr(mlp, "forward", lambda states: real(mlp, states) * 1.5)
    step_logits = StepLogits(trained)
    assert torch.equal(step_logits(batch, features), packed_logits(trained, batch, features))
    assert "stock forward: the lean pass differs" in step_logits.reason
