"""Crops: a part of a picture, chosen so that each phrase asked on it stays true of its object and of no other."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from grounding.boxes import Box
from grounding.training.wording import Needs, needs

SMALLEST_CROP = 0.65
_TRIES = 12


@dataclass(frozen=True)
class Told:
    """A phrase on a picture with its boxes in that picture's pixels and its category ("" when unknown)."""

    phrase: str
    boxes_xyxy_px: tuple[Box, ...]
    category: str = ""


def choose_crop(
    size_wh: tuple[int, int], asked: Sequence[Told], siblings: Sequence[Told], rng: random.Random
) -> Box | None:
    """A window of the picture's own shape in which every phrase of `asked` still holds; None when none is found.

    `siblings` are all phrases that are known of the picture, asked or not. See `holds` for what is checked.
    """
    if any(Needs.CONTEXT in needs(one.phrase) for one in asked if one.boxes_xyxy_px):
        return None
    width, height = size_wh
    for _ in range(_TRIES):
        share = rng.uniform(SMALLEST_CROP, 0.95)
        wide, tall = max(1, round(width * share)), max(1, round(height * share))
        left, top = rng.randint(0, width - wide), rng.randint(0, height - tall)
        window = Box(left, top, left + wide, top + tall)
        if all(holds(one, window, siblings) for one in asked):
            return window
    return None


def holds(told: Told, window: Box, siblings: Sequence[Told]) -> bool:
    """Whether a phrase that was true of its boxes alone is so in this window of the picture.

    What lies outside of a window can't be mistaken for the object, so a crop never makes a noun ambiguous. But

    - every box of the phrase must lie in the window as a whole;
    - a side ("left dog") must also be the side of the window: the object's centre lies in that half of it. Beside the
      others of its kind an object keeps its side, as long as none of them is cut in two. Where categories are not
      known, all that is boxed may be of its kind;
    - a size ("the smallest dog") is a matter between the object and its kind: all of those that are known must stay,
      and there must be one;
    - relations, ordinals, corners and phrases that aren't understood never hold (`Needs.CONTEXT`).

    A phrase without a box is true of nothing in a part as it is in the whole.
    """
    if not told.boxes_xyxy_px:
        return True
    need = needs(told.phrase)
    if Needs.CONTEXT in need or not all(_inside(box, window) for box in told.boxes_xyxy_px):
        return False
    others = [(one, box) for one in siblings for box in one.boxes_xyxy_px if box not in told.boxes_xyxy_px]
    kind = [box for one, box in others if one.category and one.category == told.category]
    if Needs.SIZE in need and not (kind and all(_inside(box, window) for box in kind)):
        return False
    if Needs.SIDE in need:
        may_be_alike = [
            box for one, box in others if not (one.category and told.category) or one.category == told.category
        ]
        whole_or_gone = all(_inside(box, window) or not _touches(box, window) for box in may_be_alike)
        return whole_or_gone and all(_on_its_side(told.phrase, box, window) for box in told.boxes_xyxy_px)
    return True


def _inside(box: Box, window: Box) -> bool:
    return box.x1 >= window.x1 and box.y1 >= window.y1 and box.x2 <= window.x2 and box.y2 <= window.y2


def _touches(box: Box, window: Box) -> bool:
    return box.x1 < window.x2 and box.x2 > window.x1 and box.y1 < window.y2 and box.y2 > window.y1


def _on_its_side(phrase: str, box: Box, window: Box) -> bool:
    across = ((box.x1 + box.x2) / 2 - window.x1) / window.width_px
    down = ((box.y1 + box.y2) / 2 - window.y1) / window.height_px
    place = {"left": across, "right": 1 - across, "top": down, "bottom": 1 - down}
    return all(share < 0.5 for side, share in place.items() if side in phrase.lower())


def crop_picture(image: Image.Image, window: Box) -> Image.Image:
    """This window of the picture, enlarged to the picture's size."""
    return image.resize(image.size, Image.Resampling.BICUBIC, box=(window.x1, window.y1, window.x2, window.y2))


def crop_box(box: Box, window: Box, size_wh: tuple[int, int]) -> Box:
    """A box of the whole picture in the pixels of the enlarged window."""
    across, down = size_wh[0] / window.width_px, size_wh[1] / window.height_px
    return Box(
        (box.x1 - window.x1) * across,
        (box.y1 - window.y1) * down,
        (box.x2 - window.x1) * across,
        (box.y2 - window.y1) * down,
    )
