"""What an embedded model is asked: true of the scene, without the nouns that it is not to know."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from grounding.boxes import Box
from grounding.demo.phrases import Phrase, PhraseKind
from grounding.demo.questions import Mix, Question, QuestionKind, ask, in_reading_order, plural, reworded
from grounding.demo.scenes import SceneObject, draw_scene
from grounding.demo.sprites import all_nouns, known_nouns, unknown_nouns

SIZE_WH = (256, 192)


def some_questions(count: int, mix: Mix) -> list[tuple[Question, tuple[SceneObject, ...]]]:
    found = []
    for number in range(count):
        rng = random.Random(number)
        objects = draw_scene(rng, size_wh=SIZE_WH).objects
        found += [(question, objects) for _ in range(4) if (question := ask(rng, objects, SIZE_WH, mix)) is not None]
    return found


def test_no_noun_that_it_is_not_to_know_is_named_or_meant() -> None:
    known = set(known_nouns())
    for question, objects in some_questions(60, Mix(nothing=0.2, several=0.3, corner=0.2, reworded=0.8)):
        assert not any(re.search(rf"\b{noun}\b", question.text) for noun in unknown_nouns())
        assert all(objects[place].noun in known for place in question.targets)


def test_several_are_all_of_their_noun_from_left_to_right() -> None:
    asked = some_questions(60, Mix(nothing=0, several=1, corner=0))
    assert len(asked) > 40
    for question, objects in asked:
        assert question.kind is QuestionKind.SEVERAL and len(question.targets) > 1
        (noun,) = {objects[place].noun for place in question.targets}
        assert sum(each.noun == noun for each in objects) == len(question.targets)
        assert noun in question.text or (plural(noun) or "") in question.text
        assert ("both" in question.text or "two" in question.text) <= (len(question.targets) == 2)
        assert ("three" in question.text) <= (len(question.targets) == 3)
        assert in_reading_order(objects, question.targets) == question.targets
        lefts = [objects[place].box_xyxy_px.x1 for place in question.targets]
        assert lefts == sorted(lefts)


def test_a_corner_holds_one_of_its_noun() -> None:
    asked = some_questions(60, Mix(nothing=0, several=0, corner=1))
    assert len(asked) > 40
    for question, objects in asked:
        (place,) = question.targets
        across, down = objects[place].centre_xy_px
        assert ("left" in question.text) == (across <= SIZE_WH[0] / 3)
        assert ("right" in question.text) == (across >= SIZE_WH[0] * 2 / 3)
        assert bool(re.search(r"\b(top|upper)\b", question.text)) == (down <= SIZE_WH[1] / 3)
        assert bool(re.search(r"\b(bottom|lower)\b", question.text)) == (down >= SIZE_WH[1] * 2 / 3)


def test_nothing_names_what_is_not_there() -> None:
    for question, objects in some_questions(60, Mix(nothing=1)):
        assert question.targets == () and question.kind is QuestionKind.NOTHING
        for each in objects:
            assert not re.search(rf"\b({each.noun}|{plural(each.noun)})\b", question.text)


@pytest.mark.parametrize(
    ("text", "kind", "others"),
    [
        (
            "left dog",
            PhraseKind.LOCATION,
            {"the left dog", "leftmost dog", "the dog on the left side", "the dog to the left"},
        ),
        (
            "dog at the top",
            PhraseKind.LOCATION,
            {"the dog at the top", "the dog that is at the top", "dog at the top of the picture"},
        ),
        ("the biggest dog", PhraseKind.SIZE, {"biggest dog", "the largest dog"}),
        ("dog", PhraseKind.NOUN, {"dog", "a dog"}),
        ("the dog", PhraseKind.NOUN, {"the dog"}),
        (
            "dog near the car",
            PhraseKind.RELATION,
            {"dog near the car", "the dog beside the car", "dog next to the car"},
        ),
    ],
)
def test_other_words_mean_the_same(text: str, kind: PhraseKind, others: set[str]) -> None:
    said = {reworded(random.Random(number), Phrase(text, kind)) for number in range(200)}
    assert others <= said
    assert all("dog" in one for one in said)


def test_every_noun_has_its_plural() -> None:
    said = {noun: plural(noun) for noun in all_nouns()}
    assert (said["fox"], said["bus"], said["strawberry"], said["sheep"]) == ("foxes", "buses", "strawberries", "sheep")
    assert (said["watch"], said["key"], said["jeans"], said["wine glass"]) == ("watches", "keys", None, "wine glasses")


def test_shares_are_kept() -> None:
    kinds = Counter(question.kind for question, _ in some_questions(250, Mix(nothing=0.3, several=0.0, corner=0.0)))
    assert kinds[QuestionKind.NOTHING] / kinds.total() == pytest.approx(0.3, abs=0.06)


def test_of_two_on_one_line_the_upper_comes_first() -> None:
    objects = [SceneObject("dog", Box(10, 90, 40, 120)), SceneObject("dog", Box(10, 20, 40, 50))]
    assert in_reading_order(objects, [0, 1]) == (1, 0)
