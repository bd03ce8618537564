"""The phrases of a snapshot, grouped by picture."""

from __future__ import annotations

from collections.abc import Sequence
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
