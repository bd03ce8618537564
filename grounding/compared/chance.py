"""How right a model is by chance: what its own answers score when they are exchanged among the phrases of a picture.

A model that does not heed the words answers every phrase of a picture alike, so its answers to other phrases are as
right as those to the phrase itself. How often a box is right by luck depends on the pictures and on where a model likes
to point; both stay as they are here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from grounding.compared.columns import Answers, Samples
from grounding.measures import MATCH_MIN_IOU, Flags, Floats, Wholes, set_ious
from grounding.paired import RESAMPLES, Difference, Resampling

if TYPE_CHECKING:
    from grounding.compared.comparison import Comparison, Side

WORTH_HAVING = 0.1
"""So much of Acc@0.5 above chance is worth having: "no better" is only said where the interval leaves it out."""
LEAST_PICTURES = 10
"""On fewer pictures "no better" is not said: their interval is too narrow to leave anything out."""
MOST_PARTNERS = 8
"""So many other samples lend their answers to one, at most."""
Basis = Literal["picture", "size"]


@dataclass(frozen=True)
class Exchange:
    """What each sample scores with the answers to others: `hits` [samples], the share of them with IoU >= 0.5, NaN
    where there is no other or the phrase refers to nothing. `basis`: whose answers, those of the same picture, or of
    pictures of the same size."""

    hits: Floats
    basis: Basis


@dataclass(frozen=True)
class Chance:
    """Acc@0.5 with answers exchanged, against Acc@0.5, over the `count` samples that both are known of, on `pictures`
    pictures. `gain` has the share by chance as `a`, the accuracy as `b`, and the interval of what lies between, from
    resampled pictures."""

    count: int
    pictures: int
    basis: Basis
    gain: Difference

    @property
    def share(self) -> float:
        """Acc@0.5 by chance, 0.0 to 1.0."""
        return self.gain.a

    @property
    def is_better(self) -> bool | None:
        """Whether the model is better than chance, beyond what the choice of pictures explains: True where the verdict
        on `gain` is "higher" (`paired.Difference.verdict`), False where its interval leaves out `WORTH_HAVING` over at
        least `LEAST_PICTURES` pictures, None where these samples can't tell, and without an interval."""
        if self.gain.verdict == "higher":
            return True
        if self.gain.high is None or self.pictures < LEAST_PICTURES:
            return None
        return False if self.gain.high < WORTH_HAVING else None

    @property
    def sentence(self) -> str:
        """All of it, for people."""
        others = "other phrases of the same picture" if self.basis == "picture" else "pictures of the same size"
        told = f"Acc@0.5 {self.gain.b:.1%}, and {self.share:.1%} with its answers to {others}"
        over = f"over {self.count:,} sample{'s' * (self.count != 1)}"
        if self.gain.verdict == "unknown":
            return f"{told}, {over}."
        verdict = {
            True: "Better than chance",
            False: "No better than chance",
            None: "These samples can't tell whether it is better than chance",
        }[self.is_better]
        if self.gain.low is None:
            return f"{verdict}: {told}, {over} on one picture."
        low, high = ((f"{100 * end:+.1f}").replace("-", "−") for end in (self.gain.low or 0.0, self.gain.high or 0.0))
        return f"{verdict}: {told} ({low} to {high} points between them, {over})."


def chance_level(
    comparison: Comparison, side: Side, mask: Flags | None = None, *, resamples: int = RESAMPLES, seed: int = 0
) -> Chance | None:
    """What one side scores by chance over the samples that `mask` holds for; by default those that count.

    None where no sample has another one to exchange answers with. 0 `resamples`: without an interval, in milliseconds.
    """
    found = comparison.exchanges[side.letter]
    chosen = (comparison.counted if mask is None else mask) & ~np.isnan(found.hits)
    if not chosen.any():
        return None
    hits = side.answers.measures.iou[chosen] >= MATCH_MIN_IOU
    _, pictures = np.unique(comparison.samples.picture[chosen], return_inverse=True)
    drawn = Resampling(pictures, resamples, seed)
    return Chance(int(chosen.sum()), drawn.pictures, found.basis, drawn.difference(found.hits[chosen], hits))


def exchange(samples: Samples, answers: Answers) -> Exchange:
    """Every sample with a target scored with the answers to others.

    Others are up to `MOST_PARTNERS` samples of the same picture that ask for something else: whose true boxes have an
    IoU below 0.5 with its own. Where no picture has two such samples, those of other pictures of the same size.
    """
    found = _hits(samples, answers, *_of_picture(samples))
    if not np.isnan(found).all():
        return Exchange(found, "picture")
    return Exchange(_hits(samples, answers, *_of_size(samples)), "size")


def _of_picture(samples: Samples) -> tuple[Wholes, Wholes]:
    """(rows, rows of those that ask for something else on the same picture): [pairs] each."""
    rows, others = _rotated(samples.picture, lambda size, k: np.full_like(size, k))
    apart = set_ious(samples.truth.take(others), samples.truth.take(rows)) < MATCH_MIN_IOU
    return rows[apart], others[apart]


def _of_size(samples: Samples) -> tuple[Wholes, Wholes]:
    """(rows, rows on other pictures of the same size): [pairs] each, spread evenly over those that there are."""
    sizes = samples.image_size_wh
    _, groups = np.unique(sizes, axis=0, return_inverse=True)
    rows, others = _rotated(groups.reshape(-1), lambda size, k: np.maximum(size * k // (MOST_PARTNERS + 1), k))
    apart = (samples.picture[rows] != samples.picture[others]) & (sizes[rows] > 0).all(axis=1)
    return rows[apart], others[apart]


def _rotated(groups: Wholes, steps: Callable[[Wholes, int], Wholes]) -> tuple[Wholes, Wholes]:
    """(rows, partners) within each group: [pairs] each. Partner k of a row stands `steps(sizes of groups, k)` places
    further on in its group, which begins anew at its end; each sample lends as often as it borrows."""
    order = np.argsort(groups, kind="stable")
    _, first, inverse, counts = np.unique(groups[order], return_index=True, return_inverse=True, return_counts=True)
    starts, sizes = first[inverse], counts[inverse]
    places = np.arange(len(order)) - starts
    rows, partners = [], []
    for k in range(1, MOST_PARTNERS + 1):
        step = steps(sizes, k)
        there = step < sizes
        rows.append(order[there])
        partners.append(order[(starts + (places + step) % sizes)[there]])
    return np.concatenate(rows), np.concatenate(partners)


def _hits(samples: Samples, answers: Answers, rows: Wholes, others: Wholes) -> Floats:
    """[samples]: the share of others' answers that are right for each row; NaN where it has none."""
    wanted = samples.truth.counts[rows] > 0
    rows, others = rows[wanted], others[wanted]
    right = set_ious(answers.boxes.take(others), samples.truth.take(rows)) >= MATCH_MIN_IOU
    partners = np.bincount(rows, minlength=len(samples))
    with np.errstate(invalid="ignore"):
        return np.bincount(rows, weights=right, minlength=len(samples)) / partners
