"""Phrases of other pictures are asked only where what they name is absent."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from grounding.boxes import Box
from grounding.training.data import PhraseTarget, PictureTargets
from grounding.training.negatives import Negative, Negatives, is_absent, named_in

BOX = (Box(0, 0, 5, 5),)


def picture(name: str, *targets: PhraseTarget) -> PictureTargets:
    return PictureTargets(Path(name), targets)


DOGS = picture("dogs.png", PhraseTarget("left dog", BOX, ("dog near the kite",), "dog"))


@pytest.mark.parametrize(
    ("case", "phrase", "kind", "absent"),
    [
        ("another thing", "the red car", "car", True),
        ("the thing itself", "big dog", "dog", False),
        ("its plural", "dogs", "dogs", False),
        ("named only as a relation", "kite", "kite", False),
        ("may be the same thing", "puppy", "puppy", False),
        ("a wider word for it", "animal", "animal", False),
        ("a word of the same letters", "dogwood", "dogwood", True),
        ("a relation to what is there", "car left of the dog", "car", True),
        ("a head that differs from the category", "dog", "toy", False),
    ],
)
def test_only_what_is_not_named_counts_as_absent(case: str, phrase: str, kind: str, absent: bool) -> None:
    assert is_absent(Negative(phrase, kind), named_in(DOGS)) is absent


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        ("knife", "two knives"),
        ("buses", "red bus"),
        ("geese", "goose"),
        ("taxis", "car"),
        ("pants", "blue jeans"),
        ("women", "tall man"),
        ("fridge", "the refrigerator"),
        ("perro blanco", "perro negro"),
    ],
)
def test_plurals_other_words_and_other_languages_are_no_way_around_it(there: str, asked: str) -> None:
    shown = picture("a.png", PhraseTarget(there, BOX))
    negatives = Negatives([picture("b.png", PhraseTarget(asked, BOX))])
    assert negatives.draw(shown, 1, random.Random(0)) == ()
    assert negatives.draw(DOGS, 1, random.Random(0)) == (asked,)


def test_wordings_that_are_not_learned_still_tell_what_is_there() -> None:
    silent = picture("a.png", PhraseTarget("left one", BOX, (), "", ("the kite",)))
    assert not is_absent(Negative("kite", "kite"), named_in(silent))


def test_what_is_drawn_is_absent_different_and_from_elsewhere() -> None:
    pictures = [DOGS, *(picture(f"{n}.png", PhraseTarget(f"the {n}", BOX, (), n)) for n in ("car", "tent", "puppy"))]
    negatives = Negatives(pictures)
    seen = set()
    for seed in range(60):
        drawn = negatives.draw(DOGS, 2, random.Random(seed))
        assert len(set(drawn)) == len(drawn) == 2
        seen |= set(drawn)
    assert seen == {"the car", "the tent"}


def test_phrases_without_a_known_thing_or_a_box_are_never_asked() -> None:
    pictures = [
        picture("a.png", PhraseTarget("left one", BOX), PhraseTarget("unicorn", (), (), "unicorn")),
        picture("b.png", PhraseTarget("der gr\u00fcne Hund", BOX), PhraseTarget("hund auf dem sofa", BOX)),
    ]
    assert Negatives(pictures).all == ()
    assert Negatives(pictures).draw(DOGS, 3, random.Random(0)) == ()


def test_a_picture_that_has_everything_gets_none() -> None:
    assert Negatives([DOGS]).draw(DOGS, 3, random.Random(0)) == ()


def test_rare_things_are_asked_for_too() -> None:
    many = [picture(f"{i}.png", PhraseTarget(f"n{i} car", BOX, (), "car")) for i in range(200)]
    rare = picture("rare.png", PhraseTarget("tent", BOX, (), "tent"))
    drawn = [Negatives([*many, rare]).draw(DOGS, 1, random.Random(seed))[0] for seed in range(100)]
    assert 10 < drawn.count("tent") < 45
