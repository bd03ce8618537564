"""How a picture looks in its step: the one path that training and the preview share. No torch."""

from __future__ import annotations

import random

from PIL import Image

from grounding.training.augment import Augmentation, Shown, Target, augment
from grounding.training.crops import Told
from grounding.training.feed import Drawn
from grounding.training.settings import TrainSettings


def plain_targets(drawn: Drawn) -> list[Target]:
    """The phrases of a picture that is shown as it is."""
    return [(asked.phrase, asked.boxes_xyxy_px) for asked in drawn.asked]


def augmentation(settings: TrainSettings) -> Augmentation:
    """How a run with these settings changes its pictures."""
    return Augmentation(
        mirrored_share=settings.mirrored_share,
        cropped_share=settings.cropped_share,
        farther_share=settings.farther_share,
        jittered_share=settings.jittered_share,
        colour_change=settings.colour_change,
    )


def look(picture: Image.Image, drawn: Drawn, settings: TrainSettings) -> Shown:
    """The view of an RGB picture that its step shows: what the model is trained on, and what a preview shows."""
    if not settings.augment:
        return Shown(picture, tuple(plain_targets(drawn)))
    return augment(
        picture,
        plain_targets(drawn),
        random.Random(drawn.view_seed),
        augmentation(settings),
        told=[Told(one.phrase, one.boxes_xyxy_px, one.category) for one in drawn.asked],
        siblings=[Told(one.phrase, one.boxes_xyxy_px, one.category) for one in drawn.picture.targets],
    )
