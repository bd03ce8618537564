"""Reading numbers out of answers, and phrases that can't pass for boxes. Every expression here takes linear time.

The quantifiers are possessive (`++`, `*+`) wherever a hostile answer could otherwise make them try again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence

FENCE = re.compile(r"```(?:json)?", re.IGNORECASE)
# A number as JSON has it, in quotes or not, blanks around it.
NUMBER = r"[\s\"']*+[-+]?+\d++(?:\.\d*+)?+(?:[eE][-+]?+\d++)?+[\s\"']*+"
_EMPTY_LIST = re.compile(r"[^\[\]{}]*+\[\s*+\][^\[\]{}]*+")
_MARKUP = re.compile(r"<(?=[|/A-Za-z])")


def behind_thoughts(text: str) -> str:
    """What stands behind the thoughts of a model that thinks aloud; the whole text of any other."""
    return text.rpartition("</think>")[2]


def says_empty_list(text: str) -> bool:
    """Whether the only list of the answer is `[]`, prose around it or not."""
    return _EMPTY_LIST.fullmatch(text) is not None


def four_numbers(values: Sequence[object]) -> list[float] | None:
    """The first four values as finite numbers, or None."""
    try:
        numbers = [float(str(value).strip(" \"'\n\t")) for value in values[:4]]
    except ValueError:
        return None
    return numbers if len(numbers) == 4 and all(math.isfinite(number) for number in numbers) else None


def quadruples(candidates: Iterable[Sequence[object]]) -> list[list[float]] | None:
    """Those candidates that are four finite numbers; None when there is none."""
    return [numbers for values in candidates if (numbers := four_numbers(values)) is not None] or None


def json_objects(value: object) -> Iterator[dict[str, object]]:
    """Every object inside a JSON value, in the order written."""
    waiting = [value]
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, dict):
            yield entry
            waiting.extend(reversed(list(entry.values())))
        elif isinstance(entry, list):
            waiting.extend(reversed(entry))


def plain(phrase: str) -> str:
    """A phrase whose markup is broken up (`<loc_5>` becomes `< loc_5>`), outer blanks removed."""
    return _MARKUP.sub("< ", phrase).strip()


def plain_line(phrase: str) -> str:
    """`plain` on one line."""
    return plain(" ".join(phrase.split()))
