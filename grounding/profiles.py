"""One profile per model family: prompt, box format, pixel budget, LoRA targets.

Training, evaluation and Compare all read the same profile, so they can't disagree about any of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from grounding.errors import ModelError
from grounding.formats import BoxFormat, QwenJson1000

PROFILE_FILE = "boxwright.json"


@dataclass(frozen=True)
class ModelProfile:
    """What must stay the same between training and use of one model family.

    `prompt` holds `{phrase}` once. `pixel_budget` is the (least, most) area in pixels that the picture is
    resized to, or None for the processor's own. `lora_targets` is a regular expression over module names,
    scoped to the language model, so that base and adapters share the image features. `max_new_tokens` bounds
    an answer. `training_preset` overrides the defaults of `grounding.training.settings`.
    """

    name: str
    family: str
    prompt: str
    box_format: BoxFormat
    pixel_budget: tuple[int, int] | None
    lora_targets: str
    max_new_tokens: int
    training_preset: Mapping[str, Any]

    def prompt_for(self, phrase: str) -> str:
        """The instruction for a phrase.

        Chat markup inside a phrase (`<|im_end|>`) is broken up: a phrase is words and can't end the turn.
        """
        return self.prompt.replace("{phrase}", phrase.replace("<|", "< |").strip())


_LANGUAGE_MODEL_LINEARS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"

PROFILES: Mapping[str, ModelProfile] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            ModelProfile(
                name="qwen3-vl",
                family="qwen3_vl",
                # The wording of the official evaluation: QwenLM/Qwen3-VL issue 1721.
                prompt='Locate every object that matches the description "{phrase}" in the image. '
                "Report bbox coordinates in JSON format.",
                box_format=QwenJson1000(),
                pixel_budget=(256 * 32 * 32, 1280 * 32 * 32),
                lora_targets=_LANGUAGE_MODEL_LINEARS,
                max_new_tokens=128,
                training_preset=MappingProxyType({"learning_rate": 1e-4, "images_per_step": 4, "steps": 600}),
            ),
            ModelProfile(
                name="qwen3-vl-demo",
                family="qwen3_vl",
                prompt="Locate {phrase} in this image and output the bbox coordinates in JSON format.",
                box_format=QwenJson1000(),
                pixel_budget=None,
                lora_targets=_LANGUAGE_MODEL_LINEARS,
                max_new_tokens=96,
                training_preset=MappingProxyType({}),
            ),
        )
    }
)
_DEFAULT_OF_FAMILY = {"qwen3_vl": "qwen3-vl"}


def profile_for(model_type: str, folder: Path | None = None) -> ModelProfile:
    """The profile of a model with this `model_type` in its config.

    A `boxwright.json` in the model's folder may name the profile; otherwise the family's own is taken. Raises
    `ModelError` naming the known families.
    """
    name = _named_profile(folder) or _DEFAULT_OF_FAMILY.get(model_type)
    if name is None:
        known = ", ".join(sorted(_DEFAULT_OF_FAMILY))
        raise ModelError(f"Boxwright does not know models of type {model_type!r}. Known types: {known}.")
    if name not in PROFILES:
        raise ModelError(f"{PROFILE_FILE} names the profile {name!r}. Known profiles: {', '.join(sorted(PROFILES))}.")
    profile = PROFILES[name]
    if profile.family != model_type:
        raise ModelError(f"The profile {name!r} is for {profile.family} models, but this model is a {model_type!r}.")
    return profile


def _named_profile(folder: Path | None) -> str | None:
    path = folder / PROFILE_FILE if folder else None
    if path is None or not path.is_file():
        return None
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["profile"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f'{path} is damaged: expected {{"profile": "NAME"}} ({error}).') from error
