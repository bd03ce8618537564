"""Florence-2: an encoder reads picture and instruction, a decoder writes the phrase and its location tokens.

Source: processing_florence2.py and modeling_florence2.py of transformers 5.23. What the model reads for the task
`<CAPTION_TO_PHRASE_GROUNDING>` is a sentence (`task_prompts_with_input`); the profile holds that sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from grounding.families.base import OneSizeFamily
from grounding.features import ImageFeatures
from grounding.formats import Florence2Locations
from grounding.formats.reading import plain_line
from grounding.profiles import ModelProfile

if TYPE_CHECKING:
    import torch

    from grounding.models import LoadedModel


class Florence2(OneSizeFamily):
    """Encoder and decoder: answers come from `generate`, the picture's features go to the encoder."""

    # The encoder counts its positions from the left whatever the attention mask says.
    padding_side = "right"
    keeps_special_tokens = True
    name = "florence2"
    model_types = ("florence2",)
    profiles = (
        ModelProfile(
            name="florence-2",
            family="florence2",
            prompt="Locate the phrases in the caption: {phrase}",
            box_format=Florence2Locations(),
            max_new_tokens=128,
        ),
    )

    def prompt(self, loaded: LoadedModel, phrase: str) -> str:
        """The picture, then the sentence of the task; markup inside the phrase is broken up."""
        tokenizer = loaded.processor.tokenizer
        instruction = loaded.profile.prompt_for(plain_line(phrase))
        return f"{loaded.processor.image_token}{tokenizer.bos_token}{instruction}{tokenizer.eos_token}"

    def generate_inputs(
        self, loaded: LoadedModel, features: Sequence[ImageFeatures], input_ids: torch.Tensor
    ) -> dict[str, Any]:
        """The kept features, and how the decoder begins: with the tokens that `generate` would force there."""
        import torch
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        pooled: Any = torch.stack([feature.pooled for feature in features])
        return {
            "mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=pooled)},
            "decoder_input_ids": torch.tensor([self._opening(loaded)] * len(features), device=input_ids.device),
        }

    def _opening(self, loaded: LoadedModel) -> list[int]:
        settings = loaded.model.generation_config
        start = settings.decoder_start_token_id
        if start is None:
            start = loaded.model.config.text_config.decoder_start_token_id
        forced = settings.forced_bos_token_id
        return [int(start)] if forced is None else [int(start), int(forced)]
