"""What a step sees while the vision tower learns too: every picture passes through it, and gradients come back."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from PIL import Image

from grounding.features import ImageFeatures
from grounding.models import LoadedModel
from grounding.training.augment import Shown, Target
from grounding.training.data import PictureTargets
from grounding.training.views import AugmentedViews


class LiveViews(AugmentedViews):
    """Pictures as they are, or augmented, encoded anew in each step by the tower as it is by then."""

    def __init__(
        self,
        loaded: LoadedModel,
        pictures: Sequence[PictureTargets],
        seed: int,
        dtype: torch.dtype | None,
        *,
        augmented: bool,
    ) -> None:
        super().__init__(loaded, pictures, seed, dtype)
        self.augmented = augmented

    def _see(self, picture: Image.Image, targets: Sequence[Target], rng: random.Random) -> Shown:
        return super()._see(picture, targets, rng) if self.augmented else Shown(picture, tuple(targets))

    def _encode(self, images: Sequence[Image.Image]) -> list[ImageFeatures]:
        return self.loaded.family.encode_images(self.loaded, images)
