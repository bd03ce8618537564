"""Opening pictures safely, and keeping them by their content."""

from __future__ import annotations

import hashlib
import math
import os
import random
import struct
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from grounding.errors import PictureError
from grounding.pictures import (
    MAX_PICTURE_PIXELS,
    PictureStore,
    check_header,
    file_sha256,
    open_picture,
    picture_size_wh,
)

SIZE_WH = (12, 8)
ORIENTATION = 0x0112


def make_picture() -> Image.Image:
    """12 x 8, red with a blue upper left quarter, so that every turn and mirror shows."""
    picture = Image.new("RGB", SIZE_WH, (250, 10, 10))
    picture.paste((10, 10, 250), (0, 0, 6, 4))
    return picture


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = value
    return exif


def with_header_size(path: Path, width: int, height: int) -> Path:
    """A valid small PNG whose header claims another size, its checksum made right."""
    make_picture().save(path)
    content = bytearray(path.read_bytes())
    assert content[12:16] == b"IHDR"
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)
    return path


def is_blue(colour: object) -> bool:
    red, _, blue = colour  # type: ignore[misc]
    return bool(blue > 150 and red < 100)


@pytest.mark.parametrize(
    ("case", "name", "save"),
    [
        ("PNG", "a.png", {}),
        ("JPEG", "a.jpg", {"quality": 95}),
        ("the JPEG of a phone with a second picture in it", "a.mpo", {"save_all": True, "append_images": True}),
        ("WebP", "a.webp", {"lossless": True}),
        ("BMP", "a.bmp", {}),
        ("GIF", "a.gif", {}),
        ("GIF that moves: its first frame", "moving.gif", {"save_all": True, "append_images": True}),
        ("TIFF", "a.tif", {}),
        ("packed TIFF", "lzw.tif", {"compression": "tiff_lzw"}),
        ("a picture under another suffix", "a.dat", {"format": "PNG"}),
    ],
)
def test_a_picture_opens_as_rgb(tmp_path: Path, case: str, name: str, save: dict[str, object]) -> None:
    options = dict(save)
    if options.pop("append_images", False):
        options["append_images"] = [Image.new("RGB", SIZE_WH, (10, 250, 10))]
    make_picture().save(tmp_path / name, **options)  # type: ignore[arg-type]
    picture = open_picture(tmp_path / name)
    assert (picture.mode, picture.size) == ("RGB", SIZE_WH)
    assert is_blue(picture.getpixel((1, 1)))
    assert not is_blue(picture.getpixel((10, 6)))
    assert picture_size_wh(str(tmp_path / name)) == SIZE_WH
    assert PictureStore(tmp_path / "kept").add(tmp_path / name)[1] == SIZE_WH


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_way_to_hold_colours_becomes_rgb(tmp_path: Path, mode: str) -> None:
    source = make_picture().convert("L").convert(mode) if mode == "PA" else make_picture().convert(mode)
    assert open_picture(source).mode == "RGB"
    source.save(tmp_path / "a", {"CMYK": "JPEG", "YCbCr": "JPEG", "PA": "TIFF"}.get(mode, "PNG"))
    assert open_picture(tmp_path / "a").mode == "RGB"


def test_16_bit_greys_keep_their_shades(tmp_path: Path) -> None:
    greys = [0, 256, 20_000, 40_000, 65_535]
    picture = Image.new("I;16", (len(greys), 1))
    for x, grey in enumerate(greys):
        picture.putpixel((x, 0), grey)
    for name in ("a.png", "a.tif"):
        picture.save(tmp_path / name)
        opened = open_picture(tmp_path / name)
        assert [opened.getpixel((x, 0)) for x in range(len(greys))] == [(grey // 256,) * 3 for grey in greys], name


def test_a_palette_with_transparent_colours_opens_without_a_warning(tmp_path: Path) -> None:
    make_picture().quantize(4).save(tmp_path / "a.png", transparency=bytes([255, 120, 0, 255]))
    red, green, blue = open_picture(tmp_path / "a.png").getpixel((1, 1))
    assert red == green < 200 < blue  # blue, seen through onto white


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "lzw.tif"])
@pytest.mark.parametrize("value", range(1, 9))
def test_pictures_are_turned_upright(tmp_path: Path, name: str, value: int) -> None:
    """Saved as a camera does: the pixels lie turned, and the EXIF orientation says how to turn them back."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    lying = make_picture().transpose(undo[value]) if value in undo else make_picture()
    packed = {"compression": "tiff_lzw"} if name.startswith("lzw") else {}
    lying.save(tmp_path / name, exif=orientation(value), **packed)
    upright = open_picture(tmp_path / name)
    assert upright.size == SIZE_WH
    assert picture_size_wh(tmp_path / name) == SIZE_WH
    assert is_blue(upright.getpixel((1, 1)))
    assert [is_blue(upright.getpixel(corner)) for corner in ((10, 1), (1, 6), (10, 6))] == [False] * 3


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA"])
@pytest.mark.parametrize("value", [5, 6, 7, 8])
def test_an_unpacked_tiff_is_turned_upright_in_every_mode(tmp_path: Path, mode: str, value: int) -> None:
    turned = {
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    lying = make_picture().convert(mode)
    lying.save(tmp_path / "a.tif", exif=orientation(value))
    upright = open_picture(tmp_path / "a.tif")
    assert upright.size == picture_size_wh(tmp_path / "a.tif")
    assert upright.tobytes() == lying.transpose(turned[value]).convert("RGB").tobytes()


def test_a_picture_in_memory_is_turned_upright_too_and_stays_as_it_was(tmp_path: Path) -> None:
    make_picture().save(tmp_path / "a.jpg", exif=orientation(6))
    with Image.open(tmp_path / "a.jpg") as picture:
        assert open_picture(picture).size == SIZE_WH[::-1]
        assert picture.size == SIZE_WH


def text_file(path: Path) -> None:
    path.write_text("this is no picture")


def empty_file(path: Path) -> None:
    path.write_bytes(b"")


def cut_jpeg(path: Path) -> None:
    Image.effect_noise((64, 64), 90).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:900])


def cut_png(path: Path) -> None:
    Image.effect_noise((64, 64), 90).save(path, "PNG")
    path.write_bytes(path.read_bytes()[:900])


def broken_exif(path: Path) -> None:
    make_picture().save(path, "PNG", exif=b"this is no EXIF block")


def icon(path: Path) -> None:
    make_picture().resize((16, 16)).save(path, "ICO")


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: None, "There is no picture at"),
        (text_file, "is not a picture that can be read. Expected PNG, JPEG, WebP, BMP, GIF or TIFF"),
        (empty_file, "is not a picture that can be read"),
        (cut_jpeg, "is a damaged picture and can't be decoded"),
        (cut_png, "is a damaged picture and can't be decoded"),
        (broken_exif, "is a damaged picture"),
        (icon, "has the format ICO. Expected PNG, JPEG"),
        (folder, "is a folder: expected a picture"),
    ],
    ids=["missing", "text named .png", "empty", "cut JPEG", "cut PNG", "broken EXIF", "icon", "folder"],
)
def test_what_is_no_picture_is_named(tmp_path: Path, spoil: Callable[[Path], None], says: str) -> None:
    path = tmp_path / "broken.png"
    spoil(path)
    with pytest.raises(PictureError) as caught:
        open_picture(path)
    assert "broken.png" in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "spoil",
    [lambda path: None, text_file, empty_file, broken_exif, icon, folder],
    ids=["missing", "text named .png", "empty", "broken EXIF", "icon", "folder"],
)
def test_neither_has_it_a_size_nor_is_it_kept(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    spoil(tmp_path / "broken.png")
    with pytest.raises(PictureError, match=r"broken\.png"):
        picture_size_wh(tmp_path / "broken.png")
    with pytest.raises(PictureError, match=r"broken\.png"):
        PictureStore(tmp_path / "kept").add(tmp_path / "broken.png")
    assert not (tmp_path / "kept").exists()


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    for name in ("a\0b.png", "a" * 5000 + ".png"):
        for ask in (open_picture, check_header, file_sha256, picture_size_wh):
            with pytest.raises(PictureError, match=r"embedded null byte|File name too long") as caught:
                ask(tmp_path / name)
            assert len(str(caught.value)) < 400


@pytest.mark.parametrize("thing", [b"bytes", None, 5, [[0]]])
def test_a_thing_of_another_type_is_no_picture(thing: Any) -> None:
    for ask in (open_picture, check_header):
        with pytest.raises(PictureError, match=f"of the type {type(thing).__name__}: expected a path or an image"):
            ask(thing)


def test_a_cut_picture_in_memory_is_a_sentence_too(tmp_path: Path) -> None:
    cut_jpeg(tmp_path / "cut.jpg")
    with Image.open(tmp_path / "cut.jpg") as picture, pytest.raises(PictureError, match="The picture is a damaged"):
        open_picture(picture)


@pytest.mark.parametrize(
    ("case", "width", "height"),
    [
        ("Pillow refuses it", 20_000, 20_000),
        ("Pillow only warns", 11_000, 11_000),
        ("Pillow says nothing", 8_001, 8_000),
        ("one long row", 2_000_000, 2_000),
    ],
)
def test_a_huge_picture_is_refused_by_its_header_alone(tmp_path: Path, case: str, width: int, height: int) -> None:
    path = with_header_size(tmp_path / "huge.png", width, height)
    for function in (open_picture, picture_size_wh, PictureStore(tmp_path / "kept").add):
        start = time.process_time()
        with pytest.raises(PictureError) as caught:
            function(path)
        assert time.process_time() - start < 0.5
        assert "huge.png" in str(caught.value)
        assert "64" in str(caught.value), "the limit, in megapixels"
        assert "cale the picture down" in str(caught.value)


def test_a_huge_picture_in_memory_is_refused() -> None:
    picture = Image.new("1", (8_001, 8_000))
    with pytest.raises(PictureError, match=r"8001 x 8000 pixels = 64 megapixels; the limit is 64\. Scale"):
        open_picture(picture)


def test_the_limit_itself_is_allowed(tmp_path: Path) -> None:
    assert MAX_PICTURE_PIXELS == 64_000_000
    path = with_header_size(tmp_path / "limit.png", 8_000, 8_000)
    with pytest.raises(PictureError, match="damaged picture"):
        open_picture(path)


def spoilt(content: bytes, seed: int) -> bytes:
    """The bytes with a few of them changed, cut or added."""
    chance, changed = random.Random(seed), bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(changed))
        kind = chance.random()
        if kind < 0.6:
            changed[at] = chance.choice((0, 255, chance.randrange(256)))
        elif kind < 0.8:
            changed = changed[: at + 1]
        else:
            changed[at : at + chance.randrange(4)] = chance.randbytes(chance.randrange(6))
    return bytes(changed)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "MPO"]), st.integers(0, 2**32))
def test_a_spoilt_file_opens_or_is_a_sentence(tmp_path: Path, format_name: str, seed: int) -> None:
    many = {"save_all": True, "append_images": [make_picture()]} if format_name == "MPO" else {}
    path = tmp_path / "spoilt"
    make_picture().save(path, format_name, **many)  # type: ignore[arg-type]
    path.write_bytes(spoilt(path.read_bytes(), seed))
    for function in (open_picture, picture_size_wh):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on damaged metadata
            try:
                function(path)
            except PictureError as error:
                assert "spoilt" in str(error)


def test_a_hash_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(PictureError, match=r"no readable picture at .*missing"):
        file_sha256(tmp_path / "missing")


@pytest.fixture
def store(tmp_path: Path) -> PictureStore:
    return PictureStore(tmp_path / "kept")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    make_picture().save(tmp_path / "source.png")
    return tmp_path / "source.png"


def kept_files(store: PictureStore) -> list[Path]:
    return sorted(path for path in store.folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("link", [False, True])
def test_a_picture_is_kept_under_its_content(store: PictureStore, source: Path, link: bool) -> None:
    content = source.read_bytes()
    sha256, size_wh = store.add(source, link=link)
    assert sha256 == hashlib.sha256(content).hexdigest()
    assert size_wh == SIZE_WH
    assert store.path(sha256) == store.folder / sha256[:2] / f"{sha256}.png"
    assert store.path(sha256).read_bytes() == content
    assert kept_files(store) == [store.path(sha256)], "nothing half-written is left behind"


def test_the_same_content_is_kept_once(store: PictureStore, source: Path, tmp_path: Path) -> None:
    sha256, _ = store.add(source)
    written = store.path(sha256).stat().st_mtime_ns, store.path(sha256).stat().st_ino
    (tmp_path / "again.dat").write_bytes(source.read_bytes())
    assert store.add(tmp_path / "again.dat") == (sha256, SIZE_WH)
    assert store.add(source, link=True) == (sha256, SIZE_WH)
    assert (store.path(sha256).stat().st_mtime_ns, store.path(sha256).stat().st_ino) == written
    assert len(kept_files(store)) == 1


def test_the_suffix_tells_the_format_whatever_the_source_was_called(store: PictureStore, tmp_path: Path) -> None:
    make_picture().save(tmp_path / "a.png", "JPEG")
    assert store.path(store.add(tmp_path / "a.png")[0]).suffix == ".jpg"


def test_a_copy_stays_as_it_is_when_the_source_changes(store: PictureStore, source: Path) -> None:
    content = source.read_bytes()
    sha256, _ = store.add(source)
    source.write_bytes(b"something else")
    assert store.path(sha256).read_bytes() == content
    source.unlink()
    assert store.path(sha256).read_bytes() == content


def test_a_link_takes_no_room_and_outlives_its_source(store: PictureStore, source: Path) -> None:
    content = source.read_bytes()
    sha256, _ = store.add(source, link=True)
    assert store.path(sha256).samefile(source)
    source.unlink()
    assert store.path(sha256).read_bytes() == content


@pytest.mark.parametrize("relative", [True, False])
def test_of_a_symbolic_link_the_file_itself_is_linked(
    store: PictureStore, source: Path, tmp_path: Path, relative: bool
) -> None:
    """As the caches of the Hub and of DVC have them; where those are cleared the picture must stay."""
    named = tmp_path / "links" / "1.png"
    named.parent.mkdir()
    named.symlink_to(os.path.relpath(source, named.parent) if relative else source)
    sha256, _ = store.add(named, link=True)
    assert not store.path(sha256).is_symlink() and store.path(sha256).samefile(source)
    source.unlink()
    assert open_picture(store.path(sha256)).size == SIZE_WH


def test_where_links_are_refused_it_is_a_copy(
    store: PictureStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("not across devices")

    monkeypatch.setattr(os, "link", refuse)
    sha256, _ = store.add(source, link=True)
    assert store.path(sha256).read_bytes() == source.read_bytes()
    assert not store.path(sha256).samefile(source)


def test_a_copy_that_breaks_off_leaves_nothing(
    store: PictureStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(_: object, target: str) -> None:
        Path(target).write_bytes(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr("shutil.copyfile", break_off)
    with pytest.raises(OSError, match="the disk is full"):
        store.add(source)
    assert kept_files(store) == []


@pytest.mark.parametrize(
    ("case", "sha256"),
    [
        ("unknown", "0" * 64),
        ("empty", ""),
        ("too short", "ab"),
        ("a digit too many", "a" * 65),
        ("capitals", "A" * 64),
        ("a line end behind it", "a" * 64 + "\n"),
        ("a traversal", "../../" + "a" * 58),
        ("a pattern", "*" * 64),
        ("an absolute path", "/etc/passwd"),
        ("a null character", "\0" * 64),
    ],
)
def test_an_unknown_or_malformed_id(store: PictureStore, source: Path, case: str, sha256: str) -> None:
    store.add(source)
    with pytest.raises(PictureError, match="There is no picture with the id"):
        store.path(sha256)


def test_an_id_never_leads_out_of_the_store(store: PictureStore, source: Path, tmp_path: Path) -> None:
    sha256, _ = store.add(source)
    (tmp_path / f"{sha256}.png").write_bytes(b"outside")
    for malformed in (
        f"../{sha256}",
        f"{sha256[:2]}/{sha256}",
        f"{sha256}.png",
        f"./{sha256}",
        f"{sha256}*",
        sha256[:63] + "?",
    ):
        with pytest.raises(PictureError):
            store.path(malformed)


def test_a_long_id_is_cut_in_the_message(store: PictureStore) -> None:
    with pytest.raises(PictureError) as caught:
        store.path("x" * 10_000)
    assert len(str(caught.value)) < 200


def grey_picture(mode: str, greys: list[float]) -> Image.Image:
    """A row of pixels with these greys."""
    packed = struct.pack(f"<{len(greys)}{'f' if mode == 'F' else 'i'}", *greys)
    return Image.frombytes(mode, (len(greys), 1), packed)


@pytest.mark.parametrize(
    ("mode", "greys", "seen"),
    [
        ("F", [0.0, 32768.0, 65535.0], [0, 127, 255]),
        ("F", [-1.0, 0.0, 1.0], [0, 127, 255]),
        ("F", [0.0, 129.0, 258.0], [0, 127, 255]),
        ("F", [-3e38, 0.0, 3e38], [0, 127, 255]),
        ("I", [-1000, 0, 1000], [0, 127, 255]),
        ("I", [0, 2**30, 2**31 - 1], [0, 127, 255]),
        ("I", [0, 32768, 65535], [0, 128, 255]),
        ("I", [70000, 70000, 70000], [0, 0, 0]),
        ("I", [0, 128, 255], [0, 128, 255]),
    ],
)
def test_greys_beyond_what_is_usual_are_stretched(mode: str, greys: list[float], seen: list[int]) -> None:
    picture = open_picture(grey_picture(mode, greys))
    assert [picture.getpixel((x, 0)) for x in range(3)] == [(grey,) * 3 for grey in seen]


@pytest.mark.parametrize("grey", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_greys_that_are_no_numbers_are_refused(grey: float, place: int) -> None:
    greys = [0.5, 0.25]
    greys[place] = grey
    with pytest.raises(PictureError, match="no finite numbers"):
        open_picture(grey_picture("F", greys))


@pytest.mark.parametrize(
    ("mode", "value", "grey"), [("F", 0.5, 127), ("F", 90.0, 90), ("I", 30000, 117), ("I", 90, 90)]
)
def test_greys_of_more_than_eight_bits_keep_their_brightness(mode: str, value: float, grey: int) -> None:
    assert open_picture(Image.new(mode, (4, 4), value)).getpixel((0, 0)) == (grey,) * 3


@pytest.mark.parametrize("source", [None, b"bytes", 7, [1, 2]])
def test_what_is_no_picture_at_all(source: Any) -> None:
    with pytest.raises(PictureError, match="expected a path or an image"):
        open_picture(source)


def test_a_picture_without_pixels() -> None:
    with pytest.raises(PictureError, match="has no pixels"):
        open_picture(Image.new("RGB", (0, 5)))


def test_what_is_transparent_is_white_whatever_lies_under_it() -> None:
    clear = Image.new("RGBA", (2, 1), (200, 0, 0, 0))
    clear.putpixel((1, 0), (200, 0, 0, 255))
    opened = open_picture(clear)
    assert [opened.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (200, 0, 0)]


def test_a_picture_that_was_closed(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        pass
    with pytest.raises(PictureError, match="can't be decoded"):
        open_picture(picture)
