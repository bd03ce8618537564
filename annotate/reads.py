"""Every look at the samples of a store; none of them changes anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from annotate import filters
from annotate.items import Change, Counts, Item, Place, Queue
from annotate.queues import check_split
from annotate.rows import BATCH_ROWS, one_item, read_history, select_items, sourced
from annotate.scopes import Scope
from annotate.view import View
from grounding.database import reading
from grounding.pictures import PictureStore
from grounding.records import SPLITS, Sample

# Real pictures have a few dozen samples; one on which thousands stand must not slow the page down.
MOST_SIBLINGS = 200


class Reads:
    """What one may ask of a `Store`: the database at `path`, and `pictures`."""

    path: Path
    pictures: PictureStore

    def get(self, sample_id: str) -> Item:
        """The sample as it stands. Raises `StoreError` for an unknown id."""
        with reading(self.path) as connection:
            return one_item(connection, sample_id, self.pictures.folder)

    def next_item(
        self, scope: Queue | Scope, after: str | Place | None = None, split: str | None = None
    ) -> Item | None:
        """The item behind `after` in the scope, or None at its end; the first when `after` is None.

        `scope` is a queue, perhaps of one `split`, or a whole `Scope`. `after` is an id, or the `Item.place_in` of the
        queue that the page showed: after an edit only that place still says where the page was, as the sample itself
        may stand elsewhere now.
        """
        return self._neighbour(scope, after, split, forward=True)

    def previous_item(
        self, scope: Queue | Scope, before: str | Place | None = None, split: str | None = None
    ) -> Item | None:
        """The item ahead of `before` in the scope, or None at its front; the last when `before` is None."""
        return self._neighbour(scope, before, split, forward=False)

    def _neighbour(
        self, scope: Queue | Scope, start: str | Place | None, split: str | None, *, forward: bool
    ) -> Item | None:
        if not isinstance(scope, Scope):
            scope = Scope(scope, split)
        with reading(self.path) as connection:
            if isinstance(start, str):
                place: Place | None = one_item(connection, start, self.pictures.folder).place_in(scope.queue)
            else:
                place = start
            found = filters.neighbour(connection, scope, place, forward=forward)
            return None if found is None else one_item(connection, found, self.pictures.folder)

    def count_in(self, scope: Scope, most: int = 10_000) -> tuple[int, bool]:
        """How many samples the scope has; (number, True) says that many or more.

        Filters stop counting at `most`, or sooner where common words are looked for in a large queue.
        """
        if not scope.is_narrowed:
            counts = self.counts(scope.split)
            return counts.total if scope.queue == "all" else int(getattr(counts, scope.queue)), False
        with reading(self.path) as connection:
            return filters.count(connection, scope, most)

    def categories(self, limit: int = 500) -> list[str]:
        """The first `limit` categories by name, however many samples there are."""
        with reading(self.path) as connection:
            return filters.categories(connection, limit)

    def annotators(self, limit: int = 500) -> list[str]:
        """The people whose word is the last on some sample, by name."""
        with reading(self.path) as connection:
            return filters.annotators(connection, limit)

    def siblings(self, sample_id: str, most: int = MOST_SIBLINGS) -> tuple[Item, ...]:
        """The other samples of the same picture, in import order; of more than `most` the nearest in that order."""
        with reading(self.path) as connection:
            item = one_item(connection, sample_id, self.pictures.folder)
            positions = json.dumps(filters.nearest_of_picture(connection, item.picture_sha256, item.place[1], most))
            tail = "WHERE s.position IN (SELECT value FROM json_each(?)) ORDER BY s.position"
            return tuple(select_items(connection, self.pictures.folder, tail, (positions,)))

    def samples_of_picture(self, picture_sha256: str, most: int = MOST_SIBLINGS) -> list[Sample]:
        """The first `most` samples of a picture in import order, but for rejected ones."""
        tail = "WHERE s.picture_sha256 = ? AND s.state <> 'rejected' ORDER BY s.position LIMIT ?"
        with reading(self.path) as connection:
            items = select_items(connection, self.pictures.folder, tail, (picture_sha256, max(0, most)))
            return [item.sample for item in items]

    def sibling_count(self, sample_id: str) -> int:
        """How many other samples the same picture has, all told. Raises `StoreError` for an unknown id."""
        with reading(self.path) as connection:
            item = one_item(connection, sample_id, self.pictures.folder)
            sql = "SELECT COUNT(*) - 1 FROM samples WHERE picture_sha256 = ?"
            return int(connection.execute(sql, (item.picture_sha256,)).fetchone()[0])

    def history(self, sample_id: str) -> tuple[Change, ...]:
        """Everything that happened to the sample, oldest first. Raises `StoreError` for an unknown id."""
        with reading(self.path) as connection:
            one_item(connection, sample_id, self.pictures.folder)
            return read_history(connection, sample_id)

    def counts(self, split: str | None = None) -> Counts:
        """How many samples there are, in one split or in all; kept up to date by the database, so it costs nothing."""
        check_split(split)
        return self.all_counts()[split]

    def all_counts(self) -> dict[str | None, Counts]:
        """`counts` of each split, and of all together under None, as they stand at one moment."""
        with reading(self.path) as connection:
            rows = connection.execute("SELECT * FROM tallies").fetchall()
        totals = {row["split"]: row["total"] for row in rows}
        counts: dict[str | None, Counts] = {}
        for split in (None, *SPLITS):
            chosen = [dict(row) for row in rows if split in (None, row["split"])]
            sums = {name: sum(row[name] for row in chosen) for name in chosen[0] if name != "split"}
            counts[split] = Counts(**sums, per_split={name: totals[name] for name in SPLITS})
        return counts

    def get_sample(self, sample_id: str) -> Sample:
        """The sample alone. Raises `StoreError` for an unknown id."""
        return self.get(sample_id).sample

    def splits(self) -> dict[str, int]:
        """How many samples each split has."""
        return dict(self.counts().per_split)

    def page(self, split: str | None, offset: int, limit: int) -> tuple[list[Sample], int]:
        """Samples `offset` to `offset + limit` in import order, and how many there are in all."""
        total = self.counts(split).total
        # The inner query walks a narrow index, not the rows that are passed over.
        condition, parameters = ("WHERE split = ?", (split,)) if split else ("", ())
        tail = (
            f"WHERE s.rowid IN (SELECT rowid FROM samples {condition} ORDER BY position LIMIT ? OFFSET ?) "
            "ORDER BY s.position"
        )
        with reading(self.path) as connection:
            window = (*parameters, max(0, limit), max(0, offset))
            return [item.sample for item in select_items(connection, self.pictures.folder, tail, window)], total

    def iterate(self, split: str | None = None, *, with_source: bool = False) -> Iterator[Sample]:
        """Every sample in import order, read batch by batch: edits made meanwhile may or may not be seen.

        With `with_source`, one that does not say itself what it is from (`grounding.records.source_of`) has the name
        under which it was imported as `source` in its `extra`.
        """
        check_split(split)
        condition, parameters = ("s.split = ? AND", (split,)) if split else ("", ())
        tail = f"WHERE {condition} s.position > ? ORDER BY s.position LIMIT ?"
        position = -1
        while True:
            with reading(self.path) as connection:
                window = (*parameters, position, BATCH_ROWS)
                items = list(select_items(connection, self.pictures.folder, tail, window))
            if not items:
                return
            yield from (sourced(item) if with_source else item.sample for item in items)
            position = items[-1].place[1]

    @contextmanager
    def view(self) -> Iterator[View]:
        """All samples as they stand at one moment, whatever others write meanwhile."""
        with reading(self.path) as connection:
            yield View(connection, self.pictures.folder)
