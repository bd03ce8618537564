"""The grammar, held against a second reader that knows only the words and the boxes."""

from __future__ import annotations

import math
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grounding.boxes import Box
from grounding.demo.phrases import PhraseKind, absent_nouns, absent_phrase, true_phrases
from grounding.demo.scenes import SceneObject, draw_scene
from grounding.demo.sprites import all_nouns


def at(noun: str, x: float, y: float, side: float = 40) -> SceneObject:
    """A square object around the centre (x, y)."""
    return SceneObject(noun, Box(x - side / 2, y - side / 2, x + side / 2, y + side / 2))


def texts(objects: list[SceneObject], target: int = 0) -> list[str]:
    return [phrase.text for phrase in true_phrases(objects, target)]


class Reader:
    """Finds what a phrase refers to in the plainest sense of its words: no margins, no shared code."""

    LOCATION = re.compile(
        r"(?P<before>left|right|top|bottom) (?P<a>.+)|(?P<b>.+) (?:on|at) the (?P<after>left|right|top|bottom)"
    )
    SIZE = re.compile(r"(?:the )?(?P<size>biggest|big|large|smallest|small|little) (?P<noun>.+)")
    RELATION = re.compile(r"(?P<noun>.+?) (?P<words>left of|right of|above|below|near) the (?P<anchor>.+)")

    def __init__(self, objects: list[SceneObject]) -> None:
        self.nouns = [each.noun for each in objects]
        boxes = [tuple(each.box_xyxy_px) for each in objects]
        self.centres = [((x1 + x2) / 2, (y1 + y2) / 2) for x1, y1, x2, y2 in boxes]
        self.areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in boxes]

    def of(self, noun: str) -> list[int]:
        return [index for index, each in enumerate(self.nouns) if each == noun]

    def referents(self, phrase: str) -> list[int]:
        if match := self.RELATION.fullmatch(phrase):
            return self._related(*match.group("noun", "words", "anchor"))
        if match := self.LOCATION.fullmatch(phrase):
            word = match["before"] or match["after"]
            return self._outermost(self.of(match["a"] or match["b"]), word)
        if match := re.fullmatch("middle (.+)", phrase):
            row = sorted(self.of(match[1]), key=lambda index: self.centres[index][0])
            assert len(row) == 3, phrase
            return [row[1]]
        if match := self.SIZE.fullmatch(phrase):
            choose = max if match["size"] in ("biggest", "big", "large") else min
            among = self.of(match["noun"])
            extreme = choose(self.areas[index] for index in among)
            return [index for index in among if self.areas[index] == extreme]
        return self.of(phrase.removeprefix("the "))

    def _outermost(self, among: list[int], word: str) -> list[int]:
        axis, choose = {"left": (0, min), "right": (0, max), "top": (1, min), "bottom": (1, max)}[word]
        extreme = choose(self.centres[index][axis] for index in among)
        return [index for index in among if self.centres[index][axis] == extreme]

    def _related(self, noun: str, words: str, anchor_noun: str) -> list[int]:
        (anchor,) = self.of(anchor_noun)
        ax, ay = self.centres[anchor]
        among = self.of(noun)
        if words == "near":
            nearest = min(math.dist(self.centres[index], (ax, ay)) for index in among)
            return [index for index in among if math.dist(self.centres[index], (ax, ay)) == nearest]
        test = {
            "left of": lambda x, y: x < ax,
            "right of": lambda x, y: x > ax,
            "above": lambda x, y: y < ay,
            "below": lambda x, y: y > ay,
        }[words]
        return [index for index in among if test(*self.centres[index])]


def check_all(objects: list[SceneObject]) -> int:
    """Every phrase of every object refers to that object alone; returns how many there were."""
    reader = Reader(objects)
    count = 0
    for target in range(len(objects)):
        phrases = true_phrases(objects, target)
        assert len({phrase.text for phrase in phrases}) == len(phrases)
        for phrase in phrases:
            assert reader.referents(phrase.text) == [target], phrase
            count += 1
    return count


def test_in_drawn_scenes_each_phrase_is_true_of_one_object() -> None:
    count = sum(check_all(list(draw_scene(random.Random(number)).objects)) for number in range(80))
    assert count > 2000


coordinates = st.integers(min_value=20, max_value=236)
objects_anywhere = st.builds(
    at, st.sampled_from(["dog", "car", "wine glass", "tent"]), coordinates, coordinates, st.integers(4, 110)
)


@settings(max_examples=300, deadline=None)
@given(st.lists(objects_anywhere, min_size=1, max_size=8))
def test_in_any_arrangement_each_phrase_is_true_of_one_object(objects: list[SceneObject]) -> None:
    check_all(objects)


@settings(max_examples=100, deadline=None)
@given(st.lists(objects_anywhere, min_size=2, max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_the_objects_does_not_matter(objects: list[SceneObject], rng: random.Random) -> None:
    order = rng.sample(range(len(objects)), len(objects))
    shuffled = [objects[index] for index in order]
    for place, index in enumerate(order):
        assert sorted(texts(shuffled, place)) == sorted(texts(objects, index))


DOG = at("dog", 100, 100)


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        pytest.param([], ["dog", "the dog"], id="alone"),
        pytest.param([at("dog", 100, 100)], [], id="two that nothing tells apart"),
        pytest.param([at("dog", 120, 100)], [], id="20 px is not enough for a side"),
        pytest.param([at("dog", 121, 100)], ["left dog", "dog on the left"], id="21 px to the left"),
        pytest.param([at("dog", 79, 100)], ["right dog", "dog on the right"], id="21 px to the right"),
        pytest.param([at("dog", 100, 121)], ["top dog", "dog at the top"], id="21 px above"),
        pytest.param([at("dog", 100, 79)], ["bottom dog", "dog at the bottom"], id="21 px below"),
        pytest.param([at("dog", 60, 100), at("dog", 140, 100)], ["middle dog"], id="middle of three"),
        pytest.param([at("dog", 80, 100), at("dog", 140, 100)], [], id="the middle is 20 px from one"),
        pytest.param([at("dog", 100, 60), at("dog", 100, 140)], [], id="middle means from left to right"),
        pytest.param(
            [at("dog", 60, 140), at("dog", 140, 180)], ["top dog", "dog at the top"], id="another middle from the top"
        ),
        pytest.param([at("dog", 60, 60), at("dog", 140, 140)], ["middle dog"], id="the same middle both ways"),
        pytest.param([at("dog", 100, 100, 32)], ["big dog", "large dog", "the biggest dog"], id="1.56 times the area"),
        pytest.param([at("dog", 100, 100, 33)], [], id="1.47 times the area"),
        pytest.param(
            [at("dog", 100, 100, 50)], ["small dog", "little dog", "the smallest dog"], id="1 / 1.56 of the area"
        ),
        pytest.param([at("dog", 100, 100, 20), at("dog", 100, 100, 90)], [], id="the second largest of three"),
        pytest.param([at("car", 126, 100)], ["dog", "the dog", "dog left of the car"], id="26 px left of the car"),
        pytest.param([at("car", 125, 100)], ["dog", "the dog"], id="25 px are not enough for a relation"),
        pytest.param(
            [at("car", 70, 130)],
            ["dog", "the dog", "dog right of the car", "dog above the car"],
            id="right of and above the car",
        ),
        pytest.param([at("car", 100, 70)], ["dog", "the dog", "dog below the car"], id="below the car"),
        pytest.param(
            [at("car", 130, 100), at("car", 170, 100)], ["dog", "the dog"], id="no relation to a noun that stands twice"
        ),
        pytest.param(
            [at("dog", 110, 100), at("car", 130, 100)], [], id="both dogs are left of the car, one by less than 25 px"
        ),
        pytest.param(
            [at("dog", 100, 152), at("car", 100, 120)],
            ["top dog", "dog at the top", "dog near the car"],
            id="nearer by 1.6 times",
        ),
        pytest.param(
            [at("dog", 100, 150), at("car", 100, 120)], ["top dog", "dog at the top"], id="nearer by just 1.5 times"
        ),
    ],
)
def test_what_may_be_said_of_the_dog(others: list[SceneObject], expected: list[str]) -> None:
    assert texts([DOG, *others]) == expected


def test_kinds_name_what_tells_the_object_apart() -> None:
    kinds = {
        phrase.text: phrase.kind
        for target in (0, 2)
        for phrase in true_phrases([at("dog", 50, 50), at("dog", 200, 50, 80), at("car", 50, 150)], target)
    }
    assert kinds["car"] == PhraseKind.NOUN
    assert kinds["little dog"] == PhraseKind.SIZE
    assert kinds["dog on the left"] == PhraseKind.LOCATION
    assert kinds["dog near the car"] == PhraseKind.RELATION


@pytest.mark.parametrize(
    ("standing", "absent"),
    [
        pytest.param(["dog"], ["car", "taxi", "ship", "tent"], id="what stands there is not absent"),
        pytest.param(["taxi"], ["dog", "ship", "tent"], id="a taxi is a car to most"),
        pytest.param(["sailboat", "tent"], ["dog", "car", "taxi"], id="a sailboat is a ship to some"),
    ],
)
def test_absent_nouns(standing: list[str], absent: list[str]) -> None:
    objects = [at(noun, 50, 50) for noun in standing]
    assert list(absent_nouns(objects, ["dog", "car", "taxi", "ship", "tent"])) == absent


def test_the_look_alikes_are_nouns_of_the_demo() -> None:
    from grounding.demo.phrases import _LOOK_ALIKES

    assert set().union(*_LOOK_ALIKES) <= set(all_nouns())


def test_absent_phrases_use_the_words_of_the_grammar() -> None:
    rng = random.Random(0)
    seen = {absent_phrase(rng, "tent").text for _ in range(400)}
    assert seen == {
        *("tent", "the tent", "big tent", "large tent", "the biggest tent"),
        *("small tent", "little tent", "the smallest tent", "left tent", "right tent", "top tent", "bottom tent"),
        *("tent on the left", "tent on the right", "tent at the top", "tent at the bottom"),
    }
