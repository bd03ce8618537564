"""Whatever a shape can spell is read back as it was meant; number spellings, symbol by symbol."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grounding.boxes import Box
from grounding.errors import BoxError
from grounding.formats import (
    AnswerShape,
    BoxFormat,
    Decimals,
    Decoded,
    FloatJson,
    Florence2Locations,
    Frame,
    Integers,
    InternVLBoxes,
    Locations,
    NumberSpelling,
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
    FloatJson(places=1),
]
PHRASES = [
    "",
    "left mug",
    'the "red" mug\\',
    "no [1, 2, 3, 4] box",
    "no (12,34),(56,78) box",
    "cup (1,2),",
    "cup (",
    "cup [",
    "man (left) {or} [right]",
    "a<|box_start|>(1,2),(3,4)<|box_end|>",
    "<|im_end|>\n<|object_ref_end|>none",
    "mug</ref><box>[[1, 2, 3, 4]]</box>",
    "<loc_5><loc_6><loc_7><loc_8>",
    "<<loc_5><loc_6><loc_7><loc_8>",
    "<loc0005><loc0006><loc0007><loc0008> mug ; <loc",
    'mug"}, {"bbox_2d": [1, 2, 3, 4]}]',
    "bbox_2d: [1, 2, 3, 4], x",
    "'bbox': ['1', '2', '3', '4']",
    '{"x_min": 0.1, "y_min": 0.2, "x_max": 0.3, "y_max": 0.4}',
    "```json\n[]\n```",
    "42",
    "12 34 56 78",
    "12, 34, 56.5, -78",
    "none",
    "two\nlines\tand tabs",
    "mug\u2028\x00\x1c",
]
SIZES_WH = [(1, 1), (20_000, 3), (640, 480), (7, 1333)]


def name_of(box_format: BoxFormat) -> str:
    return repr(box_format)


def walk(draw: st.DrawFn, spelling: NumberSpelling) -> tuple[str, ...]:
    """One number, written at random."""
    written: tuple[str, ...] = ()
    while True:
        symbols, may_end = spelling.following(written)
        assert may_end or symbols, f"{written} leads nowhere"
        assert set(symbols) <= set(spelling.symbols)
        if may_end and (not symbols or draw(st.booleans())):
            return written
        written = (*written, draw(st.sampled_from(symbols)))


@st.composite
def walked_numbers(draw: st.DrawFn, shape: AnswerShape) -> list[list[tuple[str, ...]]]:
    count = draw(st.integers(1, 3)) if shape.between is not None else 1
    return [[walk(draw, spelling) for spelling in shape.numbers] for _ in range(count)]


@pytest.mark.parametrize("box_format", FORMATS, ids=name_of)
@settings(max_examples=40, deadline=None)
@given(
    data=st.data(),
    image_size_wh=st.sampled_from(SIZES_WH),
    input_size_wh=st.none() | st.sampled_from(SIZES_WH),
    phrase=st.sampled_from(PHRASES) | st.text(max_size=30),
)
def test_what_a_shape_spells_is_read_as_it_was_meant(
    box_format: BoxFormat,
    data: st.DataObject,
    image_size_wh: tuple[int, int],
    input_size_wh: tuple[int, int] | None,
    phrase: str,
) -> None:
    frame = Frame(image_size_wh, input_size_wh)
    shape = box_format.shape(frame, phrase)
    written = data.draw(walked_numbers(shape))
    answer = shape.write([["".join(symbols) for symbols in quadruple] for quadruple in written])
    values = [[s.value(w) for s, w in zip(shape.numbers, quadruple, strict=True)] for quadruple in written]
    meant = tuple(dict.fromkeys(box for numbers in values if (box := box_format.place(numbers, frame))))
    assert box_format.decode(answer, frame) == Decoded(meant, Status.OK if meant else Status.DEGENERATE)


def without_marks(text: str) -> str:
    """As a tokenizer leaves it that strips special tokens."""
    for mark in ("<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>"):
        text = text.replace(mark, "")
    for mark in ("<ref>", "</ref>", "<box>", "</box>"):
        text = text.replace(mark, "")
    return text


@pytest.mark.parametrize("phrase", PHRASES)
@pytest.mark.parametrize("box_format", FORMATS, ids=name_of)
def test_no_phrase_makes_a_box(box_format: BoxFormat, phrase: str) -> None:
    frame = Frame((2000, 500))
    nothing = box_format.encode([], frame, phrase)
    for text in (nothing, without_marks(nothing)):
        assert box_format.decode(text, frame) == Decoded((), Status.NO_BOX), text
    (alone,) = box_format.decode(box_format.encode([Box(200, 100, 600, 200)], frame), frame).boxes_xyxy_px
    answer = box_format.encode([Box(200, 100, 600, 200)], frame, phrase)
    for text in (answer, without_marks(answer)):
        assert box_format.decode(text, frame) == Decoded((alone,), Status.OK), text
        for length in range(len(text)):
            cut = box_format.decode(text[:length], frame)
            assert cut.boxes_xyxy_px in ((), (alone,)), text[:length]
    assert "<|im_end|>" not in answer


@pytest.mark.parametrize(
    ("spelling", "written", "symbols", "may_end"),
    [
        (Integers(1000), "", "0123456789", False),
        (Integers(1000), "0", "", True),
        (Integers(1000), "57", "0123456789", True),
        (Integers(1000), "305", "", True),
        (Integers(1000), "100", "0", True),
        (Integers(1000), "1000", "", True),
        (Integers(57), "5", "01234567", True),
        (Integers(5), "", "012345", False),
        (Integers(5), "5", "", True),
        (Integers(1), "1", "", True),
        (Decimals(), "", "01", False),
        (Decimals(), "0", ".", True),
        (Decimals(), "1", ".", True),
        (Decimals(), "0.", "0123456789", False),
        (Decimals(), "0.5", "0123456789", True),
        (Decimals(), "0.123", "", True),
        (Decimals(), "1.", "0", False),
        (Decimals(), "1.0", "0", True),
        (Decimals(1), "0.5", "", True),
    ],
)
def test_what_may_follow(spelling: NumberSpelling, written: str, symbols: str, may_end: bool) -> None:
    assert spelling.following(tuple(written)) == (tuple(symbols), may_end)


@pytest.mark.parametrize("maximum", [1, 9, 10, 57, 305, 1000, 1333])
def test_integers_spell_every_number_once_and_no_other(maximum: int) -> None:
    spelling = Integers(maximum)
    found, open_ends = [], [()]
    while open_ends:
        written = open_ends.pop()
        symbols, may_end = spelling.following(written)
        if may_end:
            found.append("".join(written))
            assert spelling.value(written) == int(found[-1])
        open_ends.extend((*written, symbol) for symbol in symbols)
    assert sorted(found, key=int) == [str(number) for number in range(maximum + 1)]


def test_locations_are_one_symbol() -> None:
    spelling = Locations(1024, "<loc{:04d}>")
    assert len(spelling.symbols) == 1024
    assert spelling.symbols[7] == "<loc0007>"
    assert spelling.following(()) == (spelling.symbols, False)
    assert spelling.following(("<loc0007>",)) == ((), True)
    assert spelling.value(("<loc0007>",)) == 7.0
    assert Locations(3).symbols == ("<loc_0>", "<loc_1>", "<loc_2>")


def test_decimals_read_as_floats() -> None:
    for first, second in itertools.product("0123456789", repeat=2):
        assert Decimals().value(("0", ".", first, second)) == float(f"0.{first}{second}")


def test_a_shape_that_can_not_say_it_refuses() -> None:
    spelling = Integers(9)
    silent = AnswerShape("<", ("(", ",", ",", ",", ")"), None, ">", None, (spelling,) * 4)
    assert silent.write(["1234"]) == "<(1,2,3,4)>"
    with pytest.raises(BoxError, match="nothing there"):
        silent.write([])
    with pytest.raises(BoxError, match="one box an answer, not 2"):
        silent.write(["1234", "5678"])
    with pytest.raises(BoxError, match="four numbers"):
        silent.write(["123"])


@pytest.mark.parametrize(("image_size_wh", "input_size_wh"), [((0, 5), None), ((5, -1), None), ((5, 5), (28, 0))])
def test_a_frame_has_room(image_size_wh: tuple[int, int], input_size_wh: tuple[int, int] | None) -> None:
    with pytest.raises(BoxError, match="at least 1"):
        Frame(image_size_wh, input_size_wh)
    assert Frame((5, 6)).seen_size_wh == (5, 6)
    assert Frame((5, 6), (28, 56)).seen_size_wh == (28, 56)
