"""Packed training batches against the stock model with its own labels; see test_packing for what is supervised."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from grounding import engine
from grounding.boxes import Box
from grounding.errors import ModelError
from grounding.formats import Frame
from grounding.records import Sample
from grounding.training.batches import Branch, BranchBuilder, PackedBatch, pack, packed_logits
from grounding.training.views import trainable
from plain_loss import plain_loss

Target = tuple[str, tuple[Box, ...]]
SQUARE: list[Target] = [
    ("the shoe", (Box(117, 9, 222, 113),)),
    ("every light bulb and every shoe", (Box(16, 78, 47, 127), Box(117, 9, 222, 113))),
    ("a unicorn", ()),
]
OBLONG: list[Target] = [("the small shoe on the right", (Box(77.5, 9, 182, 113.3),)), ("x", ())]
IGNORED = -100


@pytest.fixture(scope="module")
def pictures(demo_samples: dict[str, list[Sample]], oblong_picture: Image.Image) -> list[Image.Image]:
    """256 x 256 and 192 x 256 pixels: 64 and 48 visual tokens."""
    with Image.open(demo_samples["train"][0].image) as square:
        return [square.convert("RGB"), oblong_picture]


def stock_inputs(loaded: Any, picture: Image.Image, target: Target) -> dict[str, torch.Tensor]:
    """The stock processor's tensors for the whole chat, markup written by hand; labels on the answer and its end."""
    phrase, boxes = target
    answer = loaded.profile.box_format.encode(boxes, Frame(picture.size), phrase)
    chat = (
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>"
        f"Locate {phrase} in this image and output the bbox coordinates in JSON format.<|im_end|>\n"
        f"<|im_start|>assistant\n{answer}<|im_end|>"
    )
    inputs = dict(loaded.processor(text=[chat], images=[picture], return_tensors="pt"))
    answer_ids = loaded.processor.tokenizer(answer, add_special_tokens=False)["input_ids"]
    labels = torch.full_like(inputs["input_ids"], IGNORED)
    labels[0, -len(answer_ids) - 1 :] = inputs["input_ids"][0, -len(answer_ids) - 1 :]
    return inputs | {"labels": labels}


def packed(
    loaded: Any, pictures: list[Image.Image], targets: list[list[Target]]
) -> tuple[PackedBatch, list[engine.ImageFeatures], list[list[Branch]]]:
    builder = BranchBuilder(loaded)
    features = trainable(engine.encode_images(loaded, pictures))
    branches = [
        [builder.branch(phrase, boxes, Frame(feature.image_size_wh)) for phrase, boxes in row]
        for row, feature in zip(targets, features, strict=True)
    ]
    return pack(loaded, builder, features, branches), features, branches


@pytest.mark.parametrize(
    "targets",
    [
        pytest.param([SQUARE, OBLONG], id="three and two branches"),
        pytest.param([SQUARE[:1], OBLONG], id="one and two"),
        pytest.param([SQUARE[1:2], OBLONG[1:]], id="one long and one short"),
    ],
)
def test_the_loss_of_each_branch_is_the_stock_models(
    loaded: Any, pictures: list[Image.Image], targets: list[list[Target]]
) -> None:
    batch, features, branches = packed(loaded, pictures, targets)
    with torch.no_grad():
        logits = packed_logits(loaded, batch, features)
    at = 0
    for picture, row, row_branches in zip(pictures, targets, branches, strict=True):
        for target, branch in zip(row, row_branches, strict=True):
            with torch.no_grad():
                expected = loaded.model(**stock_inputs(loaded, picture, target)).loss
            part = slice(at, at + branch.supervised)
            ours = plain_loss(logits[part], batch.target_ids[part], batch.token_weights[part])
            assert ours.item() == pytest.approx(expected.item(), abs=1e-4), target
            at += branch.supervised
    assert at == len(batch.target_ids)


def test_the_loss_of_a_batch_is_the_mean_over_all_its_answers_tokens(loaded: Any, pictures: list[Image.Image]) -> None:
    batch, features, _ = packed(loaded, pictures, [SQUARE, OBLONG])
    total, count = 0.0, 0
    with torch.no_grad():
        ours = plain_loss(packed_logits(loaded, batch, features), batch.target_ids, batch.token_weights)
        for picture, row in zip(pictures, [SQUARE, OBLONG], strict=True):
            for target in row:
                inputs = stock_inputs(loaded, picture, target)
                supervised = int((inputs["labels"] != IGNORED).sum())
                total += loaded.model(**inputs).loss.item() * supervised
                count += supervised
    assert ours.item() == pytest.approx(total / count, abs=1e-4)


def test_positions_are_the_stock_models(loaded: Any, pictures: list[Image.Image]) -> None:
    batch, features, branches = packed(loaded, pictures, [SQUARE, OBLONG])
    builder = BranchBuilder(loaded)
    for i, (picture, row) in enumerate(zip(pictures, [SQUARE, OBLONG], strict=True)):
        start = prefix = len(builder.prefix_ids(features[i].visual_tokens))
        for target, branch in zip(row, branches[i], strict=True):
            inputs = stock_inputs(loaded, picture, target)
            stock, _ = loaded.model.model.get_rope_index(
                inputs["input_ids"],
                mm_token_type_ids=inputs["mm_token_type_ids"],
                image_grid_thw=inputs["image_grid_thw"],
            )
            stop = start + len(branch.token_ids)
            assert torch.equal(batch.input_ids[i, :prefix], inputs["input_ids"][0, :prefix])
            assert torch.equal(batch.input_ids[i, start:stop], inputs["input_ids"][0, prefix:])
            assert torch.equal(batch.position_ids[:, i, :prefix], stock[:, 0, :prefix])
            assert torch.equal(batch.position_ids[:, i, start:stop], stock[:, 0, prefix:])
            start = stop


def test_a_branch_looks_at_the_prefix_and_its_own_past_alone(loaded: Any, pictures: list[Image.Image]) -> None:
    batch, features, branches = packed(loaded, pictures, [SQUARE, OBLONG])
    builder = BranchBuilder(loaded)
    for i, row in enumerate(branches):
        owner = [-1] * len(builder.prefix_ids(features[i].visual_tokens))
        for number, branch in enumerate(row):
            owner += [number] * len(branch.token_ids)
        for at, mine in enumerate(owner):
            expected = {j for j in range(at + 1) if owner[j] in (-1, mine)}
            assert set(batch.attention_mask[i, 0, at].nonzero().flatten().tolist()) == expected
        padding = range(len(owner), batch.input_ids.shape[1])
        assert all(batch.attention_mask[i, 0, at].nonzero().tolist() == [[at]] for at in padding)
    assert batch.visual_mask.sum(dim=1).tolist() == [64, 48]


def test_gradients_reach_lora_in_the_language_model_and_nothing_else(
    lora_model: Any, loaded: Any, pictures: list[Image.Image]
) -> None:
    trained = replace(loaded, model=lora_model.base_model.model)
    batch, features, _ = packed(trained, pictures, [SQUARE, OBLONG])
    loss = plain_loss(packed_logits(trained, batch, features), batch.target_ids, batch.token_weights)
    loss.backward()
    reached = {name for name, weight in lora_model.named_parameters() if weight.grad is not None}
    lora = {name for name, _ in lora_model.named_parameters() if "lora_" in name}
    assert reached == lora
    assert all(".language_model." in name for name in reached)
    assert len(reached) == 6 * 7 * 2  # layers, linears, A and B
    moved = [weight.grad.abs().max().item() for name, weight in lora_model.named_parameters() if name in reached]
    lora_model.zero_grad(set_to_none=True)
    assert max(moved) > 0


@pytest.mark.parametrize("ends", [[0, 2], [2, 0], 2])
def test_an_answer_closes_with_the_chats_own_end_token(loaded: Any, ends: Any) -> None:
    """Qwen3-VL stops at <|im_end|> and at <|endoftext|>, but its chat, and so its base, writes the first."""
    several = SimpleNamespace(config=loaded.model.config, generation_config=SimpleNamespace(eos_token_id=ends))
    branch = BranchBuilder(replace(loaded, model=several)).branch("the dog", (Box(1, 2, 30, 40),), Frame((64, 64)))
    assert loaded.processor.tokenizer.decode(branch.token_ids[-1:]) == "<|im_end|>"


def test_a_model_that_does_not_stop_at_the_chats_end_is_refused(loaded: Any) -> None:
    other = SimpleNamespace(config=loaded.model.config, generation_config=SimpleNamespace(eos_token_id=[0]))
    with pytest.raises(ModelError, match=r"<\|im_end\|>.*generation_config\.json does not stop there"):
        BranchBuilder(replace(loaded, model=other))
