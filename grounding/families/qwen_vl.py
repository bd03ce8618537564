"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: one way in for pictures, three ways of writing boxes.

Sources: QwenLM/Qwen3-VL (README; evaluation/ODinW-13/run_odinw.py; qwen-vl-finetune/tools/process_bbox.ipynb) and the
modeling files of transformers 5.23.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from grounding.errors import ModelError, PictureError
from grounding.families.base import TextFamily
from grounding.features import ImageFeatures, PictureRoom
from grounding.formats import FloatJson, QwenBoxTokens, QwenJson1000, QwenJsonPixels
from grounding.profiles import EMBEDDED_MODEL_PRESET, LANGUAGE_MODEL_LINEARS, LARGE_MODEL_PRESET, ModelProfile

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from grounding.models import LoadedModel

# Qwen's image processor refuses a picture whose longer side is more than this many times the shorter one.
_MAX_ASPECT_RATIO = 200
# The wording of the official evaluation: QwenLM/Qwen3-VL issue 1721.
_PROMPT = (
    'Locate every object that matches the description "{phrase}" in the image. Report bbox coordinates in JSON format.'
)


class QwenVL(TextFamily):
    """What the three generations share: dynamic resolution, M-RoPE, a chat template, image features kept apart."""

    def prepare_processor(self, processor: Any, profile: ModelProfile) -> None:
        """Left padding; the profile's pixel budget. Raises `ModelError` for a processor without a chat template."""
        super().prepare_processor(processor, profile)
        if not processor.chat_template:
            where = processor.tokenizer.name_or_path
            raise ModelError(f"The model {where} has no chat template. Restore chat_template.jinja in its folder.")
        if profile.pixel_budget is not None:
            least, most = profile.pixel_budget
            processor.image_processor.size = {"shortest_edge": least, "longest_edge": most}

    def prepare_model(self, model: Any) -> None:
        """The patch embedding as the plain product that it is: a convolution whose step is its kernel's size.

        PyTorch's Conv3d takes ten times as long for it on a CPU, and 2.9's did on GPUs (pytorch issue 174051).
        """
        from grounding.decoding.patches import PatchProduct

        embed = model.model.visual.patch_embed
        if tuple(embed.proj.stride) == tuple(embed.proj.kernel_size):
            embed.proj = PatchProduct(embed.proj)

    def check_picture(self, image: Image.Image) -> None:
        """Raises `PictureError` for a picture that is too long and narrow for the processor."""
        if max(image.size) > _MAX_ASPECT_RATIO * min(image.size):
            raise PictureError(
                f"The picture has {image.width} x {image.height} pixels: the model takes none whose longer side is "
                f"more than {_MAX_ASPECT_RATIO} times the shorter one. Crop it."
            )

    def encode_images(self, loaded: LoadedModel, images: Sequence[Image.Image]) -> list[ImageFeatures]:
        """One vision pass for pictures of any sizes."""
        inputs = loaded.processor.image_processor(images=list(images), return_tensors="pt")
        grids = inputs["image_grid_thw"]
        outputs = loaded.model.get_image_features(
            inputs["pixel_values"].to(loaded.device), grids.to(loaded.device), return_dict=True
        )
        levels = getattr(outputs, "deepstack_features", None) or ()
        side = loaded.processor.image_processor.patch_size
        return [
            ImageFeatures(
                pooled=outputs.pooler_output[i],
                deepstack=tuple(level[i] for level in levels),
                grid_thw=grids[i],
                image_size_wh=image.size,
                input_size_wh=(int(grids[i][2]) * side, int(grids[i][1]) * side),
            )
            for i, image in enumerate(images)
        ]

    def prompt(self, loaded: LoadedModel, phrase: str) -> str:
        """The chat template with the picture before the instruction."""
        content = [{"type": "image"}, {"type": "text", "text": loaded.profile.prompt_for(phrase)}]
        text: str = loaded.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        return text

    def generate_inputs(
        self, loaded: LoadedModel, features: Sequence[ImageFeatures], input_ids: torch.Tensor
    ) -> dict[str, Any]:
        """Grids, token types and the kept image features."""
        import torch

        grids = torch.stack([feature.grid_thw for feature in features if feature.grid_thw is not None])
        return {
            "mm_token_type_ids": (input_ids == self.image_token_id(loaded)).to(torch.int32),
            "image_grid_thw": grids.to(loaded.device),
            "mm_encoder_outputs": {"image": self._encoder_outputs(features)},
        }

    def _encoder_outputs(self, features: Sequence[ImageFeatures]) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        # The model reads one tensor a picture; the class is annotated for one tensor in all.
        pooled: Any = tuple(feature.pooled for feature in features)
        return BaseModelOutputWithPooling(pooler_output=pooled)

    def text_parts(self, loaded: LoadedModel) -> tuple[Any, Any]:
        """The decoder and the output layer."""
        return loaded.model.model.language_model, loaded.model.lm_head

    def picture_room(self, loaded: LoadedModel, size_wh: tuple[int, int]) -> PictureRoom | None:
        """The processor's own resizing; the text goes on after the longer side. None for what it refuses."""
        from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

        processor = loaded.processor.image_processor
        cell_px = processor.patch_size * processor.merge_size
        least, most = processor.size["shortest_edge"], processor.size["longest_edge"]
        try:
            height, width = smart_resize(size_wh[1], size_wh[0], cell_px, min_pixels=least, max_pixels=most)
        except ValueError:
            return None
        rows, columns = height // cell_px, width // cell_px
        return PictureRoom(rows * columns, max(rows, columns), (width, height))

    def prefix_positions(self, loaded: LoadedModel, ids: Sequence[int], features: ImageFeatures) -> torch.Tensor:
        """[3, tokens]: the model's own M-RoPE positions."""
        import torch

        assert features.grid_thw is not None
        row = torch.tensor([list(ids)])
        positions, _ = loaded.model.model.get_rope_index(
            row,
            mm_token_type_ids=(row == self.image_token_id(loaded)).to(torch.int32),
            image_grid_thw=features.grid_thw[None].cpu(),
        )
        return positions[:, 0]


class Qwen3VL(QwenVL):
    """Qwen3-VL, the embedded model among them: JSON boxes in 0 to 1000, deepstack features."""

    name = "qwen3_vl"
    model_types = ("qwen3_vl",)
    profiles = (
        ModelProfile(
            name="qwen3-vl",
            family="qwen3_vl",
            prompt=_PROMPT,
            box_format=QwenJson1000(fenced=True),
            pixel_budget=(256 * 32 * 32, 1280 * 32 * 32),
            lora_targets=LANGUAGE_MODEL_LINEARS,
            max_new_tokens=256,
            training_preset=LARGE_MODEL_PRESET,
        ),
        ModelProfile(
            name="qwen3-vl-demo",
            family="qwen3_vl",
            prompt="Locate {phrase} in this image and output the bbox coordinates in JSON format.",
            box_format=QwenJson1000(),
            pixel_budget=None,
            lora_targets=LANGUAGE_MODEL_LINEARS,
            max_new_tokens=96,
            training_preset=EMBEDDED_MODEL_PRESET,
        ),
        ModelProfile(
            name="qwen3-vl-floats",
            family="qwen3_vl",
            # For models that were trained on this form, and to see what it costs a base that was not.
            prompt='Find "{phrase}" in the image. Answer with its bounding box as fractions of the image: '
            '{"x_min": 0.1, "y_min": 0.2, "x_max": 0.3, "y_max": 0.4}',
            box_format=FloatJson(),
            pixel_budget=(256 * 32 * 32, 1280 * 32 * 32),
            lora_targets=LANGUAGE_MODEL_LINEARS,
            max_new_tokens=96,
            training_preset=LARGE_MODEL_PRESET,
        ),
    )

    def _encoder_outputs(self, features: Sequence[ImageFeatures]) -> Any:
        from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

        pooled: Any = tuple(feature.pooled for feature in features)
        levels: Any = [
            tuple(feature.deepstack[level] for feature in features) for level in range(len(features[0].deepstack))
        ]
        return BaseModelOutputWithDeepstackFeatures(pooler_output=pooled, deepstack_features=levels)


class Qwen2_5VL(QwenVL):  # the family's own name
    """Qwen2.5-VL: JSON boxes in pixels of the resized picture, whose sides are multiples of 28."""

    name = "qwen2_5_vl"
    model_types = ("qwen2_5_vl",)
    profiles = (
        ModelProfile(
            name="qwen2.5-vl",
            family="qwen2_5_vl",
            prompt=_PROMPT,
            box_format=QwenJsonPixels(),
            pixel_budget=(256 * 28 * 28, 1280 * 28 * 28),
            lora_targets=LANGUAGE_MODEL_LINEARS,
            max_new_tokens=256,
            training_preset=LARGE_MODEL_PRESET,
        ),
    )


class Qwen2VL(QwenVL):
    """Qwen2-VL: boxes between special tokens, 0 to 1000."""

    keeps_special_tokens = True
    name = "qwen2_vl"
    model_types = ("qwen2_vl",)
    profiles = (
        ModelProfile(
            name="qwen2-vl",
            family="qwen2_vl",
            prompt="Find <|object_ref_start|>{phrase}<|object_ref_end|>",
            box_format=QwenBoxTokens(),
            pixel_budget=(256 * 28 * 28, 1280 * 28 * 28),
            lora_targets=LANGUAGE_MODEL_LINEARS,
            max_new_tokens=256,
            training_preset=LARGE_MODEL_PRESET,
        ),
    )
