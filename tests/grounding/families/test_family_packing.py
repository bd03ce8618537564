"""Packed training sequences of every family that can be trained: the stock forward's own logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from small_models import KINDS, LEAN_KINDS, Small, random_boxes

from grounding import engine
from grounding.boxes import Box
from grounding.formats import Frame
from grounding.records import Sample, check_phrase
from grounding.training.batches import BranchBuilder, pack, packed_logits
from grounding.training.signal import _losses

Loader = Callable[[str], tuple[Small, Any]]
ASKED = (("dog", 1), ("a 犬, 2nd", 2), ("cup", 0))  # phrase, boxes


@pytest.mark.parametrize("kind", LEAN_KINDS)
@torch.inference_mode()
def test_a_packed_branch_is_computed_as_if_it_stood_alone(
    small: Loader, noise_pictures: Sequence[Image.Image], kind: str
) -> None:
    _, loaded = small(kind)
    features = engine.encode_images(loaded, noise_pictures[:2])
    builder = BranchBuilder(loaded)
    branches = [
        [builder.branch(phrase, random_boxes(count, f.image_size_wh, count), f.frame) for phrase, count in ASKED]
        for f in features
    ]
    packed = packed_logits(loaded, pack(loaded, builder, features, branches), features)
    begin = 0
    for feature, row in zip(features, branches, strict=True):
        for (phrase, _), branch in zip(ASKED, row, strict=True):
            text = engine.chat_text(loaded, phrase, feature.visual_tokens)
            prompt = loaded.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
            ids = torch.tensor([[*prompt, *branch.token_ids[-branch.supervised :]]])
            inputs = loaded.family.generate_inputs(loaded, [feature], ids)
            alone = loaded.model(input_ids=ids, attention_mask=torch.ones_like(ids), **inputs).logits
            expected = alone[0, len(prompt) - 1 : -1]
            torch.testing.assert_close(packed[begin : begin + branch.supervised], expected, rtol=1e-3, atol=1e-3)
            begin += branch.supervised
    assert begin == len(packed)


@pytest.mark.parametrize("kind", LEAN_KINDS)
def test_weights_are_those_of_the_coordinates_alone(small: Loader, kind: str) -> None:
    """Whatever numbers and commas the phrase holds, and however a family writes its boxes."""
    _, loaded = small(kind)
    builder = BranchBuilder(loaded, (3.0, 2.0, 0.5), (1.0, 10.0, 100.0, 1000.0))
    boxes = [Box(123, 45, 678, 900), Box(7, 12, 345, 1000)]
    branch = builder.branch("犬 (2), cups [3], 4, 5", boxes, Frame((1000, 1000), (1000, 1000)))
    tokens = [loaded.processor.tokenizer.decode([token]) for token in branch.token_ids[-branch.supervised :]]
    weighed = [(token.strip(), weight) for token, weight in zip(tokens, branch.weights, strict=True) if weight != 1.0]
    assert "".join(token for token, _ in weighed) == "12345678900" + "7123451000"
    first = [3, 2, 0.5, 20, 5, 300, 200, 50, 3000, 2000, 500]
    second = [0.5, 20, 5, 300, 200, 50, 3000, 3000, 2000, 500]
    assert [weight for _, weight in weighed] == first + second


@pytest.mark.parametrize("kind", LEAN_KINDS)
def test_a_phrase_is_learned_in_the_form_in_which_it_is_asked(small: Loader, kind: str) -> None:
    """Whoever asks takes the blanks of a file for single ones (`check_phrase`)."""
    _, loaded = small(kind)
    builder, as_in_a_file = BranchBuilder(loaded), " left  dog\nwith a \that "
    learned, asked = (
        builder.branch(phrase, [Box(1, 2, 30, 40)], Frame((64, 64)))
        for phrase in (as_in_a_file, check_phrase(as_in_a_file))
    )
    assert learned == asked


def test_an_answer_ends_as_its_family_says(small: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token that forced answers and the check before training take for its end."""
    _, loaded = small("qwen2_vl")
    end = loaded.processor.tokenizer.convert_tokens_to_ids("<|vision_pad|>")
    monkeypatch.setattr(type(loaded.family), "end_token", lambda self, loaded: "<|vision_pad|>")
    monkeypatch.setattr(loaded.model.generation_config, "eos_token_id", [end])
    branch = BranchBuilder(loaded).branch("dog", [Box(1, 2, 30, 40)], Frame((64, 64)))
    assert branch.token_ids[-1] == end
    assert loaded.family.read_text(loaded, branch.token_ids[-branch.supervised :]).endswith("<|box_end|>")


def test_a_phrase_may_follow_its_picture_at_once(small: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a family without a mark that closes the picture, no word of the phrase is taken for one."""
    _, loaded = small("internvl_qwen2")
    monkeypatch.setattr(type(loaded.family), "prompt", lambda self, loaded, phrase: f"<img><IMG_CONTEXT>{phrase}?")
    builder = BranchBuilder(loaded)
    branch = builder.branch("dog", [Box(1, 2, 30, 40)], Frame((64, 64)))
    text = loaded.processor.tokenizer.decode([*builder.prefix_ids(2), *branch.token_ids])
    assert text.startswith("<img><IMG_CONTEXT><IMG_CONTEXT>dog?")


@torch.inference_mode()
def test_numbers_in_the_phrase_are_no_signal(small: Loader, noise_pictures: Sequence[Image.Image]) -> None:
    """Qwen3-VL repeats the phrase behind the box: what tells own phrases from others is the coordinates alone."""
    _, loaded = small("qwen3_vl")
    features = engine.encode_images(loaded, noise_pictures[:1])
    sample = Sample("a", Path("a.png"), "shirt 1234", (Box(1, 2, 30, 40),), split="train")
    (found,) = _losses(loaded, BranchBuilder(loaded), features, [(sample, sample.phrase)])
    builder = BranchBuilder(loaded, (0.0, 0.0, 0.0))
    branch = builder.branch(sample.phrase, sample.boxes_xyxy_px, features[0].frame)
    batch = pack(loaded, builder, features, [[branch]])
    losses = torch.nn.functional.cross_entropy(
        packed_logits(loaded, batch, features), batch.target_ids, reduction="none"
    )
    assert found == pytest.approx(float(losses[batch.token_weights == 0].mean()))


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_no_targets_for_lora_can_not_be_packed(small: Loader, kind: str) -> None:
    _, loaded = small(kind)
    assert bool(loaded.profile.lora_targets) == (loaded.family.text_parts(loaded) is not None)


@pytest.mark.parametrize("kind", LEAN_KINDS)
def test_what_a_picture_takes_is_known_from_its_size(
    small: Loader, noise_pictures: Sequence[Image.Image], kind: str
) -> None:
    """As many tokens as the vision pass makes, and the text goes on where the model's own positions say."""
    _, loaded = small(kind)
    builder = BranchBuilder(loaded)
    for picture, features in zip(noise_pictures, engine.encode_images(loaded, list(noise_pictures)), strict=True):
        room = loaded.family.picture_room(loaded, picture.size)
        assert room is not None
        prefix = builder.prefix_ids(features.visual_tokens)
        last = int(loaded.family.prefix_positions(loaded, prefix, features).max())
        around = len(prefix) - features.visual_tokens
        assert (room.tokens, room.positions) == (features.visual_tokens, last + 1 - around)
        assert room.input_size_wh == features.input_size_wh
