"""Expected coordinates against the exact distribution of a number, scored value by value by the stock model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from PIL import Image

from grounding import engine
from grounding.answering import Answer, Answerer, Ask
from grounding.decoding.expected import NumberSpread
from grounding.decoding.forced import _Chunk
from grounding.decoding.settings import Decoding
from grounding.decoding.skeleton import END, Run, Skeleton, compile_skeleton
from grounding.features import ImageFeatures
from grounding.formats import Decimals, FloatJson, Frame, Integers, Locations, QwenJson1000
from grounding.records import Sample, Status

WINDOW = 50  # thousandths on both sides of what was written
EXPECTED, LIKELIEST = Decoding(coordinates="expected"), Decoding()


@pytest.fixture(scope="module")
def answerer(loaded: Any) -> Answerer:
    made = Answerer(loaded)
    assert made.notes == ()
    return made


@pytest.fixture(scope="module")
def asks(loaded: Any, demo_samples: dict[str, list[Sample]]) -> list[Ask]:
    samples = [sample for sample in demo_samples["train"] if sample.boxes_xyxy_px][:12]
    pictures = []
    for sample in samples:
        with Image.open(sample.image) as opened:
            pictures.append(opened.convert("RGB").resize((128, 128)))  # fewer tokens: scoring is faster
    features = engine.encode_images(loaded, pictures)
    return [
        Ask(feature, phrase)
        for feature, sample in zip(features, samples, strict=True)
        for phrase in (f"the {sample.category}", "left dog")
    ]


@torch.inference_mode()
def exact_number(loaded: Any, features: ImageFeatures, phrase: str, written: str) -> dict[int, float]:
    """Probabilities of the values 0 to 1000 after what is `written`, among all that a skeleton allows there.

    Every beginning of a number is put through the stock model as a sequence of its own, the picture and all.
    """
    tokenizer = loaded.processor.tokenizer
    spelling, digits = Integers(1000), tokenizer.convert_tokens_to_ids(list("0123456789"))
    (end,) = tokenizer(",", add_special_tokens=False)["input_ids"]
    prompt = engine.chat_text(loaded, phrase, features.visual_tokens) + written
    level, exact = {"": 1.0}, {}
    while level:
        beginnings = list(level)
        inputs = engine.tokenize(loaded, [prompt + beginning for beginning in beginnings])
        extra = loaded.family.generate_inputs(loaded, [features] * len(beginnings), inputs["input_ids"])
        logits = loaded.model(**inputs, **extra, logits_to_keep=1).logits[:, -1]
        grown: dict[str, float] = {}
        for beginning, scores in zip(beginnings, logits, strict=True):
            symbols, may_end = spelling.following(tuple(beginning))
            options = [digits[int(symbol)] for symbol in symbols] + [end] * may_end
            shares = (scores[options].double().softmax(0) * level[beginning]).tolist()
            if may_end:
                exact[int(beginning)] = exact.get(int(beginning), 0.0) + shares.pop()
            grown |= {beginning + symbol: share for symbol, share in zip(symbols, shares, strict=True)}
        # "0" and three digits and more: no digit may follow.
        done = {text for text in grown if not spelling.following(tuple(text))[0]}
        exact |= {int(text): grown[text] for text in done}
        level = {text: share for text, share in grown.items() if text not in done and share > 1e-5}
    return exact


@pytest.fixture
def spreads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[NumberSpread, float, float]]:
    """Every number's spread, the value that was written, the expected value: as they come."""
    seen: list[tuple[NumberSpread, float, float]] = []
    expected = NumberSpread.expected

    def watched(self: NumberSpread, written: tuple[str, ...]) -> float:
        value = expected(self, written)
        seen.append((self, self.spelling.value(written), value))
        return value

    monkeypatch.setattr(NumberSpread, "expected", watched)
    return seen


def approximate(spread: NumberSpread, exact: dict[int, float], written: float) -> tuple[float, float]:
    """(the mean that a spread should give, how far it may be from the exact one), from the exact probabilities.

    A beginning that was not followed further stands in the middle of its values.
    """
    shares = {float(int("".join(number))): exact.get(int("".join(number)), 0.0) for number in spread.finished}
    unknown = 0.0
    length = len(f"{written:.0f}")
    for beginning in {*spread.given_up, *(node.written for node in (*spread._to_feed, *spread._fed))}:
        text = "".join(beginning)
        middle = float(text.ljust(length, "5"))
        below = {value: share for value, share in exact.items() if str(value).startswith(text)}
        shares[middle] = shares.get(middle, 0.0) + math.fsum(below.values())
        for value, share in below.items():
            inside = (abs(value - written) <= WINDOW) + (abs(middle - written) <= WINDOW)
            unknown += share * (0, 2 * WINDOW, abs(value - middle))[inside]
    near = {value: share for value, share in shares.items() if abs(value - written) <= WINDOW}
    weight = math.fsum(near.values())
    return math.fsum(value * share for value, share in near.items()) / weight, unknown / weight


def exact_mean(exact: dict[int, float], written: float) -> float:
    near = {value: share for value, share in exact.items() if abs(value - written) <= WINDOW}
    return math.fsum(value * share for value, share in near.items()) / math.fsum(near.values())


def test_the_mean_is_that_of_the_exact_distribution(
    loaded: Any, answerer: Answerer, asks: Sequence[Ask], spreads: list[tuple[NumberSpread, float, float]]
) -> None:
    """All values 0 to 1000 scored by the stock model. What was not followed to its end may shift the mean a little."""
    moved, bounds = [], []
    for ask in asks[::2]:
        spreads.clear()
        (answer,) = answerer.answer([ask], Decoding(coordinates="expected", max_boxes=1))
        if answer.decoded.status is not Status.OK:
            continue
        if len(moved) >= 6:
            break
        before = '[{"bbox_2d": ['
        for spread, written, value in spreads[:2]:
            exact = exact_number(loaded, ask.features, ask.phrase, before)
            assert math.fsum(exact.values()) == pytest.approx(1, abs=2e-3)
            mean, bound = approximate(spread, exact, written)
            assert value == pytest.approx(mean, abs=0.1), (ask.phrase, before, written)
            assert abs(value - exact_mean(exact, written)) <= bound + 0.1, (ask.phrase, before, written)
            bounds.append(bound)
            moved.append(abs(mean - written))
            before += f"{written:.0f}, "
    assert len(moved) >= 6
    assert max(moved) > 2  # or the written number alone would pass
    assert sorted(bounds)[len(bounds) // 2] < 10, bounds  # or anything would pass


def test_every_finished_number_has_its_exact_probability(
    loaded: Any, answerer: Answerer, asks: Sequence[Ask], spreads: list[tuple[NumberSpread, float, float]]
) -> None:
    """Runners-up are fed beside the answer: each sees its own digits and none of the others'."""
    compared = 0
    for ask in asks[:12:2]:
        spreads.clear()
        answerer.answer([ask], Decoding(coordinates="expected", max_boxes=1))
        if not spreads:
            continue
        exact = exact_number(loaded, ask.features, ask.phrase, '[{"bbox_2d": [')
        spread, _, _ = spreads[0]
        for written, log_probability in spread.finished.items():
            share = exact.get(int("".join(written)), 0.0)
            assert math.exp(log_probability) == pytest.approx(share, rel=2e-3, abs=2e-6), (ask.phrase, written)
            compared += share > 0.005
    assert compared > 12


def test_the_text_is_the_likeliest_and_boxes_are_near_it(answerer: Answerer, asks: Sequence[Ask]) -> None:
    expected, likeliest = answerer.answer(asks, EXPECTED), answerer.answer(asks, LIKELIEST)
    assert [answer.text for answer in expected] == [answer.text for answer in likeliest]
    assert [answer.decoded.status for answer in expected] == [answer.decoded.status for answer in likeliest]
    moved = boxes = 0
    for ask, mean, best in zip(asks, expected, likeliest, strict=True):
        boxes += len(best.decoded.boxes_xyxy_px)
        pairs = list(zip(mean.decoded.boxes_xyxy_px, best.decoded.boxes_xyxy_px, strict=True))
        for box, likely in pairs:
            reach_px = [size * WINDOW / 1000 for size in ask.features.image_size_wh * 2]
            assert all(abs(a - b) <= px + 1e-6 for a, b, px in zip(box, likely, reach_px, strict=True))
            moved += tuple(box) != tuple(likely)
        assert mean.confidence == pytest.approx(best.confidence, abs=1e-4)
        assert mean.box_confidences == pytest.approx(best.box_confidences, abs=1e-4)
    assert moved > boxes / 2 >= 2


def test_expected_boxes_do_not_depend_on_the_batch(answerer: Answerer, asks: Sequence[Ask]) -> None:
    def numbers(answers: Sequence[Answer]) -> list[float]:
        return [value for answer in answers for box in answer.decoded.boxes_xyxy_px for value in box]

    together = numbers(answerer.answer(asks, EXPECTED))
    assert numbers([answerer.answer([ask], EXPECTED)[0] for ask in asks]) == pytest.approx(together, abs=0.02)
    assert numbers(answerer.answer(asks[::-1], EXPECTED)[::-1]) == pytest.approx(together, abs=0.02)


def test_the_whole_distribution_is_the_exact_one(
    loaded: Any, answerer: Answerer, asks: Sequence[Ask], spreads: list[tuple[NumberSpread, float, float]]
) -> None:
    """Up to each value as much lies below as the stock model says, but for what was not followed to its end."""
    compared, loose = 0, []
    for ask in asks[:12:2]:
        spreads.clear()
        answerer.answer([ask], Decoding(coordinates="expected", max_boxes=1))
        if not spreads:
            continue
        exact = exact_number(loaded, ask.features, ask.phrase, '[{"bbox_2d": [')
        spread, written, _ = spreads[0]
        shares = spread.shares(tuple(f"{written:.0f}"))
        assert math.fsum(share.probability for share in shares) == pytest.approx(1, abs=1e-4)
        loose.append(math.fsum(share.probability * (share.high - share.low) for share in shares))
        for value in range(0, 1001, 25):
            surely = math.fsum(share.probability for share in shares if share.high <= value)
            perhaps = math.fsum(share.probability for share in shares if share.low <= value)
            below = math.fsum(share for number, share in exact.items() if number <= value)
            assert surely - 0.003 <= below <= perhaps + 0.003, (ask.phrase, value)
        compared += 1
    assert compared >= 3
    assert sorted(loose)[len(loose) // 2] < 10, loose  # thousandths of the picture; or anything would pass


# --- one number by hand ---


@pytest.fixture(scope="module")
def skeleton(loaded: Any) -> Skeleton:
    return compile_skeleton(loaded.processor.tokenizer, QwenJson1000().shape(Frame((256, 256)), "dog"), "<|im_end|>")


class ByHand:
    """Feeds a spread with the probabilities of a table {beginning: {symbol or "end": probability}}."""

    def __init__(self, skeleton: Skeleton, table: dict[str, dict[str, float]], number: int = 0) -> None:
        self.skeleton, self.table = skeleton, table
        self.spread = NumberSpread(skeleton, number)
        self.end = skeleton.after[number][0].tokens[0]
        tokens = skeleton.tokens()
        self.column = {token: place for place, token in enumerate(tokens)}
        self.fed: list[str] = []
        self.holds: dict[int, str] = {}  # the symbol in each column of the cache

    def token(self, symbol: str) -> int:
        return self.end if symbol == "end" else self.skeleton.token_of[symbol]

    def logits(self, beginning: str) -> torch.Tensor:
        scores = torch.full((len(self.column),), -50.0)
        for symbol, probability in self.table.get(beginning, {"end": 1.0}).items():
            scores[self.column[self.token(symbol)]] = math.log(probability)
        return scores

    def write(self, number: str) -> float:
        """The answer goes on with this number; returns its expected value."""
        beginning = ""
        for symbol in (*number, "end"):
            symbols, may_end = self.spread.spelling.following(tuple(beginning))
            if not symbols:
                break
            options = [self.skeleton.token_of[one] for one in symbols] + [self.end] * may_end
            own = self.logits(beginning)[[self.column[option] for option in options]].log_softmax(0)
            others = torch.stack([self.logits(one) for one in self.fed]) if self.fed else torch.empty(0, 0)
            self.spread.expand(options, own, others, self.column, self.token(symbol))
            if symbol == "end":
                break
            beginning += symbol
            chunk = _Chunk([self.token(symbol)], [len(beginning) + 99])
            self.spread.feed(chunk, begin=10 * len(beginning))
            place = {token: one for one, token in self.skeleton.token_of.items()}
            self.holds[10 * len(beginning)] = symbol
            self.fed = []
            for i, (token, position, sees_before, columns) in enumerate(chunk.runners_up):
                assert sees_before == 10  # the column of the number's own first symbol
                self.fed.append("".join(self.holds[column] for column in columns) + place[token])
                assert position == 99 + len(self.fed[-1])
                self.holds[10 * len(beginning) + 1 + i] = place[token]
        return self.spread.expected(tuple(number))


def test_a_waver_between_two_hundreds_is_averaged(skeleton: Skeleton) -> None:
    """399 or 401: the likeliest digits say 399 with hardly more than a half."""
    table = {
        "": {"3": 0.55, "4": 0.45},
        "3": {"9": 1.0},
        "39": {"9": 1.0},
        "4": {"0": 1.0},
        "40": {"1": 1.0},
    }
    assert ByHand(skeleton, table).write("399") == pytest.approx(0.55 * 399 + 0.45 * 401, abs=1e-3)


def test_a_waver_between_two_hundreds_has_both_shares(skeleton: Skeleton) -> None:
    table = {
        "": {"3": 0.55, "4": 0.449, "7": 0.001},
        "3": {"9": 1.0},
        "39": {"9": 1.0},
        "4": {"0": 1.0},
        "40": {"1": 1.0},
    }
    hand = ByHand(skeleton, table)
    hand.write("399")
    shares = {(s.low, s.high): s.probability for s in hand.spread.shares(("3", "9", "9")) if s.probability > 1e-6}
    assert shares == {
        (399, 399): pytest.approx(0.55, abs=1e-4),
        (401, 401): pytest.approx(0.449, abs=1e-4),
        (700, 799): pytest.approx(0.001, abs=1e-5),  # too unlikely to be followed
    }


def test_values_far_away_are_left_out(skeleton: Skeleton) -> None:
    table = {"": {"3": 0.6, "8": 0.4}, "3": {"9": 1.0}, "39": {"9": 1.0}, "8": {"0": 1.0}, "80": {"0": 1.0}}
    assert ByHand(skeleton, table).write("399") == pytest.approx(399, abs=1e-3)


def test_a_shorter_number_is_not_taken_for_the_beginning_of_a_longer_one(skeleton: Skeleton) -> None:
    """40 is far from 400: it doesn't count as 405."""
    table = {"": {"4": 1.0}, "4": {"0": 1.0}, "40": {"0": 0.6, "end": 0.4}}
    assert ByHand(skeleton, table).write("400") == pytest.approx(400, abs=1e-3)
    table = {"": {"7": 1.0}, "7": {"9": 0.6, "end": 0.4}}
    by_hand = ByHand(skeleton, table)
    assert by_hand.write("79") == pytest.approx(79, abs=50)
    assert by_hand.spread.finished[("7",)] == pytest.approx(math.log(0.4), abs=1e-4)


def test_short_numbers_near_by_count(skeleton: Skeleton) -> None:
    """9 and 12 are neighbours, though of other lengths."""
    table = {"": {"9": 0.4, "1": 0.6}, "9": {"end": 1.0}, "1": {"2": 1.0}, "12": {"end": 1.0}}
    assert ByHand(skeleton, table).write("12") == pytest.approx(0.4 * 9 + 0.6 * 12, abs=1e-3)


def test_what_is_given_up_counts_as_the_middle_of_what_it_could_become(skeleton: Skeleton) -> None:
    """More tens than are followed: 41, 42 and 43 are, 44 is given up at 445."""
    tens = {"0": 0.4, "1": 0.2, "2": 0.15, "3": 0.13, "4": 0.12}
    table = {"": {"4": 1.0}, "4": tens, **{f"4{ten}": {"0": 1.0} for ten in tens}}
    shares = {400: 0.4, 410: 0.2, 420: 0.15, 430: 0.13, 445: 0.12}
    mean = sum(value * share for value, share in shares.items())
    assert ByHand(skeleton, table).write("400") == pytest.approx(mean, abs=1e-2)


def test_the_largest_number_and_its_neighbours(skeleton: Skeleton) -> None:
    table = {
        "": {"1": 0.5, "9": 0.5},
        "1": {"0": 1.0},
        "10": {"0": 1.0},
        "100": {"0": 1.0},
        "9": {"9": 1.0},
        "99": {"8": 1.0},
    }
    assert ByHand(skeleton, table).write("1000") == pytest.approx(999, abs=1e-3)


@pytest.mark.parametrize(("written", "mean"), [("0.5", 0.506), ("0.25", 0.25)])
def test_fractions_have_a_window_of_their_own(loaded: Any, written: str, mean: float) -> None:
    skeleton = compile_skeleton(loaded.processor.tokenizer, FloatJson().shape(Frame((256, 256)), "dog"), "<|im_end|>")
    assert isinstance(skeleton.spellings[0], Decimals)
    table = {
        "": {"0": 1.0},
        "0": {".": 1.0},
        "0.": {written[2]: 1.0},
        "0.2": {"5": 1.0},
        "0.25": {"end": 1.0},
        "0.5": {"end": 0.7, "2": 0.3},
        "0.52": {"end": 1.0},
    }
    assert ByHand(skeleton, table).write(written) == pytest.approx(mean, abs=1e-4)


def test_location_tokens_have_values_near_each_other_too() -> None:
    """A family may write a coordinate as one token: its neighbours are further tokens."""
    spelling = Locations(1000)
    token_of = {symbol: token for token, symbol in enumerate(spelling.symbols)}
    after = tuple((Run((), leads_to),) for leads_to in (1, 2, 3, END))
    skeleton = Skeleton((Run((), 0),), after, (spelling,) * 4, token_of, {t: s for s, t in token_of.items()})
    spread, scores = NumberSpread(skeleton, 0), torch.full((1000,), -50.0)
    scores[[399, 401, 900]] = torch.tensor([0.45, 0.35, 0.2]).log()
    options = range(1000)
    spread.expand(options, scores.log_softmax(0), torch.empty(0, 0), dict(enumerate(options)), chosen=399)
    assert spread.expected((spelling.symbols[399],)) == pytest.approx(399 + 2 * 0.35 / 0.8, abs=1e-3)
