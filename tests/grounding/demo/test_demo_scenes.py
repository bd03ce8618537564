"""Scenes follow the distribution that the embedded model was trained on."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from grounding.boxes import Box, iou
from grounding.demo import scenes
from grounding.demo.scenes import Scene, draw_background, draw_scene
from grounding.demo.sprites import all_nouns

SCENES = 120


@pytest.fixture(scope="module")
def drawn() -> list[Scene]:
    return [draw_scene(random.Random(f"scene {number}")) for number in range(SCENES)]


def test_pictures_are_256_by_256_rgb(drawn: list[Scene]) -> None:
    assert {(scene.image.size, scene.image.mode) for scene in drawn} == {((256, 256), "RGB")}


def test_three_to_eight_objects_stand_in_a_scene(drawn: list[Scene]) -> None:
    assert {len(scene.objects) for scene in drawn} == {3, 4, 5, 6, 7, 8}


def test_boxes_are_whole_pixels_inside_the_picture(drawn: list[Scene]) -> None:
    for scene in drawn:
        for each in scene.objects:
            box = each.box_xyxy_px
            assert all(float(value).is_integer() for value in box)
            assert 0 <= box.x1 < box.x2 <= 256
            assert 0 <= box.y1 < box.y2 <= 256


def test_longer_sides_span_30_to_110_px(drawn: list[Scene]) -> None:
    sides = [max(each.box_xyxy_px.width_px, each.box_xyxy_px.height_px) for scene in drawn for each in scene.objects]
    assert 30 <= min(sides) < 35
    assert 105 < max(sides) <= 110


def test_objects_hardly_overlap(drawn: list[Scene]) -> None:
    overlaps = [
        iou(one.box_xyxy_px, other.box_xyxy_px) for scene in drawn for one, other in combinations(scene.objects, 2)
    ]
    assert max(overlaps) < 0.05
    assert max(overlaps) > 0  # they may touch


def test_at_most_one_noun_repeats_and_in_about_60_percent(drawn: list[Scene]) -> None:
    repeats = [[n for n in Counter(each.noun for each in scene.objects).values() if n > 1] for scene in drawn]
    assert all(len(each) <= 1 for each in repeats)
    assert {each[0] for each in repeats if each} == {2, 3}
    assert 0.45 < sum(map(bool, repeats)) / SCENES < 0.75


def test_each_box_is_tight_around_what_was_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checked in the pixels: on white ground, the union of the boxes holds all ink, and each side touches some."""
    monkeypatch.setattr(scenes, "draw_background", lambda rng, size_wh: Image.new("RGB", (256, 256), "white"))
    for number in range(15):
        scene = draw_scene(random.Random(number))
        ink = (255 - np.asarray(scene.image, dtype=int)).max(axis=2)  # [256, 256]
        outside = ink.copy()
        for each in scene.objects:
            x1, y1, x2, y2 = (int(value) for value in each.box_xyxy_px)
            outside[y1:y2, x1:x2] = 0
            # Alpha > 40 of a white drawing leaves no ink, so an edge is tested within 2 px.
            part = ink[y1:y2, x1:x2] > 8
            for name, edge in (
                ("left", part[:, :2]),
                ("right", part[:, -2:]),
                ("top", part[:2]),
                ("bottom", part[-2:]),
            ):
                assert edge.any(), f"seed {number}: nothing of the {each.noun} touches the {name} side of its box"
        assert outside.max() <= 40, f"seed {number}: ink outside every box"


def test_focus_nouns_always_stand_and_one_of_them_repeats() -> None:
    for number in range(40):
        scene = draw_scene(random.Random(number), focus_nouns=("drum", "fire truck"), repeats=True)
        standing = Counter(each.noun for each in scene.objects)
        assert sorted((standing["drum"] > 1, standing["fire truck"] > 1)) == [False, True]
        assert min(standing["drum"], standing["fire truck"]) == 1


@pytest.mark.parametrize("focus", [(), ("drum",), ("drum", "dog")], ids=["no focus", "one noun", "two nouns"])
def test_without_repeats_every_noun_stands_once(focus: tuple[str, ...]) -> None:
    for number in range(10):
        scene = draw_scene(random.Random(number), focus_nouns=focus, repeats=False)
        standing = Counter(each.noun for each in scene.objects)
        assert set(standing.values()) == {1}
        assert set(focus) <= set(standing)
        assert set(standing) <= set(all_nouns())


def test_three_focus_nouns_are_refused() -> None:
    with pytest.raises(ValueError, match="room for two focus nouns"):
        draw_scene(random.Random(0), focus_nouns=("dog", "cat", "drum"))


def test_the_same_seed_draws_the_same_pixels() -> None:
    first, again, other = (draw_scene(random.Random(seed)) for seed in (5, 5, 6))
    assert first.objects == again.objects
    assert first.image.tobytes() == again.image.tobytes()
    assert first.image.tobytes() != other.image.tobytes()


def test_grounds_are_flat_gradient_or_coarse_noise() -> None:
    kinds: Counter[str] = Counter()
    for number in range(150):
        ground = draw_background(random.Random(f"ground {number}"))
        pixels = np.asarray(ground, dtype=float)
        if np.ptp(pixels, axis=(0, 1)).max() == 0:
            kinds["flat"] += 1
        elif _is_linear(pixels):
            kinds["gradient"] += 1
        else:
            # Cells are at least 16 px wide, so a light blur changes little.
            blurred = np.asarray(ground.filter(ImageFilter.GaussianBlur(1)), dtype=float)
            assert np.abs(blurred - pixels).mean() < 3
            kinds["noise"] += 1
    assert {kind: 30 <= count <= 70 for kind, count in kinds.items()} == dict.fromkeys(
        ("flat", "gradient", "noise"), True
    ), kinds


def _is_linear(pixels: np.ndarray) -> bool:
    """Whether every channel is a plane a*x + b*y + c, up to rounding."""
    y, x = np.mgrid[0:256:16, 0:256:16]
    plane = np.stack([x.ravel(), y.ravel(), np.ones(x.size)], axis=1)
    values = pixels[::16, ::16].reshape(-1, 3)
    fit = plane @ np.linalg.lstsq(plane, values, rcond=None)[0]
    return bool(np.abs(fit - values).max() <= 1)


def test_an_object_is_freely_mirrored_and_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    turned: list[float] = []
    mirrored: list[bool] = []
    rotate, mirror = Image.Image.rotate, scenes.ImageOps.mirror

    def count_turn(image: Image.Image, angle: float, *rest: object, **more: object) -> Image.Image:
        turned.append(angle)
        return rotate(image, angle, *rest, **more)  # type: ignore[arg-type]

    def count_mirror(image: Image.Image) -> Image.Image:
        mirrored.append(True)
        return mirror(image)

    monkeypatch.setattr(Image.Image, "rotate", count_turn)
    monkeypatch.setattr(scenes.ImageOps, "mirror", count_mirror)
    rng = random.Random(1)
    for _ in range(300):
        scenes._pose(rng, "dog")
    assert 115 < len(turned) < 185
    assert 115 < len(mirrored) < 185
    assert -20 <= min(turned) < -15
    assert 15 < max(turned) <= 20


def test_is_free_stops_at_an_iou_of_five_percent() -> None:
    taken = [Box(0, 0, 100, 100)]
    assert scenes._is_free(Box(100, 0, 200, 100), taken)
    assert scenes._is_free(Box(91, 0, 191, 100), taken)  # 900 / 19,100 = 0.047
    assert not scenes._is_free(Box(90, 0, 190, 100), taken)  # 1,000 / 19,000 = 0.053
