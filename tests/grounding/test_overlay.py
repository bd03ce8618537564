"""The boxes on a picture: safe text, labels inside and apart, the same on the page and in a file."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from grounding.boxes import Box
from grounding.overlay import COLOURS, Layer, draw_boxes, figure_html, place_labels

NASTY = "<img src=x onerror=alert(1)> \"quoted\" 'single' & more"


def test_text_from_people_is_escaped_everywhere() -> None:
    html = figure_html('pictures/"><script>', (300, 200), [Layer(NASTY, "truth", (Box(10, 10, 90, 90),))], alt=NASTY)
    assert html.count("<img") == 1
    assert "<script" not in html
    assert 'alt="&lt;img src=x onerror=alert(1)&gt; &quot;quoted&quot;' in html
    assert "<title>&lt;img src=x" in html


def test_the_view_box_is_in_pixels_of_the_original_picture() -> None:
    html = figure_html("pictures/a", (640, 480), [Layer("base", "base", (Box(10, 20, 110, 220),))])
    assert 'viewBox="0 0 640 480"' in html
    assert 'x="10.00" y="20.00" width="100.00" height="200.00"' in html
    assert "non-scaling-stroke" in html


def test_boxes_are_clipped_and_boxes_outside_are_left_out() -> None:
    layer = Layer("base", "base", (Box(-50, -50, 40, 40), Box(900, 900, 950, 950)))
    html = figure_html("pictures/a", (100, 100), [layer])
    assert 'x="0.00" y="0.00" width="40.00" height="40.00"' in html
    assert html.count("<title>") == 1


def test_the_alt_text_names_what_is_drawn() -> None:
    layers = [Layer("truth", "truth", (Box(0, 0, 9, 9),)), Layer("tools-v1", "adapter", ())]
    assert 'alt="Picture with boxes: truth (1), tools-v1 (0)"' in figure_html("a", (10, 10), layers)


def test_a_long_label_is_cut_and_an_empty_one_draws_nothing() -> None:
    html = figure_html("a", (200, 200), [Layer("w" * 500, "base", (Box(0, 0, 50, 50),))])
    text = re.search(r"<text[^>]*>([^<]*)</text>", html)
    assert text is not None
    assert text.group(1).endswith("…")
    assert len(text.group(1)) < 40
    assert "<text" not in figure_html("a", (200, 200), [Layer("  ", "base", (Box(0, 0, 50, 50),))])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 250), st.floats(0, 150), st.floats(1, 300), st.floats(1, 200)), max_size=12),
    st.text(min_size=1, max_size=30),
)
def test_labels_stay_inside_the_picture_and_apart(numbers: list[tuple[float, ...]], label: str) -> None:
    image_size_wh = (256, 160)
    boxes = tuple(Box(x, y, x + w, y + h) for x, y, w, h in numbers)
    sizes = [(20.0 + 3 * len(label), 12.0)] * len(boxes)
    corners = [corner for corner in place_labels(boxes, sizes, image_size_wh) if corner is not None]
    width, height = (20.0 + 3 * len(label), 12.0)
    assert len(corners) == len(boxes)
    for left, top in corners:
        assert 0 <= left <= image_size_wh[0] - width
        assert 0 <= top <= image_size_wh[1] - height
    for (left, top), (other_left, other_top) in itertools.combinations(corners, 2):
        assert abs(left - other_left) >= width - 1e-6 or abs(top - other_top) >= height - 1e-6


def test_a_label_without_room_is_left_out_rather_than_laid_over_another() -> None:
    boxes = [Box(0, 0, 10, 10)] * 5
    assert place_labels(boxes, [(30.0, 20.0)] * 5, (32, 44)).count(None) == 3
    assert place_labels(boxes[:1], [(90.0, 20.0)], (32, 44)) == [None]


@pytest.mark.parametrize("kind", sorted(COLOURS))
def test_a_file_gets_the_box_in_its_colour(kind: str) -> None:
    picture = Image.new("RGB", (320, 240), "#808080")
    boxed = draw_boxes(picture, [Layer("", kind, (Box(100, 80, 220, 160),))])  # type: ignore[arg-type]
    colours = {boxed.getpixel((x, 80)) for x in range(110, 210)}
    assert tuple(int(COLOURS[kind][i : i + 2], 16) for i in (1, 3, 5)) in colours  # type: ignore[index]
    assert picture.getpixel((100, 80)) == (128, 128, 128), "the picture handed in stays as it was"
    assert boxed.getpixel((160, 120)) == (128, 128, 128), "the inside of the box stays free"


def test_a_file_with_a_label_and_a_tiny_picture() -> None:
    boxed = draw_boxes(Image.new("L", (40, 30)), [Layer("drum on the left", "truth", (Box(1, 1, 39, 29),))])
    assert boxed.mode == "RGB"
    assert boxed.size == (40, 30)
