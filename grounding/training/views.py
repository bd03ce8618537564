"""What a step sees of each picture: features kept from one pass, or fresh ones of an augmented view."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image, ImageOps

from grounding import engine
from grounding.errors import Cancelled, PictureError
from grounding.models import LoadedModel
from grounding.pictures import open_picture
from grounding.training.augment import Shown, Target
from grounding.training.data import PictureTargets
from grounding.training.events import Listener, PhaseEvent
from grounding.training.feed import Drawn
from grounding.training.lanes import Lanes, split_evenly
from grounding.training.looks import look
from grounding.training.precision import computing_in
from grounding.training.settings import TrainSettings

log = logging.getLogger(__name__)

_IMAGES_PER_PASS = 20
_MOST_BYTES_KEPT = 4 * 2**30

View = tuple[list[engine.ImageFeatures], list[Sequence[Target]]]


class Views(Protocol):
    """Turns what the feed drew into what the model sees. `unread` are the pictures that it could not read so far."""

    unread: set[Path]

    def show(self, drawn: Sequence[Drawn]) -> View:
        """The features and the phrases with their boxes of the pictures drawn, in order."""


class KeptViews:
    """Every picture as it is or mirrored: the tower is frozen, so features are computed once and never change.

    They are computed for a block of pictures at once, in `dtype`, on a CPU in as many parts side by side as there are
    threads; the mirrored ones of a block when one of them is
    first shown. Which pictures make up a block hangs on the snapshot alone, so that a picture's features are the same
    to the last bit whatever was shown before. Where the features of all pictures would take more than `most_bytes`,
    those beyond are not kept but computed one by one whenever their picture is shown. A picture that can't be read is
    left out with a line in the log. `can_keep` says for which settings these views are enough.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        pictures: Sequence[PictureTargets],
        settings: TrainSettings,
        dtype: torch.dtype | None,
        listener: Listener,
        should_stop: Callable[[], bool],
        most_bytes: int = _MOST_BYTES_KEPT,
    ) -> None:
        self.loaded = loaded
        self.settings = settings
        self.dtype = dtype
        self.lanes = Lanes(torch.get_num_threads() if loaded.device.startswith("cpu") else 1)
        self.features: dict[tuple[Path, bool], engine.ImageFeatures] = {}
        self.unread: set[Path] = set()
        paths = list(dict.fromkeys(picture.image for picture in pictures))
        blocks = [paths[start : start + _IMAGES_PER_PASS] for start in range(0, len(paths), _IMAGES_PER_PASS)]
        self.block_of = {path: block for block in blocks for path in block}
        self.all_fit = True
        bytes_kept, seen = 0, 0
        for block in blocks:
            if should_stop():
                raise Cancelled("Stopped before the first step: there is nothing to keep.")
            bytes_kept += sum(map(_bytes_of, self._keep(block, mirrored=False)))
            seen += len(block)
            self.all_fit = 2 * bytes_kept * len(paths) <= most_bytes * seen
            if bytes_kept >= most_bytes:
                break
            listener(PhaseEvent("Looking at the train pictures", seen, len(paths)))

    def show(self, drawn: Sequence[Drawn]) -> View:
        """The features and phrases of the pictures drawn that can be read, in order."""
        features: list[engine.ImageFeatures] = []
        targets: list[Sequence[Target]] = []
        for one in drawn:
            plain = self._of(one.picture.image, mirrored=False)
            if plain is None:
                continue
            # Where the boxes and words go hangs on the picture's size alone; its pixels are in the features.
            shown = look(Image.new("L", plain.image_size_wh), one, self.settings)
            turned = self._of(one.picture.image, mirrored=True) if "mirrored" in shown.marks else plain
            if turned is None:  # its file has gone since
                continue
            features.append(turned)
            targets.append(shown.targets)
        return features, targets

    def _of(self, path: Path, *, mirrored: bool) -> engine.ImageFeatures | None:
        """The features of one picture, kept or computed; None when it can't be read."""
        if path in self.unread:
            return None
        if (path, mirrored) not in self.features:
            if not self.all_fit:
                return self._encode([path], mirrored=mirrored).get(path)
            self._keep(self.block_of[path], mirrored=mirrored)
        return self.features.get((path, mirrored))

    def _keep(self, paths: Sequence[Path], *, mirrored: bool) -> Collection[engine.ImageFeatures]:
        encoded = self._encode(paths, mirrored=mirrored)
        self.features.update({(path, mirrored): each for path, each in encoded.items()})
        return encoded.values()

    def _encode(self, paths: Sequence[Path], *, mirrored: bool) -> dict[Path, engine.ImageFeatures]:
        """The features of those pictures that can be read."""
        opened = usable_pictures(self.loaded, paths)
        self.unread |= {path for path in paths if path not in opened}
        if not opened:
            return {}
        images = [ImageOps.mirror(picture) if mirrored else picture for picture in opened.values()]
        parts = split_evenly(images, min(self.lanes.count, len(images)))
        encoded = [each for part in self.lanes.map(self._encode_part, parts) for each in part]
        return dict(zip(opened, encoded, strict=True))

    def _encode_part(self, images: Sequence[Image.Image]) -> list[engine.ImageFeatures]:
        with computing_in(self.loaded.device, self.dtype):
            return trainable(engine.encode_images(self.loaded, images))


def can_keep(settings: TrainSettings) -> bool:
    """Whether views with these settings differ from their pictures by no more than being mirrored."""
    changes = (settings.cropped_share, settings.farther_share, settings.colour_change)
    return not settings.augment or not any(changes)


class AugmentedViews:
    """Every picture anew each time: mirrored or not, farther away or not, its colours shifted.

    A view depends on what the feed drew and on nothing else. A picture that can't be read is left out with a line
    in the log: it must not end a run that is hours in.
    """

    def __init__(self, loaded: LoadedModel, settings: TrainSettings, dtype: torch.dtype | None) -> None:
        self.loaded = loaded
        self.settings = settings
        self.dtype = dtype
        self.unread: set[Path] = set()

    def show(self, drawn: Sequence[Drawn]) -> View:
        """The features and phrases of the view of each picture that can be read, in order."""
        shown: list[Shown] = []
        for one in drawn:
            picture = usable_picture(self.loaded, one.picture.image)
            if picture is None:
                self.unread.add(one.picture.image)
            else:
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


def usable_pictures(loaded: LoadedModel, paths: Sequence[Path]) -> dict[Path, Image.Image]:
    """Those of the pictures that can be used, in order."""
    return {path: picture for path in paths if (picture := usable_picture(loaded, path)) is not None}


def _bytes_of(features: engine.ImageFeatures) -> int:
    return sum(tensor.nbytes for tensor in (features.pooled, *features.deepstack))


def encode_paths(
    loaded: LoadedModel, paths: Sequence[Path], text: str, listener: Listener, should_stop: Callable[[], bool]
) -> dict[Path, engine.ImageFeatures]:
    """The features of every picture that can be used, told as a phase called `text`. Raises `Cancelled`."""
    features: dict[Path, engine.ImageFeatures] = {}
    for start in range(0, len(paths), _IMAGES_PER_PASS):
        if should_stop():
            raise Cancelled("Stopped before the first step: there is nothing to keep.")
        some = paths[start : start + _IMAGES_PER_PASS]
        opened = usable_pictures(loaded, some)
        if opened:
            encoded = engine.encode_images(loaded, list(opened.values()))
            features.update(zip(opened, trainable(encoded), strict=True))
        listener(PhaseEvent(text, start + len(some), len(paths)))
    return features


def trainable(features: Sequence[engine.ImageFeatures]) -> list[engine.ImageFeatures]:
    """Copies that autograd accepts: tensors born in inference mode can't take part in training."""
    return [
        replace(f, pooled=f.pooled.clone(), deepstack=tuple(level.clone() for level in f.deepstack)) for f in features
    ]
