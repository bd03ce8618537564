"""Decide which picture asks for which nouns, before anything is drawn: this is what keeps the shares exact."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from grounding.demo.scenes import REPEATED_SHARE
from grounding.demo.sprites import known_nouns, unknown_nouns

SAMPLES_PER_PICTURE = 2
KNOWN_SHARE = 0.24
ABSENT_SHARE = 0.04
TWIN_SHARE = 0.2  # of pictures ask for two objects of one noun
PLACEHOLDER_SHARE = 0.5  # of train's samples with a target
BARE_PLACEHOLDER_SHARE = 0.12  # of the placeholders


class Shown(Enum):
    """What a sample shows of its phrases."""

    PHRASE = "phrase"
    PLACEHOLDER = "placeholder, the true phrases as alternatives"
    BARE_PLACEHOLDER = "placeholder alone"


@dataclass(frozen=True, slots=True)
class SamplePlan:
    """A noun to ask for, or None for a phrase that refers to nothing."""

    noun: str | None
    shown: Shown = Shown.PHRASE


@dataclass(frozen=True, slots=True)
class PicturePlan:
    """The samples of one picture; equal nouns mean different objects. `repeats`: a noun stands 2 or 3 times."""

    samples: tuple[SamplePlan, ...]
    repeats: bool

    @property
    def focus_nouns(self) -> tuple[str, ...]:
        """The different nouns asked for."""
        return tuple(dict.fromkeys(sample.noun for sample in self.samples if sample.noun is not None))

    @property
    def is_twin(self) -> bool:
        """Whether one noun is asked for twice."""
        nouns = [sample.noun for sample in self.samples if sample.noun is not None]
        return len(set(nouns)) < len(nouns)


def plan_split(rng: random.Random, pictures: int, *, placeholders: bool) -> list[PicturePlan]:
    """Plans for so many pictures of two samples each: 72% unknown nouns, 24% known ones, 4% absent ones.

    Every noun of a group is asked for equally often, give or take one. `placeholders` hides half of the phrases.
    """
    samples = pictures * SAMPLES_PER_PICTURE
    absent, known = round(samples * ABSENT_SHARE), round(samples * KNOWN_SHARE)
    nouns = [*_deal(rng, unknown_nouns(), samples - absent - known), *_deal(rng, known_nouns(), known)]
    shown = _choose_shown(rng, len(nouns)) if placeholders else [Shown.PHRASE] * len(nouns)
    asked = [SamplePlan(noun, how) for noun, how in zip(nouns, shown, strict=True)]
    asked += [SamplePlan(None)] * absent
    pairs = _pair(rng, asked, twins=round(pictures * TWIN_SHARE))
    rng.shuffle(pairs)
    return _choose_repeats(rng, [PicturePlan(pair, repeats=False) for pair in pairs])


def _deal(rng: random.Random, nouns: Sequence[str], count: int) -> list[str]:
    dealt: list[str] = []
    while len(dealt) < count:
        dealt += rng.sample(nouns, len(nouns))
    return dealt[:count]


def _choose_shown(rng: random.Random, count: int) -> list[Shown]:
    hidden = round(count * PLACEHOLDER_SHARE)
    bare = round(hidden * BARE_PLACEHOLDER_SHARE)
    shown = [Shown.BARE_PLACEHOLDER] * bare + [Shown.PLACEHOLDER] * (hidden - bare) + [Shown.PHRASE] * (count - hidden)
    rng.shuffle(shown)
    return shown


def _pair(rng: random.Random, asked: Sequence[SamplePlan], twins: int) -> list[tuple[SamplePlan, SamplePlan]]:
    """Pairs of samples, `twins` of them with the same noun as far as the nouns go, the others by chance."""
    rest = rng.sample(asked, len(asked))
    pairs: list[tuple[SamplePlan, SamplePlan]] = []
    waiting: dict[str, SamplePlan] = {}
    loose: list[SamplePlan] = []
    for sample in rest:
        if sample.noun is None or len(pairs) == twins:
            loose.append(sample)
        elif sample.noun in waiting:
            pairs.append((waiting.pop(sample.noun), sample))
        else:
            waiting[sample.noun] = sample
    loose += waiting.values()
    rng.shuffle(loose)
    return pairs + list(zip(loose[::2], loose[1::2], strict=True))


def _choose_repeats(rng: random.Random, plans: Sequence[PicturePlan]) -> list[PicturePlan]:
    """Let a noun stand several times in 60% of the pictures: wherever a noun is asked for twice, then by chance."""
    by_twin = Counter(plan.is_twin for plan in plans)
    wanted = max(0, round(len(plans) * REPEATED_SHARE) - by_twin[True])
    flags = [True] * wanted + [False] * (by_twin[False] - wanted)
    rng.shuffle(flags)
    return [PicturePlan(plan.samples, repeats=plan.is_twin or flags.pop()) for plan in plans]
