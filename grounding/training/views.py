"""What a step sees of each picture: features kept from one pass, or fresh ones of an augmented view."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image

from grounding import engine
from grounding.errors import Cancelled, PictureError
from grounding.models import LoadedModel
from grounding.pictures import open_picture
from grounding.training.augment import Shown, Target, augment
from grounding.training.data import PictureTargets
from grounding.training.events import Listener, PhaseEvent
from grounding.training.feed import Drawn
from grounding.training.precision import computing_in

log = logging.getLogger(__name__)

_IMAGES_PER_PASS = 20

View = tuple[list[engine.ImageFeatures], list[Sequence[Target]]]


class Views(Protocol):
    """Turns what the feed drew into what the model sees."""

    def show(self, drawn: Sequence[Drawn]) -> View:
        """The features and the phrases with their boxes of the pictures drawn, in order."""


class KeptViews:
    """Every picture as it is: the tower is frozen, so its features are computed once and never change."""

    def __init__(
        self,
        loaded: LoadedModel,
        pictures: Sequence[PictureTargets],
        listener: Listener,
        should_stop: Callable[[], bool],
    ) -> None:
        paths = list(dict.fromkeys(picture.image for picture in pictures))
        encoded = encode_paths(loaded, paths, "Looking at the train pictures", listener, should_stop)
        self.features = dict(zip(paths, encoded, strict=True))

    def show(self, drawn: Sequence[Drawn]) -> View:
        """The features and phrases of the pictures drawn, in order."""
        return [self.features[one.picture.image] for one in drawn], [plain_targets(one) for one in drawn]


class AugmentedViews:
    """Every picture anew each time: mirrored or not, farther away or not, its colours shifted.

    A view depends on what the feed drew and on nothing else. A picture that can't be read is left out with a line
    in the log: it must not end a run that is hours in.
    """

    def __init__(self, loaded: LoadedModel, dtype: torch.dtype | None) -> None:
        self.loaded = loaded
        self.dtype = dtype

    def show(self, drawn: Sequence[Drawn]) -> View:
        """The features and phrases of the view of each picture that can be read, in order."""
        shown: list[Shown] = []
        for one in drawn:
            try:
                picture = open_picture(one.picture.image)
                self.loaded.family.check_picture(picture)
            except PictureError as error:
                log.warning("left out: %s: %s", one.picture.image.name, error)
            else:
                shown.append(self._look(picture, one))
        if not shown:
            return [], []
        with computing_in(self.loaded.device, self.dtype):
            features = self._encode([s.image for s in shown])
        return features, [s.targets for s in shown]

    def _look(self, picture: Image.Image, drawn: Drawn) -> Shown:
        return look(picture, drawn)

    def _encode(self, images: Sequence[Image.Image]) -> list[engine.ImageFeatures]:
        return trainable(engine.encode_images(self.loaded, images))


def plain_targets(drawn: Drawn) -> list[Target]:
    """The phrases of a picture that is shown as it is."""
    return [(asked.phrase, asked.boxes_xyxy_px) for asked in drawn.asked]


def look(picture: Image.Image, drawn: Drawn) -> Shown:
    """The view of an RGB picture that its step shows."""
    return augment(picture, plain_targets(drawn), random.Random(drawn.view_seed))


def encode_paths(
    loaded: LoadedModel, paths: Sequence[Path], text: str, listener: Listener, should_stop: Callable[[], bool]
) -> list[engine.ImageFeatures]:
    """The features of every picture, told as a phase called `text`. Raises `Cancelled`."""
    features: list[engine.ImageFeatures] = []
    for start in range(0, len(paths), _IMAGES_PER_PASS):
        if should_stop():
            raise Cancelled("Stopped before the first step: there is nothing to keep.")
        batch = [open_picture(path) for path in paths[start : start + _IMAGES_PER_PASS]]
        features += trainable(engine.encode_images(loaded, batch))
        listener(PhaseEvent(text, len(features), len(paths)))
    return features


def trainable(features: Sequence[engine.ImageFeatures]) -> list[engine.ImageFeatures]:
    """Copies that autograd accepts: tensors born in inference mode can't take part in training."""
    return [
        replace(f, pooled=f.pooled.clone(), deepstack=tuple(level.clone() for level in f.deepstack)) for f in features
    ]
