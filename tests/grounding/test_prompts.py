"""The prompt that the page shows is the one that the model reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from grounding import engine

Question = tuple[Path, str]


def test_it_is_what_the_fast_pass_reads(predictor: Any, loaded: Any, questions: list[Question]) -> None:
    image, phrase = questions[0]
    prompt = predictor.prompt(image, phrase)
    with Image.open(image) as opened:
        (features,) = engine.encode_images(loaded, [opened.convert("RGB")])
    prefix, suffix = predictor._answerer._fast._tokenized(features, phrase, {})
    assert [token.id for token in prompt.tokens for _ in range(token.count)] == [*prefix.ids, *suffix]
    assert prompt.length == len(prefix.ids) + len(suffix)


def test_the_pictures_tokens_are_one_entry(predictor: Any, loaded: Any, questions: list[Question]) -> None:
    image, phrase = questions[0]
    prompt = predictor.prompt(image, phrase)
    (picture,) = [token for token in prompt.tokens if token.is_image]
    assert (picture.id, picture.count) == (loaded.family.image_token_id(loaded), 64)
    assert all(token.count == 1 for token in prompt.tokens if not token.is_image)
    assert "".join(token.text for token in prompt.tokens) == prompt.text
    assert loaded.profile.prompt_for(phrase) in prompt.text


def test_characters_of_several_tokens_keep_their_names(predictor: Any, questions: list[Question]) -> None:
    prompt = predictor.prompt(questions[0][0], "the 犬 🐕")
    assert all("�" not in token.text for token in prompt.tokens)
