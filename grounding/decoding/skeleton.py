"""The forced skeleton: an answer's fixed characters as tokens, and a cursor that knows what may come next.

A format says how its answers are put together (`grounding.formats.AnswerShape`). Here that becomes tokens, read from
a probe answer in the model's own tokenizer, so that a forced answer is spelled exactly as the model spells it. The
model then decides only what is its own: the digits, where a number ends, "nothing there", a further box.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grounding.errors import ModelError
from grounding.formats import AnswerShape
from grounding.formats.base import NumberSpelling

END = -1  # where a run of tokens leads when the answer is over
_NUMBERS = 4
_MOST_SYMBOLS = 8  # no spelling of a number takes more


@dataclass(frozen=True)
class Run:
    """Fixed tokens, and where they lead: to the number with this index (0 to 3), or to `END`."""

    tokens: tuple[int, ...]
    leads_to: int


@dataclass(frozen=True)
class Skeleton:
    """The tokens of every answer of one shape.

    `start` holds the runs that may open an answer, `after[i]` those that may follow number i. `spellings[i]` says
    how number i may be written and `token_of` gives each of its symbols as a token.
    """

    start: tuple[Run, ...]
    after: tuple[tuple[Run, ...], ...]
    spellings: tuple[NumberSpelling, ...]
    token_of: dict[str, int]
    symbol_of: dict[int, str]

    def tokens(self) -> list[int]:
        """Every token that some answer holds, in a fixed order."""
        runs = [*self.start, *(run for runs in self.after for run in runs)]
        return sorted({token for run in runs for token in run.tokens} | set(self.symbol_of))

    def most_tokens(self, boxes: int) -> int:
        """A bound on the tokens of an answer with at most so many boxes."""
        fixed = sum(max(len(run.tokens) for run in runs) for runs in self.after)
        return max(len(run.tokens) for run in self.start) + boxes * (fixed + _NUMBERS * _MOST_SYMBOLS)


def compile_skeleton(tokenizer: Any, shape: AnswerShape, end_token: str) -> Skeleton:
    """The shape in the tokens of a fast tokenizer; `end_token` closes an answer.

    Raises `ModelError` when the tokenizer joins a number with what stands around it, so that forcing would spell
    what the model never writes.
    """
    token_of = symbol_tokens(tokenizer, shape)
    probes = tuple(spelling.symbols[min(1, len(spelling.symbols) - 1)] for spelling in shape.numbers)
    one = _runs_of(tokenizer, shape, [probes], end_token)
    start = [Run(one[0], 0)]
    after = [[Run(one[i + 1], i + 1 if i + 1 < _NUMBERS else END)] for i in range(_NUMBERS)]
    if shape.between is not None:
        two = _runs_of(tokenizer, shape, [probes, probes], end_token)
        if two[:_NUMBERS] != one[:_NUMBERS] or two[_NUMBERS + 1 :] != one[1:]:
            raise ModelError(f"This tokenizer spells the second box of {shape.write([probes, probes])!r} differently.")
        after[-1].append(Run(two[_NUMBERS], 0))
    if shape.nothing is not None:
        start.append(Run(tuple(_ids(tokenizer, shape.nothing + end_token)), END))
    return Skeleton(
        start=tuple(start),
        after=tuple(tuple(runs) for runs in after),
        spellings=shape.numbers,
        token_of=token_of,
        symbol_of={token: symbol for symbol, token in token_of.items()},
    )


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _ids_of_each(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    return list(tokenizer(texts, add_special_tokens=False)["input_ids"]) if texts else []


def symbol_tokens(tokenizer: Any, shape: AnswerShape) -> dict[str, int]:
    """Each symbol of the shape's numbers as one token. Raises `ModelError` where one is missing or joined."""
    symbols = list(dict.fromkeys(symbol for spelling in shape.numbers for symbol in spelling.symbols))
    ids = tokenizer.convert_tokens_to_ids(symbols)
    missing = [s for s, i in zip(symbols, ids, strict=True) if i is None or i == tokenizer.unk_token_id]
    if missing:
        raise ModelError(f"This tokenizer has no single token for {missing[0]!r}, so its answers can't be forced.")
    token_of = dict(zip(symbols, ids, strict=True))
    characters = [symbol for symbol in symbols if len(symbol) == 1]  # other symbols are special tokens, never joined
    # Whatever joins several characters joins two of them first, and a vocabulary may do so with a few pairs only.
    pairs = [first + second for first in characters for second in characters if first + second != ".."]
    for pair, spelled in zip(pairs, _ids_of_each(tokenizer, pairs), strict=True):
        if spelled[-2:] != [token_of[symbol] for symbol in pair]:
            raise ModelError(f"This tokenizer joins {pair!r} in one token, so its digits can't be forced.")
    return token_of


def _runs_of(
    tokenizer: Any, shape: AnswerShape, quadruples: Sequence[Sequence[str]], end_token: str
) -> list[tuple[int, ...]]:
    """The runs of fixed tokens around the numbers of this answer, in order."""
    text, spans = _with_spans(shape, quadruples)
    encoded = tokenizer(text + end_token, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = encoded["input_ids"], [tuple(span) for span in encoded["offset_mapping"]]
    places = [i for i, span in enumerate(offsets) if span in spans]
    if len(places) != len(spans):
        raise ModelError(f"This tokenizer joins a number of {text!r} with its surroundings: it can't be forced.")
    cuts = [-1, *places, len(ids)]
    return [tuple(ids[left + 1 : right]) for left, right in itertools.pairwise(cuts)]


def _with_spans(shape: AnswerShape, quadruples: Sequence[Sequence[str]]) -> tuple[str, set[tuple[int, int]]]:
    text, spans = shape.opening, set()
    for index, numbers in enumerate(quadruples):
        text += (shape.between or "") if index else ""
        for fixed, number in zip(shape.around, numbers, strict=False):
            text += fixed
            spans.add((len(text), len(text) + len(number)))
            text += number
        text += shape.around[-1]
    return text + shape.closing, spans


@dataclass(frozen=True)
class Choice:
    """One decision of the model. `number` is the index of the number it belongs to, -1 for "is there a (further)
    box"; `place` counts the symbols of the number written before it."""

    number: int
    place: int
    options: tuple[int, ...]


class Cursor:
    """Where one answer stands: what may come next, and what was written so far.

    It is either inside a number, or on its way along one or more runs; a run that is walked to its end waits there
    for the first symbol of the number it leads to.
    """

    def __init__(self, skeleton: Skeleton, max_boxes: int) -> None:
        self.skeleton = skeleton
        self.max_boxes = max_boxes
        self.numbers: list[tuple[str, ...]] = []  # the finished ones
        self.tokens: list[int] = []
        self.done = False
        self._number: tuple[str, ...] | None = None
        self._runs: list[tuple[Run, int]] = []
        self._set_out(skeleton.start)

    def choice(self) -> Choice:
        """What may come next; a single option is forced."""
        if self._number is None:
            options = [token for run, at in self._runs for token in self._along(run, at)]
            return Choice(-1, 0, tuple(dict.fromkeys(options)))
        symbols, may_end = self.skeleton.spellings[self._index].following(self._number)
        options = [self.skeleton.token_of[symbol] for symbol in symbols]
        if may_end:
            options += [token for run in self._following() for token in self._along(run, 0)]
        return Choice(self._index, len(self._number), tuple(dict.fromkeys(options)))

    def take(self, token: int) -> None:
        """Write one of the options."""
        self.tokens.append(token)
        if self._number is not None:
            symbol = self.skeleton.symbol_of.get(token)
            if symbol is not None and symbol in self.skeleton.spellings[self._index].following(self._number)[0]:
                self._write(symbol)
                return
            self._close()
        walked = [(run, at + 1) for run, at in self._runs if run.tokens[at : at + 1] == (token,)]
        if walked:
            self._runs = walked
            self._arrive()
        else:  # the first symbol of the number that a finished run waits for
            self._number, self._runs = (), []
            self._write(self.skeleton.symbol_of[token])

    def forced(self) -> list[int]:
        """Write everything up to the next decision; returns its tokens."""
        begin = len(self.tokens)
        while not self.done and len(options := self.choice().options) == 1:
            self.take(options[0])
        return self.tokens[begin:]

    def box_ahead(self) -> list[int]:
        """What would be written up to the first digit if the next decision were for a box; [] where that is open."""
        if self._number is not None:
            return []
        to_box = [run.tokens[at:] for run, at in self._runs if run.leads_to == 0]
        others = [run.tokens[at:] for run, at in self._runs if run.leads_to != 0]
        if len(to_box) != 1 or not to_box[0] or any(tokens[:1] == to_box[0][:1] for tokens in others):
            return []
        return list(to_box[0])

    def values(self) -> list[list[float]]:
        """The finished boxes as four numbers each."""
        spelled = [self.skeleton.spellings[i % _NUMBERS].value(number) for i, number in enumerate(self.numbers)]
        return [spelled[i : i + _NUMBERS] for i in range(0, len(spelled) - _NUMBERS + 1, _NUMBERS)]

    @property
    def _index(self) -> int:
        return len(self.numbers) % _NUMBERS

    def _write(self, symbol: str) -> None:
        assert self._number is not None
        self._number = (*self._number, symbol)
        if not self.skeleton.spellings[self._index].following(self._number)[0]:
            self._close()

    def _close(self) -> None:
        assert self._number is not None
        following = self._following()
        self.numbers.append(self._number)
        self._number = None
        self._set_out(following)

    def _following(self) -> Sequence[Run]:
        runs = self.skeleton.after[self._index]
        full = self._index == _NUMBERS - 1 and (len(self.numbers) + 1) // _NUMBERS >= self.max_boxes
        return [run for run in runs if run.leads_to == END] if full else runs

    def _set_out(self, runs: Sequence[Run]) -> None:
        self._runs = [(run, 0) for run in runs]
        self._arrive()

    def _arrive(self) -> None:
        """Go on into what the only run left leads to, once it is walked to its end."""
        if len(self._runs) == 1:
            run, at = self._runs[0]
            if at == len(run.tokens):
                self.done = run.leads_to == END
                self._number, self._runs = None if self.done else (), []

    def _along(self, run: Run, at: int) -> list[int]:
        if at < len(run.tokens):
            return [run.tokens[at]]
        return [self.skeleton.token_of[symbol] for symbol in self.skeleton.spellings[run.leads_to].following(())[0]]
