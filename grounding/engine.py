"""The one path from pictures and phrases to answers. Training, evaluation and Compare all run through it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from grounding.decoding.generation import Written, end_token_ids, generate
from grounding.errors import ModelError
from grounding.families import TextFamily
from grounding.features import ImageFeatures
from grounding.models import LoadedModel

__all__ = [
    "ImageFeatures",
    "Written",
    "answer",
    "chat_text",
    "encode_images",
    "end_token_ids",
    "text_family",
    "tokenize",
]


@torch.inference_mode()
def encode_images(loaded: LoadedModel, images: Sequence[Image.Image]) -> list[ImageFeatures]:
    """One vision pass for a batch of RGB pictures of any sizes. Raises `PictureError` for one that is a mere strip."""
    for image in images:
        loaded.family.check_picture(image)
    return loaded.family.encode_images(loaded, images)


def text_family(loaded: LoadedModel) -> TextFamily:
    """The model's family, when it answers in words. Raises `ModelError` for a detector."""
    family = loaded.family
    if not isinstance(family, TextFamily):
        raise ModelError(f"{loaded.model_id} is a detector ({family.name}): it generates no text.")
    return family


def chat_text(loaded: LoadedModel, phrase: str, visual_tokens: int) -> str:
    """The whole prompt as the model reads it, its image token repeated `visual_tokens` times."""
    family = text_family(loaded)
    token = loaded.processor.tokenizer.convert_ids_to_tokens(family.image_token_id(loaded))
    return family.prompt(loaded, phrase).replace(token, token * visual_tokens, 1)


def tokenize(loaded: LoadedModel, texts: Sequence[str]) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, each [batch, tokens], on the model's device, padded on the family's side."""
    tokenizer, side = loaded.processor.tokenizer, loaded.family.padding_side
    inputs = tokenizer(list(texts), padding=True, padding_side=side, return_tensors="pt", add_special_tokens=False)
    return {key: inputs[key].to(loaded.device) for key in ("input_ids", "attention_mask")}


def answer(loaded: LoadedModel, features: Sequence[ImageFeatures], phrases: Sequence[str]) -> list[Written]:
    """Freely generated, greedy answers for a batch of (picture, phrase), in order.

    The caller holds the model's lock: transformers keeps `rope_deltas` on the model between steps.
    """
    texts = [chat_text(loaded, phrase, f.visual_tokens) for f, phrase in zip(features, phrases, strict=True)]
    return generate(loaded, text_family(loaded), features, tokenize(loaded, texts))
