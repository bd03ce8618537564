"""What the votes say together: how often b is preferred, with an interval."""

from __future__ import annotations

from dataclasses import dataclass

from grounding.paired import wilson_interval


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
