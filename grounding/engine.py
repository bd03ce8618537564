"""The one path from pictures and phrases to answers. Training, evaluation and Compare all run through it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from transformers import LogitsProcessor, LogitsProcessorList

from grounding.errors import PictureError
from grounding.models import LoadedModel

# Qwen's image processor refuses a picture whose longer side is more than this many times the shorter one.
_MAX_ASPECT_RATIO = 200


@dataclass(frozen=True)
class ImageFeatures:
    """What the frozen vision tower makes of one picture; the same for the base and every adapter.

    `pooled` [visual_tokens, hidden] and each of `deepstack` [visual_tokens, hidden] go into the language model.
    `grid_thw` [3] is the patch grid (time, height, width); `image_size_wh` the original size in pixels.
    """

    pooled: torch.Tensor
    deepstack: tuple[torch.Tensor, ...]
    grid_thw: torch.Tensor
    image_size_wh: tuple[int, int]

    @property
    def visual_tokens(self) -> int:
        return self.pooled.shape[0]


@dataclass(frozen=True)
class Answer:
    """What the model wrote, and the geometric mean probability of its tokens, 0.0 to 1.0."""

    text: str
    confidence: float


def check_shape(image: Image.Image) -> None:
    """Raises `PictureError` for a picture that is too long and narrow for the model."""
    if max(image.size) > _MAX_ASPECT_RATIO * min(image.size):
        raise PictureError(
            f"The picture has {image.width} x {image.height} pixels: the model takes none whose longer side is "
            f"more than {_MAX_ASPECT_RATIO} times the shorter one. Crop it."
        )


@torch.inference_mode()
def encode_images(loaded: LoadedModel, images: Sequence[Image.Image]) -> list[ImageFeatures]:
    """One vision pass for a batch of RGB pictures of any sizes. Raises `PictureError` for one that is a mere strip."""
    for image in images:
        check_shape(image)
    inputs = loaded.processor.image_processor(images=list(images), return_tensors="pt")
    grids = inputs["image_grid_thw"]
    outputs = loaded.model.get_image_features(
        inputs["pixel_values"].to(loaded.device), grids.to(loaded.device), return_dict=True
    )
    return [
        ImageFeatures(
            pooled=outputs.pooler_output[i],
            deepstack=tuple(level[i] for level in outputs.deepstack_features),
            grid_thw=grids[i],
            image_size_wh=image.size,
        )
        for i, image in enumerate(images)
    ]


def encoder_outputs(features: Sequence[ImageFeatures]) -> dict[str, Any]:
    """The features in the form that `mm_encoder_outputs` of transformers takes."""
    from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

    # The model reads one tensor a picture; the class is annotated for one tensor in all.
    pooled: Any = tuple(feature.pooled for feature in features)
    deepstack: Any = [
        tuple(feature.deepstack[level] for feature in features) for level in range(len(features[0].deepstack))
    ]
    return {"image": BaseModelOutputWithDeepstackFeatures(pooler_output=pooled, deepstack_features=deepstack)}


def chat_text(loaded: LoadedModel, phrase: str, visual_tokens: int) -> str:
    """The whole prompt as the model reads it, its image token repeated `visual_tokens` times."""
    content = [{"type": "image"}, {"type": "text", "text": loaded.profile.prompt_for(phrase)}]
    text = loaded.processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    token = loaded.processor.image_token
    return text.replace(token, token * visual_tokens, 1)


def tokenize(loaded: LoadedModel, texts: Sequence[str]) -> dict[str, torch.Tensor]:
    """Left-padded `input_ids`, `attention_mask` and `mm_token_type_ids`, each [batch, tokens]."""
    inputs = loaded.processor.tokenizer(list(texts), padding=True, return_tensors="pt", add_special_tokens=False)
    input_ids = inputs["input_ids"]
    return {
        "input_ids": input_ids.to(loaded.device),
        "attention_mask": inputs["attention_mask"].to(loaded.device),
        "mm_token_type_ids": (input_ids == loaded.model.config.image_token_id).to(torch.int32).to(loaded.device),
    }


class _TokenProbabilities(LogitsProcessor):
    """Remembers the log probability of the likeliest token of each step; changes nothing."""

    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []  # each [batch]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        self.steps.append((scores.max(dim=-1).values - scores.logsumexp(dim=-1)).float())
        return scores


@torch.inference_mode()
def answer(loaded: LoadedModel, features: Sequence[ImageFeatures], phrases: Sequence[str]) -> list[Answer]:
    """Greedy answers for a batch of (picture, phrase), in order.

    The caller holds the model's lock: transformers keeps `rope_deltas` on the model between steps.
    """
    texts = [chat_text(loaded, phrase, f.visual_tokens) for f, phrase in zip(features, phrases, strict=True)]
    inputs = tokenize(loaded, texts)
    recorder = _TokenProbabilities()
    generated = loaded.model.generate(
        **inputs,
        image_grid_thw=torch.stack([f.grid_thw for f in features]).to(loaded.device),
        mm_encoder_outputs=encoder_outputs(features),
        max_new_tokens=loaded.profile.max_new_tokens,
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        logits_processor=LogitsProcessorList([recorder]),
    )
    written = generated[:, inputs["input_ids"].shape[1] :]  # [batch, steps]
    log_probabilities = torch.stack(recorder.steps, dim=1)  # [batch, steps]
    return [_read_answer(loaded, written[i], log_probabilities[i]) for i in range(len(phrases))]


def end_token_ids(loaded: LoadedModel) -> set[int]:
    """The tokens that end an answer."""
    ends = loaded.model.generation_config.eos_token_id
    return set(ends) if isinstance(ends, list) else {ends}


def _read_answer(loaded: LoadedModel, token_ids: torch.Tensor, log_probabilities: torch.Tensor) -> Answer:
    ids = token_ids.tolist()
    ends = end_token_ids(loaded)
    length = next((i + 1 for i, token in enumerate(ids) if token in ends), len(ids))
    text = loaded.processor.tokenizer.decode(ids[:length], skip_special_tokens=True)
    return Answer(text.strip(), math.exp(log_probabilities[:length].mean().item()))
