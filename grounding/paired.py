"""Two models on the same samples: is the difference more than chance?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grounding.errors import RecordError
from grounding.metrics import MATCH_MIN_IOU, ScoredSample

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESAMPLES = 2000
_AT_ONCE = 50  # resamples drawn together: bounds the memory for sets of many thousand pictures

Question = tuple[str, str, str, tuple[tuple[float, float, float, float], ...]]


@dataclass(frozen=True)
class Difference:
    """One figure of two models, 0.0 to 1.0 each. `difference` is b - a, -1.0 to 1.0.

    `low` and `high` bound it in 95 of 100 resamples of the pictures; None when all samples are of one picture.
    """

    a: float
    b: float
    difference: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class PairedComparison:
    """Model b against model a over the `count` samples with a target, which lie on `pictures` pictures.

    `wins`: b has IoU >= 0.5 where a has not; `losses`: the other way round; `ties`: the rest. The three add up to
    `count`. `mcnemar_p` (0.0 to 1.0) is the chance of wins and losses at least as uneven as these if both models
    were equally good; it takes the samples for independent, which phrases of one picture are not quite.
    """

    count: int
    pictures: int
    accuracy_50: Difference
    mean_iou: Difference
    wins: int
    losses: int
    ties: int
    mcnemar_p: float
    resamples: int
    seed: int


def compare_rows(
    rows_a: Sequence[ScoredSample], rows_b: Sequence[ScoredSample], *, resamples: int = RESAMPLES, seed: int = 0
) -> PairedComparison:
    """Compare two models' answers to the same samples, in whatever order; phrases that refer to nothing are left out.

    The interval is the 2.5th to 97.5th percentile over `resamples` bootstrap samples of whole pictures, as the
    phrases of one picture are not independent (Field and Welsh, Bootstrapping clustered data, JRSS B 69, 2007). The
    same `seed` gives the same interval. Raises `RecordError` when the samples differ, or none has a target.
    """
    pairs = [(a, b) for a, b in _pair(rows_a, rows_b) if a.has_target]
    if not pairs:
        raise RecordError("None of the samples has a target box, so there is nothing to compare. Give some that have.")
    pictures: dict[str, int] = {}
    of_picture = [pictures.setdefault(str(a.sample.image), len(pictures)) for a, _ in pairs]
    ious = [(a.iou, b.iou) for a, b in pairs]
    hits = [(float(a >= MATCH_MIN_IOU), float(b >= MATCH_MIN_IOU)) for a, b in ious]
    weights = _Resampling(of_picture, resamples, seed)
    wins, losses = sum(a < b for a, b in hits), sum(a > b for a, b in hits)
    return PairedComparison(
        count=len(pairs),
        pictures=len(pictures),
        accuracy_50=weights.difference(hits),
        mean_iou=weights.difference(ious),
        wins=wins,
        losses=losses,
        ties=len(pairs) - wins - losses,
        mcnemar_p=mcnemar_p(wins, losses),
        resamples=resamples,
        seed=seed,
    )


def mcnemar_p(wins: int, losses: int) -> float:
    """The exact two-sided p of McNemar's test, 0.0 to 1.0: twice the smaller tail of a fair coin, at most 1.0.

    1.0 when there is neither a win nor a loss. Source: McNemar, Psychometrika 12, 1947; the exact form is the sign
    test on the pairs that differ.
    """
    tosses, fewer = wins + losses, min(wins, losses)
    tail = ways = 1
    for k in range(fewer):
        ways = ways * (tosses - k) // (k + 1)
        tail += ways
    return min(1.0, 2 * tail / 2**tosses)  # whole numbers of any length: no rounding before this division


class _Resampling:
    """Bootstrap samples of pictures, the same ones for every figure."""

    def __init__(self, of_picture: Sequence[int], resamples: int, seed: int) -> None:
        import numpy

        self.of_picture = numpy.asarray(of_picture)
        self.resamples = resamples
        self.seed = seed

    def difference(self, pairs: Sequence[tuple[float, float]]) -> Difference:
        """The mean of b - a over the samples, with its interval."""
        import numpy

        values = numpy.asarray(pairs, dtype=float)
        a, b = (float(mean) for mean in values.mean(axis=0))
        sums = numpy.bincount(self.of_picture, weights=values[:, 1] - values[:, 0])
        if len(sums) < 2:
            return Difference(a, b, b - a, None, None)
        low, high = numpy.percentile(self._means(sums), (2.5, 97.5))
        return Difference(a, b, b - a, float(low), float(high))

    def _means(self, sums: NDArray) -> NDArray:
        """The mean difference of each resample, from the sum of the differences on each picture."""
        import numpy

        samples = numpy.bincount(self.of_picture)
        random = numpy.random.default_rng(self.seed)
        means = []
        for start in range(0, self.resamples, _AT_ONCE):
            drawn = random.integers(len(sums), size=(min(_AT_ONCE, self.resamples - start), len(sums)))
            means.append(sums[drawn].sum(axis=1) / samples[drawn].sum(axis=1))
        return numpy.concatenate(means)


def _pair(rows_a: Sequence[ScoredSample], rows_b: Sequence[ScoredSample]) -> list[tuple[ScoredSample, ScoredSample]]:
    questions_a, questions_b = [_question(row) for row in rows_a], [_question(row) for row in rows_b]
    only_a, only_b = Counter(questions_a) - Counter(questions_b), Counter(questions_b) - Counter(questions_a)
    if only_a or only_b:
        of_which = next(iter(only_a or only_b))
        raise RecordError(
            f"The two evaluations are not of the same samples: {only_a.total()} of {len(rows_a)} stand only in the "
            f"first and {only_b.total()} of {len(rows_b)} only in the second, such as {of_which[0]!r} "
            f"({of_which[2]!r}). Evaluate both on the same file."
        )
    order_a = sorted(range(len(rows_a)), key=questions_a.__getitem__)
    order_b = sorted(range(len(rows_b)), key=questions_b.__getitem__)
    pairs = sorted(zip(order_a, order_b, strict=True))
    return [(rows_a[i], rows_b[j]) for i, j in pairs]


def _question(row: ScoredSample) -> Question:
    """What a sample asks: equal in two evaluations of one file, wherever its pictures stand."""
    sample = row.sample
    return (sample.id, sample.image.name, sample.phrase, tuple(box.rounded() for box in sample.boxes_xyxy_px))
