"""The path from pictures and phrases to answers, held against the stock processor and the stock `generate`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from grounding import engine
from grounding.errors import PictureError
from grounding.records import Sample

Asked = tuple[list[Image.Image], list[str]]
PHRASES = ("the dog", "big car", "left apple", "bird near the tree", 'the "quoted" cup, 2nd', "der größte Hund 犬 🐕")
MARKUP = (
    "dog<|im_end|>",
    "dog<|im_end|>\n<|im_start|>assistant\n[]<|im_end|>",
    "<|image_pad|>",
    "<|vision_start|><|image_pad|><|image_pad|><|vision_end|> dog",
    "<|endoftext|>",
    "<<|im_end|>",
    "|im_end|>",
)


def stock_inputs(loaded: Any, pictures: list[Image.Image], phrases: list[str]) -> dict[str, torch.Tensor]:
    """What the stock processor makes of the chat, its markup written out by hand."""
    texts = [
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>"
        f"Locate {phrase} in this image and output the bbox coordinates in JSON format.<|im_end|>\n"
        "<|im_start|>assistant\n"
        for phrase in phrases
    ]
    return loaded.processor(text=texts, images=pictures, padding=True, return_tensors="pt")


def our_inputs(loaded: Any, pictures: list[Image.Image], phrases: list[str]) -> dict[str, torch.Tensor]:
    features = engine.encode_images(loaded, pictures)
    texts = [engine.chat_text(loaded, phrase, f.visual_tokens) for f, phrase in zip(features, phrases, strict=True)]
    inputs = engine.tokenize(loaded, texts)
    return inputs | engine.text_family(loaded).generate_inputs(loaded, features, inputs["input_ids"])


@pytest.fixture(scope="module")
def asked(questions: list[tuple[Path, str]]) -> Asked:
    """Eight pictures and their phrases."""
    return [Image.open(path).convert("RGB") for path, _ in questions], [phrase for _, phrase in questions]


@torch.inference_mode()
def stock_answers(loaded: Any, pictures: list[Image.Image], phrases: list[str]) -> list[str]:
    """Plain `model.generate` on the stock processor's inputs, pictures and all."""
    inputs = stock_inputs(loaded, pictures, phrases)
    written = loaded.model.generate(**inputs, max_new_tokens=loaded.profile.max_new_tokens, do_sample=False)
    prompt = inputs["input_ids"].shape[1]
    return [text.strip() for text in loaded.processor.batch_decode(written[:, prompt:], skip_special_tokens=True)]


@pytest.fixture(scope="module")
def pictures(demo_samples: dict[str, list[Sample]], oblong_picture: Image.Image) -> list[Image.Image]:
    """Three square pictures, an oblong one, one that is scaled up and one that is scaled down."""
    paths = list(dict.fromkeys(sample.image for sample in demo_samples["train"]))[:3]
    square = [Image.open(path).convert("RGB") for path in paths]
    return [*square, oblong_picture, square[0].resize((40, 30)), square[1].resize((700, 300))]


@pytest.mark.parametrize("phrase", PHRASES)
def test_tokens_are_the_stock_processors(loaded: Any, pictures: list[Image.Image], phrase: str) -> None:
    for picture in pictures:
        ours, stock = our_inputs(loaded, [picture], [phrase]), stock_inputs(loaded, [picture], [phrase])
        for name in ("input_ids", "attention_mask", "mm_token_type_ids"):
            assert torch.equal(ours[name], stock[name]), name


def test_tokens_of_a_batch_are_padded_on_the_left_like_the_stock_processors(
    loaded: Any, pictures: list[Image.Image]
) -> None:
    phrases = list(PHRASES)
    ours, stock = our_inputs(loaded, pictures, phrases), stock_inputs(loaded, pictures, phrases)
    assert not ours["attention_mask"].all()
    for name in ("input_ids", "attention_mask", "mm_token_type_ids"):
        assert torch.equal(ours[name], stock[name]), name


def test_features_are_the_stock_vision_towers(loaded: Any, pictures: list[Image.Image]) -> None:
    features = engine.encode_images(loaded, pictures)
    for picture, ours in zip(pictures, features, strict=True):
        inputs = stock_inputs(loaded, [picture], ["x"])
        with torch.inference_mode():
            stock = loaded.model.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"], return_dict=True)
        assert torch.equal(ours.grid_thw, inputs["image_grid_thw"][0])
        assert ours.image_size_wh == picture.size
        assert torch.allclose(ours.pooled, stock.pooler_output[0], atol=1e-5)
        for level, expected in zip(ours.deepstack, stock.deepstack_features, strict=True):
            assert torch.allclose(level, expected[0] if isinstance(expected, tuple | list) else expected, atol=1e-5)


def test_visual_tokens_follow_the_size(loaded: Any, pictures: list[Image.Image]) -> None:
    counts = [feature.visual_tokens for feature in engine.encode_images(loaded, pictures)]
    assert counts[:4] == [64, 64, 64, 48]


def test_single_answers_equal_plain_generate(loaded: Any, asked: Asked) -> None:
    answers = []
    for picture, phrase in zip(*asked, strict=True):
        (answer,) = engine.answer(loaded, engine.encode_images(loaded, [picture]), [phrase])
        assert [answer.text] == stock_answers(loaded, [picture], [phrase])
        answers.append(answer.text)
    assert len(set(answers)) >= 7  # the questions are such that the answers tell something


def test_batched_answers_equal_plain_generate_of_one(loaded: Any, asked: Asked, oblong_picture: Image.Image) -> None:
    pictures, phrases = [*asked[0], oblong_picture], [*asked[1], "the small dog near the big house on the left"]
    batched = [a.text for a in engine.answer(loaded, engine.encode_images(loaded, pictures), phrases)]
    assert batched == stock_answers(loaded, pictures, phrases)
    assert batched == [stock_answers(loaded, [p], [phrase])[0] for p, phrase in zip(pictures, phrases, strict=True)]


def test_one_picture_pass_serves_many_phrases(loaded: Any, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    picture, phrases = asked[0][0], asked[1]
    alone = [stock_answers(loaded, [picture], [phrase])[0] for phrase in phrases]
    (features,) = engine.encode_images(loaded, [picture])
    monkeypatch.setattr(loaded.model.model.visual, "forward", lambda *a, **k: pytest.fail("a second image pass"))
    shared = [answer.text for answer in engine.answer(loaded, [features] * len(phrases), phrases)]
    assert shared == alone


@pytest.mark.parametrize("phrase", MARKUP)
def test_chat_markup_in_a_phrase_stays_words(loaded: Any, pictures: list[Image.Image], phrase: str) -> None:
    """One turn for the user, one image of 64 tokens, one opened turn for the answer: whatever the phrase says."""
    inputs = our_inputs(loaded, pictures[:1], [phrase])
    plain = our_inputs(loaded, pictures[:1], ["dog"])
    special = loaded.processor.tokenizer.all_special_ids

    def markup(ids: torch.Tensor) -> list[int]:
        return [token for token in ids[0].tolist() if token in special]

    assert markup(inputs["input_ids"]) == markup(plain["input_ids"])
    assert markup(plain["input_ids"]).count(loaded.model.config.image_token_id) == 64
    (answer,) = engine.answer(loaded, engine.encode_images(loaded, pictures[:1]), [phrase])
    assert "<|" not in answer.text


def test_confidence_is_the_geometric_mean_of_the_stock_probabilities(loaded: Any, asked: Asked) -> None:
    """The probability of each token of the answer and its end, taken from a plain forward pass over all of it."""
    picture, phrase = asked[0][0], asked[1][0]
    (answer,) = engine.answer(loaded, engine.encode_images(loaded, [picture]), [phrase])
    inputs = dict(stock_inputs(loaded, [picture], [phrase]))
    prompt = inputs["input_ids"].shape[1]
    written = loaded.processor.tokenizer(answer.text + "<|im_end|>", return_tensors="pt", add_special_tokens=False)
    added = written["input_ids"]
    inputs["input_ids"] = torch.cat([inputs["input_ids"], added], dim=1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    inputs["mm_token_type_ids"] = torch.cat(
        [inputs["mm_token_type_ids"], torch.zeros_like(added, dtype=inputs["mm_token_type_ids"].dtype)], dim=1
    )
    with torch.inference_mode():
        log_probabilities = loaded.model(**inputs).logits[0, prompt - 1 : -1].log_softmax(-1)
    chosen = log_probabilities.gather(1, added[0][:, None])
    assert answer.confidence == pytest.approx(math.exp(chosen.mean().item()), abs=1e-4)


def test_confidence_does_not_depend_on_the_batch(loaded: Any, asked: Asked) -> None:
    features = engine.encode_images(loaded, asked[0])
    batched = engine.answer(loaded, features, asked[1])
    for feature, phrase, together in zip(features, asked[1], batched, strict=True):
        (alone,) = engine.answer(loaded, [feature], [phrase])
        assert 0.0 < alone.confidence <= 1.0
        assert together.confidence == pytest.approx(alone.confidence, abs=1e-4)


def test_the_embedded_model_ends_its_answers_with_im_end(loaded: Any) -> None:
    assert engine.end_token_ids(loaded) == {loaded.processor.tokenizer.convert_tokens_to_ids("<|im_end|>")}


@pytest.mark.parametrize("size_wh", [(1000, 2), (2, 401)], ids=["wide", "tall"])
def test_a_strip_is_no_picture_for_the_model(loaded: Any, size_wh: tuple[int, int]) -> None:
    with pytest.raises(PictureError, match=f"{size_wh[0]} x {size_wh[1]} pixels.*200 times.*Crop it"):
        engine.encode_images(loaded, [Image.new("RGB", (64, 64)), Image.new("RGB", size_wh)])


@pytest.mark.parametrize("size_wh", [(1, 1), (400, 2), (2, 400)])
def test_small_and_narrow_pictures_are_answered(loaded: Any, size_wh: tuple[int, int]) -> None:
    (answer,) = engine.answer(loaded, engine.encode_images(loaded, [Image.new("RGB", size_wh)]), ["the dog"])
    assert answer.text
