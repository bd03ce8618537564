"""The store of samples: every read and write of annotations.db goes through here."""

from __future__ import annotations

import json
import sqlite3
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from annotate import bulk, filters, repairs
from annotate.batches import undo_batch
from annotate.bulk import BulkEdit, BulkPreview
from annotate.edits import BOXES, Edit, apply, clean_who, next_skip_order, now, row_for_edit, undo_last
from annotate.intake import Intake, Progress, Taking
from annotate.items import BadRow, Change, Counts, ImportReport, Item, Place, Queue, RepairPreview, RepairReport
from annotate.leaks import LeakReport, find_leaks, shared_pictures
from annotate.phrases import check_note, check_phrase
from annotate.queues import check_split
from annotate.rows import BATCH_ROWS, one_item, read_history, select_items
from annotate.schema import migrations
from annotate.scopes import Scope
from annotate.versions import add_sample, check_boxes, version_after
from grounding.boxes import Box
from grounding.database import held_open, prepare, reading, writing
from grounding.errors import StaleSaveError
from grounding.pictures import PictureStore
from grounding.records import SPLITS, Sample

Values = Mapping[str, object]
# Real pictures have a few dozen samples; one on which thousands stand must not slow the page down.
MOST_SIBLINGS = 200


class Store:
    """The samples of one workspace. Safe to share between threads and processes: each call opens its own connection.

    Opening makes the database and brings its tables up to date. Every method raises `StoreError` when the file
    can't be read or written, with a sentence that says why and the way out. A method that changes something has
    committed it to the disk when it returns. Edits name the revision that the page showed; when another stands,
    they raise `StaleSaveError` (its `current` is the item that stands now) and change nothing.
    """

    def __init__(self, annotations_db: Path, pictures: PictureStore) -> None:
        self.path = Path(annotations_db).absolute()
        self.pictures = PictureStore(Path(pictures.folder).resolve())
        prepare(self.path, migrations)
        self._held = weakref.finalize(self, held_open(self.path).close)

    # Import

    def import_samples(
        self,
        samples: Iterable[Sample | BadRow],
        *,
        source: str,
        who: str,
        link: bool = False,
        dry_run: bool = False,
        scratch: Path | None = None,
        progress: Progress | None = None,
    ) -> ImportReport:
        """Take samples in, in batches that each commit; an id that stands already is not touched.

        A row that can't be taken (no readable picture, a box outside it, an id twice) is listed in the report's
        errors. Boxes that overhang slightly are clipped. `link` hard-links pictures instead of copying them;
        those in the folder `scratch` are always linked, and removed there once they were looked at.
        """
        taking = Taking(source, who, link=link, dry_run=dry_run, scratch=scratch)
        intake = Intake(self.path, self.pictures, taking)
        return intake.run(samples, progress)

    # Read

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

    def iterate(self, split: str | None = None) -> Iterator[Sample]:
        """Every sample in import order, read batch by batch: edits made meanwhile may or may not be seen."""
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
            yield from (item.sample for item in items)
            position = items[-1].place[1]

    @contextmanager
    def view(self) -> Iterator[View]:
        """All samples as they stand at one moment, whatever others write meanwhile."""
        with reading(self.path) as connection:
            yield View(connection, self.pictures.folder)

    # Edit

    def save(
        self,
        sample_id: str,
        phrase: str,
        *,
        who: str,
        expected_revision: int,
        action: str = "write",
        origin: str = "human",
        boxes_xyxy_px: Sequence[Box] | None = None,
    ) -> Item:
        """Save a person's phrase, cleaned, and the boxes unless they are None; a skip is taken back by it.

        `origin` is "model" where a person took a suggestion as it was. Raises `StoreError` for an empty phrase, a
        placeholder, more than 500 characters or a box outside the picture. The same save sent twice, as a page does
        after a broken connection, is answered with what stands and recorded once.
        """
        cleaned = check_phrase(phrase)
        edit = Edit(who, action, origin)

        def values(connection: sqlite3.Connection, row: sqlite3.Row) -> Values:
            boxes = {} if boxes_xyxy_px is None else {BOXES: check_boxes(connection, row, boxes_xyxy_px)}
            return {"phrase": cleaned, "state": "written", "skipped_at": None, "skip_order": 0, **boxes}

        try:
            return self._edit(sample_id, expected_revision, edit, values)
        except StaleSaveError as error:
            if self._was_saved_already(error.current, cleaned, who, expected_revision, action):
                return error.current
            raise

    def add(self, beside: str, phrase: str, boxes_xyxy_px: Sequence[Box], *, who: str) -> Item:
        """A new sample on the picture of the sample `beside`, in its split. No box: the phrase refers to nothing."""
        cleaned = check_phrase(phrase)
        with writing(self.path) as connection:
            return add_sample(connection, beside, cleaned, boxes_xyxy_px, who, self.pictures.folder)

    def revert(self, sample_id: str, change_id: int, *, who: str, expected_revision: int) -> Item:
        """Put the sample back as it stood right after this change of its history, as a new change.

        Raises `StoreError` when the change is none of this sample's.
        """

        def values(connection: sqlite3.Connection, row: sqlite3.Row) -> Values:
            return version_after(connection, row, change_id)

        return self._edit(sample_id, expected_revision, Edit(who, "revert", note=f"to change {change_id}"), values)

    def reopen(self, sample_id: str, *, who: str, expected_revision: int) -> Item:
        """Take an approval or a rejection back: the sample waits for a review again."""
        values = {"state": "written", "reject_reason": ""}
        return self._edit(sample_id, expected_revision, Edit(who, "reopen"), lambda c, row: values)

    def mark_seen(self, sample_id: str) -> None:
        """Note that a person had the sample open. No change of the sample: its revision stays. Doesn't wait for the
        disk: what a power cut takes away is seen again."""
        with reading(self.path) as connection:
            row = connection.execute("SELECT seen_at FROM samples WHERE id = ?", (sample_id,)).fetchone()
        if row is not None and row["seen_at"] is None:
            with writing(self.path, to_disk=False) as connection:
                connection.execute("UPDATE samples SET seen_at = ? WHERE id = ?", (now(), sample_id))

    def _was_saved_already(self, current: Item, phrase: str, who: str, expected_revision: int, action: str) -> bool:
        if current.revision != expected_revision + 1 or current.phrase != phrase:
            return False
        last = self.history(current.id)[-1]
        return (last.revision, last.who, last.action) == (current.revision, clean_who(who), action)

    def skip(self, sample_id: str, *, who: str, expected_revision: int) -> Item:
        """Put the sample behind all others of its queues."""

        def values(connection: sqlite3.Connection, row: sqlite3.Row) -> Values:
            return {"skipped_at": now(), "skip_order": next_skip_order(connection)}

        return self._edit(sample_id, expected_revision, Edit(who, "skip"), values)

    def flag(self, sample_id: str, note: str, *, who: str, expected_revision: int) -> Item:
        """Mark the sample for somebody to look at, with a note; snapshots leave it out until it is unflagged."""
        cleaned = check_note(note)
        edit = Edit(who, "flag", note=cleaned)
        return self._edit(sample_id, expected_revision, edit, lambda c, row: {"flagged": 1, "flag_note": cleaned})

    def unflag(self, sample_id: str, *, who: str, expected_revision: int) -> Item:
        """Take the mark and its note away."""
        edit = Edit(who, "unflag")
        return self._edit(sample_id, expected_revision, edit, lambda c, row: {"flagged": 0, "flag_note": ""})

    def approve(self, sample_id: str, *, who: str, expected_revision: int) -> Item:
        """Say that the phrase is right. Raises `StoreError` when it is a placeholder."""

        def values(connection: sqlite3.Connection, row: sqlite3.Row) -> Values:
            check_phrase(row["phrase"])
            return {"state": "approved", "skipped_at": None, "skip_order": 0}

        return self._edit(sample_id, expected_revision, Edit(who, "approve"), values)

    def reject(self, sample_id: str, reason: str, *, who: str, expected_revision: int) -> Item:
        """Keep the sample out of the placeholders queue, of repairs and of snapshots, with the reason."""
        edit = Edit(who, "reject", note=check_note(reason))
        return self._edit(
            sample_id, expected_revision, edit, lambda c, row: {"state": "rejected", "reject_reason": edit.note}
        )

    def undo(self, sample_id: str, *, who: str, expected_revision: int) -> Item:
        """Put back what stood before the last change, as a new change; again for the one before.

        Raises `StoreError` when the sample stands as it was imported.
        """
        with writing(self.path) as connection:
            row = row_for_edit(connection, sample_id, expected_revision, self.pictures.folder)
            undo_last(connection, row, who)
            return one_item(connection, sample_id, self.pictures.folder)

    def _edit(
        self,
        sample_id: str,
        expected_revision: int,
        edit: Edit,
        values_of: Callable[[sqlite3.Connection, sqlite3.Row], Values],
    ) -> Item:
        with writing(self.path) as connection:
            row = row_for_edit(connection, sample_id, expected_revision, self.pictures.folder)
            apply(connection, row, values_of(connection, row), edit)
            return one_item(connection, sample_id, self.pictures.folder)

    # Many at once

    def repair_preview(self, limit: int = 50) -> RepairPreview:
        """What `repair` would do now."""
        with reading(self.path) as connection:
            return repairs.preview(connection, limit)

    def repair(self, who: str) -> RepairReport:
        """Fill every placeholder from its own alternatives, all or none; the report names the batch for undoing."""
        with writing(self.path) as connection:
            return repairs.repair(connection, who)

    def bulk_preview(self, scope: Scope, edit: BulkEdit, limit: int = 50) -> BulkPreview:
        """What `bulk` would do now."""
        with reading(self.path) as connection:
            return bulk.preview(connection, scope, edit, limit)

    def bulk(self, scope: Scope, edit: BulkEdit, *, who: str) -> RepairReport:
        """Edit every sample of the scope, all or none; the report names the batch for undoing."""
        with writing(self.path) as connection:
            return bulk.apply_bulk(connection, scope, edit, who)

    def undo_batch(self, batch: str, who: str) -> RepairReport:
        """Take a repair or bulk edit back where nobody has changed the sample since.

        Raises `StoreError` for an unknown batch.
        """
        with writing(self.path) as connection:
            return undo_batch(connection, batch, who)


class View:
    """The samples at one moment; made by `Store.view`."""

    def __init__(self, connection: sqlite3.Connection, pictures_folder: Path) -> None:
        self._connection = connection
        self._pictures_folder = pictures_folder

    def items(self) -> Iterator[Item]:
        """Every sample in import order, streamed."""
        return select_items(self._connection, self._pictures_folder, "ORDER BY s.position")

    def items_by_picture(self) -> Iterator[Item]:
        """Every sample, those of one picture together, streamed."""
        return select_items(self._connection, self._pictures_folder, "ORDER BY s.picture_sha256, s.position")

    def wordings(self) -> Iterator[tuple[str, str, str, str]]:
        """(id, phrase, category, picture) of each sample that is neither rejected nor a placeholder, streamed."""
        rows = self._connection.execute(
            "SELECT id, phrase, category, picture_sha256 FROM samples "
            "WHERE state <> 'rejected' AND placeholder = 0 ORDER BY position"
        )
        return map(tuple, rows)

    def replaced_phrases(self) -> dict[str, frozenset[str]]:
        """For each sample that a person has edited, the phrases that a person took away."""
        rows = self._connection.execute(
            "SELECT sample_id, json_group_array(DISTINCT phrase_before) FROM changes "
            "WHERE origin = 'human' AND phrase_before <> phrase_after GROUP BY sample_id"
        )
        return {sample_id: frozenset(json.loads(phrases)) for sample_id, phrases in rows}

    def leaks(self, *, by_looks: bool = True) -> LeakReport:
        """Pictures of train that stand in val or test too, as they are or as a copy; `find_leaks` says what
        `by_looks` is."""
        return find_leaks(self._connection, self._pictures_folder, by_looks=by_looks)

    def pictures_of_val_and_test(self) -> frozenset[str]:
        """The pictures, by SHA-256, that stand in both."""
        return frozenset(shared_pictures(self._connection, "val", "test"))
