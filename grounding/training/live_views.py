"""What a step sees while the vision tower learns too: every picture passes through it, and gradients come back."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from grounding.features import ImageFeatures
from grounding.training.views import AugmentedViews


class LiveViews(AugmentedViews):
    """Pictures as they are, or augmented, encoded anew in each step by the tower as it is by then."""

    def _encode(self, images: Sequence[Image.Image]) -> list[ImageFeatures]:
        return self.loaded.family.encode_images(self.loaded, images)
