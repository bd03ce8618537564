"""The drawings: complete, split into known and unknown nouns, and a clear error when they are gone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from grounding.demo.sprites import all_nouns, known_nouns, load_sprites, tight_box, unknown_nouns
from grounding.errors import PictureError


def test_72_nouns_are_known_and_20_are_not() -> None:
    assert len(known_nouns()) == 72
    assert len(unknown_nouns()) == 20
    assert sorted(known_nouns() + unknown_nouns()) == sorted(all_nouns())
    assert "dog" in known_nouns()
    assert "octopus" in unknown_nouns()


def test_every_sprite_is_cut_to_what_is_seen() -> None:
    for sprite in load_sprites().values():
        assert sprite.image.mode == "RGBA"
        assert tight_box(sprite.image) == (0, 0, *sprite.image.size), sprite.noun


def test_tight_box_counts_alpha_above_40_only() -> None:
    image = Image.new("RGBA", (10, 8))
    assert tight_box(image) is None
    image.putpixel((0, 0), (9, 9, 9, 40))
    assert tight_box(image) is None
    image.putpixel((3, 2), (9, 9, 9, 41))
    image.putpixel((6, 5), (9, 9, 9, 255))
    assert tight_box(image) == (3, 2, 7, 6)


@pytest.mark.parametrize(
    ("listing", "drawing"),
    [
        pytest.param(None, None, id="no list"),
        pytest.param("not json", None, id="the list is no JSON"),
        pytest.param({"noun": "dog"}, None, id="the list is no list"),
        pytest.param([{"noun": "dog"}], None, id="a record without a file"),
        pytest.param([{"noun": "dog", "file": "dog.webp", "known_to_base_model": True}], None, id="no drawing"),
        pytest.param([{"noun": "dog", "file": "dog.webp", "known_to_base_model": True}], b"x", id="no picture"),
    ],
)
def test_broken_sprites_are_explained(tmp_path: Path, listing: object, drawing: bytes | None) -> None:
    if listing is not None:
        text = listing if isinstance(listing, str) else json.dumps(listing)
        (tmp_path / "sprites.json").write_text(text, encoding="utf-8")
    if drawing is not None:
        (tmp_path / "dog.webp").write_bytes(drawing)
    with pytest.raises(PictureError, match=r"sprites\.json.*Restore data/demo/sprites"):
        load_sprites(tmp_path)


def test_a_transparent_drawing_is_explained(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4)).save(tmp_path / "dog.png")
    record = {"noun": "dog", "file": "dog.png", "known_to_base_model": True}
    (tmp_path / "sprites.json").write_text(json.dumps([record]), encoding="utf-8")
    with pytest.raises(PictureError, match=r"dog\.png is transparent"):
        load_sprites(tmp_path)
