"""Grounding DINO and MM-Grounding DINO: detectors that take a phrase and answer with scored boxes.

Sources: Liu et al., Grounding DINO (ECCV 2024, arXiv 2303.05499); Zhao et al., An Open and Comprehensive Pipeline for
Unified Object Grounding and Detection (arXiv 2401.02361); the modeling and processing files of transformers 5.23.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from grounding.errors import PictureError
from grounding.families.base import DetectorFamily
from grounding.features import ImageFeatures
from grounding.profiles import ModelProfile

if TYPE_CHECKING:
    from PIL import Image

    from grounding.models import LoadedModel

_MOST_BOXES = 20
# Pictures of 800 x 1333 pixels and 900 queries take about a gigabyte each on the way through.
_MOST_PER_PASS = 8
# The text encoder takes these for the end of a label: SPECIAL_TOKENS in modeling_grounding_dino.py.
_LABEL_ENDS = str.maketrans(".?", "  ")
# Beyond this the shorter side of the resized picture, whose longer one has at most 1333 pixels, comes to nothing.
_MAX_ASPECT_RATIO = 1000
_AROUND_THE_WORDS = 3  # [CLS], the closing full stop, [SEP]


class GroundingDinoLike(DetectorFamily):
    """What both share: a caption closed by a full stop, queries scored against its tokens."""

    auto_class = "AutoModelForZeroShotObjectDetection"

    def check_picture(self, image: Image.Image) -> None:
        """Raises `PictureError` for a picture that is too long and narrow to be resized."""
        if max(image.size) > _MAX_ASPECT_RATIO * min(image.size):
            raise PictureError(
                f"The picture has {image.width} x {image.height} pixels: the model takes none whose longer side is "
                f"more than {_MAX_ASPECT_RATIO} times the shorter one. Crop it."
            )

    def encode_images(self, loaded: LoadedModel, images: Sequence[Image.Image]) -> list[ImageFeatures]:
        """The pixels as the model takes them, `pooled` [3, height, width], prepared once for all phrases."""
        return [self._prepared(loaded, image) for image in images]

    def caption(self, loaded: LoadedModel, phrase: str) -> str:
        """The phrase as one label: see `caption` of this module."""
        return caption(loaded, phrase)

    def detect(
        self, loaded: LoadedModel, features: Sequence[ImageFeatures], phrases: Sequence[str]
    ) -> list[list[tuple[tuple[float, float, float, float], float]]]:
        """The 20 best boxes a question, whatever their scores; a score is the highest over the caption's tokens.

        Only pictures of one prepared size share a pass. A padded picture would be answered otherwise than alone: the
        backbone and the choice of queries see the padding in spite of the pixel mask.
        """
        found: list[list[tuple[tuple[float, float, float, float], float]]] = [[] for _ in features]
        captions = [self.caption(loaded, phrase) for phrase in phrases]
        for places in _same_size(features):
            answers = self._pass(loaded, [features[i] for i in places], [captions[i] for i in places])
            for place, answer in zip(places, answers, strict=True):
                found[place] = answer
        return found

    def _prepared(self, loaded: LoadedModel, image: Image.Image) -> ImageFeatures:
        inputs = loaded.processor.image_processor(images=[image], do_pad=False, return_tensors="pt")
        pixels = inputs["pixel_values"][0].to(loaded.device, loaded.model.dtype)
        return ImageFeatures(
            pooled=pixels,
            deepstack=(),
            grid_thw=None,
            image_size_wh=image.size,
            input_size_wh=(pixels.shape[2], pixels.shape[1]),
        )

    def _pass(
        self, loaded: LoadedModel, features: Sequence[ImageFeatures], captions: Sequence[str]
    ) -> list[list[tuple[tuple[float, float, float, float], float]]]:
        import torch

        text = loaded.processor.tokenizer(
            list(captions), padding=True, return_token_type_ids=True, return_tensors="pt"
        ).to(loaded.device)
        with torch.inference_mode():
            outputs = loaded.model(pixel_values=torch.stack([feature.pooled for feature in features]), **text)
        # The processor's own method gives the same boxes and scores, and spells out the tokens of each of 900 queries.
        results = loaded.processor.image_processor.post_process_object_detection(
            outputs, threshold=0.0, target_sizes=[feature.image_size_wh[::-1] for feature in features]
        )
        return [_best(result["boxes"], result["scores"]) for result in results]


class GroundingDino(GroundingDinoLike):
    """Grounding DINO: `IDEA-Research/grounding-dino-tiny` and `-base`."""

    name = "grounding_dino"
    model_types = ("grounding-dino",)
    profiles = (
        ModelProfile(
            name="grounding-dino", family="grounding_dino", prompt="{phrase}.", box_format=None, min_score=0.25
        ),
    )


class MMGroundingDino(GroundingDinoLike):
    """MM-Grounding DINO, the same design trained anew in MMDetection, and LLMDet, which shares its classes."""

    name = "mm_grounding_dino"
    model_types = ("mm-grounding-dino",)
    profiles = (
        ModelProfile(
            name="mm-grounding-dino", family="mm_grounding_dino", prompt="{phrase}.", box_format=None, min_score=0.25
        ),
    )


def caption(loaded: LoadedModel, phrase: str) -> str:
    """The phrase as one label: lower case, a full stop at its end and none within, short enough for the model.

    What doesn't fit into the model's `max_text_len` tokens is cut off.
    """
    words = " ".join(phrase.lower().translate(_LABEL_ENDS).split())
    most = loaded.model.config.max_text_len - _AROUND_THE_WORDS
    offsets = loaded.processor.tokenizer(words, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    if len(offsets) > most:
        words = words[: offsets[most - 1][1]]
    return loaded.profile.prompt_for(words)


def _same_size(features: Sequence[ImageFeatures]) -> Iterator[list[int]]:
    """The places of pictures of one size, a few at a time."""
    by_size: dict[tuple[int, ...], list[int]] = {}
    for place, feature in enumerate(features):
        by_size.setdefault(tuple(feature.pooled.shape), []).append(place)
    for places in by_size.values():
        for start in range(0, len(places), _MOST_PER_PASS):
            yield places[start : start + _MOST_PER_PASS]


def _best(boxes: Any, scores: Any) -> list[tuple[tuple[float, float, float, float], float]]:
    """Boxes [n, 4] and scores [n] as pairs, best first."""
    order = scores.argsort(descending=True, stable=True)[:_MOST_BOXES]
    pairs = zip(boxes[order].float().tolist(), scores[order].float().tolist(), strict=True)
    return [((x1, y1, x2, y2), score) for (x1, y1, x2, y2), score in pairs]
