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
    """Counts of samples. `train_ready` have a phrase to learn from: no placeholder, not flagged, not rejected."""

    train_ready: int
    train_total: int
    placeholders: int
    flagged: int
    val: int


class CuratedSet:
    """The samples of a store as training takes them. `who` signs the snapshots."""

    def __init__(self, store: Store, snapshots: Path, who: str) -> None:
        self.store = store
        self.snapshots = snapshots
        self.who = who

    def ready(self) -> ReadySamples:
        """The counts as they stand now; kept by the database, so asking often costs nothing."""
        train = self.store.counts("train")
        with reading(self.store.path) as connection:
            flagged_only = connection.execute(
                "SELECT count(*) FROM samples WHERE split = 'train' AND flagged = 1 AND placeholder = 0 "
                "AND state <> 'rejected'"
            ).fetchone()[0]
        return ReadySamples(
            train_ready=train.total - train.placeholders - train.rejected - flagged_only,
            train_total=train.total,
            placeholders=train.placeholders,
            flagged=flagged_only,
            val=train.per_split["val"],
        )

    def version(self) -> str:
        """Another text whenever a sample has been added or changed."""
        with reading(self.store.path) as connection:
            row = connection.execute("SELECT max(id) FROM changes").fetchone()
        return str(row[0])

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
