"""The numbers of an answer as decisions: found in every format, each option with what it leads to."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grounding.boxes import Box
from grounding.errors import ModelError
from grounding.families import all_profiles
from grounding.formats import Decimals, Frame, Integers, Locations, QwenJson1000
from grounding.formats.base import NumberSpelling
from grounding.formats.grid import Axis, GridFormat
from grounding.training.numbers import Number, NumberReader, Ruler, completions, decisions_of, nearest
from letters import Letters

END = "<|im_end|>"
FORMATS = {name: profile.box_format for name, profile in all_profiles().items() if profile.box_format is not None}
THOUSAND = Axis(steps=1000, last=1000, full=1000)
COMMA, BRACKET = 90, 91
DIGITS = tuple((digit, int(digit)) for digit in "0123456789")


def ruler(spread: float = 0.0, spelling: NumberSpelling = Integers(1000)) -> Ruler:  # noqa: B008 - frozen
    spelled = tuple(tuple(str(step)) for step in range(1001))
    return Ruler(spelling, THOUSAND, spelled, (*DIGITS, (".", 10)), (COMMA, BRACKET), spread)


def options(number: str, place: int, spread: float = 0.0) -> dict[int, tuple[float, bool, float]]:
    """Token -> (the number it leads to, whether it is right, its label)."""
    decision = decisions_of(ruler(spread), tuple(number), COMMA)[place]
    values = [round(share * 1000, 6) for share in decision.shares]
    return dict(zip(decision.tokens, zip(values, decision.right, decision.labels, strict=True), strict=True))


@st.composite
def framed_boxes(draw: st.DrawFn) -> tuple[Frame, list[Box]]:
    width, height = draw(st.integers(20, 1500)), draw(st.integers(20, 1500))
    boxes = []
    for _ in range(draw(st.integers(1, 3))):
        x1, y1 = draw(st.floats(0, width - 2)), draw(st.floats(0, height - 2))
        boxes.append(Box(x1, y1, draw(st.floats(x1 + 1, width)), draw(st.floats(y1 + 1, height))))
    return Frame((width, height)), boxes


@pytest.mark.parametrize("name", FORMATS)
@given(framed=framed_boxes(), phrase=st.sampled_from(["the dog", "a (1,2) [3] {4} 5", "<loc_7> left", ""]))
def test_the_numbers_of_every_format_are_found(name: str, framed: tuple[Frame, list[Box]], phrase: str) -> None:
    frame, boxes = framed
    text_format = FORMATS[name]
    assert isinstance(text_format, GridFormat)
    boxes = boxes if text_format.shape(frame).between is not None or "float" in name else boxes[:1]
    tokenizer = Letters()
    answer = text_format.encode(boxes, frame, phrase)
    numbers = NumberReader(tokenizer, text_format).read(answer, len(boxes), frame, phrase, END)
    ids = tokenizer(answer + END)["input_ids"]
    read_back = [share_of(number, ids) for number in numbers]
    decoded = text_format.decode(answer, frame).boxes_xyxy_px
    sides = (*frame.image_size_wh, *frame.image_size_wh)
    assert [number.corner for number in numbers] == [0, 1, 2, 3] * len(boxes)
    for i in range(0, len(numbers), 4):
        box = [share * side for share, side in zip(read_back[i : i + 4], sides, strict=True)]
        assert any(box == pytest.approx(list(known), abs=1e-6 * max(sides)) for known in decoded)


def share_of(number: Number, ids: list[int]) -> float:
    """The share that the right options lead to; every decision stands where its right token does."""
    for decision, place in zip(number.decisions, number.places, strict=True):
        right = [token for token, is_right in zip(decision.tokens, decision.right, strict=True) if is_right]
        assert ids[place] in right
        assert sum(decision.labels) == pytest.approx(1.0)
    return number.share


def test_a_digit_leads_to_the_nearest_number_that_it_can() -> None:
    first = options("199", 0)
    assert {token: value for token, (value, _, _) in first.items()} == {
        0: 0, 1: 199, 2: 200, 3: 300, 4: 49, 5: 59, 6: 69, 7: 79, 8: 89, 9: 99,
    }  # fmt: skip
    assert [token for token, (_, right, _) in first.items() if right] == [1]
    assert options("500", 0)[9][0] == 900
    second = options("200", 1)
    assert (second[0][0], second[1][0], second[9][0]) == (200, 210, 290)
    assert (second[COMMA][0], second[BRACKET][0]) == (2, 2)  # "2" and no more


def test_a_beginning_may_go_on_for_longer_than_the_right_number() -> None:
    assert options("1000", 0)[9][0] == 999
    assert options("999", 0)[1][0] == 1000
    assert options("99", 1)[COMMA][0] == 9
    assert options("9", 0)[1][0] == 10  # not 1: 10 is nearer


def test_after_the_last_digit_every_end_is_right() -> None:
    last = options("199", 3) if len(decisions_of(ruler(), tuple("199"), COMMA)) > 3 else {}
    assert last == {}  # a fourth digit fits only in 1000, so the end is forced
    end = options("19", 2)
    assert [token for token, (_, right, _) in end.items() if right] == [COMMA, BRACKET]
    assert end[5][0] == 195


def test_a_fourth_digit_fits_in_1000_alone() -> None:
    assert set(options("100", 3)) == {0, COMMA, BRACKET}
    assert len(decisions_of(ruler(), tuple("1000"), COMMA)) == 4


@given(number=st.integers(0, 1000), place=st.integers(0, 3))
def test_what_an_option_leads_to_is_the_slow_search(number: int, place: int) -> None:
    digits = str(number)
    if place > len(digits) or not Integers(1000).following(tuple(digits[:place]))[0]:
        return
    for token, (value, _, _) in options(digits, place).items():
        if token in (COMMA, BRACKET):
            assert value == int(digits[:place])
        else:
            begins = digits[:place] + str(token)
            fitting = [n for n in range(1001) if str(n).startswith(begins)]
            assert abs(value - number) == min(abs(n - number) for n in fitting)
            assert value in fitting


@given(number=st.integers(0, 1000), place=st.integers(0, 3), spread=st.sampled_from([0.0005, 0.002, 0.01]))
def test_labels_are_the_chain_rule_of_a_distribution_over_numbers(number: int, place: int, spread: float) -> None:
    digits = str(number)
    if place > len(digits) or not Integers(1000).following(tuple(digits[:place]))[0]:
        return
    shares = {str(n): math.exp(-abs(n - number) / 1000 / spread) for n in range(1001)}
    begun = {text: share for text, share in shares.items() if text.startswith(digits[:place])}
    for token, (_, _, label) in options(digits, place, spread).items():
        chosen = digits[:place] + str(token)
        expected = sum(share for text, share in begun.items() if text.startswith(chosen)) if token < 10 else 0.0
        expected = begun.get(digits[:place], 0.0) if token == COMMA else expected
        assert label == pytest.approx(expected / sum(begun.values()), abs=1e-12)


def test_labels_know_that_200_is_next_to_199_and_far_from_150() -> None:
    assert 0.2 < options("199", 0, 0.002)[2][2] < 0.5
    assert options("150", 0, 0.002)[2][2] < 1e-9
    assert options("150", 1, 0.002)[4][2] > 0.2  # 149 is next to 150


def test_without_a_spread_one_option_has_the_whole_label() -> None:
    for place, right in ((0, 1), (1, 9), (2, COMMA)):
        assert {token: label for token, (_, _, label) in options("19", place).items() if label} == {right: 1.0}


def test_more_than_one_spelling_of_a_number_is_right_as_a_value() -> None:
    """0.5 may go on to 0.50: that leads to the right number, though it isn't what the label says."""
    axis = Axis(steps=1000, last=1000, full=1.0)
    spelled = tuple(tuple(f"{step / 1000:g}") for step in range(1001))
    decisions = decisions_of(Ruler(Decimals(), axis, spelled, (*DIGITS, (".", 10)), (COMMA,), 0.0), ("0", ".", "5"), 90)
    end = decisions[3]
    assert end.shares[end.tokens.index(0)] == 0.5
    assert not end.right[end.tokens.index(0)]
    assert end.labels[end.tokens.index(COMMA)] == 1.0


def test_a_location_is_one_decision_whose_values_are_exact() -> None:
    spelling = Locations(4)
    axis = Axis(steps=4, last=3, full=4, bins=True)
    tokens = tuple((symbol, i) for i, symbol in enumerate(spelling.symbols))
    (decision,) = decisions_of(Ruler(spelling, axis, (), tokens, (COMMA,)), ("<loc_2>",), COMMA)
    assert decision.shares == (0.125, 0.375, 0.625, 0.875)
    assert decision.right == (False, False, True, False)


def test_completions_are_all_numbers_that_begin_so() -> None:
    tree = completions(Integers(120))
    assert tree["1",] == [1, *range(10, 20), *range(100, 121)]
    assert tree["0",] == [0]
    assert nearest(tree["1",], 55) == 19


def test_a_tokenizer_that_joins_a_number_with_what_is_around_it_is_refused() -> None:
    answer = QwenJson1000().encode([Box(1, 2, 30, 40)], Frame((100, 100)))
    with pytest.raises(ModelError, match="joins a number"):
        NumberReader(Letters(joined=r" \d"), QwenJson1000()).read(answer, 1, Frame((100, 100)), "x", END)


def test_nothing_there_has_no_numbers() -> None:
    assert NumberReader(Letters(), QwenJson1000()).read("[]", 0, Frame((100, 100)), "x", END) == ()
