"""InternVL: pictures as square tiles, boxes in double brackets, a Qwen2, Qwen3 or Llama underneath.

Sources: OpenGVLab/InternVL (internvl_chat/eval/refcoco/evaluate_grounding.py) and the processing and modeling files
of transformers 5.23, whose checkpoints are those with "-hf" in their names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from grounding.errors import ModelError
from grounding.families.base import TextFamily
from grounding.features import ImageFeatures, PictureRoom
from grounding.formats import InternVLBoxes
from grounding.formats.reading import plain_line
from grounding.profiles import LANGUAGE_MODEL_LINEARS, LARGE_MODEL_PRESET, ModelProfile

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from grounding.models import LoadedModel


class InternVL(TextFamily):
    """A picture is one tile, or several and a small view of the whole where the image processor's own settings
    (`crop_to_patches`) say so. The features of all tiles follow each other between the marks of the picture.

    OpenGVLab's own RefCOCO evaluation cuts pictures into up to 6 tiles (its README: "always enable --dynamic"): set
    `crop_to_patches` true and `max_patches` 6 in a model's preprocessor_config.json to do the same.
    """

    name = "internvl"
    model_types = ("internvl",)
    profiles = (
        ModelProfile(
            name="internvl",
            family="internvl",
            prompt="Please provide the bounding box coordinates of the region this sentence describes: "
            "<ref>{phrase}</ref>",
            box_format=InternVLBoxes(),
            lora_targets=LANGUAGE_MODEL_LINEARS,
            max_new_tokens=256,
            training_preset=LARGE_MODEL_PRESET,
        ),
    )

    def prepare_processor(self, processor: Any, profile: ModelProfile) -> None:
        """Left padding. Raises `ModelError` for a processor without a chat template."""
        super().prepare_processor(processor, profile)
        if not processor.chat_template:
            raise ModelError("The model has no chat template. Restore chat_template.jinja in its folder.")

    def encode_images(self, loaded: LoadedModel, images: Sequence[Image.Image]) -> list[ImageFeatures]:
        """One vision pass for the tiles of all pictures."""
        # The stock processor cuts pictures into tiles whatever its settings say; one tile takes a few times less.
        image_processor = loaded.processor.image_processor
        inputs = image_processor(
            images=list(images), crop_to_patches=bool(image_processor.crop_to_patches), return_tensors="pt"
        )
        pixels = inputs["pixel_values"].to(loaded.device, loaded.model.dtype)
        tiles = loaded.model.get_image_features(pixels, return_dict=True).pooler_output  # [tiles, tokens, hidden]
        counts = [int(count) for count in inputs["num_patches"]]
        return [
            ImageFeatures(pooled=own.flatten(0, 1), deepstack=(), grid_thw=None, image_size_wh=image.size)
            for image, own in zip(images, tiles.split(counts), strict=True)
        ]

    def prompt(self, loaded: LoadedModel, phrase: str) -> str:
        """The chat template with the picture before the instruction; markup inside the phrase is broken up."""
        processor = loaded.processor
        content = [{"type": "image"}, {"type": "text", "text": loaded.profile.prompt_for(plain_line(phrase))}]
        text: str = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        picture = f"{processor.start_image_token}{processor.image_token}{processor.end_image_token}"
        return text.replace(processor.image_token, picture, 1)

    def generate_inputs(
        self, loaded: LoadedModel, features: Sequence[ImageFeatures], input_ids: torch.Tensor
    ) -> dict[str, Any]:
        """The kept features of all tiles, [tiles, tokens, hidden]."""
        import torch
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        pooled = torch.cat([feature.pooled for feature in features])
        tiles: Any = pooled.unflatten(0, (-1, loaded.processor.image_seq_length))
        return {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=tiles)}}

    def picture_room(self, loaded: LoadedModel, size_wh: tuple[int, int]) -> PictureRoom:
        """As many tiles as the image processor would cut."""
        width, height = size_wh
        tiles = loaded.processor.image_processor.get_number_of_image_patches(height, width)
        tokens = int(tiles * loaded.processor.image_seq_length)
        return PictureRoom(tokens, tokens)

    def text_parts(self, loaded: LoadedModel) -> tuple[Any, Any]:
        """The decoder and the output layer."""
        return loaded.model.model.language_model, loaded.model.lm_head
