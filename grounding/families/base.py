"""What Boxwright must know about a model family: a profile, how pictures go in, where the language model is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from grounding.features import ImageFeatures, PictureRoom
from grounding.profiles import ModelProfile

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from grounding.models import LoadedModel


class Family(ABC):
    """One model family. Stateless: everything about a loaded model is in its `LoadedModel`.

    `name` is what profiles call the family, `model_types` are the `model_type`s of the configurations it covers,
    `profiles` its profiles with the default first, `auto_class` the class of transformers that loads the weights,
    `keeps_features` whether what it makes of a picture is worth keeping on disk, `padding_side` the side on which
    shorter texts of a batch are filled up (on the left where text is generated), `reduced_precision` whether bfloat16
    and quantised weights will do.
    A module of this package that defines a subclass is found by itself; nothing of torch may be imported there at
    import time, because the page opens before torch is loaded.
    """

    name: ClassVar[str]
    model_types: ClassVar[tuple[str, ...]]
    profiles: ClassVar[tuple[ModelProfile, ...]]
    auto_class: ClassVar[str] = "AutoModelForImageTextToText"
    keeps_features: ClassVar[bool] = True
    padding_side: ClassVar[str] = "left"
    reduced_precision: ClassVar[bool] = True

    def prepare_processor(self, processor: Any, profile: ModelProfile) -> None:
        """Set up a freshly loaded processor: padding, and what else the profile asks for."""
        processor.tokenizer.padding_side = self.padding_side

    def prepare_model(self, model: Any) -> None:  # noqa: B027  # most families have nothing to change
        """Set up freshly loaded weights."""

    def check_picture(self, image: Image.Image) -> None:  # noqa: B027  # most families take every shape
        """Raises `PictureError` for a picture that the family's processor refuses."""

    @abstractmethod
    def encode_images(self, loaded: LoadedModel, images: Sequence[Image.Image]) -> list[ImageFeatures]:
        """One vision pass for a batch of RGB pictures of any sizes. The caller has checked them."""


class TextFamily(Family):
    """A family that answers in words: it generates text that the profile's box format reads.

    `keeps_special_tokens` where boxes or phrases are written between special tokens, or in them.
    """

    keeps_special_tokens: ClassVar[bool] = False

    @abstractmethod
    def prompt(self, loaded: LoadedModel, phrase: str) -> str:
        """The whole prompt for a phrase, its image token standing exactly once."""

    def image_token_id(self, loaded: LoadedModel) -> int:
        """The token that stands for one visual token."""
        return int(loaded.model.config.image_token_id)

    def end_token(self, loaded: LoadedModel) -> str:
        """The token that closes an answer."""
        return str(loaded.processor.tokenizer.eos_token)

    def read_text(self, loaded: LoadedModel, token_ids: Sequence[int]) -> str:
        """The answer as text for the box format, without the marks of beginning, end and padding."""
        tokenizer = loaded.processor.tokenizer
        end = tokenizer.convert_tokens_to_ids(self.end_token(loaded))
        marks = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, end}
        text: str = tokenizer.decode(
            [token for token in token_ids if token not in marks] if self.keeps_special_tokens else list(token_ids),
            skip_special_tokens=not self.keeps_special_tokens,
        )
        return text.strip()

    @abstractmethod
    def generate_inputs(
        self, loaded: LoadedModel, features: Sequence[ImageFeatures], input_ids: torch.Tensor
    ) -> dict[str, Any]:
        """What `generate` needs besides `input_ids` [batch, tokens] and the attention mask."""

    def text_parts(self, loaded: LoadedModel) -> tuple[Any, Any] | None:
        """(language model, output layer) for `grounding.decoding.text_model`; None when it decodes otherwise."""
        return None

    def picture_room(self, loaded: LoadedModel, size_wh: tuple[int, int]) -> PictureRoom | None:
        """What a picture of this size in pixels takes in a sequence, without a look at it; None: only a look tells."""
        return None

    def prefix_positions(self, loaded: LoadedModel, ids: Sequence[int], features: ImageFeatures) -> torch.Tensor:
        """[axes, tokens]: positions of a prompt's beginning, its image token repeated. One axis by default."""
        import torch

        return torch.arange(len(ids))[None]


class OneSizeFamily(TextFamily):
    """A family whose processor resizes every picture to one size, with as many visual tokens for each."""

    def encode_images(self, loaded: LoadedModel, images: Sequence[Image.Image]) -> list[ImageFeatures]:
        """One vision pass for all of them."""
        inputs = loaded.processor.image_processor(images=list(images), return_tensors="pt")
        pixels = inputs["pixel_values"].to(loaded.device, loaded.model.dtype)
        pooled = loaded.model.get_image_features(pixels, return_dict=True).pooler_output  # [batch, tokens, hidden]
        return [
            ImageFeatures(pooled=own, deepstack=(), grid_thw=None, image_size_wh=image.size)
            for image, own in zip(images, pooled, strict=True)
        ]


class DetectorFamily(Family):
    """A family that answers with boxes and scores, without words."""

    keeps_features = False
    padding_side = "right"
    reduced_precision = False  # its boxes come out as numbers, and bfloat16 has 8 bits for one

    def caption(self, loaded: LoadedModel, phrase: str) -> str:
        """The phrase as its text encoder reads it."""
        return loaded.profile.prompt_for(phrase)

    @abstractmethod
    def detect(
        self, loaded: LoadedModel, features: Sequence[ImageFeatures], phrases: Sequence[str]
    ) -> list[list[tuple[tuple[float, float, float, float], float]]]:
        """For each (picture, phrase): (x1, y1, x2, y2 in pixels of the original image, score 0.0 to 1.0), best first.

        Empty: nothing there. Boxes may leave the image; the caller clips them.
        """
