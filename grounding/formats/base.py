"""What a box format is: the picture's frame, how numbers are spelled, how an answer is put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from grounding.boxes import Box
from grounding.errors import BoxError
from grounding.records import Status


@dataclass(frozen=True)
class Frame:
    """A picture's (width, height) in pixels as people see it, and as the model sees it after resizing.

    `input_size_wh` None: the same as `image_size_wh`. Raises `BoxError` for a size below one pixel.
    """

    image_size_wh: tuple[int, int]
    input_size_wh: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for size_wh in (self.image_size_wh, self.seen_size_wh):
            if min(size_wh) < 1:
                raise BoxError(f"A picture of {size_wh} pixels has no room for boxes: both sides must be at least 1.")

    @property
    def seen_size_wh(self) -> tuple[int, int]:
        """The size in pixels that the model works on."""
        return self.input_size_wh or self.image_size_wh


@dataclass(frozen=True)
class Decoded:
    """What an answer says: boxes in `xyxy_px` inside the image, and why there are none where there are none."""

    boxes_xyxy_px: tuple[Box, ...]
    status: Status


class NumberSpelling(Protocol):
    """How one coordinate may be written, symbol by symbol; every symbol must be one token of the model."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """Every symbol that can occur."""
        ...

    def following(self, written: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
        """The symbols that may come next, and whether the number may end here."""
        ...

    def value(self, written: tuple[str, ...]) -> float:
        """The number that these symbols write."""
        ...

    def __hash__(self) -> int:
        """Spellings are frozen, so that what is worked out about one can be kept."""
        ...


_DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Integers:
    """Whole numbers 0 to `maximum` in digits, without leading zeros. The end is forced where no digit fits."""

    maximum: int

    @property
    def symbols(self) -> tuple[str, ...]:
        return _DIGITS

    def following(self, written: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
        if written == ("0",):
            return (), True
        fitting = tuple(digit for digit in _DIGITS if int("".join((*written, digit))) <= self.maximum)
        return fitting, bool(written)

    def value(self, written: tuple[str, ...]) -> float:
        return float(int("".join(written)))


@dataclass(frozen=True)
class Decimals:
    """Fractions 0 to 1 with at most `places` digits: "0", "0.5", "0.123", "1", "1.0"."""

    places: int = 3

    @property
    def symbols(self) -> tuple[str, ...]:
        return (*_DIGITS, ".")

    def following(self, written: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
        if not written:
            return ("0", "1"), False
        if len(written) == 1:
            return (".",), True
        digits = len(written) - 2
        if digits == self.places:
            return (), True
        return (_DIGITS if written[0] == "0" else ("0",)), digits > 0

    def value(self, written: tuple[str, ...]) -> float:
        return float("".join(written))


@dataclass(frozen=True)
class Locations:
    """One token a number: `template` filled with 0 to `count` - 1."""

    count: int
    template: str = "<loc_{}>"

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        return tuple(self.template.format(index) for index in range(self.count))

    @property
    def maximum(self) -> int:
        """The largest number that can be written."""
        return self.count - 1

    @cached_property
    def _index_of(self) -> Mapping[str, int]:
        return {symbol: index for index, symbol in enumerate(self.symbols)}

    def following(self, written: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
        return ((), True) if written else (self.symbols, False)

    def value(self, written: tuple[str, ...]) -> float:
        (symbol,) = written
        return float(self._index_of[symbol])


@dataclass(frozen=True)
class AnswerShape:
    """How an answer is put together: what is fixed, what the model decides.

    `opening` stands before the first box and `closing` after the last; `around` holds the text before number 1,
    between 1|2, 2|3, 3|4 and after number 4; `between` stands between two boxes (None: such an answer holds one
    box only); `nothing` is the whole answer "nothing there" (None: this family can't say so).
    """

    opening: str
    around: tuple[str, str, str, str, str]
    between: str | None
    closing: str
    nothing: str | None
    numbers: tuple[NumberSpelling, NumberSpelling, NumberSpelling, NumberSpelling]

    def write(self, quadruples: Sequence[Sequence[str]]) -> str:
        """The answer with these number texts, four a box; none of them: `nothing`.

        Raises `BoxError` for what this family has no way to say.
        """
        if not quadruples:
            if self.nothing is None:
                raise BoxError('This format can\'t say "nothing there": expected at least one box.')
            return self.nothing
        if len(quadruples) > 1 and self.between is None:
            raise BoxError(f"This format holds one box an answer, not {len(quadruples)}: give one box.")
        boxes = (self._box(quadruple) for quadruple in quadruples)
        return self.opening + (self.between or "").join(boxes) + self.closing

    def _box(self, texts: Sequence[str]) -> str:
        if len(texts) != 4:
            raise BoxError(f"{texts!r} is no box: expected the texts of four numbers.")
        numbers = (text + after for text, after in zip(texts, self.around[1:], strict=True))
        return self.around[0] + "".join(numbers)


class BoxFormat(Protocol):
    """How one model family writes boxes."""

    @property
    def name(self) -> str:
        """The name of this way of writing, the same in every version of Boxwright."""
        ...

    def encode(self, boxes_xyxy_px: Sequence[Box], frame: Frame, phrase: str = "") -> str:
        """The answer that the model should write for these boxes (none: the phrase refers to nothing).

        Raises `BoxError` for what this family has no way to say.
        """
        ...

    def decode(self, text: str, frame: Frame) -> Decoded:
        """What an answer of the model means on this picture. Takes any text."""
        ...

    def shape(self, frame: Frame, phrase: str = "") -> AnswerShape:
        """How an answer about this phrase is put together."""
        ...

    def place(self, numbers: Sequence[float], frame: Frame) -> Box | None:
        """Four numbers in the order this format writes them -> a box clipped to the picture; None when degenerate, or
        so far outside that they can't be meant.

        Takes fractions too. Corners may be swapped.
        """
        ...

    def px_of(self, place: int, number: float, frame: Frame) -> tuple[int, float]:
        """Number `place` (0 to 3, in the order written): its axis (0: x, 1: y), and where it lies on it in pixels."""
        ...

    def step_px(self, frame: Frame) -> tuple[float, float]:
        """One quantisation step along x and y, in pixels of the original image."""
        ...
