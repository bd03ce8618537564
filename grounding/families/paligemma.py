"""PaliGemma: a prompt without a chat around it, answers in location tokens.

Source: processing_paligemma.py and modeling_paligemma.py of transformers 5.23. Prompt and picture see each other
whole (`token_type_ids` 0); the answer is written from left to right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from grounding.families.base import OneSizeFamily
from grounding.features import ImageFeatures
from grounding.formats import PaliGemmaLocations
from grounding.formats.reading import plain_line
from grounding.profiles import ModelProfile

if TYPE_CHECKING:
    import torch

    from grounding.models import LoadedModel


class PaliGemma(OneSizeFamily):
    """Its prefix is read in both directions, so answers come from `generate`."""

    keeps_special_tokens = True
    name = "paligemma"
    model_types = ("paligemma",)
    profiles = (
        ModelProfile(
            name="paligemma",
            family="paligemma",
            prompt="detect {phrase}\n",
            box_format=PaliGemmaLocations(),
            max_new_tokens=128,
        ),
    )

    def prompt(self, loaded: LoadedModel, phrase: str) -> str:
        """The picture, the mark of the beginning, the instruction; markup inside the phrase is broken up."""
        instruction = loaded.profile.prompt_for(plain_line(phrase))
        return f"{loaded.processor.image_token}{loaded.processor.tokenizer.bos_token}{instruction}"

    def generate_inputs(
        self, loaded: LoadedModel, features: Sequence[ImageFeatures], input_ids: torch.Tensor
    ) -> dict[str, Any]:
        """The kept features [batch, tokens, hidden]; the whole prompt is of the kind that sees both ways."""
        import torch
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        pooled: Any = torch.stack([feature.pooled for feature in features])
        return {
            "mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=pooled)},
            "token_type_ids": torch.zeros_like(input_ids),
        }
