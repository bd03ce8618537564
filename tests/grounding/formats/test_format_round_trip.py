"""Any box on any picture comes back within one step, in every format."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from grounding.boxes import Box
from grounding.formats import (
    BoxFormat,
    FloatJson,
    Florence2Locations,
    Frame,
    InternVLBoxes,
    PaliGemmaLocations,
    QwenBoxTokens,
    QwenJson1000,
    QwenJsonPixels,
)
from grounding.records import Status

FORMATS: list[BoxFormat] = [
    QwenJson1000(),
    QwenJson1000(fenced=True),
    QwenJsonPixels(),
    QwenJsonPixels(fenced=False),
    QwenBoxTokens(),
    InternVLBoxes(),
    Florence2Locations(),
    PaliGemmaLocations(),
    FloatJson(),
    FloatJson(places=5),
]
Case = tuple[Frame, Box]


def name_of(box_format: BoxFormat) -> str:
    return repr(box_format)


@st.composite
def frame_and_box(draw: st.DrawFn) -> Case:
    """A picture of any size, resized or not, and a box of any size inside it, far below a pixel too."""
    sides = st.sampled_from([1, 3, 20_000]) | st.integers(1, 50_000)
    width, height = draw(sides), draw(sides)
    input_size_wh = draw(st.none() | st.tuples(st.integers(1, 3000), st.integers(1, 3000)))

    def ends(length: int) -> tuple[float, float]:
        low, high = sorted(draw(st.floats(0, 1)) * length for _ in range(2))
        return (low, high) if high - low > 1e-9 * length else (length * 0.4999, length * 0.5)

    (x1, x2), (y1, y2) = ends(width), ends(height)
    return Frame((width, height), input_size_wh), Box(x1, y1, x2, y2)


def is_within(back_px: float, px: float, step_px: float, length_px: int, centred: bool) -> bool:
    """Whether a coordinate came back well. Bins read at their centres leave half a step at the border unreached."""
    near_border = min(px, length_px - px) < step_px
    return abs(back_px - px) <= step_px * (1.5 if centred and near_border else 1.0) * 1.000001


@pytest.mark.parametrize("box_format", FORMATS, ids=name_of)
@settings(max_examples=60, deadline=None)
@given(case=frame_and_box(), phrase=st.text(max_size=20))
@example(case=(Frame((1, 1)), Box(0, 0, 1, 1)), phrase="x")
@example(case=(Frame((1, 1)), Box(0.2, 0.2, 0.2001, 0.9)), phrase="x")
@example(case=(Frame((20_000, 3)), Box(19_999.9, 2.99, 20_000, 3)), phrase="x")
@example(case=(Frame((20_000, 3)), Box(0, 0, 0.1, 0.001)), phrase="x")
@example(case=(Frame((20_000, 3), (28, 28)), Box(5, 1, 7, 1.5)), phrase="x")
def test_a_box_comes_back_within_one_step(box_format: BoxFormat, case: Case, phrase: str) -> None:
    frame, box = case
    text = box_format.encode([box], frame, phrase)
    decoded = box_format.decode(text, frame)
    assert decoded.status is Status.OK
    (back,) = decoded.boxes_xyxy_px
    width, height = frame.image_size_wh
    step_x, step_y = box_format.step_px(frame)
    centred = isinstance(box_format, Florence2Locations)
    assert is_within(back.x1, box.x1, step_x, width, centred) and is_within(back.x2, box.x2, step_x, width, centred)
    assert is_within(back.y1, box.y1, step_y, height, centred) and is_within(back.y2, box.y2, step_y, height, centred)
    assert 0 <= back.x1 < back.x2 <= width and 0 <= back.y1 < back.y2 <= height
    assert box_format.encode([back], frame, phrase) == text, "what was read is written as it was"


@pytest.mark.parametrize("box_format", FORMATS, ids=name_of)
@settings(max_examples=40, deadline=None)
@given(case=frame_and_box())
def test_a_box_wider_than_two_steps_comes_back_within_half_a_step(box_format: BoxFormat, case: Case) -> None:
    frame, box = case
    (back,) = box_format.decode(box_format.encode([box], frame), frame).boxes_xyxy_px
    step_x, step_y = box_format.step_px(frame)
    if box.width_px >= 2 * step_x:
        assert max(abs(back.x1 - box.x1), abs(back.x2 - box.x2)) <= step_x * 0.500001
    if box.height_px >= 2 * step_y:
        assert max(abs(back.y1 - box.y1), abs(back.y2 - box.y2)) <= step_y * 0.500001


@pytest.mark.parametrize("box_format", FORMATS, ids=name_of)
@settings(max_examples=30, deadline=None)
@given(case=frame_and_box(), others=st.lists(frame_and_box(), max_size=2), phrase=st.text(max_size=20))
def test_what_is_encoded_is_what_the_shape_writes(
    box_format: BoxFormat, case: Case, others: list[Case], phrase: str
) -> None:
    frame, box = case
    shape = box_format.shape(frame, phrase)
    assert box_format.encode([], frame, phrase) == shape.nothing
    boxes = [box, *(other for _, other in others)]
    if shape.between is None:
        singles = [box_format.encode([one], frame, phrase) for one in boxes]
        assert box_format.encode(boxes, frame, phrase) == (
            singles[0] if len(singles) == 1 else "[" + ", ".join(singles) + "]"
        )
        boxes = [box]
    text = box_format.encode(boxes, frame, phrase)
    quadruples = [taken_apart(box_format, one, frame, phrase) for one in boxes]
    assert text == shape.write(quadruples)


def taken_apart(box_format: BoxFormat, box: Box, frame: Frame, phrase: str) -> list[str]:
    """The four number texts of one box, found between the fixed texts; the spelling must allow each."""
    shape = box_format.shape(frame, phrase)
    rest = box_format.encode([box], frame, phrase)
    assert rest.startswith(shape.opening + shape.around[0])
    rest = rest[len(shape.opening + shape.around[0]) :]
    texts = []
    for spelling in shape.numbers:
        written: tuple[str, ...] = ()
        while symbol := next((s for s in spelling.following(written)[0] if rest.startswith(s)), None):
            written, rest = (*written, symbol), rest[len(symbol) :]
        assert spelling.following(written)[1], f"{written} can't end here"
        texts.append("".join(written))
        after = shape.around[len(texts)]
        assert rest.startswith(after)
        rest = rest[len(after) :]
    assert rest == shape.closing
    return texts


@pytest.mark.parametrize("box_format", FORMATS, ids=name_of)
@settings(max_examples=40, deadline=None)
@given(
    numbers=st.lists(st.floats() | st.floats(0, 1000) | st.integers(0, 1000), min_size=4, max_size=4),
    size_wh=st.tuples(st.integers(1, 30_000), st.integers(1, 30_000)),
)
def test_placed_boxes_lie_inside_the_picture(
    box_format: BoxFormat, numbers: list[float], size_wh: tuple[int, int]
) -> None:
    box = box_format.place(numbers, Frame(size_wh))
    if box is not None:
        assert 0 <= box.x1 < box.x2 <= size_wh[0] and 0 <= box.y1 < box.y2 <= size_wh[1]


@pytest.mark.parametrize("box_format", FORMATS, ids=name_of)
def test_a_fraction_of_a_step_moves_the_box_by_that_fraction(box_format: BoxFormat) -> None:
    frame = Frame((2000, 500), (1008, 252))
    unit = 0.001 if isinstance(box_format, FloatJson) else 1
    low, high = (0.2, 0.4) if isinstance(box_format, FloatJson) else (100, 200)
    # Where x stands first, the first number moves x1 alone; where y does, y1 alone.
    still = box_format.place([low, low, high, high], frame)
    moved = box_format.place([low + unit / 4, low, high, high], frame)
    assert still is not None and moved is not None
    step_x, step_y = box_format.step_px(frame)
    if isinstance(box_format, FloatJson):
        step_x, step_y = 2.0, 0.5
    if isinstance(box_format, PaliGemmaLocations):
        assert moved.y1 - still.y1 == pytest.approx(step_y / 4)
        assert (moved.x1, moved.x2, moved.y2) == (still.x1, still.x2, still.y2)
    else:
        assert moved.x1 - still.x1 == pytest.approx(step_x / 4)
        assert (moved.y1, moved.x2, moved.y2) == (still.y1, still.x2, still.y2)
