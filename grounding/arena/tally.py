"""What the votes say together: how often b is preferred, with an interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

_Z_95 = 1.959963984540054


@dataclass(frozen=True)
class Tally:
    """The votes on a pair. `both` and `neither` are counted apart: they prefer nobody. `people`: how many voted."""

    a: int = 0
    b: int = 0
    both: int = 0
    neither: int = 0
    people: int = 0

    @property
    def decisive(self) -> int:
        """Votes for one of the two."""
        return self.a + self.b

    @property
    def votes(self) -> int:
        return self.decisive + self.both + self.neither

    @property
    def share_b(self) -> float | None:
        """Of the decisive votes, those for b: 0.0 to 1.0; None without any."""
        return self.b / self.decisive if self.decisive else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """What the share would be among endless votes like these, with 95% confidence: see `wilson_interval`."""
        return wilson_interval(self.b, self.decisive) if self.decisive else None

    @property
    def decided(self) -> bool:
        """Whether the interval leaves out one half: more than chance speaks for one of the two."""
        return self.interval is not None and not self.interval[0] <= 0.5 <= self.interval[1]


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95% interval of a share, (low, high) within 0.0 to 1.0. It holds for few trials too, where the textbook's
    p ± 2 standard errors does not.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927), 209-212.
    Raises `ValueError` without a trial.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} of {trials} is no share")
    share, z2 = successes / trials, _Z_95**2
    middle = share + z2 / (2 * trials)
    half = _Z_95 * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    scale = 1 + z2 / trials
    # At the ends rounding would leave a share outside of its own interval.
    low = 0.0 if successes == 0 else (middle - half) / scale
    high = 1.0 if successes == trials else (middle + half) / scale
    return low, high
