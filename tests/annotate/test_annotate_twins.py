"""Copies of pictures are found though their bytes differ, and distinct pictures are left alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from annotate import twins
from annotate.store import Store
from annotate.twins import MAX_DISTANCE, NOTHING_TO_SEE, Look, alike, fill_hashes, look_at, near_pairs
from grounding.database import connect
from grounding.demo.dataset import DemoSize, write_demo
from grounding.errors import PictureError
from grounding.records import Sample

Fill = Callable[..., Store]


def draw(number: int, size_wh: tuple[int, int] = (320, 240)) -> Image.Image:
    """A picture with soft and hard shapes, another one for each number."""
    rng = random.Random(number)
    picture = Image.new("RGB", size_wh, tuple(rng.randrange(256) for _ in range(3)))
    pen = ImageDraw.Draw(picture)
    for _ in range(24):
        x, y, side = rng.randrange(size_wh[0]), rng.randrange(size_wh[1]), rng.randrange(15, 90)
        pen.ellipse((x - side, y - side, x + side, y + side), tuple(rng.randrange(256) for _ in range(3)))
    return picture.filter(ImageFilter.GaussianBlur(1))


def signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def distance(one: int, other: int) -> int:
    return ((one ^ other) & (1 << 64) - 1).bit_count()


COPIES: dict[str, Callable[[Image.Image], tuple[Image.Image, str, int]]] = {
    "saved as JPEG": lambda p: (p, "jpg", 75),
    "saved as a poor JPEG": lambda p: (p, "jpg", 30),
    "saved as WebP": lambda p: (p, "webp", 70),
    "half as large": lambda p: (p.resize((p.width // 2, p.height // 2)), "png", 0),
    "half as large, as JPEG": lambda p: (p.resize((p.width // 2, p.height // 2)), "jpg", 75),
    "twice as large": lambda p: (p.resize((p.width * 2, p.height * 2)), "jpg", 90),
    "squeezed to a square": lambda p: (p.resize((224, 224)), "jpg", 90),
    "cut by a pixel": lambda p: (p.crop((1, 1, p.width, p.height)), "png", 0),
    "cut by a pixel all round": lambda p: (p.crop((1, 1, p.width - 1, p.height - 1)), "jpg", 75),
    "in grey": lambda p: (p.convert("L"), "png", 0),
    "a little brighter": lambda p: (p.point(lambda level: min(255, level + 10)), "png", 0),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_is_found(copied: Callable[..., tuple[Image.Image, str, int]], tmp_path: Path) -> None:
    for number in range(12):
        original = draw(number)
        original.save(tmp_path / "original.png")
        copy, suffix, quality = copied(original)
        copy.save(tmp_path / f"copy.{suffix}", **({"quality": quality} if quality else {}))
        one, other = look_at(tmp_path / "original.png"), look_at(tmp_path / f"copy.{suffix}")
        assert distance(one.dhash, other.dhash) <= MAX_DISTANCE
        assert alike(one, other)


def test_distinct_pictures_are_left_alone(tmp_path: Path) -> None:
    """Drawn scenes have much ground in common: their hashes alone would take some of them for copies."""
    write_demo(tmp_path, size=DemoSize(120, 40, 40))
    looks = {path.name: look_at(path) for path in (tmp_path / "images").glob("*.png")}
    hashes = {name: look.dhash for name, look in looks.items()}
    candidates = [(one, other) for one, other in near_pairs(hashes, hashes, 12) if one < other]
    assert candidates, "no two hashes are near each other: the second step is not tested"
    assert not [pair for pair in candidates if alike(looks[pair[0]], looks[pair[1]])]


def test_a_scene_with_one_thing_moved_is_another_picture(tmp_path: Path) -> None:
    for name, x in (("here.png", 30), ("there.png", 190)):
        picture = Image.new("RGB", (256, 256), (200, 210, 190))
        pen = ImageDraw.Draw(picture)
        pen.ellipse((20, 20, 120, 120), (180, 30, 40))
        pen.rectangle((140, 40, 230, 110), (30, 60, 160))
        pen.ellipse((x, 160, x + 50, 210), (20, 120, 60))
        picture.save(tmp_path / name)
    assert not alike(look_at(tmp_path / "here.png"), look_at(tmp_path / "there.png"))


def test_another_pattern_is_another_picture_though_each_cell_is_as_bright() -> None:
    slope = [60 + 3 * (place % 36) for place in range(36 * 32)]
    checks = [level + (12 if (place + place // 36) % 2 else -12) for place, level in enumerate(slope)]
    assert alike(Look(1, bytes(slope)), Look(1, bytes(level + 2 for level in slope)))
    assert not alike(Look(1, bytes(slope)), Look(1, bytes(checks)))


@pytest.mark.parametrize("colour", ["white", "black", (120, 90, 7)])
def test_even_surfaces_have_nothing_to_compare(colour: str, tmp_path: Path) -> None:
    for name, speck in (("a.png", 0), ("b.jpg", 0), ("c.jpg", 2)):
        picture = Image.new("RGB", (200, 150), colour)
        ImageDraw.Draw(picture).rectangle((50, 50, 50 + speck, 50 + speck), "red")
        picture.save(tmp_path / name)
    looks = [look_at(tmp_path / name) for name in ("a.png", "b.jpg", "c.jpg")]
    assert [look.dhash for look in looks] == [NOTHING_TO_SEE] * 3
    assert not any(alike(one, other) for one, other in combinations(looks, 2))


def test_a_picture_is_seen_upright(tmp_path: Path) -> None:
    picture = draw(1)
    picture.save(tmp_path / "upright.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.rotate(90, expand=True).save(tmp_path / "turned.jpg", exif=exif)
    ImageOps.mirror(picture).save(tmp_path / "mirrored.jpg")
    upright, turned, mirrored = (look_at(tmp_path / f"{name}.jpg") for name in ("upright", "turned", "mirrored"))
    assert alike(upright, turned)
    assert distance(upright.dhash, turned.dhash) <= MAX_DISTANCE
    assert not alike(upright, mirrored), "left and right mean something here"


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    for name in ("a.jpg", "none.jpg"):
        with pytest.raises(PictureError):
            look_at(tmp_path / name)


# Hashes that lie near each other: some centres, and some bits turned in each.
HASHES = st.lists(
    st.tuples(st.integers(0, 3), st.sets(st.integers(0, 63), max_size=12)).map(
        lambda each: signed(
            (0, (1 << 64) - 1, 0x5555555555555555, 0x0123456789ABCDEF)[each[0]] ^ sum(1 << bit for bit in each[1])
        )
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(HASHES, HASHES, st.integers(0, 20))
def test_every_pair_within_the_distance_is_found_once(left: list[int], right: list[int], most: int) -> None:
    ours = {f"l{number}": value for number, value in enumerate(left)}
    theirs = {f"r{number}": value for number, value in enumerate(right)}
    found = list(near_pairs(ours, theirs, most))
    assert len(found) == len(set(found))
    assert set(found) == {(a, b) for a in ours for b in theirs if distance(ours[a], theirs[b]) <= most}


@pytest.mark.parametrize("most", [0, 1, 2, 3, 7, 8, 9, 16])
def test_the_last_bit_within_the_distance_counts_wherever_the_bits_lie(most: int) -> None:
    rng = random.Random(most)
    for _ in range(400):
        base, places = rng.getrandbits(64), rng.sample(range(64), most + 1)
        within, beyond = (base ^ sum(1 << place for place in some) for some in (places[1:], places))
        theirs = {"within": signed(within), "beyond": signed(beyond)}
        assert list(near_pairs({"it": signed(base)}, theirs, most)) == [("it", "within")]


def test_many_equal_hashes_are_found_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twins, "_PAIRS_AT_ONCE", 50)
    same = {f"k{number:03}": -5 for number in range(60)}
    assert len(set(near_pairs(same, same, 3))) == 60 * 60


def test_hashes_are_kept_and_each_picture_is_looked_at_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twins, "_BATCH_PICTURES", 4)
    for number in range(10):
        draw(number).save(tmp_path / f"{number}.jpg")
    samples = [Sample(f"s{n}", tmp_path / f"{n}.jpg", "mug", (), "train") for n in range(10)]
    assert not store.import_samples(samples, source="s", who="w").errors
    gone = store.get("s3")
    gone.sample.image.unlink()
    told: list[tuple[int, int]] = []
    report = fill_hashes(store.path, store.pictures, lambda done, total: told.append((done, total)))
    assert (report.hashed, report.unreadable) == (9, (gone.picture_sha256,))
    assert told == [(4, 10), (8, 10), (10, 10)]
    with connect(store.path) as connection:
        kept = dict(connection.execute("SELECT sha256, dhash FROM pictures").fetchall())
    assert kept.pop(gone.picture_sha256) is None
    assert all(look_at(store.pictures.path(sha256)).dhash == dhash for sha256, dhash in kept.items())
    assert fill_hashes(store.path, store.pictures).hashed == 0
