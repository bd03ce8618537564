"""What step n of a run learns from: which pictures, which phrases. A pure function of the seed and n.

Nothing here keeps a state, so "the position in the data" of a run is its step number: a run that goes on from step
200 meets exactly what an uninterrupted one would have met.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from grounding.boxes import Box
from grounding.training.curriculum import admitted, hardest_at
from grounding.training.data import PhraseTarget, PictureTargets
from grounding.training.grouping import WINDOW_STEPS, grouped_places, picture_area
from grounding.training.negatives import Negatives
from grounding.training.rehearsal import rehearsed_at
from grounding.training.settings import TrainSettings
from grounding.training.variants import rewordings
from grounding.training.wording import Difficulty


@dataclass(frozen=True)
class Asked:
    """One phrase of a step with its boxes in pixels of the original picture (none: the answer is "nothing there").

    `written` is the phrase as the snapshot has it; `phrase` differs from it where a template changed the wording.
    `negative` marks a phrase of another picture, `alternative` one of the source's other phrases for the same box.
    """

    phrase: str
    boxes_xyxy_px: tuple[Box, ...]
    written: str = ""
    negative: bool = False
    category: str = ""
    alternative: bool = False


@dataclass(frozen=True)
class Drawn:
    """One picture of a step: what is asked on it, and the seed of the view that shows it."""

    picture: PictureTargets
    asked: tuple[Asked, ...]
    view_seed: str
    rehearsed: bool = False


class Feed:
    """The steps of a run. `step(n)` gives the same for the same seed, settings and pictures, whenever it is asked.

    `rehearsed` are old pictures that take the settings' share of the places, evenly spread.
    """

    def __init__(
        self,
        pictures: Sequence[PictureTargets],
        settings: TrainSettings,
        rehearsed: Sequence[PictureTargets] = (),
    ) -> None:
        self.settings = settings
        self.new = Rounds(pictures, f"{settings.seed}")
        self.old = Rounds(rehearsed, f"{settings.seed}/rehearsed")
        self.negatives = Negatives([*pictures, *rehearsed]) if settings.negative_share else None

    @property
    def pictures(self) -> tuple[PictureTargets, ...]:
        """Every picture that may be shown."""
        return self.new.pictures + self.old.pictures

    def step(self, number: int) -> tuple[Drawn, ...]:
        """The pictures of step `number`, counted from 1: `images_per_step` of them, or all where there are fewer.

        Pictures come in a new random order each round, so each is met once before any is met again.
        """
        size = min(self.settings.images_per_step, len(self.pictures))
        places: Sequence[int] = range((number - 1) * size, number * size)
        if self.settings.group_lengths:
            window_steps = max(1, min(WINDOW_STEPS, len(self.pictures) // size))
            places = grouped_places(number - 1, size, self._area_at, self.settings.seed, window_steps, self._round_at)
        return tuple(self._draw(number, slot, place) for slot, place in enumerate(places))

    def _round_at(self, place: int) -> int:
        """How often all of the run's own pictures were shown before this place."""
        old_before, _ = rehearsed_at(place, self.settings.rehearsal_share if self.old.pictures else 0.0)
        return (place - old_before) // len(self.new.pictures)

    def _area_at(self, place: int) -> float:
        return picture_area(self._picture_at(place)[0].image)

    def _picture_at(self, place: int) -> tuple[PictureTargets, bool]:
        """(the picture at a place of the endless order, whether it is an old one)."""
        old_before, is_old = rehearsed_at(place, self.settings.rehearsal_share if self.old.pictures else 0.0)
        return (self.old[old_before] if is_old else self.new[place - old_before]), is_old

    def _draw(self, number: int, slot: int, place: int) -> Drawn:
        picture, is_old = self._picture_at(place)
        name = f"{self.settings.seed}/{number}/{slot}"
        return Drawn(picture, self._ask(picture, number, name), f"view/{name}", rehearsed=is_old)

    def _ask(self, picture: PictureTargets, number: int, name: str) -> tuple[Asked, ...]:
        settings = self.settings
        hardest = hardest_at(number, settings.steps, settings.curriculum_share)
        asked = draw_phrases(picture.targets, settings.phrases_per_image, random.Random(f"phrases/{name}"), hardest)
        if settings.template_share:
            known = {phrase for target in picture.targets for phrase in (*target.phrases, *target.unused)}
            asked = reworded(asked, settings.template_share, random.Random(f"templates/{name}"), known)
        if self.negatives is None:
            return asked
        rng = random.Random(f"negatives/{name}")
        count = chance_count(len(asked) * settings.negative_share / (1 - settings.negative_share), rng)
        absent = self.negatives.draw(picture, count, rng)
        return asked + tuple(Asked(phrase, (), phrase, negative=True) for phrase in absent)


class Rounds:
    """Pictures in an endless order: every round shows each once, in an order of its own. `rounds[place]`, from 0."""

    def __init__(self, pictures: Sequence[PictureTargets], seed: str) -> None:
        self.pictures = tuple(pictures)
        self._seed = seed
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def __getitem__(self, place: int) -> PictureTargets:
        count = len(self.pictures)
        return self.pictures[self._order(place // count)[place % count]]

    def _shuffled(self, number: int) -> tuple[int, ...]:
        order = list(range(len(self.pictures)))
        random.Random(f"order/{self._seed}/{number}").shuffle(order)
        return tuple(order)


def chance_count(expected: float, rng: random.Random) -> int:
    """A whole number whose mean is `expected`: the one below or the one above."""
    return math.floor(expected) + (rng.random() < expected % 1)


def draw_phrases(
    targets: Sequence[PhraseTarget], most: int, rng: random.Random, hardest: Difficulty = Difficulty.RELATION
) -> tuple[Asked, ...]:
    """At most so many phrases, none harder than `hardest` as far as there are easier ones: every target gives one
    before any gives a second, so that no target is crowded out by one with many variants."""
    shuffled = []
    for target in targets:
        phrases = target.phrases
        if hardest < Difficulty.RELATION:
            phrases = admitted(phrases, target.category, hardest)
        shuffled.append((target, rng.sample(phrases, len(phrases))))
    rng.shuffle(shuffled)
    drawn: list[Asked] = []
    for turn in range(max(len(phrases) for _, phrases in shuffled)):
        drawn += [
            Asked(
                *(phrases[turn], target.boxes_xyxy_px, phrases[turn]),
                category=target.category,
                alternative=phrases[turn] != target.phrase,
            )
            for target, phrases in shuffled
            if turn < len(phrases)
        ]
    return tuple(drawn[:most])


def reworded(
    asked: Sequence[Asked], share: float, rng: random.Random, known: Collection[str] = ()
) -> tuple[Asked, ...]:
    """The same with about this share in another wording. No wording comes twice, and none is one of the `known`
    phrases of the picture: those have boxes of their own."""
    taken = {*known, *(one.phrase for one in asked)}
    result = []
    for one in asked:
        wordings = [wording for wording in rewordings(one.phrase) if wording not in taken]
        if wordings and rng.random() < share:
            one = replace(one, phrase=rng.choice(wordings))
            taken.add(one.phrase)
        result.append(one)
    return tuple(result)
