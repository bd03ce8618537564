"""Skeletons: every answer a format can write is walked token by token, and every walk reads back."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from grounding.boxes import Box
from grounding.decoding.skeleton import Cursor, Skeleton, compile_skeleton
from grounding.errors import ModelError
from grounding.formats import (
    AnswerShape,
    Decimals,
    FloatJson,
    Florence2Locations,
    Frame,
    Integers,
    InternVLBoxes,
    PaliGemmaLocations,
    QwenBoxTokens,
    QwenJson1000,
    QwenJsonPixels,
)
from grounding.models import DEMO_MODEL_FOLDER
from grounding.records import Status

END_TOKEN = "<|im_end|>"
# How Qwen's tokenizers cut text before merging: every digit stands alone.
_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_MERGES = [("]", "}"), ("]}", ","), ("[", "]"), ("[", "["), ("]", "]"), (")", ","), ("),", "("), ('"', ":"), ("Ġ", "[")]
_MARKS = ["<ref>", "</ref>", "<box>", "</box>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"]
_MARKS += ["<|box_end|>", END_TOKEN]
SPELLED = {
    "qwen_json": QwenJson1000(),
    "qwen_json_fenced": QwenJson1000(fenced=True),
    "qwen_json_pixels": QwenJsonPixels(),
    "qwen_box_tokens": QwenBoxTokens(),
    "internvl": InternVLBoxes(),
    "floats": FloatJson(),
    "floats_of_one_place": FloatJson(places=1),
}
LOCATED = {"florence2": Florence2Locations(), "paligemma": PaliGemmaLocations()}
CASES = [
    *(("demo", name) for name in SPELLED),
    *(("marked", name) for name in (*SPELLED, *LOCATED)),
]
FRAMES = (Frame((640, 480), (644, 476)), Frame((256, 256)), Frame((9, 1000), (28, 1036)))
PHRASES = ("dog", 'the "left" mug, 2nd', "12 [34] (5,6)", "größte 犬 \\ 🐕", "a]}")


def byte_level(merges: Sequence[tuple[str, str]], pattern: str | None = _PATTERN, marks: Sequence[str] = ()) -> Any:
    """A byte-level BPE with just these merges and special tokens."""
    from transformers import PreTrainedTokenizerFast

    vocabulary = dict.fromkeys([*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)])
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(vocabulary)}, list(merges)))
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if pattern is None:
        tokenizer.pre_tokenizer = bytes_only
    else:
        split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_only])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END_TOKEN, clean_up_tokenization_spaces=False)


@cache
def tokenizer_named(name: str) -> Any:
    from transformers import AutoTokenizer

    if name == "demo":
        return AutoTokenizer.from_pretrained(DEMO_MODEL_FOLDER)
    places = [f"<loc_{i}>" for i in range(1000)] + [f"<loc{i:04}>" for i in range(1024)]
    return byte_level(_MERGES, marks=[*_MARKS, *places])


def format_named(name: str) -> Any:
    return {**SPELLED, **LOCATED}[name]


@cache
def compiled(tokenizer: str, box_format: str, frame: Frame, phrase: str) -> Skeleton:
    shape = format_named(box_format).shape(frame, phrase)
    return compile_skeleton(tokenizer_named(tokenizer), shape, END_TOKEN)


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def text_of(tokenizer: Any, tokens: Sequence[int]) -> str:
    assert tokenizer.convert_ids_to_tokens(tokens[-1]) == END_TOKEN
    return str(tokenizer.decode(list(tokens[:-1]), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def walk(skeleton: Skeleton, pick: Callable[[Sequence[int]], int], max_boxes: int) -> Cursor:
    """A whole answer, `pick` taking each decision; checked on the way."""
    cursor, bound = Cursor(skeleton, max_boxes), skeleton.most_tokens(max_boxes)
    known = set(skeleton.tokens())
    while not cursor.done:
        options = cursor.choice().options
        assert options and len(set(options)) == len(options)
        assert known.issuperset(options)
        cursor.take(pick(options))
        assert len(cursor.tokens) <= bound
    return cursor


@st.composite
def boxes_in(draw: st.DrawFn, frame: Frame, most: int) -> list[Box]:
    width, height = frame.image_size_wh
    sides = st.tuples(
        st.floats(0, width - 1), st.floats(0, height - 1), st.floats(0.01, width), st.floats(0.01, height)
    )
    numbers = draw(st.lists(sides, max_size=most))
    return [Box(x, y, min(width, x + w), min(height, y + h)) for x, y, w, h in numbers]


@pytest.mark.parametrize(("tokenizer", "name"), CASES)
@given(data=st.data())
@settings(deadline=None, max_examples=30)
def test_every_answer_is_walked_to_its_end(tokenizer: str, name: str, data: st.DataObject) -> None:
    """The cursor takes the tokens of an encoded answer, is done at the last and not before, with its numbers."""
    box_format, words = format_named(name), tokenizer_named(tokenizer)
    frame, phrase = data.draw(st.sampled_from(FRAMES)), data.draw(st.sampled_from(PHRASES))
    most = 1 if box_format.shape(frame, phrase).between is None else 3
    boxes = data.draw(boxes_in(frame, most))
    answer = box_format.encode(boxes, frame, phrase)
    wanted = ids_of(words, answer + END_TOKEN)
    skeleton = compiled(tokenizer, name, frame, phrase)
    cursor = Cursor(skeleton, max_boxes=max(1, len(boxes)))
    for token in wanted:
        assert not cursor.done
        assert token in cursor.choice().options
        cursor.take(token)
    assert cursor.done
    assert cursor.tokens == wanted
    texts = [box_format.quadruple(box, frame) for box in boxes]
    numbers = skeleton.spellings
    assert cursor.values() == [
        [
            spelling.value((text,) if text.startswith("<") else tuple(text))
            for spelling, text in zip(numbers, box, strict=True)
        ]
        for box in texts
    ]
    assert skeleton.most_tokens(len(boxes)) >= len(wanted)


@pytest.mark.parametrize(("tokenizer", "name"), CASES)
@pytest.mark.parametrize("max_boxes", [1, 3])
def test_every_walk_reads_back(tokenizer: str, name: str, max_boxes: int) -> None:
    """Whatever is decided, the text is spelled as the tokenizer spells it and says what was decided."""
    box_format, words = format_named(name), tokenizer_named(tokenizer)
    chance = random.Random(f"{tokenizer} {name} {max_boxes}")
    seen = set()
    for turn in range(25):
        frame, phrase = FRAMES[turn % len(FRAMES)], PHRASES[turn % len(PHRASES)]
        cursor = walk(compiled(tokenizer, name, frame, phrase), chance.choice, max_boxes)
        text = text_of(words, cursor.tokens)
        assert ids_of(words, text + END_TOKEN) == cursor.tokens
        decoded = box_format.decode(text, frame)
        seen.add(decoded.status)
        placed = [box_format.place(numbers, frame) for numbers in cursor.values()]
        assert len(placed) <= max_boxes
        assert set(decoded.boxes_xyxy_px) == {box for box in placed if box is not None}
        wanted = Status.OK if any(placed) else Status.DEGENERATE if placed else Status.NO_BOX
        assert decoded.status is wanted
    assert Status.OK in seen


@pytest.mark.parametrize(("tokenizer", "name"), [case for case in CASES if "float" not in case[1]])
@pytest.mark.parametrize("max_boxes", [1, 2, 5])
def test_max_boxes_ends_an_answer_that_never_would(tokenizer: str, name: str, max_boxes: int) -> None:
    """An answer with one box more is followed as far as it goes: all that is left then is to end it."""
    box_format, words, frame = format_named(name), tokenizer_named(tokenizer), FRAMES[0]
    boxes = [Box(10 + i, 20, 300, 400 - i) for i in range(max_boxes + 1)]
    wanted = ids_of(words, box_format.encode(boxes, frame, "dog") + END_TOKEN)
    cursor = Cursor(compiled(tokenizer, name, frame, "dog"), max_boxes)
    while wanted[len(cursor.tokens)] in cursor.choice().options:
        cursor.take(wanted[len(cursor.tokens)])
    if not cursor.done:  # in the middle of the last number, or after it
        cursor.take(cursor.choice().options[-1])
        cursor.forced()
    assert cursor.done
    assert cursor.tokens == ids_of(words, box_format.encode(boxes[:-1], frame, "dog") + END_TOKEN)


def test_forced_tokens_are_those_without_a_choice() -> None:
    """`forced` stops exactly where there is something to decide, and writes what single steps would."""
    skeleton = compiled("demo", "qwen_json", FRAMES[0], "dog")
    chance = random.Random(4)
    for _ in range(20):
        cursor, decided = Cursor(skeleton, 3), []
        forced = cursor.forced()
        while not cursor.done:
            options = cursor.choice().options
            assert len(options) > 1
            decided.append(chance.choice(options))
            cursor.take(decided[-1])
            forced += [decided[-1], *cursor.forced()]
        assert forced == cursor.tokens
        assert cursor.forced() == []
        again = iter(decided)
        assert walk(skeleton, lambda o, again=again: o[0] if len(o) == 1 else next(again), 3).tokens == cursor.tokens


def test_a_choice_says_which_number_and_place_it_decides() -> None:
    words, skeleton = tokenizer_named("demo"), compiled("demo", "qwen_json", FRAMES[0], "dog")
    cursor, places = Cursor(skeleton, 2), []
    for token in ids_of(words, '[{"bbox_2d": [0, 7, 1000, 45]}]' + END_TOKEN):
        choice = cursor.choice()
        if len(choice.options) > 1:
            places.append((words.decode([token]), choice.number, choice.place))
        cursor.take(token)
    # After "0" no digit may follow, after "1000" neither: nothing is decided there.
    numbers = [place for place in places if place[1] >= 0]
    expected = [("0", 0, 0), ("7", 1, 0), (",", 1, 1), ("1", 2, 0), ("0", 2, 1), ("0", 2, 2), ("0", 2, 3), ("4", 3, 0)]
    assert numbers[:8] == expected
    assert numbers[8][1:] == (3, 1)
    assert places[0][1:] == (-1, 0)


# --- tokenizers that can't be forced ---


@pytest.mark.parametrize("joined", ["12", "77", "10", "99"])
@pytest.mark.parametrize("name", list(SPELLED))
def test_a_tokenizer_that_joins_digits_is_refused(name: str, joined: str) -> None:
    words = byte_level([*_MERGES, (joined[0], joined[1])], pattern=None, marks=_MARKS)
    assert len(ids_of(words, joined)) == 1
    with pytest.raises(ModelError, match="can't be forced"):
        compile_skeleton(words, SPELLED[name].shape(FRAMES[0], "dog"), END_TOKEN)


@pytest.mark.parametrize("joined", ["0.", ".5"])
def test_a_tokenizer_that_joins_a_digit_and_the_point_is_refused(joined: str) -> None:
    words = byte_level([*_MERGES, (joined[0], joined[1])], pattern=None, marks=_MARKS)
    with pytest.raises(ModelError, match="can't be forced"):
        compile_skeleton(words, FloatJson().shape(FRAMES[0], "dog"), END_TOKEN)


@pytest.mark.parametrize("joined", [("Ġ", "1"), ("1", ","), ("[", "1"), ("1", "]")])
def test_a_tokenizer_that_joins_a_number_with_its_surroundings_is_refused(joined: tuple[str, str]) -> None:
    words = byte_level([joined], pattern=None, marks=_MARKS)
    with pytest.raises(ModelError, match="can't be forced"):
        compile_skeleton(words, QwenJson1000().shape(FRAMES[0], "dog"), END_TOKEN)


def test_a_tokenizer_without_the_locations_is_refused() -> None:
    words = byte_level(_MERGES, marks=_MARKS)
    with pytest.raises(ModelError, match="no single token for '<loc_0>'"):
        compile_skeleton(words, Florence2Locations().shape(FRAMES[0], "dog"), END_TOKEN)


def test_boxes_that_share_a_token_are_spelled_with_it() -> None:
    """Where the end of one box and the begin of the next are one token, so they are in the skeleton."""
    shape = AnswerShape("<", ("<", ",", ",", ",", ">"), "<", ">", None, (Integers(1000),) * 4)
    words = byte_level([(">", "<"), ("><", "<"), ("<", "<")], pattern=None, marks=_MARKS)
    skeleton = compile_skeleton(words, shape, END_TOKEN)
    assert ids_of(words, shape.write([list("1234")] * 2) + END_TOKEN) == walk_through(skeleton, words, shape)


def walk_through(skeleton: Skeleton, words: Any, shape: AnswerShape) -> list[int]:
    cursor = Cursor(skeleton, 2)
    for token in ids_of(words, shape.write([list("1234")] * 2) + END_TOKEN):
        assert token in cursor.choice().options
        cursor.take(token)
    assert cursor.done
    return cursor.tokens


def test_numbers_stay_within_their_axis() -> None:
    """Pixels: no number beyond the side it runs along."""
    skeleton = compiled("demo", "qwen_json_pixels", Frame((9, 1000), (28, 1036)), "dog")
    assert [spelling.maximum for spelling in skeleton.spellings if isinstance(spelling, Integers)] == [28, 1036] * 2
    chance = random.Random(3)
    for _ in range(40):
        for x1, y1, x2, y2 in walk(skeleton, chance.choice, 4).values():
            assert max(x1, x2) <= 28 and max(y1, y2) <= 1036


def test_fractions_stay_within_one() -> None:
    skeleton = compiled("demo", "floats", FRAMES[0], "dog")
    assert all(isinstance(spelling, Decimals) for spelling in skeleton.spellings)
    chance = random.Random(5)
    values = [value for _ in range(40) for box in walk(skeleton, chance.choice, 1).values() for value in box]
    assert max(values) == 1.0 and min(values) < 0.5
