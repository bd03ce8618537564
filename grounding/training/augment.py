"""Show a picture differently each time, with its phrases still true and its boxes still right."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image, ImageEnhance, ImageOps

from grounding.boxes import Box
from grounding.training.crops import Told, choose_crop, crop_box, crop_picture
from grounding.training.jitter import jitter
from grounding.training.wording import is_foreign

SMALLEST_ZOOM = 0.75

# Underscores part words here: categories are often called "left_hand".
_SIDE = re.compile(r"(?<![^\W_])(left|right)(?=(?:most|hand)?(?![^\W_]))", re.IGNORECASE)
# Here "left" or "right" is no side ("right above", "the only slice left"), or the words turn with the picture in
# ways that a swap of two words does not follow ("clockwise", "9 o'clock", "east", "the second dog").
_NOT_A_SIDE = re.compile(
    r"\bright[\s-]+(above|below|under|over|behind|next|beside|by|in|at|on|after|before|there|here|now|up|down|angled?|"
    r"side[\s-]+up|of[\s-]+way|against|along|around|between|through|near|outside|inside|beneath|off|into|onto|across|away)\b"
    r"|\ball\s+right\b|\bleft[\s-]+(over|alone|behind|un\w+|open|out|empty|standing|there|to|by|for|on|in)\b"
    r"|\b(only|one|ones|what|slice|piece)\s+left\s*$|\b(has|have|had|just|who|that|was|were|be|been)\s+left\b"
    r"|clockwise|clock\b|(east|west)(ern)?\b|\d+(st|nd|rd|th)\b"
    r"|\b(first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last|final|previous)\b",
    re.IGNORECASE,
)
# Words for a side that a swap would leave as they are ("leftwards", "upperleft", "lft").
_UNREAD_SIDE = re.compile(
    r"\b(left|right)(?!most\b|hand\b|overs?\b)[a-z]+"
    r"|\b(?!bright|upright|fright|wright|copyright|cleft)[a-z]+(left|right)"
    r"|\b(lft|letf|lef|rt|rght|rigth|rigt|righ|lhs|rhs|l|r)\b",
    re.IGNORECASE,
)
# What is written in the picture can't be read in its mirror image.
_WRITTEN = re.compile(
    r"\d|[\"#]|\B'\w[^']*'\B|\b(says?|saying|reads?|reading|written|spell\w*|letters?|words?|text|numbers?|numbered|logo|label\w*|"
    r"(turn|keep)\s+(left|right))\b",
    re.IGNORECASE,
)

Target = tuple[str, tuple[Box, ...]]


@dataclass(frozen=True)
class Augmentation:
    """How often and how much a view differs from its picture. Shares from 0.0 to 1.0 of the views (of the boxes:
    `jittered_share`); `colour_change` is the largest relative change of brightness, contrast and colour."""

    mirrored_share: float = 0.5
    cropped_share: float = 0.0
    farther_share: float = 0.5
    jittered_share: float = 0.0
    colour_change: float = 0.15


@dataclass(frozen=True)
class Shown:
    """A picture as a step sees it, with its phrases and their boxes in its own pixels.

    `marks` says what was done to the picture ("mirrored", "cropped", "farther away", "other colours"); `jittered` are
    the places in `targets` of the phrases whose boxes were moved a little.
    """

    image: Image.Image
    targets: tuple[Target, ...]
    marks: tuple[str, ...] = ()
    jittered: frozenset[int] = frozenset()


def augment(
    image: Image.Image,
    targets: Sequence[Target],
    rng: random.Random,
    how: Augmentation | None = None,
    *,
    told: Sequence[Told] = (),
    siblings: Sequence[Told] = (),
) -> Shown:
    """One random view of an RGB picture: mirrored or not, a part of it or the whole smaller, its colours shifted.

    A mirrored picture swaps "left" and "right" in its phrases; it is not mirrored when a phrase could not follow.
    A part is shown only where every phrase stays true of its object alone: `told` are the targets with their
    categories, `siblings` all that is known of the picture (see `crops.holds`); without `told` nothing is cropped.
    Otherwise every object stays in the picture. A jittered box keeps an IoU of 0.9 with its own.
    """
    how = how or Augmentation()
    shown = Shown(image, tuple(targets))
    # The same draws whatever the shares are, so that one more kind of view does not change the others.
    to_mirror, to_crop, to_shrink = rng.random(), rng.random(), rng.random()
    window = choose_crop(image.size, told, siblings, rng) if told and to_crop < how.cropped_share else None
    if window is not None:
        shown = crop(shown, window)
    if to_mirror < how.mirrored_share and all(can_mirror(phrase) for phrase, _ in targets):
        shown = mirror(shown)
    if window is None and to_shrink < how.farther_share:
        shown = zoom_out(shown, rng)
    shown = shift_colours(shown, rng, how.colour_change)
    return _jitter_some(shown, rng, how.jittered_share)


def can_mirror(phrase: str) -> bool:
    """Whether swapping "left" and "right" keeps this phrase true of the mirrored picture."""
    words = phrase.replace("_", " ")
    # Other languages have their own words for the sides.
    return not is_foreign(words) and not any(pattern.search(words) for pattern in (_NOT_A_SIDE, _UNREAD_SIDE, _WRITTEN))


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
    return Shown(ImageOps.mirror(shown.image), targets, (*shown.marks, "mirrored"))


def crop(shown: Shown, window: Box) -> Shown:
    """This window of the picture, enlarged to the picture's size."""
    size_wh = shown.image.size
    targets = tuple((phrase, tuple(crop_box(box, window, size_wh) for box in boxes)) for phrase, boxes in shown.targets)
    return Shown(crop_picture(shown.image, window), targets, (*shown.marks, "cropped"))


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
    return Shown(ground, targets, (*shown.marks, "farther away"))


def shift_colours(shown: Shown, rng: random.Random, change: float) -> Shown:
    """Brightness, contrast and colour each times a factor from 1 - `change` to 1 + `change`."""
    if not change:
        return shown
    image = shown.image
    for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhancer(image).enhance(rng.uniform(1 - change, 1 + change))
    return replace(shown, image=image, marks=(*shown.marks, "other colours"))


def _jitter_some(shown: Shown, rng: random.Random, share: float) -> Shown:
    chosen = frozenset(i for i, (_, boxes) in enumerate(shown.targets) if boxes and rng.random() < share)
    targets = tuple(
        (phrase, tuple(jitter(box, shown.image.size, rng) for box in boxes) if i in chosen else boxes)
        for i, (phrase, boxes) in enumerate(shown.targets)
    )
    return replace(shown, targets=targets, jittered=chosen)
