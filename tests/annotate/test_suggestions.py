"""Suggested phrases: true of exactly one box, best understood first, and marked by where they come from."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from annotate.items import Item
from annotate.listening import Ask
from annotate.store import Store
from annotate.suggest import MOST_SUGGESTIONS, Suggestion, candidates, origin_of, ranked
from annotate.true_words import Thing, noun_of, wordings
from annotate_samples import PLACEHOLDER, MakeSample
from grounding.boxes import Box
from grounding.records import Prediction, Sample, Status

SIZE_WH = (640, 480)


def thing(noun: str, x: float, y: float, side: float = 40) -> Thing:
    return Thing(noun, Box(x - side / 2, y - side / 2, x + side / 2, y + side / 2), SIZE_WH)


def said(me: Thing, *others: Thing) -> set[str]:
    return {text for _, text in wordings(me, others)}


def meant(text: str, things: Sequence[Thing]) -> list[Thing]:
    """Those things that the phrase is true of: what a reader makes of it, without any margin."""
    noun = max((one.noun for one in things if re.search(rf"\b{one.noun}\b", text)), key=lambda n: -text.index(n))
    kind = [one for one in things if one.noun == noun]
    frame = text.removeprefix("the ").replace(noun, "N", 1)
    sides = {"left": (0, -1), "right": (0, 1), "top": (1, -1), "bottom": (1, 1)}

    def along(one: Thing, side: str) -> float:
        axis, direction = sides[side]
        return direction * (one.centre[axis] - 0.5)

    if frame == "N":
        return kind
    if match := re.fullmatch(r"(left|right|top|bottom) N", frame):
        most = max(along(one, match[1]) for one in kind)
        return [one for one in kind if along(one, match[1]) == most]
    if match := re.fullmatch(r"N (?:on|at) the (left|right|top|bottom)", frame):
        return [one for one in kind if along(one, match[1]) > 0]
    if match := re.fullmatch(r"(top|bottom) (left|right) N", frame):
        return [one for one in kind if along(one, match[1]) > 0 and along(one, match[2]) > 0]
    if frame == "middle N":
        return sorted(kind, key=lambda one: one.centre[0])[1:-1]
    if match := re.fullmatch(r"(second|third|fourth) N from the (left|right)", frame):
        row = sorted(kind, key=lambda one: -along(one, match[2]))
        return [row[["second", "third", "fourth"].index(match[1]) + 1]]
    if match := re.fullmatch(r"(big|biggest|small|smallest) N", frame):
        sign = 1 if match[1].startswith("big") else -1
        most = max(sign * one.box.area_px for one in kind)
        return [one for one in kind if sign * one.box.area_px == most]
    match = re.fullmatch(r"N (left of|right of|above|below|near) the (\w+)", frame)
    assert match is not None, text
    (anchor,) = (one for one in things if one.noun == match[2])
    if match[1] == "near":
        return [min(kind, key=lambda one: math.dist(one.centre_px, anchor.centre_px))]
    side = {"left of": "left", "right of": "right", "above": "top", "below": "bottom"}[match[1]]
    return [one for one in kind if along(one, side) > along(anchor, side)]


def test_every_wording_is_true_of_its_box_and_of_no_other() -> None:
    chance, seen = random.Random(11), 0
    frames: set[str] = set()
    for _ in range(1500):
        things = [
            thing(chance.choice(["mug", "cat", "lamp"]), chance.uniform(20, 620), chance.uniform(20, 460), side)
            for side in chance.choices([20, 40, 60, 120], k=chance.randint(1, 7))
        ]
        for me in things:
            for text in said(me, *(other for other in things if other is not me)):
                assert meant(text, things) == [me], (text, things)
                frames.add(re.sub(r"mug|cat|lamp", "N", text))
                seen += 1
    assert seen > 10_000
    assert len(frames) == 2 + 8 + 4 + 1 + 6 + 4 + 5, sorted(frames)


def test_one_alone_is_called_by_its_name() -> None:
    assert said(thing("mug", 100, 100), thing("cat", 300, 100)) == {"mug", "the mug"}


def test_two_side_by_side_are_told_by_their_place() -> None:
    assert said(thing("mug", 100, 100), thing("mug", 500, 110)) == {"left mug", "mug on the left", "top left mug"}
    assert said(thing("mug", 100, 100), thing("mug", 130, 110)) == set(), "too close to say"


def test_on_the_sofa_is_not_left_of_it() -> None:
    sofa, lone = thing("sofa", 320, 240, 300), thing("cat", 600, 240)
    assert "cat left of the sofa" not in said(thing("cat", 200, 240), sofa, lone)
    assert "cat left of the sofa" in said(thing("cat", 100, 240), sofa, lone)


def test_what_has_no_category_may_be_one_of_them() -> None:
    unknown = thing("", 500, 110)
    assert said(thing("mug", 100, 100), unknown) == {"left mug", "mug on the left", "top left mug"}
    assert said(unknown, thing("mug", 100, 100)) == set()
    assert not any("cat" in text for text in said(thing("mug", 100, 100), unknown, thing("cat", 300, 400)))


@pytest.mark.parametrize(
    ("category", "noun"),
    [
        ("Traffic_light", "traffic light"),
        ("mug.n.01", "mug"),
        ("  Mug ", "mug"),
        ("17", ""),
        ("", ""),
        ("Tasse", "tasse"),
    ],
)
def test_a_category_becomes_a_word_to_say(category: str, noun: str) -> None:
    assert noun_of(category) == noun


@pytest.fixture
def open_item(store: Store, make_sample: MakeSample) -> Callable[..., tuple[Item, tuple[Item, ...]]]:
    """`open_item(sample, ...)` imports samples of one picture and gives the first with its siblings."""

    def open_first(*samples: Sample) -> tuple[Item, tuple[Item, ...]]:
        assert store.import_samples(samples, source="s", who="w").errors == ()
        return store.get(samples[0].id), store.siblings(samples[0].id)

    return open_first


Open = Callable[..., tuple[Item, tuple[Item, ...]]]
LEFT, RIGHT = (Box(2, 2, 10, 12),), (Box(28, 2, 36, 12),)


def test_the_sources_own_phrases_come_first_and_those_of_another_box_are_left_out(
    open_item: Open, make_sample: MakeSample
) -> None:
    item, siblings = open_item(
        make_sample(
            "a", boxes_xyxy_px=LEFT, category="mug", phrase=PLACEHOLDER,
            alternatives=("my  mug", "My mug!", "white mug", PLACEHOLDER, "", "same thing"),
        ),
        make_sample("b", boxes_xyxy_px=RIGHT, category="mug", phrase="White mug", alternatives=("right one",)),
        make_sample("a2", boxes_xyxy_px=LEFT, category="mug", phrase="same thing"),
    )  # fmt: skip
    found = candidates(item, siblings)
    assert [one.text for one in found][:2] == ["my mug", "same thing"]
    assert [(one.text, one.kind, one.origin) for one in found][2:4] == [
        ("left mug", "location", "model"),
        ("mug on the left", "location", "model"),
    ]
    assert "white mug" not in [one.text for one in found]
    assert [one.text for one in candidates(item, siblings, locations=False)] == ["my mug", "same thing"]


def test_what_stands_is_not_suggested_and_the_list_is_short(open_item: Open, make_sample: MakeSample) -> None:
    many = tuple(f"wording {n}" for n in range(40))
    item, siblings = open_item(
        make_sample("a", boxes_xyxy_px=LEFT, category="mug", phrase="Left mug", alternatives=many),
        make_sample("b", boxes_xyxy_px=RIGHT, category="mug"),
    )
    texts = [one.text for one in candidates(item, siblings)]
    assert "left mug" not in texts and "mug on the left" in texts
    assert 6 < len(texts) <= MOST_SUGGESTIONS


@pytest.mark.parametrize("boxes", [(), (*LEFT, *RIGHT)])
def test_rules_speak_only_of_one_box(boxes: tuple[Box, ...], open_item: Open, make_sample: MakeSample) -> None:
    item, siblings = open_item(make_sample("a", boxes_xyxy_px=boxes, category="mug", alternatives=("both mugs",)))
    assert [one.text for one in candidates(item, siblings)] == ["both mugs"]


class FakeListener:
    """Finds the left box from "left mug" and the right one from all else."""

    def __init__(self) -> None:
        self.asks: list[Ask] = []

    @property
    def model(self) -> str:
        return "demo"

    def asked(self) -> tuple[str | None, ...]:
        return (None,)

    def __call__(self, image: Path, phrase: str) -> tuple[Prediction, ...]:
        return self.many([(image, phrase)])[0]

    def many(self, asks: Sequence[Ask]) -> list[tuple[Prediction, ...]]:
        self.asks += asks
        assert all(image.is_file() for image, _ in asks)
        right = Prediction(RIGHT, Status.OK, "", 0.5, 0.1)
        found = [Prediction(LEFT if phrase == "left mug" else RIGHT, Status.OK, "", 0.5, 0.1) for _, phrase in asks]
        return [(one, right) if phrase == "mug" else (one,) for one, (_, phrase) in zip(found, asks, strict=True)]


def test_what_the_model_understands_comes_first(open_item: Open, make_sample: MakeSample) -> None:
    item, _ = open_item(make_sample("a", boxes_xyxy_px=LEFT))
    listener = FakeListener()
    found = [Suggestion("mug", "noun", "model"), Suggestion("odd", "source", "source")]
    found.append(Suggestion("left mug", "location", "model"))
    ordered = ranked(item, found, listener)
    assert [(one.text, one.origin, one.iou) for one in ordered] == [
        ("left mug", "model", 1.0),
        ("mug", "model", 0.0),
        ("odd", "source", 0.0),
    ]
    assert len(listener.asks) == 3
    assert ranked(item, found, None) == tuple(found)
    assert ranked(item, [], listener) == ()


def test_accepted_as_it_is_it_stays_the_models_and_any_edit_makes_it_the_persons() -> None:
    found = [Suggestion("left mug", "location", "model"), Suggestion("my mug", "source", "source")]
    assert origin_of(" left  mug\n", "left mug", found) == "model"
    assert origin_of("my mug", "my mug", found) == "source"
    assert origin_of("left mug", None, found) == "human", "typed by hand"
    assert origin_of("Left mug", "left mug", found) == "human"
    assert origin_of("the left mug", "left mug", found) == "human"
    assert origin_of("never offered", "never offered", found) == "human"


def test_a_taken_suggestion_is_told_from_a_persons_words_in_the_history(store: Store, make_sample: MakeSample) -> None:
    store.import_samples([make_sample("a", boxes_xyxy_px=LEFT, category="mug")], source="s", who="w")
    found = candidates(store.get("a"), ())
    origin = origin_of("the mug", "the mug", found)
    store.save("a", "the mug", who="ann", expected_revision=1, origin=origin)
    assert (store.history("a")[-1].origin, store.history("a")[-1].who) == ("model", "ann")
