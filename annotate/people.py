"""What each person did and how fast, from the history alone: one index of it, whatever the size of the imports."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from grounding.database import reading

# Whoever comes back after a longer break begins a new session.
_SESSION_GAP_SECONDS = 300.0
_COUNTED = {"approve": "approved", "reject": "rejected", "flag": "flagged", "skip": "skipped"}
# What is no work of its own; every other action put a phrase or a box there.
_UNCOUNTED = ("undo", "revert", "reopen", "unflag", "unskip")
# Word for word the condition of the index.
_PEOPLES = "batch IS NULL AND origin IN ('human', 'model')"


@dataclass(frozen=True)
class PersonProgress:
    """What one person did. `written` counts saves of a phrase, accepted suggestions and added samples included.

    `pace_seconds` is the median time between one save or approval and the next of the same session (less than five
    minutes apart), None before the second. `last_active_at` is UTC in ISO 8601. `per_day` are (UTC date as
    YYYY-MM-DD, phrases written or approved that day), days without any left out.
    """

    who: str
    written: int
    approved: int
    rejected: int
    flagged: int
    skipped: int
    pace_seconds: float | None
    last_active_at: str
    per_day: tuple[tuple[str, int], ...]


@dataclass
class _Tally:
    """One person's work while it is counted."""

    counts: Counter[str] = field(default_factory=Counter)
    days: Counter[str] = field(default_factory=Counter)
    gaps_seconds: list[float] = field(default_factory=list)
    saved_at: datetime | None = None
    last_at: str = ""

    def add(self, at: str, action: str) -> None:
        self.last_at = at
        if action in _UNCOUNTED:
            return
        kind = _COUNTED.get(action, "written")
        self.counts[kind] += 1
        if kind in ("written", "approved"):
            self._add_save(at)

    def _add_save(self, at: str) -> None:
        self.days[at[:10]] += 1
        moment = datetime.fromisoformat(at)
        if self.saved_at is not None:
            gap_seconds = (moment - self.saved_at).total_seconds()
            if gap_seconds < _SESSION_GAP_SECONDS:
                self.gaps_seconds.append(gap_seconds)
        self.saved_at = moment

    def finished(self, who: str) -> PersonProgress:
        kinds = {kind: self.counts[kind] for kind in ("written", *_COUNTED.values())}
        pace_seconds = statistics.median(self.gaps_seconds) if self.gaps_seconds else None
        return PersonProgress(
            who, **kinds, pace_seconds=pace_seconds, last_active_at=self.last_at, per_day=tuple(self.days.items())
        )


def progress(path: Path, since: datetime | None = None) -> tuple[PersonProgress, ...]:
    """Each person's work since that moment, or from the start, in the annotations.db at `path`; the busiest first.

    Bulk edits, repairs and imports are nobody's pace and are left out. Raises `StoreError` when it can't be read.
    """
    tallies: dict[str, _Tally] = {}
    for at, who, action in _work(path, since):
        tallies.setdefault(who, _Tally()).add(at, action)
    people = [tally.finished(who) for who, tally in tallies.items()]
    return tuple(sorted(people, key=lambda person: (-person.written - person.approved, person.who)))


def work_sql() -> str:
    """The statement that reads what people did, oldest first. Parameter: the moment to begin with, ISO 8601 in UTC."""
    return f"SELECT at, who, action FROM changes INDEXED BY changes_of_people WHERE {_PEOPLES} AND at >= ? ORDER BY at"


def _work(path: Path, since: datetime | None) -> Iterator[tuple[str, str, str]]:
    begin = "" if since is None else since.astimezone(UTC).isoformat(timespec="milliseconds")
    with reading(path) as connection:
        yield from connection.execute(work_sql(), (begin,))
