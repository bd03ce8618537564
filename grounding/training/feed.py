"""What step n of a run learns from: which pictures, which phrases. A pure function of the seed and n.

Nothing here keeps a state, so "the position in the data" of a run is its step number: a run that goes on from step
200 meets exactly what an uninterrupted one would have met.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from grounding.boxes import Box
from grounding.training.data import PhraseTarget, PictureTargets
from grounding.training.grouping import grouped_places, picture_area
from grounding.training.settings import TrainSettings


@dataclass(frozen=True)
class Asked:
    """One phrase of a step with its boxes in pixels of the original picture (none: the answer is "nothing there").

    `written` is the phrase as the snapshot has it; `phrase` differs from it where a template changed the wording.
    `negative` marks a phrase of another picture.
    """

    phrase: str
    boxes_xyxy_px: tuple[Box, ...]
    written: str = ""
    negative: bool = False


@dataclass(frozen=True)
class Drawn:
    """One picture of a step: what is asked on it, and the seed of the view that shows it."""

    picture: PictureTargets
    asked: tuple[Asked, ...]
    view_seed: str


class Feed:
    """The steps of a run. `step(n)` gives the same for the same seed, settings and pictures, whenever it is asked."""

    def __init__(self, pictures: Sequence[PictureTargets], settings: TrainSettings) -> None:
        self.pictures = tuple(pictures)
        self.settings = settings
        self._round = lru_cache(maxsize=2)(self._shuffled)

    def step(self, number: int) -> tuple[Drawn, ...]:
        """The pictures of step `number`, counted from 1: `images_per_step` of them, or all where there are fewer.

        Pictures come in a new random order each round, so each is met once before any is met again.
        """
        size = min(self.settings.images_per_step, len(self.pictures))
        places: Sequence[int] = range((number - 1) * size, number * size)
        if self.settings.group_lengths:
            places = grouped_places(number - 1, size, self._area_at, self.settings.seed)
        return tuple(self._draw(number, slot, place) for slot, place in enumerate(places))

    def _area_at(self, place: int) -> float:
        return picture_area(self._picture_at(place).image)

    def _draw(self, number: int, slot: int, place: int) -> Drawn:
        picture = self._picture_at(place)
        name = f"{self.settings.seed}/{number}/{slot}"
        asked = draw_phrases(picture.targets, self.settings.phrases_per_image, random.Random(f"phrases/{name}"))
        return Drawn(picture, asked, f"view/{name}")

    def _picture_at(self, place: int) -> PictureTargets:
        count = len(self.pictures)
        return self.pictures[self._round(place // count)[place % count]]

    def _shuffled(self, number: int) -> tuple[int, ...]:
        """The pictures' indices in the order of this round, counted from 0."""
        order = list(range(len(self.pictures)))
        random.Random(f"order/{self.settings.seed}/{number}").shuffle(order)
        return tuple(order)


def draw_phrases(targets: Sequence[PhraseTarget], most: int, rng: random.Random) -> tuple[Asked, ...]:
    """At most so many phrases: every target gives one before any gives a second, so that no target is crowded out
    by one with many variants."""
    shuffled = [(target, rng.sample(target.phrases, len(target.phrases))) for target in targets]
    rng.shuffle(shuffled)
    drawn: list[Asked] = []
    for turn in range(max(len(phrases) for _, phrases in shuffled)):
        drawn += [
            Asked(phrases[turn], target.boxes_xyxy_px, phrases[turn])
            for target, phrases in shuffled
            if turn < len(phrases)
        ]
    return tuple(drawn[:most])
