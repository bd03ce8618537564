"""The expected coordinate of a number written digit by digit.

The likeliest digits are a poor estimate where the model wavers between 399 and 401: the first digit decides alone.
Here the runners-up of each place are followed too, a few tokens beside the number itself, and the mean is taken over
the values near the likeliest one. Far values belong to another object and are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from grounding.decoding.skeleton import Skeleton

RUNNERS_UP = 3
_LEAST_SHARE = 0.005  # of the number's whole probability; less is not worth a token
_WINDOW = 0.05  # of the largest value: what counts as near


@dataclass(frozen=True)
class Share:
    """A part of a number's probability, 0.0 to 1.0: that of one value (`low` equals `high`), or of a beginning that was
    not followed further, whose number lies somewhere from `low` to `high`."""

    low: float
    high: float
    probability: float


class _Chunk(Protocol):
    ids: list[int]
    positions: list[int]
    runners_up: list[tuple[int, int, int, list[int]]]

    @property
    def size(self) -> int: ...


@dataclass(frozen=True)
class _Node:
    """A beginning of the number: its symbols, its log probability, the cache columns of its symbols."""

    written: tuple[str, ...]
    log_probability: float
    columns: tuple[int, ...]


class NumberSpread:
    """The distribution of one number around its likeliest spelling, grown place by place."""

    def __init__(self, skeleton: Skeleton, number: int) -> None:
        self.skeleton = skeleton
        self.spelling = skeleton.spellings[number]
        self._ends = tuple(dict.fromkeys(run.tokens[0] for run in skeleton.after[number] if run.tokens))
        self.finished: dict[tuple[str, ...], float] = {}  # whole numbers with their log probabilities
        self.given_up: dict[tuple[str, ...], float] = {}  # beginnings that were not followed further
        self._fed: list[_Node] = []
        self._own = _Node((), 0.0, ())
        self._to_feed: list[_Node] = []
        self._first_column: int | None = None

    def expand(
        self,
        options: Sequence[int],
        own: torch.Tensor,
        others: torch.Tensor,
        column: Mapping[int, int],
        chosen: int,
    ) -> None:
        """Take in the decision about the number itself (`own` [options], log probabilities) and about the runners-up
        fed beside it (`others` [runners_up, tokens], logits). `chosen` is the token that the answer goes on with."""
        children = self._children(self._own, options, own)
        taken = self._own.written + ((symbol,) if (symbol := self._symbol(chosen)) is not None else ())
        for node, logits in zip(self._fed, others, strict=True):
            node_options = self._options(node.written)
            scores = logits[[column[token] for token in node_options]].log_softmax(0)
            children += self._children(node, node_options, scores)
        growing = [child for child in children if child.written != taken]
        growing.sort(key=lambda child: -child.log_probability)
        self._to_feed = [c for c in growing[:RUNNERS_UP] if c.log_probability > math.log(_LEAST_SHARE)]
        for child in growing:
            if child not in self._to_feed:
                self.given_up[child.written] = child.log_probability
        own_child = [child for child in children if child.written == taken]
        self._own = own_child[0] if own_child else self._own
        self._fed = []

    def feed(self, chunk: _Chunk, begin: int) -> None:
        """Put the runners-up beside the number's own next token, the first of the chunk."""
        if self._first_column is None:
            self._first_column = begin
        base = chunk.positions[0] - (len(self._own.written) - 1)
        columns = (*self._own.columns, *range(begin, begin + len(chunk.ids)))
        forced = (self.skeleton.symbol_of[token] for token in chunk.ids[1:])  # "0" after "1.": nothing to decide
        self._own = _Node((*self._own.written, *forced), self._own.log_probability, columns)
        for node in self._to_feed:
            at = begin + chunk.size
            token = self.skeleton.token_of[node.written[-1]]
            position = base + len(node.written) - 1
            chunk.runners_up.append((token, position, self._first_column, list(node.columns)))
            self._fed.append(_Node(node.written, node.log_probability, (*node.columns, at)))
        self._to_feed = []

    def expected(self, written: tuple[str, ...]) -> float:
        """The mean over the values near the one that was written."""
        unfinished = {node.written: node.log_probability for node in (*self._to_feed, *self._fed)}
        shares = [(self.spelling.value(number), share) for number, share in self.finished.items()]
        for beginning, share in {**self.given_up, **unfinished}.items():
            shares.append((self.spelling.value(self._as_long_as(beginning, len(written))), share))
        center = self.spelling.value(written)
        reach = _WINDOW * float(getattr(self.spelling, "maximum", 1.0))
        total = weight = 0.0
        for value, log_probability in shares:
            if abs(value - center) <= reach:
                share = math.exp(log_probability)
                total, weight = total + share * value, weight + share
        return total / weight if weight > 0 else center

    def shares(self, written: tuple[str, ...]) -> tuple[Share, ...]:
        """The whole distribution, far values and all, once the number is `written`; it sums up to 1.

        A beginning that was not followed counts as a number of as many places as the one written.
        """
        unfinished = {node.written: node.log_probability for node in (*self._to_feed, *self._fed)}
        found = [Share(value := self.spelling.value(number), value, math.exp(p)) for number, p in self.finished.items()]
        for beginning, log_probability in {**self.given_up, **unfinished}.items():
            least, most = (self._grown(beginning, len(written), which) for which in (0, -1))
            found.append(Share(self.spelling.value(least), self.spelling.value(most), math.exp(log_probability)))
        return tuple(share for share in found if share.probability > 0)

    def _grown(self, written: tuple[str, ...], length: int, which: int) -> tuple[str, ...]:
        """A beginning with its least (0) or greatest (-1) digits put behind it, up to this many symbols."""
        while len(written) < length and (symbols := self.spelling.following(written)[0]):
            written = (*written, symbols[which])
        return written

    def _children(self, node: _Node, options: Sequence[int], scores: torch.Tensor) -> list[_Node]:
        """The node with each further symbol; where it may end, that share becomes a leaf."""
        children, end = [], -math.inf
        for token, score in zip(options, scores.tolist(), strict=True):
            symbol = self._symbol(token)
            if symbol is None:
                end = float(torch.logaddexp(torch.tensor(end), torch.tensor(score)))
            else:
                children.append(_Node((*node.written, symbol), node.log_probability + score, node.columns))
        if end > -math.inf:
            self.finished[node.written] = node.log_probability + end
        finished = [c for c in children if not self.spelling.following(c.written)[0]]
        for child in finished:
            self.finished[child.written] = child.log_probability
        return [child for child in children if child not in finished]

    def _symbol(self, token: int) -> str | None:
        return self.skeleton.symbol_of.get(token)

    def _options(self, written: tuple[str, ...]) -> list[int]:
        symbols, may_end = self.spelling.following(written)
        tokens = [self.skeleton.token_of[symbol] for symbol in symbols]
        return [*tokens, *self._ends] if may_end else tokens

    def _as_long_as(self, written: tuple[str, ...], length: int) -> tuple[str, ...]:
        """An unfinished beginning counts as the middle of what it could have become."""
        while len(written) < length and "5" in self.spelling.following(written)[0]:
            written = (*written, "5")
        return written
