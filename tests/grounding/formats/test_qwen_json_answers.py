"""Boxes as text and back: every way in which a model's answer may be written, cut or wrong."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grounding.boxes import Box
from grounding.formats import Decoded, Frame, QwenJson1000
from grounding.records import Status

FORMAT = QwenJson1000()
IMAGE_SIZE_WH = (2000, 500)  # so that 1000 is 2000 px across and 500 px down
# [100, 200, 300, 400] in xyxy_1000 on that image.
BOX = Box(200, 100, 600, 200)
SECOND = Box(1000, 250, 2000, 500)
GOOD = '[{"bbox_2d": [100, 200, 300, 400]}]'
TWO = '[{"bbox_2d": [100, 200, 300, 400]}, {"bbox_2d": [500, 500, 1000, 1000]}]'
OK, NO_BOX, UNREADABLE, DEGENERATE = Status.OK, Status.NO_BOX, Status.UNREADABLE, Status.DEGENERATE


@pytest.mark.parametrize(
    ("case", "text", "status", "boxes"),
    [
        ("as it was taught", GOOD, OK, [BOX]),
        ("with blanks around", f" \n{GOOD}\n ", OK, [BOX]),
        ("without blanks inside", '[{"bbox_2d":[100,200,300,400]}]', OK, [BOX]),
        ("over several lines", '[\n\t{"bbox_2d": [\n100,\n200,\n300,\n400\n]}\n]', OK, [BOX]),
        ("with a label", '[{"bbox_2d": [100, 200, 300, 400], "label": "left [mug]"}]', OK, [BOX]),
        ("with a label before the box", '[{"label": "mug", "bbox_2d": [100, 200, 300, 400]}]', OK, [BOX]),
        ("one object, no list", '{"bbox_2d": [100, 200, 300, 400]}', OK, [BOX]),
        ("fenced as json", f"```json\n{GOOD}\n```", OK, [BOX]),
        ("fenced as JSON", f"```JSON\n{GOOD}\n```", OK, [BOX]),
        ("fenced without a word", f"```\n{GOOD}\n```", OK, [BOX]),
        ("fence never closed", f"```json\n{GOOD}", OK, [BOX]),
        ("prose around", f"Here it is: {GOOD} Hope this helps!", OK, [BOX]),
        ("prose with brackets around", f"The [left] mug {{1}}: {GOOD} [end]", OK, [BOX]),
        ("prose and fence", f"Sure.\n```json\n{GOOD}\n```\nDone.", OK, [BOX]),
        ("single quotes", "[{'bbox_2d': [100, 200, 300, 400]}]", OK, [BOX]),
        ("no quotes at the key", "[{bbox_2d: [100, 200, 300, 400]}]", OK, [BOX]),
        ("a comma at the end", '[{"bbox_2d": [100, 200, 300, 400],},]', OK, [BOX]),
        ("numbers as texts", '[{"bbox_2d": ["100", "200", "300", "400"]}]', OK, [BOX]),
        ("numbers as texts, cut", '[{"bbox_2d": ["100", "200", "300", "400"]}, {"bb', OK, [BOX]),
        ("floats", '[{"bbox_2d": [100.0, 200.0, 300.0, 400.00]}]', OK, [BOX]),
        ("exponents", '[{"bbox_2d": [1e2, 2.0E+2, 3e+2, 4000e-1]}]', OK, [BOX]),
        ("exponents in prose", 'Look: "bbox_2d": [1e2, 2.0E+2, 3e+2, 4000e-1]', OK, [BOX]),
        ("cut after a complete box", '[{"bbox_2d": [100, 200, 300, 400]', OK, [BOX]),
        ("cut after a box and its brace", '[{"bbox_2d": [100, 200, 300, 400]}', OK, [BOX]),
        ("cut in the second box", '[{"bbox_2d": [100, 200, 300, 400]}, {"bbox_2d": [500, 5', OK, [BOX]),
        ("cut in the middle of a box", '[{"bbox_2d": [100, 200, 300', UNREADABLE, []),
        ("cut in the last number, which may go on", '[{"bbox_2d": [100, 200, 300, 40', UNREADABLE, []),
        ("cut in the key", '[{"bbox_', UNREADABLE, []),
        ("an extra number", '[{"bbox_2d": [100, 200, 300, 400, 999]}]', OK, [BOX]),
        ("an extra number, cut", '[{"bbox_2d": [100, 200, 300, 400, 999', OK, [BOX]),
        ("a number too few", '[{"bbox_2d": [100, 200, 300]}]', UNREADABLE, []),
        ("no numbers", '[{"bbox_2d": []}]', UNREADABLE, []),
        ("a word among the numbers", '[{"bbox_2d": [100, "wide", 300, 400]}]', UNREADABLE, []),
        ("null among the numbers", '[{"bbox_2d": [100, null, 300, 400]}]', UNREADABLE, []),
        ("a list among the numbers", '[{"bbox_2d": [[100, 200], [300, 400], 1, 2]}]', UNREADABLE, []),
        ("true among the numbers", '[{"bbox_2d": [true, 200, 300, 400]}]', UNREADABLE, []),
        ("not a number", '[{"bbox_2d": [NaN, 200, 300, 400]}]', UNREADABLE, []),
        ("infinity", '[{"bbox_2d": [100, 200, Infinity, 400]}]', UNREADABLE, []),
        ("larger than any float", '[{"bbox_2d": [100, 200, 1e999, 400]}]', UNREADABLE, []),
        ("another key", '[{"box": [100, 200, 300, 400]}]', UNREADABLE, []),
        ("bare numbers", "[100, 200, 300, 400]", UNREADABLE, []),
        ("a list of bare numbers", "[[100, 200, 300, 400]]", UNREADABLE, []),
        ("two boxes", TWO, OK, [BOX, SECOND]),
        ("two lists", '[{"bbox_2d": [100, 200, 300, 400]}]\n[{"bbox_2d": [500, 500, 1000, 1000]}]', OK, [BOX, SECOND]),
        ("the first box counts first", json.dumps(list(reversed(json.loads(TWO)))), OK, [SECOND, BOX]),
        ("a repeated box", '[{"bbox_2d": [100, 200, 300, 400]}, {"bbox_2d": [100, 200, 300, 400]}]', OK, [BOX]),
        ("a repeated answer", f"{GOOD}\n{GOOD}\n{GOOD}", OK, [BOX]),
        ("a broken box beside a good one", '[{"bbox_2d": [1, 2]}, {"bbox_2d": [100, 200, 300, 400]}]', OK, [BOX]),
        ("junk beside a good box", '[null, 7, "x", {"a": 1}, {"bbox_2d": [100, 200, 300, 400]}]', OK, [BOX]),
        ("x swapped", '[{"bbox_2d": [300, 200, 100, 400]}]', OK, [BOX]),
        ("y swapped", '[{"bbox_2d": [100, 400, 300, 200]}]', OK, [BOX]),
        ("both corners swapped", '[{"bbox_2d": [300, 400, 100, 200]}]', OK, [BOX]),
        ("partly out of range", '[{"bbox_2d": [-50, 500, 1200, 1900]}]', OK, [Box(0, 250, 2000, 500)]),
        ("far out of range", '[{"bbox_2d": [-1e300, -1e308, 1e300, 1e308]}]', UNREADABLE, []),
        ("wholly out of range", '[{"bbox_2d": [1100, 0, 1200, 100]}]', DEGENERATE, []),
        ("wholly left of it", '[{"bbox_2d": [-300, 0, -100, 100]}]', DEGENERATE, []),
        ("no width", '[{"bbox_2d": [100, 200, 100, 400]}]', DEGENERATE, []),
        ("a point", '[{"bbox_2d": [0, 0, 0, 0]}]', DEGENERATE, []),
        ("a point beside a good box", '[{"bbox_2d": [0, 0, 0, 0]}, {"bbox_2d": [100, 200, 300, 400]}]', OK, [BOX]),
        ("empty list", "[]", NO_BOX, []),
        ("empty list with blanks", " [ \n ] ", NO_BOX, []),
        ("empty list fenced", "```json\n[]\n```", NO_BOX, []),
        ("empty list in prose", "There is no such mug: [] Sorry.", NO_BOX, []),
        ("empty list among other lists", "x[] = [1, 2]", UNREADABLE, []),
        ("two empty lists", "[] []", UNREADABLE, []),
        ("empty list in a list", "[[]]", UNREADABLE, []),
        ("thoughts before it", '<think>First {"bbox_2d": [1, 2, 30, 40]}? No.</think>\n\n' + GOOD, OK, [BOX]),
        ("thoughts begun in the prompt", f'[1] or {{"bbox_2d": [1, 2, 30, 40]}}.\n</think>\n\n{GOOD}', OK, [BOX]),
        ("thoughts before nothing", "Is it the [left] one? No.\n</think>\n\n[]", NO_BOX, []),
        ("thoughts in a label", GOOD.replace("}", ', "label": "< /think>"}'), OK, [BOX]),
        ("empty object", "{}", UNREADABLE, []),
        ("list of empty objects", "[{}]", UNREADABLE, []),
        ("nested junk", '{"a": [{"b": {"c": [1, [2, [3]]]}}]}', UNREADABLE, []),
        ("not JSON at all", "I cannot see any mug in this picture.", UNREADABLE, []),
        ("a number", "42", UNREADABLE, []),
        ("null", "null", UNREADABLE, []),
        ("a text", '"bbox"', UNREADABLE, []),
        ("empty text", "", UNREADABLE, []),
        ("blanks", " \n\t ", UNREADABLE, []),
        ("an empty fence", "```json\n```", UNREADABLE, []),
        ("open bracket", "[", UNREADABLE, []),
        ("100,000 brackets", "[" * 100_000, UNREADABLE, []),
        ("100,000 brackets, closed", "[" * 100_000 + "]" * 100_000, UNREADABLE, []),
        ("100,000 braces", '{"a":' * 100_000, UNREADABLE, []),
        ("a number of 5,000 digits", '[{"bbox_2d": [1, 2, 3, ' + "9" * 5_000 + "]}]", UNREADABLE, []),
        ("a null character", "[{'bbox_2d': [1\0, 2, 3, 4]}]", UNREADABLE, []),
        ("a lone surrogate", "[{'bbox_2d': [1, 2, 3, '\ud800']}]", UNREADABLE, []),
        ("code", "__import__('os').getcwd()", UNREADABLE, []),
    ],
)
def test_what_an_answer_means(case: str, text: str, status: Status, boxes: list[Box]) -> None:
    assert FORMAT.decode(text, Frame(IMAGE_SIZE_WH)) == Decoded(tuple(boxes), status)


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("blanks before a number", 'x "bbox_2d": [' + " " * 50_000 + "x"),
        ("blanks after a number", 'x "bbox_2d": [1' + " " * 50_000 + "x"),
        ("quotes", 'x "bbox_2d": [' + "'\" " * 20_000 + "x"),
        ("digits", 'x "bbox_2d": [1, 2, 3, ' + "4" * 50_000),
        ("keys", '"bbox_2d": [' * 10_000),
        ("blanks in a list", "[" + " " * 50_000),
        ("minus signs", "-" * 5_000 + "1"),
    ],
)
def test_no_answer_takes_long_to_read(case: str, text: str) -> None:
    start = time.process_time()
    assert FORMAT.decode(text, Frame(IMAGE_SIZE_WH)).status is UNREADABLE
    assert time.process_time() - start < 1.0


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60) | st.text("[]{}\",:-.0123456789bbox_2d \n`'eE", max_size=80))
def test_any_text_has_a_status_and_boxes_only_when_ok(text: str) -> None:
    decoded = FORMAT.decode(text, Frame(IMAGE_SIZE_WH))
    assert bool(decoded.boxes_xyxy_px) == (decoded.status is OK)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6) | st.integers(-2000, 2000), min_size=4, max_size=4), st.integers(1, 5000))
def test_decoded_boxes_lie_inside_the_image(numbers: list[float], width: int) -> None:
    decoded = FORMAT.decode(json.dumps([{"bbox_2d": numbers}]), Frame((width, 333)))
    far = any(not -1000 <= number <= 2000 for number in numbers)
    assert decoded.status in ((UNREADABLE,) if far else (OK, DEGENERATE))
    for box in decoded.boxes_xyxy_px:
        assert 0 <= box.x1 < box.x2 <= width
        assert 0 <= box.y1 < box.y2 <= 333


@st.composite
def image_and_box(draw: st.DrawFn) -> tuple[tuple[int, int], Box]:
    """An image of any size and a box of any size inside it, far below a pixel too."""
    width, height = draw(st.integers(1, 50_000)), draw(st.integers(1, 50_000))
    shares = st.floats(0, 1)

    def ends(length: int) -> tuple[float, float]:
        low, high = sorted((draw(shares) * length, draw(shares) * length))
        return (low, high) if high - low > 1e-9 * length else (length * 0.4999, length * 0.5)

    (x1, x2), (y1, y2) = ends(width), ends(height)
    return (width, height), Box(x1, y1, x2, y2)


@settings(max_examples=100, deadline=None)
@given(image_and_box())
def test_a_box_comes_back_within_one_step(case: tuple[tuple[int, int], Box]) -> None:
    (width, height), box = case
    text = FORMAT.encode([box], Frame((width, height)))
    numbers = json.loads(text)[0]["bbox_2d"]
    assert all(isinstance(number, int) and 0 <= number <= 1000 for number in numbers)
    assert numbers[0] < numbers[2] and numbers[1] < numbers[3]
    decoded = FORMAT.decode(text, Frame((width, height)))
    assert decoded.status is OK
    (back,) = decoded.boxes_xyxy_px
    step_x, step_y = width / 1000, height / 1000
    assert abs(back.x1 - box.x1) <= step_x * 1.000001 and abs(back.x2 - box.x2) <= step_x * 1.000001
    assert abs(back.y1 - box.y1) <= step_y * 1.000001 and abs(back.y2 - box.y2) <= step_y * 1.000001
    assert FORMAT.encode([back], Frame((width, height))) == text, "what was read is written as it was"


@settings(max_examples=60, deadline=None)
@given(image_and_box())
def test_a_box_wider_than_a_step_comes_back_within_half_a_step(case: tuple[tuple[int, int], Box]) -> None:
    (width, height), box = case
    (back,) = FORMAT.decode(FORMAT.encode([box], Frame((width, height))), Frame((width, height))).boxes_xyxy_px
    if box.width_px >= width / 500:
        assert abs(back.x1 - box.x1) <= width / 1999 and abs(back.x2 - box.x2) <= width / 1999
    if box.height_px >= height / 500:
        assert abs(back.y1 - box.y1) <= height / 1999 and abs(back.y2 - box.y2) <= height / 1999


@pytest.mark.parametrize(
    ("case", "boxes", "expected"),
    [
        ("as it is taught", [BOX], GOOD),
        ("several", [BOX, SECOND], TWO),
        ("nothing fits the phrase", [], "[]"),
        ("the whole image", [Box(0, 0, 2000, 500)], '[{"bbox_2d": [0, 0, 1000, 1000]}]'),
        ("rounded to the next step", [Box(201.1, 100.3, 600.9, 200)], '[{"bbox_2d": [101, 201, 300, 400]}]'),
        ("thinner than a step", [Box(201.2, 100, 201.8, 200)], '[{"bbox_2d": [100, 200, 101, 400]}]'),
        ("thin at the right edge", [Box(1999.5, 499.9, 2000, 500)], '[{"bbox_2d": [999, 999, 1000, 1000]}]'),
        ("thin at the left edge", [Box(0, 0, 0.1, 0.1)], '[{"bbox_2d": [0, 0, 1, 1]}]'),
        ("beyond the image", [Box(-50, -50, 3000, 3000)], '[{"bbox_2d": [0, 0, 1000, 1000]}]'),
        ("wholly right of the image", [Box(3000, 0, 4000, 500)], '[{"bbox_2d": [999, 0, 1000, 1000]}]'),
    ],
)
def test_how_boxes_are_written(case: str, boxes: list[Box], expected: str) -> None:
    assert FORMAT.encode(boxes, Frame(IMAGE_SIZE_WH)) == expected
