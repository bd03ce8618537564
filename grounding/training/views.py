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
from grounding.training.precision import computing_in

log = logging.getLogger(__name__)

_IMAGES_PER_PASS = 20

Chosen = Sequence[tuple[int, Sequence[Target]]]
View = tuple[list[engine.ImageFeatures], list[Sequence[Target]]]


class Views(Protocol):
    """What a step sees of its pictures: a function of the step's number and of what was chosen, nothing else."""

    def show(self, chosen: Chosen, step: int = 0) -> View:
        """The features and phrases of each chosen picture that can be read, in order, as step `step` sees them."""


class KeptViews:
    """Every picture as it is: the tower is frozen, so its features are computed once and never change."""

    def __init__(
        self,
        loaded: LoadedModel,
        pictures: Sequence[PictureTargets],
        listener: Listener,
        should_stop: Callable[[], bool],
    ) -> None:
        paths = [picture.image for picture in pictures]
        self.features = encode_paths(loaded, paths, "Looking at the train pictures", listener, should_stop)

    def show(self, chosen: Chosen, step: int = 0) -> View:
        """The features and phrases of the chosen pictures, in order."""
        return [self.features[index] for index, _ in chosen], [targets for _, targets in chosen]


class AugmentedViews:
    """Every picture anew each time: mirrored or not, farther away or not, its colours shifted.

    A picture that can't be read is left out with a line in the log: it must not end a run that is hours in.
    """

    def __init__(
        self, loaded: LoadedModel, pictures: Sequence[PictureTargets], seed: int, dtype: torch.dtype | None
    ) -> None:
        self.loaded = loaded
        self.dtype = dtype
        self.paths = [picture.image for picture in pictures]
        self.seed = seed

    def show(self, chosen: Chosen, step: int = 0) -> View:
        """The features and phrases of one random view of each chosen picture that can be read, in order.

        The view hangs on the seed, the step and the picture alone.
        """
        shown: list[Shown] = []
        for index, targets in chosen:
            try:
                picture = open_picture(self.paths[index])
                self.loaded.family.check_picture(picture)
            except PictureError as error:
                log.warning("left out: %s: %s", self.paths[index].name, error)
            else:
                shown.append(self._see(picture, targets, random.Random(f"{self.seed} {step} {index}")))
        if not shown:
            return [], []
        with computing_in(self.loaded.device, self.dtype):
            features = self._encode([s.image for s in shown])
        return features, [s.targets for s in shown]

    def _see(self, picture: Image.Image, targets: Sequence[Target], rng: random.Random) -> Shown:
        return augment(picture, targets, rng)

    def _encode(self, images: Sequence[Image.Image]) -> list[engine.ImageFeatures]:
        return trainable(engine.encode_images(self.loaded, images))


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
