"""The numbers of an answer as decisions of the model, token by token, and what each decision would lead to.

A number is written symbol by symbol (digits, or one location token), and after its last symbol comes the token that
ends it. At each place the model chooses among the symbols that may stand there and, where the number may end, the
tokens that end it. What a wrong choice would lead to is not known under teacher forcing: the model is never asked what
it would write after it. Here it counts as the *nearest* number to the right one that could still come of it. So a model
that wavers between 199 and 200 is one step off where it takes the 2, not a hundred.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from grounding.boxes import Box
from grounding.decoding.skeleton import symbol_tokens
from grounding.errors import ModelError
from grounding.formats import AnswerShape, BoxFormat, Frame, NumberSpelling
from grounding.formats.grid import Axis, GridFormat

_X_FIRST = (0, 1, 2, 3)
_Y_FIRST = (1, 0, 3, 2)


@dataclass(frozen=True)
class Written:
    """One number of an answer's text: its symbols, and the index of the first one's character."""

    symbols: tuple[str, ...]
    start: int


@dataclass(frozen=True)
class Decision:
    """One choice inside a number. Option i is token `tokens[i]`; taking it leads to a number at `shares[i]`, a share of
    the picture's side (0.0 to 1.0); `right[i]` where it is the right one; `labels[i]` is its label, summing to 1."""

    tokens: tuple[int, ...]
    shares: tuple[float, ...]
    right: tuple[bool, ...]
    labels: tuple[float, ...]


@dataclass(frozen=True)
class Number:
    """One coordinate of an answer: `corner` 0 to 3 for x1, y1, x2, y2, the right `share` of the side, and its
    decisions; `places[i]` is where decision i stands among the supervised tokens."""

    corner: int
    share: float
    decisions: tuple[Decision, ...]
    places: tuple[int, ...]


def written_numbers(answer: str, shape: AnswerShape, boxes: int) -> list[Written]:
    """The 4 x `boxes` numbers of an answer of this shape, in order. Raises `ModelError` where they can't be found."""
    numbers: list[Written] = []
    at = len(shape.opening) if answer.startswith(shape.opening) else 0
    for box in range(boxes):
        if box and shape.between and answer.startswith(shape.between, at):
            at += len(shape.between)
        at = answer.find(shape.around[0], at)
        if at < 0:
            raise ModelError(f"Box {box + 1} was not found in the answer {answer!r}.")
        for i, spelling in enumerate(shape.numbers):
            at += len(shape.around[i])
            symbols = _read(answer, at, spelling)
            if not symbols:
                raise ModelError(f"Number {i + 1} of box {box + 1} was not found in the answer {answer!r}.")
            numbers.append(Written(symbols, at))
            at += len("".join(symbols))
        at += len(shape.around[-1])
    return numbers


def _read(text: str, at: int, spelling: NumberSpelling) -> tuple[str, ...]:
    """The symbols that stand at this place, as many as may."""
    symbols: tuple[str, ...] = ()
    while True:
        fitting = [symbol for symbol in spelling.following(symbols)[0] if text.startswith(symbol, at)]
        if not fitting:
            return symbols
        symbols, at = (*symbols, fitting[0]), at + len(fitting[0])


@lru_cache(maxsize=64)
def completions(spelling: NumberSpelling) -> dict[tuple[str, ...], list[float]]:
    """For every beginning of a number, the values of all numbers that begin so, rising."""
    values: dict[tuple[str, ...], list[float]] = {}

    def walk(written: tuple[str, ...]) -> list[float]:
        symbols, may_end = spelling.following(written)
        found = [spelling.value(written)] if may_end else []
        for symbol in symbols:
            found += walk((*written, symbol))
        values[written] = sorted(found)
        return values[written]

    walk(())
    return values


def nearest(values: Sequence[float], target: float) -> float:
    """The value that is nearest to the target; of two at the same distance the smaller one."""
    at = bisect_left(values, target)
    return min(values[max(0, at - 1) : at + 1], key=lambda value: abs(value - target))


@dataclass(frozen=True, eq=False)
class Ruler:
    """How the numbers of one corner are written and where they lie. Told apart by identity: a reader keeps its own.

    `ends` are the tokens that may end such a number. `spread` > 0, in shares of the side: labels fall off around the
    right number as exp(-distance / spread) over all numbers that the format writes, and each decision's label is what
    that makes of its options (see `labels_of`).
    """

    spelling: NumberSpelling
    axis: Axis
    spelled: tuple[tuple[str, ...], ...]  # every number as the format spells it, step by step
    token_of: tuple[tuple[str, int], ...]
    ends: tuple[int, ...]
    spread: float = 0.0

    def share(self, value: float) -> float:
        """Where a number lies, as a share of the side."""
        return (value + self.axis.offset) / self.axis.full


@lru_cache(maxsize=2048)
def decisions_of(ruler: Ruler, symbols: tuple[str, ...], end: int) -> tuple[Decision, ...]:
    """The decisions of writing this number; `end` is the token that follows it. None for an end that is forced."""
    spelling, token_of = ruler.spelling, dict(ruler.token_of)
    truth = spelling.value(symbols)
    after = completions(spelling)
    decisions = []
    for place in range(len(symbols) + 1):
        before = symbols[:place]
        options, may_end = spelling.following(before)
        if not options:
            break  # the end is forced: nothing to decide
        shares = [ruler.share(nearest(after[(*before, option)], truth)) for option in options]
        tokens = [token_of[option] for option in options]
        right = [place < len(symbols) and option == symbols[place] for option in options]
        if may_end:
            ends = tuple(dict.fromkeys((end, *ruler.ends)))
            tokens += ends
            shares += [ruler.share(spelling.value(before))] * len(ends)
            right += [place == len(symbols)] * len(ends)
        labels = labels_of(ruler, symbols, place, options, len(tokens))
        decisions.append(Decision(tuple(tokens), tuple(shares), tuple(right), labels))
    return tuple(decisions)


def labels_of(
    ruler: Ruler, symbols: tuple[str, ...], place: int, options: Sequence[str], size: int
) -> tuple[float, ...]:
    """The label of each of `size` options (first the symbols `options`, then the ends, the right end token first).

    Without a spread the right one has 1.0. With one, Q(v) ~ exp(-|v - right| / spread) is a distribution over whole
    numbers, and an option's label is Q(numbers that begin with it) / Q(numbers that begin as the right one does so
    far): the chain rule. So a 2 before 199 has nearly half of the label, because 200 is next to it, and a 2 before 150
    has nearly none; a rule that looks at one digit alone would blur both alike.
    """
    before, labels = symbols[:place], [0.0] * size
    if ruler.spread <= 0:
        right = options.index(symbols[place]) if place < len(symbols) else len(options)
        labels[right] = 1.0
        return tuple(labels)
    truth = ruler.share(ruler.spelling.value(symbols))
    index = {option: i for i, option in enumerate(options)}
    for spelled in ruler.spelled:
        if spelled[:place] == before:
            share = math.exp(-abs(ruler.share(ruler.spelling.value(spelled)) - truth) / ruler.spread)
            labels[index[spelled[place]] if len(spelled) > place else len(options)] += share
    total = sum(labels)
    return tuple(label / total for label in labels)


class NumberReader:
    """Finds the numbers among the supervised tokens of one model's answers.

    Raises `ModelError` for a format that is no grid or a tokenizer that joins a number with its surroundings: the
    geometric terms and soft labels need every symbol as one token.
    """

    def __init__(self, tokenizer: Any, text_format: BoxFormat, spread: float = 0.0) -> None:
        if not isinstance(text_format, GridFormat):
            raise ModelError(f"Boxes written as {text_format.name} have no coordinates that a loss could use.")
        self.tokenizer = tokenizer
        self.format = text_format
        self.spread = spread
        self._corners = _Y_FIRST if text_format.y_first else _X_FIRST
        self._rulers: dict[tuple[int, NumberSpelling, Axis], Ruler] = {}
        self._ends: tuple[tuple[int, ...], ...] | None = None

    def read(self, answer: str, boxes: int, frame: Frame, phrase: str, end_token: str) -> tuple[Number, ...]:
        """The numbers of this answer with `boxes` boxes, four a box in the order x1, y1, x2, y2.

        Places count from the answer's first token; the answer must be tokenised as it is alone.
        """
        if not boxes:
            return ()
        rulers = self._rulers_for(frame, end_token)
        shape = self.format.shape(frame, phrase)
        ids, found = self._tokens_of(answer, shape, boxes, end_token)
        numbers = []
        for i, (written, first) in enumerate(found):
            ruler = rulers[i % 4]
            decisions = decisions_of(ruler, written.symbols, ids[first + len(written.symbols)])
            share = ruler.share(ruler.spelling.value(written.symbols))
            places = tuple(range(first, first + len(decisions)))
            numbers.append(Number(self._corners[i % 4], share, decisions, places))
        return tuple(numbers[i - i % 4 + self._corners[i % 4]] for i in range(len(numbers)))

    def _tokens_of(
        self, answer: str, shape: AnswerShape, boxes: int, end_token: str
    ) -> tuple[list[int], list[tuple[Written, int]]]:
        """The tokens of the answer, and each number with the index of its first token."""
        encoded = self.tokenizer(answer + end_token, add_special_tokens=False, return_offsets_mapping=True)
        ids, spans = list(encoded["input_ids"]), [tuple(span) for span in encoded["offset_mapping"]]
        index = {span: i for i, span in enumerate(spans)}
        found = []
        for written in written_numbers(answer, shape, boxes):
            at, first = written.start, index.get((written.start, written.start + len(written.symbols[0])))
            for place, symbol in enumerate(written.symbols):
                if first is None or spans[first + place] != (at, at + len(symbol)):
                    raise ModelError(
                        f"This tokenizer joins a number of {answer!r} with its surroundings: train without geometric "
                        "terms and soft labels."
                    )
                at += len(symbol)
            assert first is not None
            found.append((written, first))
        return ids, found

    def _rulers_for(self, frame: Frame, end_token: str) -> list[Ruler]:
        """One for each of the four numbers in the order written."""
        shape, axes = self.format.shape(frame, "x"), self.format.axes(frame)
        rulers = []
        for i, spelling in enumerate(shape.numbers):
            axis = axes[self._corners[i] % 2]
            key = (i, spelling, axis)
            if key not in self._rulers:
                token_of = tuple(symbol_tokens(self.tokenizer, shape).items())
                spelled = _spelled(self.format, spelling, axis) if self.spread else ()
                ends = self._ends_for(shape, frame, end_token)[i]
                self._rulers[key] = Ruler(spelling, axis, spelled, token_of, ends, self.spread)
            rulers.append(self._rulers[key])
        return rulers

    def _ends_for(self, shape: AnswerShape, frame: Frame, end_token: str) -> tuple[tuple[int, ...], ...]:
        """For each of the four numbers the tokens that may end it, in an answer with one box and with two."""
        if self._ends is None:
            ends: list[list[int]] = [[], [], [], []]
            width, height = frame.image_size_wh
            for boxes in (1, 2) if shape.between is not None else (1,):
                answer = self.format.encode([Box(0, 0, width, height)] * boxes, frame, "x")
                ids, found = self._tokens_of(answer, shape, boxes, end_token)
                for i, (written, first) in enumerate(found):
                    ends[i % 4].append(ids[first + len(written.symbols)])
            self._ends = tuple(tuple(dict.fromkeys(tokens)) for tokens in ends)
        return self._ends


@lru_cache(maxsize=64)
def _spelled(text_format: Any, spelling: NumberSpelling, axis: Axis) -> tuple[tuple[str, ...], ...]:
    """Every number as the format spells it, in symbols."""
    return tuple(_read(text_format.spell(step), 0, spelling) for step in range(axis.last + 1))
