"""The phrases of a snapshot, grouped by picture, and the order in which a run meets them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from grounding.boxes import Box
from grounding.errors import SnapshotError
from grounding.records import Sample


@dataclass(frozen=True)
class PhraseTarget:
    """One phrase and the boxes it refers to (none: nothing). `variants` are other phrases for the same boxes."""

    phrase: str
    boxes_xyxy_px: tuple[Box, ...]
    variants: tuple[str, ...] = ()

    @property
    def phrases(self) -> tuple[str, ...]:
        return (self.phrase, *self.variants)


@dataclass(frozen=True)
class PictureTargets:
    """One picture with everything that is to be learned on it."""

    image: Path
    targets: tuple[PhraseTarget, ...]


def group_by_picture(samples: Sequence[Sample], *, use_alternatives: bool) -> list[PictureTargets]:
    """The samples by picture, in order of first appearance. Raises `SnapshotError` when there is none."""
    grouped: dict[Path, list[PhraseTarget]] = {}
    for sample in samples:
        variants = tuple(a for a in dict.fromkeys(sample.alternatives) if a.strip() and a != sample.phrase)
        target = PhraseTarget(sample.phrase, sample.boxes_xyxy_px, variants if use_alternatives else ())
        grouped.setdefault(sample.image, []).append(target)
    if not grouped:
        raise SnapshotError(
            "The snapshot has no sample in its train split, so there is nothing to learn. "
            "Write or repair phrases in Annotate, then freeze a new snapshot."
        )
    return [PictureTargets(image, tuple(targets)) for image, targets in grouped.items()]


def draw_order(
    pictures: Sequence[PictureTargets], *, images_per_step: int, phrases_per_image: int, seed: int
) -> Iterator[list[tuple[int, list[tuple[str, tuple[Box, ...]]]]]]:
    """Endless steps: each a list of (picture's index, its phrases with their boxes).

    Pictures come in a new random order each round. On each picture every target gives one phrase before any
    gives a second, so that no target is crowded out by one with many variants.
    """
    rng = random.Random(seed)
    order: list[int] = []
    while True:
        step = []
        for _ in range(min(images_per_step, len(pictures))):
            if not order:
                order = list(range(len(pictures)))
                rng.shuffle(order)
            index = order.pop()
            step.append((index, _draw_phrases(pictures[index], phrases_per_image, rng)))
        yield step


def _draw_phrases(
    picture: PictureTargets, phrases_per_image: int, rng: random.Random
) -> list[tuple[str, tuple[Box, ...]]]:
    shuffled = [(target, rng.sample(target.phrases, len(target.phrases))) for target in picture.targets]
    rng.shuffle(shuffled)
    drawn: list[tuple[str, tuple[Box, ...]]] = []
    for turn in range(max(len(phrases) for _, phrases in shuffled)):
        drawn += [(phrases[turn], target.boxes_xyxy_px) for target, phrases in shuffled if turn < len(phrases)]
    return drawn[:phrases_per_image]
