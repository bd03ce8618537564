"""What a step sees while the vision tower learns too: every picture passes through it, and gradients come back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from grounding.features import ImageFeatures
from grounding.models import LoadedModel
from grounding.training.augment import Shown
from grounding.training.feed import Drawn
from grounding.training.views import AugmentedViews, plain_targets


class LiveViews(AugmentedViews):
    """Pictures as they are, or augmented, encoded anew in each step by the tower as it is by then."""

    def __init__(self, loaded: LoadedModel, dtype: torch.dtype | None, *, augmented: bool) -> None:
        super().__init__(loaded, dtype)
        self.augmented = augmented

    def _look(self, picture: Image.Image, drawn: Drawn) -> Shown:
        return super()._look(picture, drawn) if self.augmented else Shown(picture, tuple(plain_targets(drawn)))

    def _encode(self, images: Sequence[Image.Image]) -> list[ImageFeatures]:
        return self.loaded.family.encode_images(self.loaded, images)
