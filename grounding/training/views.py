"""What a step sees of each picture: features kept from one pass, or fresh ones of an augmented view."""

from __future__ import annotations

import logging
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
from grounding.training.augment import Shown, Target
from grounding.training.data import PictureTargets
from grounding.training.events import Listener, PhaseEvent
from grounding.training.feed import Drawn
from grounding.training.looks import look, plain_targets
from grounding.training.precision import computing_in
from grounding.training.settings import TrainSettings

log = logging.getLogger(__name__)

_IMAGES_PER_PASS = 20
_MOST_BYTES_KEPT = 4 * 2**30

View = tuple[list[engine.ImageFeatures], list[Sequence[Target]]]


class Views(Protocol):
    """Turns what the feed drew into what the model sees."""

    def show(self, drawn: Sequence[Drawn]) -> View:
        """The features and the phrases with their boxes of the pictures drawn, in order."""


class KeptViews:
    """Every picture as it is: the tower is frozen, so its features are computed once and never change.

    A picture that can't be read is left out with a line in the log. Features beyond `most_bytes` in all are not kept
    but computed anew whenever their picture is shown, so a large snapshot doesn't fill the memory.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        pictures: Sequence[PictureTargets],
        listener: Listener,
        should_stop: Callable[[], bool],
        most_bytes: int = _MOST_BYTES_KEPT,
    ) -> None:
        self.loaded = loaded
        self.features: dict[Path, engine.ImageFeatures] = {}
        paths = list(dict.fromkeys(picture.image for picture in pictures))
        self.anew: frozenset[Path] = frozenset()
        kept_bytes = 0
        for start in range(0, len(paths), _IMAGES_PER_PASS):
            if should_stop():
                raise Cancelled("Stopped before the first step: there is nothing to keep.")
            if kept_bytes >= most_bytes:
                self.anew = frozenset(paths[start:])
                break
            encoded = self._encode(paths[start : start + _IMAGES_PER_PASS])
            kept_bytes += sum(map(_bytes_of, encoded.values()))
            self.features.update(encoded)
            listener(PhaseEvent("Looking at the train pictures", start + len(encoded), len(paths)))

    def show(self, drawn: Sequence[Drawn]) -> View:
        """The features and phrases of the pictures drawn that can be read, in order."""
        # One by one: what a picture's features are, to the last bit, must not hang on what is shown beside it.
        found = {path: each for one in drawn if (path := one.picture.image) in self.anew for each in self._again(path)}
        found = self.features | found if found else self.features
        usable = [one for one in drawn if one.picture.image in found]
        return [found[one.picture.image] for one in usable], [plain_targets(one) for one in usable]

    def _again(self, path: Path) -> list[engine.ImageFeatures]:
        return list(self._encode([path]).values())

    def _encode(self, paths: Sequence[Path]) -> dict[Path, engine.ImageFeatures]:
        """The features of those pictures that can be read."""
        opened = {path: picture for path in paths if (picture := usable_picture(self.loaded, path)) is not None}
        if not opened:
            return {}
        return dict(zip(opened, trainable(engine.encode_images(self.loaded, list(opened.values()))), strict=True))


class AugmentedViews:
    """Every picture anew each time: mirrored or not, farther away or not, its colours shifted.

    A view depends on what the feed drew and on nothing else. A picture that can't be read is left out with a line
    in the log: it must not end a run that is hours in.
    """

    def __init__(self, loaded: LoadedModel, settings: TrainSettings, dtype: torch.dtype | None) -> None:
        self.loaded = loaded
        self.settings = settings
        self.dtype = dtype

    def show(self, drawn: Sequence[Drawn]) -> View:
        """The features and phrases of the view of each picture that can be read, in order."""
        shown: list[Shown] = []
        for one in drawn:
            picture = usable_picture(self.loaded, one.picture.image)
            if picture is not None:
                shown.append(look(picture, one, self.settings))
        if not shown:
            return [], []
        with computing_in(self.loaded.device, self.dtype):
            features = self._encode([s.image for s in shown])
        return features, [s.targets for s in shown]

    def _encode(self, images: Sequence[Image.Image]) -> list[engine.ImageFeatures]:
        return trainable(engine.encode_images(self.loaded, images))


def usable_picture(loaded: LoadedModel, path: Path) -> Image.Image | None:
    """The picture as RGB; None, with a line in the log, when it can't be read or the model can't take it."""
    try:
        picture = open_picture(path)
        loaded.family.check_picture(picture)
    except PictureError as error:
        log.warning("left out: %s: %s", path.name, error)
        return None
    return picture


def _bytes_of(features: engine.ImageFeatures) -> int:
    return sum(tensor.nbytes for tensor in (features.pooled, *features.deepstack))


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
