"""The drawings that scenes are made of, and which of their nouns the embedded model knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from PIL import Image

from grounding.errors import PictureError

SPRITES_FOLDER = Path(__file__).resolve().parents[2] / "data" / "demo" / "sprites"
SEEN_ALPHA = 40  # of 255; what is fainter belongs to no box


@dataclass(frozen=True, eq=False)
class Sprite:
    """One drawing: RGBA, cut to the pixels with alpha > `SEEN_ALPHA`, at most 128 px wide and high."""

    noun: str
    known_to_base_model: bool
    image: Image.Image


def tight_box(image: Image.Image) -> tuple[int, int, int, int] | None:
    """x1, y1, x2, y2 in pixels (x2 and y2 exclusive) around alpha > `SEEN_ALPHA`; None when nothing is seen."""
    return image.getchannel("A").point(_SEEN).getbbox()


_SEEN = [255 if alpha > SEEN_ALPHA else 0 for alpha in range(256)]


@cache
def load_sprites(folder: Path = SPRITES_FOLDER) -> Mapping[str, Sprite]:
    """All sprites by noun, in the order of sprites.json, read once.

    Raises `PictureError` when the list or a drawing is missing or damaged.
    """
    listing = folder / "sprites.json"
    try:
        records = json.loads(listing.read_text(encoding="utf-8"))
        sprites = [_read_sprite(folder, record) for record in records]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PictureError(
            f"The demo's drawings can't be read from {listing} ({error!r}). "
            "Restore data/demo/sprites from the repository."
        ) from error
    return MappingProxyType({sprite.noun: sprite for sprite in sprites})


def _read_sprite(folder: Path, record: Mapping[str, object]) -> Sprite:
    path = folder / str(record["file"])
    with Image.open(path) as picture:
        image = picture.convert("RGBA")
    box = tight_box(image)
    if box is None:
        raise ValueError(f"{path.name} is transparent throughout")
    return Sprite(str(record["noun"]), bool(record["known_to_base_model"]), image.crop(box))


def all_nouns() -> tuple[str, ...]:
    """The 92 nouns that may stand in a scene."""
    return tuple(load_sprites())


def known_nouns() -> tuple[str, ...]:
    """The 72 nouns that the embedded model was taught."""
    return tuple(sprite.noun for sprite in load_sprites().values() if sprite.known_to_base_model)


def unknown_nouns() -> tuple[str, ...]:
    """The 20 nouns that the embedded model has seen drawn but never named: what the demo teaches it."""
    return tuple(sprite.noun for sprite in load_sprites().values() if not sprite.known_to_base_model)
