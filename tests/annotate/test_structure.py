"""Which wordings are templates by structure, and which are only said often."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest

from annotate.structure import repeated_phrases

Row = tuple[str, str, str]
KINDS = ("person", "dog", "cup", "car", "chair", "kite", "bus", "cake")


def rows(phrase: str, count: int, kinds: tuple[str, ...], pictures: int | None = None) -> Iterator[Row]:
    for number in range(count):
        yield phrase, kinds[number % len(kinds)], f"picture-{number % (pictures or count)}"


def others(count: int) -> Iterator[Row]:
    """Phrases of which no two are the same."""
    for number in range(count):
        yield f"thing number {number} with its own words", KINDS[number % len(KINDS)], f"other-{number}"


LONG = "the thing which the person in charge has pointed out for you"
MIDDLING = "say what this shows here"
# The phrase, its rows, their categories, the pictures they lie in (None: one each), the rows beside them.
TEMPLATES = {
    "long, on more than 20 pictures": (LONG, 21, KINDS[:2], None, 50_000),
    "long, of one category": (LONG, 21, ("person",), None, 50_000),
    "long, without categories": (LONG, 21, ("",), None, 50_000),
    "middling, of many categories": (MIDDLING, 30, KINDS, None, 3000),
    "middling, without categories": (MIDDLING, 90, ("",), None, 3000),
    "short, on half of all boxes": ("describe it briefly", 1000, KINDS, None, 1000),
    "short, without categories": ("describe it briefly", 1000, ("",), None, 1000),
    "a single word": ("entity", 1000, KINDS, None, 1000),
}
SAID_OFTEN = {
    "long, on 20 pictures": (LONG, 20, KINDS, None, 1000),
    "long, on few pictures": (LONG, 300, KINDS, 20, 1000),
    "people in blue shirts": ("a man in a blue shirt", 300, ("person",), None, 3000),
    "people in blue shirts, a few marked as ties": (
        "a man in a blue shirt",
        300,
        (*["person"] * 9, "tie", "dog"),
        None,
        3000,
    ),
    "middling, seldom": ("the one on the far left side", 40, KINDS, None, 10_000),
    "middling, of two categories": (MIDDLING, 300, KINDS[:2], None, 3000),
    "middling, without categories, seldom": ("a man in a blue shirt", 40, ("",), None, 3000),
    "left": ("left", 900, KINDS, None, 3000),
    "the one in front": ("the one in front", 900, KINDS, None, 3000),
    "red": ("red", 900, KINDS, None, 3000),
    "man": ("man", 900, ("person",), None, 3000),
    "guy on right": ("guy on right", 900, ("person",), None, 3000),
    "left guy, here and there a dog": ("left guy", 300, KINDS, None, 10_000),
    "nothing but punctuation": ("...", 900, KINDS, None, 1000),
}


@pytest.mark.parametrize(("phrase", "count", "kinds", "pictures", "beside"), TEMPLATES.values(), ids=TEMPLATES)
def test_a_template_is_found(
    phrase: str, count: int, kinds: tuple[str, ...], pictures: int | None, beside: int
) -> None:
    (found,) = repeated_phrases([*others(beside), *rows(phrase, count, kinds, pictures)])
    assert (found.phrase, found.rows, found.share) == (phrase, count, count / (count + beside))
    assert found.categories == len({kind for kind in kinds if kind})


@pytest.mark.parametrize(("phrase", "count", "kinds", "pictures", "beside"), SAID_OFTEN.values(), ids=SAID_OFTEN)
def test_what_people_only_say_often_is_none(
    phrase: str, count: int, kinds: tuple[str, ...], pictures: int | None, beside: int
) -> None:
    assert repeated_phrases([*others(beside), *rows(phrase, count, kinds, pictures)]) == ()


def test_case_punctuation_and_spaces_make_no_difference() -> None:
    written = [LONG, LONG.upper(), f"  {LONG}!", LONG.replace(" ", "  ")]
    (found,) = repeated_phrases((written[n % 4], "dog", str(n)) for n in range(40))
    assert (found.phrase, found.rows) == (LONG, 40)


def test_the_most_frequent_comes_first() -> None:
    found = repeated_phrases([*rows(LONG, 30, KINDS), *rows(f"{LONG} now", 40, KINDS)])
    assert [each.rows for each in found] == [40, 30]


def test_nothing_is_found_in_nothing() -> None:
    assert repeated_phrases(()) == ()


def test_memory_stays_bounded_and_the_template_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("annotate.structure._STRETCH_ROWS", 1000)

    def stream() -> Iterator[Row]:
        for number, row in enumerate(others(60_000)):
            yield row
            if number % 100 == 0:
                yield LONG, "dog", f"picture-{number}"

    tracemalloc.start()
    (found,) = repeated_phrases(stream())
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.phrase == LONG
    assert 540 <= found.rows <= 600
    assert peak_bytes < 5_000_000
