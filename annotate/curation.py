"""What training sees of the curated set: how much is ready, and a snapshot of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from annotate.snapshot import freeze, would_be_frozen
from annotate.store import Store
from grounding.database import reading
from grounding.errors import SnapshotError
from grounding.records import Sample


@dataclass(frozen=True)
class ReadySamples:
    """Counts of samples. `train_ready` have a phrase to learn from: no placeholder, not flagged, not rejected. `val`
    are those that a run may be scored on, by the same rule; `val_boxed` those of them with a box."""

    train_ready: int
    train_total: int
    placeholders: int
    flagged: int
    val: int
    val_boxed: int


class CuratedSet:
    """The samples of a store as training takes them. `who` signs the snapshots."""

    def __init__(self, store: Store, snapshots: Path, who: str) -> None:
        self.store = store
        self.snapshots = snapshots
        self.who = who
        self._counted: tuple[str, int, int] | None = None

    def ready(self) -> ReadySamples:
        """The counts as they stand now; kept by the database, so asking often costs nothing."""
        train = self.store.counts("train")
        with reading(self.store.path) as connection:
            flagged_only = connection.execute(
                "SELECT count(*) FROM samples WHERE split = 'train' AND flagged = 1 AND placeholder = 0 "
                "AND state <> 'rejected'"
            ).fetchone()[0]
        val, val_boxed = self._held_out()
        return ReadySamples(
            train_ready=train.total - train.placeholders - train.rejected - flagged_only,
            train_total=train.total,
            placeholders=train.placeholders,
            flagged=flagged_only,
            val=val,
            val_boxed=val_boxed,
        )

    def _held_out(self) -> tuple[int, int]:
        """(validation samples to score on, those of them with a box), counted anew when a sample has changed."""
        version = self.version()
        if self._counted is None or self._counted[0] != version:
            with reading(self.store.path) as connection:
                row = connection.execute(
                    "SELECT count(*), coalesce(sum(EXISTS (SELECT 1 FROM boxes WHERE sample_id = samples.id)), 0) "
                    "FROM samples WHERE split = 'val' AND placeholder = 0 AND flagged = 0 AND state <> 'rejected'"
                ).fetchone()
            self._counted = version, int(row[0]), int(row[1])
        return self._counted[1:]

    def version(self) -> str:
        """Another text whenever a sample has been added or changed."""
        with reading(self.store.path) as connection:
            # Those found to be templates become placeholders without a change of their own.
            row = connection.execute("SELECT (SELECT max(id) FROM changes), sum(placeholders) FROM tallies").fetchone()
        return f"{row[0]}-{row[1]}"

    def would_be_frozen(self) -> tuple[list[Sample], dict[str, int]]:
        """(samples that a snapshot made now would hold, train samples left out for each reason)."""
        return would_be_frozen(self.store)

    def freeze(self, name: str, *, placeholders: bool = False) -> str:
        """Freeze the usable samples under this name, or `name-2`, `name-3` ... when it is taken; returns the name.
        `placeholders` takes those phrases too: only for a run that is forced.

        Raises `SnapshotError` when nothing is left to train on or the folder can't be written.
        """
        candidates = [name, *(f"{name[:58]}-{number}" for number in range(2, 1000))]
        free = next((candidate for candidate in candidates if not (self.snapshots / candidate).exists()), None)
        if free is None:
            raise SnapshotError(f"There are a thousand snapshots called {name!r}. Choose another name.")
        return freeze(self.store, self.snapshots, free, who=self.who, placeholders=placeholders).name
