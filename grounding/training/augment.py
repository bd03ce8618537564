"""Show a picture differently each time, with its phrases still true and its boxes still right."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageEnhance, ImageOps

from grounding.boxes import Box

MIRRORED_SHARE = 0.5
ZOOMED_SHARE = 0.5
SMALLEST_ZOOM = 0.75
COLOUR_CHANGE = 0.15

_SIDE = re.compile(r"\b(left|right)(?=\b|most\b|hand\b)", re.IGNORECASE)
# Here "left" or "right" is no side ("right above", "the only slice left"), or the words turn with the picture in
# ways that a swap of two words does not follow ("clockwise", "9 o'clock", "east", "the second dog").
_NOT_A_SIDE = re.compile(
    r"\bright\s+(above|below|under|over|behind|next|beside|by|in|at|on|after|before|there|here|now|up|down|angle|side\s+up)\b"
    r"|\ball\s+right\b|\bleft\s+(over|alone|behind)\b|\b(only|one|ones|what|slice|piece)\s+left\s*$"
    r"|clockwise|clock\b|(east|west)(ern)?\b|\b(first|second|third|fourth|fifth|\d+(st|nd|rd|th))\b",
    re.IGNORECASE,
)

_OTHER_LANGUAGES = re.compile(
    r"\b(links|rechts|linke[rnsm]?|rechte[rnsm]?|gauche|droite?|izquierd[oa]|derech[oa]|sinistr[oa]|destr[oa])\b",
    re.IGNORECASE,
)

Target = tuple[str, tuple[Box, ...]]


@dataclass(frozen=True)
class Shown:
    """A picture as a step sees it, with its phrases and their boxes in its own pixels."""

    image: Image.Image
    targets: tuple[Target, ...]


def augment(image: Image.Image, targets: Sequence[Target], rng: random.Random) -> Shown:
    """One random view of an RGB picture: mirrored or not, smaller on a wider ground or not, its colours shifted.

    A mirrored picture swaps "left" and "right" in its phrases; it is not mirrored when a phrase could not follow.
    Every object stays in the picture, so a phrase that was true of one object stays true of it alone.
    """
    shown = Shown(image, tuple(targets))
    if rng.random() < MIRRORED_SHARE and all(can_mirror(phrase) for phrase, _ in targets):
        shown = mirror(shown)
    if rng.random() < ZOOMED_SHARE:
        shown = zoom_out(shown, rng)
    return Shown(_shift_colours(shown.image, rng), shown.targets)


def can_mirror(phrase: str) -> bool:
    """Whether swapping "left" and "right" keeps this phrase true of the mirrored picture."""
    # Other scripts and languages have their own words for the sides; they mostly show in letters beyond ASCII,
    # and a German or French "left" in the words of this list.
    return phrase.isascii() and _NOT_A_SIDE.search(phrase) is None and _OTHER_LANGUAGES.search(phrase) is None


def mirror_phrase(phrase: str) -> str:
    """The phrase with "left" and "right" swapped, their case kept."""

    def swap(match: re.Match[str]) -> str:
        word = match.group(1)
        other = "right" if word.lower() == "left" else "left"
        return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other

    return _SIDE.sub(swap, phrase)


def mirror(shown: Shown) -> Shown:
    """Left and right exchanged: in the pixels, the boxes and the words."""
    width = shown.image.width
    targets = tuple(
        (mirror_phrase(phrase), tuple(Box(width - box.x2, box.y1, width - box.x1, box.y2) for box in boxes))
        for phrase, boxes in shown.targets
    )
    return Shown(ImageOps.mirror(shown.image), targets)


def zoom_out(shown: Shown, rng: random.Random) -> Shown:
    """The whole picture smaller, somewhere on a ground of its mean colour; the size stays."""
    width, height = shown.image.size
    share = rng.uniform(SMALLEST_ZOOM, 1.0)
    new_wh = max(1, round(width * share)), max(1, round(height * share))
    left, top = rng.randint(0, width - new_wh[0]), rng.randint(0, height - new_wh[1])
    mean_colour = shown.image.resize((1, 1), Image.Resampling.BOX)
    ground = mean_colour.resize((width, height))
    ground.paste(shown.image.resize(new_wh, Image.Resampling.BICUBIC), (left, top))
    across, down = new_wh[0] / width, new_wh[1] / height
    targets = tuple(
        (
            phrase,
            tuple(Box(b.x1 * across + left, b.y1 * down + top, b.x2 * across + left, b.y2 * down + top) for b in boxes),
        )
        for phrase, boxes in shown.targets
    )
    return Shown(ground, targets)


def _shift_colours(image: Image.Image, rng: random.Random) -> Image.Image:
    for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhancer(image).enhance(rng.uniform(1 - COLOUR_CHANGE, 1 + COLOUR_CHANGE))
    return image
