"""Two models on the same samples: is the difference more than chance?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np

from grounding.errors import RecordError
from grounding.measures import Flags, Floats, Wholes
from grounding.metrics import MATCH_MIN_IOU, ScoredSample, exact_mean

RESAMPLES = 2000
SURE_P = 0.05
"""A verdict needs a test's p below this."""
_EXACT_PICTURES = 12  # up to so many pictures every throw of coins is tried
_Z_95 = 1.959963984540054
_AT_ONCE = 400_000  # pictures drawn together: bounds the memory for sets of many thousand

Question = tuple[str, str, str, tuple[tuple[float, float, float, float], ...]]
Verdict = Literal["higher", "lower", "none", "few", "unknown"]


@dataclass(frozen=True)
class Difference:
    """One figure of two models, 0.0 to 1.0 each. `difference` is b - a, -1.0 to 1.0.

    `low` and `high` bound it in 95 of 100 resamples of the pictures; None when all samples are of one picture.
    `p` (0.0 to 1.0) is the chance of a difference at least as large if both models were equally good: that of
    `flip_p` over pictures and, of a figure that is right or wrong on each sample, `mcnemar_p`, whichever is the larger.
    None where nothing was resampled.
    """

    a: float
    b: float
    difference: float
    low: float | None
    high: float | None
    p: float | None = None

    @property
    def verdict(self) -> Verdict:
        """What can be said of b against a: "higher" or "lower" where the interval leaves out 0 and `p` is below
        `SURE_P`; "few" where only the interval does, or there is none, as of samples on one picture; "none" where the
        interval holds 0; "unknown" where nothing was resampled.

        Both are asked, as the interval alone is too narrow on few pictures: where b is higher on each of three, it is
        so in all resamples, and yet three coins fall alike once in four throws.
        """
        if self.p is None:
            return "unknown"
        if self.low is None or self.high is None:
            return "few"
        if self.low <= 0 <= self.high:
            return "none"
        if self.p >= SURE_P:
            return "few"
        return "higher" if self.low > 0 else "lower"


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
    of_picture = np.array([pictures.setdefault(str(a.sample.image), len(pictures)) for a, _ in pairs])
    ious_a, ious_b = (np.array([row.iou for row in side]) for side in zip(*pairs, strict=True))
    return compare_ious(ious_a, ious_b, Resampling(of_picture, resamples, seed))


def compare_ious(ious_a: Floats, ious_b: Floats, resampling: Resampling) -> PairedComparison:
    """The same from the IoUs of samples with a target in one order, which is that of `resampling`; at least one."""
    hits_a, hits_b = (ious >= MATCH_MIN_IOU for ious in (ious_a, ious_b))
    wins, losses = int(np.count_nonzero(hits_b & ~hits_a)), int(np.count_nonzero(hits_a & ~hits_b))
    return PairedComparison(
        count=len(ious_a),
        pictures=resampling.pictures,
        accuracy_50=resampling.difference(hits_a, hits_b),
        mean_iou=resampling.difference(ious_a, ious_b),
        wins=wins,
        losses=losses,
        ties=len(ious_a) - wins - losses,
        mcnemar_p=mcnemar_p(wins, losses),
        resamples=resampling.resamples,
        seed=resampling.seed,
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


def flip_p(sums: Floats) -> float:
    """The two-sided p of the randomisation test over pictures, 0.0 to 1.0: how often the sum of `sums` [pictures], each
    picture's sum of b - a, gets at least as far from 0 when a coin gives each its sign. 1.0 where all are 0.

    With one sample a picture that is right or wrong, it is McNemar's. Exact up to 12 pictures that differ, beyond with
    the normal approximation; of fewer than 6 it is never below 0.05.
    Source: Fisher, The Design of Experiments, 1935, section 21.
    """
    telling = np.asarray(sums, dtype=float)
    telling = telling[telling != 0]
    if not len(telling):
        return 1.0
    total = abs(float(telling.sum()))
    if len(telling) > _EXACT_PICTURES:
        return math.erfc(total / math.sqrt(2 * float(telling @ telling)))
    # Turned round, each throw gives the same distance: the first coin need not be thrown.
    signs = np.array([(1.0, *others) for others in product((1.0, -1.0), repeat=len(telling) - 1)])
    return float(np.mean(np.abs(signs @ telling) >= total - 1e-9))


def wilson_interval(successes: float, trials: int) -> tuple[float, float]:
    """The 95% interval of a share, (low, high) within 0.0 to 1.0. It holds for few trials too, where the textbook's
    p ± 2 standard errors does not. `successes` may be broken: the sum of shares, each of a trial.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927), 209-212.
    Raises `ValueError` without a trial.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} of {trials} is no share")
    share, z2 = successes / trials, _Z_95**2
    middle = share + z2 / (2 * trials)
    half = _Z_95 * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    scale = 1 + z2 / trials
    # Rounding would leave a share at an end outside of its own interval, and an interval near it outside of 0 to 1.
    low = 0.0 if successes == 0 else max(0.0, (middle - half) / scale)
    high = 1.0 if successes == trials else min(1.0, (middle + half) / scale)
    return low, high


class Resampling:
    """Bootstrap samples of pictures, the same ones for every figure.

    `of_picture` [samples] is the number of each sample's picture, from 0 without a gap.
    """

    def __init__(self, of_picture: Wholes, resamples: int = RESAMPLES, seed: int = 0) -> None:
        self.resamples = resamples
        self.seed = seed
        self._of_picture = of_picture
        self._samples = np.bincount(of_picture)

    @property
    def pictures(self) -> int:
        return len(self._samples)

    def difference(self, a: Floats | Flags, b: Floats | Flags) -> Difference:
        """The mean of b - a over the samples, with its interval: [samples] each, 0.0 to 1.0 or flags."""
        return self.differences([(a, b)])[0]

    def differences(self, pairs: Sequence[tuple[Floats | Flags, Floats | Flags]]) -> list[Difference]:
        """`difference` of each pair, the pictures drawn once for all."""
        columns = [(np.asarray(a, dtype=float), np.asarray(b, dtype=float)) for a, b in pairs]
        gains = [b - a for a, b in columns]
        means = [(exact_mean(a), exact_mean(b)) for a, b in columns]
        return [
            Difference(a, b, b - a, *bound, self._p(gain))
            for (a, b), bound, gain in zip(means, self.intervals(gains), gains, strict=True)
        ]

    def _p(self, gain: Floats) -> float | None:
        """`Difference.p` of b - a on each sample."""
        if not self.resamples:
            return None
        p = flip_p(np.bincount(self._of_picture, weights=gain).astype(float))
        if np.isin(gain, (-1.0, 0.0, 1.0)).all():
            p = max(p, mcnemar_p(int(np.count_nonzero(gain > 0)), int(np.count_nonzero(gain < 0))))
        return p

    def intervals(self, columns: Sequence[Floats]) -> list[tuple[float | None, float | None]]:
        """(low, high) of the mean of each column [samples] in 95 of 100 resamples; None of one picture alone
        and without resamples."""
        if self.pictures < 2 or not self.resamples:
            return [(None, None)] * len(columns)
        sums = [np.bincount(self._of_picture, weights=column).astype(float) for column in columns]
        bounds = np.percentile(self._means(sums), (2.5, 97.5), axis=0)
        return [(float(low), float(high)) for low, high in bounds.T]

    def _means(self, sums: Sequence[Floats]) -> Floats:
        """The mean of each resample: [resamples, columns], from the sums of the columns on each picture."""
        random, pictures = np.random.default_rng(self.seed), self.pictures
        at_once = max(1, _AT_ONCE // pictures)
        means = []
        for start in range(0, self.resamples, at_once):
            size = (min(at_once, self.resamples - start), pictures)
            # Drawn in 32 bits, the same pictures as in 64, faster; `take` wants the 64.
            drawn = random.integers(pictures, size=size, dtype=np.uint32).astype(np.int64)
            samples = self._samples.take(drawn).sum(axis=1)
            means.append(np.stack([column.take(drawn).sum(axis=1) / samples for column in sums], axis=1))
        return np.concatenate(means)


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
