"""What one visitor of a whole-set comparison looks at, and how a click on the page changes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from grounding.compared import Filter
from grounding.compared.filters import ORDERS
from grounding.errors import RecordError

LISTS = ("samples", "suspects")
PAGE_SIZE = 24
_FILTERS = frozenset(spec.name for spec in fields(Filter))
_NEEDS_TWO = ("gain", "loss")


@dataclass
class Looking:
    """Which two evaluations (ids), which samples in which order, and which page of which list. Lives in the session
    and changes in place.

    `number` counts the changes, so that figures which come late for an earlier look are recognised. `shown`: the page
    has come into view, so that it is filled; `by_hand`: somebody has chosen the evaluations.
    """

    a: str = ""
    b: str = ""
    filter: Filter = field(default_factory=Filter)
    order: str = "worst"
    page: int = 1
    with_seen: bool = False
    list: str = "samples"
    number: int = 0
    shown: bool = False
    by_hand: bool = False

    @property
    def subject(self) -> tuple[object, ...]:
        """What figures are of: another order, page or list leaves them as they are."""
        return self.a, self.b, self.filter, self.with_seen

    def choose(self, a: str, b: str) -> None:
        """Look at other evaluations, at all of their samples; the same one twice is that one alone."""
        self.number += 1
        self.a, self.b = a, "" if b == a else b
        b = self.b
        self.filter, self.page, self.list = Filter(), 1, "samples"
        if not b and self.order in _NEEDS_TWO:
            self.order = "worst"

    def change(self, asked: object) -> None:
        """Take over what a click asks for: some of `Filter`'s fields, `order`, `page`, `list`, `with_seen` ("yes" or
        ""), `clear` (any value: no filter). Raises `RecordError` for anything else, and then nothing has changed."""
        if not isinstance(asked, Mapping) or not all(isinstance(value, str) for value in asked.values()):
            raise RecordError(f"The page asked for {str(asked)[:80]!r}: expected names with texts. Reload the page.")
        chosen = {name: value for name, value in asked.items() if name in _FILTERS}
        others = {name: value for name, value in asked.items() if name not in _FILTERS}
        wanted = replace(Filter() if others.pop("clear", "") else self.filter, **chosen)
        order = _one_of("order", others.pop("order", self.order), ORDERS)
        shown = _one_of("list", others.pop("list", self.list), LISTS)
        with_seen = bool(others.pop("with_seen", "yes" if self.with_seen else ""))
        page = _page(others.pop("page", "1"))
        if others:
            raise RecordError(f"The page asked for {min(others)!r}, which nothing here has. Reload the page.")
        self.number += 1
        self.filter, self.order, self.list, self.with_seen, self.page = wanted, order, shown, with_seen, page


def _one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise RecordError(f"The {name} is {value[:40]!r}: expected one of {', '.join(known)}.")
    return value


def _page(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 9):
        raise RecordError(f"The page is {value[:40]!r}: expected a number from 1 on.")
    return int(value)
