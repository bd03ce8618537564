"""Draw scenes of the demo's drawings: the demo's own pictures, and those that an embedded model is trained on."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from grounding.boxes import Box, iou
from grounding.demo.sprites import all_nouns, load_sprites, tight_box

SCENE_SIDE_PX = 256
SCENE_SIZE_WH = (SCENE_SIDE_PX, SCENE_SIDE_PX)
OBJECTS_MIN, OBJECTS_MAX = 3, 8
LONGER_SIDE_MIN_PX, LONGER_SIDE_MAX_PX = 30, 110
MAX_TURN_DEGREES = 20.0
MAX_PAIR_IOU = 0.05
REPEATED_SHARE = 0.6  # of scenes have a noun that stands two or three times
NOISE_CELLS = (4, 8, 16)
_PLACES_TRIED = 60


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One drawing in a scene; its box is tight around alpha > 40, in whole pixels, x2 and y2 exclusive."""

    noun: str
    box_xyxy_px: Box

    @property
    def centre_xy_px(self) -> tuple[float, float]:
        box = self.box_xyxy_px
        return ((box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2)

    @property
    def area_px(self) -> float:
        """Area of the box in square pixels."""
        return self.box_xyxy_px.area_px


@dataclass(frozen=True, eq=False)
class Scene:
    """An RGB picture and what stands in it, larger objects first (so painted below smaller ones)."""

    image: Image.Image
    objects: tuple[SceneObject, ...]


@dataclass(frozen=True, eq=False)
class _Drawing:
    """A sprite at its final size, and where its upper left corner goes."""

    object: SceneObject
    image: Image.Image
    corner_xy_px: tuple[int, int]


def draw_scene(
    rng: random.Random,
    *,
    focus_nouns: Sequence[str] = (),
    repeats: bool | None = None,
    size_wh: tuple[int, int] = SCENE_SIZE_WH,
) -> Scene:
    """One scene of 3 to 8 objects, in which every focus noun (at most two) stands at least once.

    `size_wh` is in pixels, at least 120 a side; a picture with less room than 256x256 holds fewer objects at most.

    `repeats` decides whether a noun stands two or three times, None leaves it to chance (60%); that noun is
    one of the focus nouns if there are any. All other nouns stand once. Raises `ValueError` for more than two
    focus nouns and `KeyError` for a noun that has no sprite.
    """
    if len(set(focus_nouns)) > 2:
        raise ValueError(f"A scene of {OBJECTS_MIN} objects has room for two focus nouns, not {list(focus_nouns)}.")
    if repeats is None:
        repeats = rng.random() < REPEATED_SHARE
    nouns = _choose_nouns(rng, list(dict.fromkeys(focus_nouns)), repeats, _most_objects(size_wh))
    drawings = None
    while drawings is None:
        drawings = _place_all(rng, nouns, size_wh)
    drawings.sort(key=lambda drawing: -drawing.object.area_px)
    image = draw_background(rng, size_wh)
    for drawing in drawings:
        image.paste(drawing.image, drawing.corner_xy_px, drawing.image)
    return Scene(image, tuple(drawing.object for drawing in drawings))


def draw_background(rng: random.Random, size_wh: tuple[int, int] = SCENE_SIZE_WH) -> Image.Image:
    """An RGB ground: flat, a two-colour gradient, or coarse colour noise, each a third of the time."""
    width, height = size_wh
    noise = np.random.default_rng(rng.getrandbits(64))
    match rng.choice(("flat", "gradient", "noise")):
        case "flat":
            red, green, blue = noise.integers(0, 256, 3).tolist()
            return Image.new("RGB", size_wh, (red, green, blue))
        case "gradient":
            angle = rng.uniform(0, 2 * math.pi)
            y, x = np.mgrid[0:height, 0:width]
            ramp = x * math.cos(angle) + y * math.sin(angle)
            ramp = ((ramp - ramp.min()) / np.ptp(ramp))[..., None]  # [256, 256, 1], 0 to 1
            first, second = noise.integers(0, 256, (2, 3))
            return Image.fromarray((first + ramp * (second - first)).round().astype(np.uint8))
        case _:
            cells = rng.choice(NOISE_CELLS)
            coarse = Image.fromarray(noise.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
            return coarse.resize(size_wh, Image.Resampling.BICUBIC)


def _most_objects(size_wh: tuple[int, int]) -> int:
    room = size_wh[0] * size_wh[1] / (SCENE_SIDE_PX * SCENE_SIDE_PX)
    return max(OBJECTS_MIN, min(OBJECTS_MAX, round(OBJECTS_MAX * room)))


def _choose_nouns(rng: random.Random, focus_nouns: list[str], repeats: bool, most: int) -> list[str]:
    count = rng.randint(OBJECTS_MIN, most)
    nouns = list(focus_nouns)
    if repeats:
        repeated = rng.choice(focus_nouns or all_nouns())
        others = [noun for noun in focus_nouns if noun != repeated]
        copies = min(rng.randint(2, 3), count - len(others))
        nouns = [repeated] * copies + others
    strangers = [noun for noun in all_nouns() if noun not in nouns]
    nouns += rng.sample(strangers, count - len(nouns))
    rng.shuffle(nouns)
    return nouns


def _place_all(rng: random.Random, nouns: Sequence[str], size_wh: tuple[int, int]) -> list[_Drawing] | None:
    """A place for each noun, or None when the picture filled up before the last one."""
    placed: list[_Drawing] = []
    for noun in nouns:
        drawing = _place(rng, noun, [other.object.box_xyxy_px for other in placed], size_wh)
        if drawing is None:
            return None
        placed.append(drawing)
    return placed


def _place(rng: random.Random, noun: str, taken: Sequence[Box], size_wh: tuple[int, int]) -> _Drawing | None:
    posed = _pose(rng, noun)
    for _ in range(_PLACES_TRIED):
        scale = rng.randint(LONGER_SIDE_MIN_PX, LONGER_SIDE_MAX_PX) / max(posed.size)
        width, height = (max(1, round(side * scale)) for side in posed.size)
        x, y = rng.randint(0, size_wh[0] - width), rng.randint(0, size_wh[1] - height)
        if not _is_free(Box(x, y, x + width, y + height), taken):
            continue
        image = posed.resize((width, height), Image.Resampling.BICUBIC)
        seen = tight_box(image)
        if seen is None:
            continue
        # Scaling can fade the outermost pixels: what counts is what is seen in the end.
        box = Box.from_numbers((x + seen[0], y + seen[1], x + seen[2], y + seen[3]))
        if max(box.width_px, box.height_px) >= LONGER_SIDE_MIN_PX and _is_free(box, taken):
            return _Drawing(SceneObject(noun, box), image, (x, y))
    return None


def _pose(rng: random.Random, noun: str) -> Image.Image:
    """The sprite, mirrored in half the cases and turned in half, cut to what is seen."""
    image = load_sprites()[noun].image
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
    if rng.random() < 0.5:
        angle = rng.uniform(-MAX_TURN_DEGREES, MAX_TURN_DEGREES)
        image = image.rotate(angle, Image.Resampling.BICUBIC, expand=True)
        image = image.crop(tight_box(image))
    return image


def _is_free(box: Box, taken: Sequence[Box]) -> bool:
    return all(iou(box, other) < MAX_PAIR_IOU for other in taken)
