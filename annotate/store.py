"""The store of samples: every write to them goes through here, and every read through its base, `Reads`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from annotate import bulk, repairs
from annotate.batches import Progress as BatchProgress
from annotate.batches import batch_name, batch_named, batches, broken_batch, run_batch, undo_batch
from annotate.bulk import BulkEdit, BulkPreview
from annotate.edits import BOXES, WORKED_ON, Edit, apply, clean_who, next_skip_order, now, row_for_edit, undo_last
from annotate.intake import Intake, Progress, Taking
from annotate.items import BadRow, Batch, ImportReport, Item, RepairPreview, RepairReport
from annotate.phrases import check_note, check_phrase
from annotate.reads import Reads
from annotate.rows import one_item
from annotate.schema import migrations
from annotate.scopes import Scope
from annotate.versions import add_sample, boxes_inside, check_boxes, version_after
from grounding.boxes import Box
from grounding.database import prepare, reading, writing
from grounding.errors import StaleSaveError
from grounding.pictures import PictureStore
from grounding.records import Sample
from grounding.write_ahead import keep_log

Values = Mapping[str, object]


class Store(Reads):
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
        self._log = keep_log(self, self.path)

    # Import

    def import_samples(
        self,
        samples: Iterable[Sample | BadRow],
        *,
        source: str,
        who: str,
        link: bool = False,
        dry_run: bool = False,
        to_disk: bool = True,
        scratch: Path | None = None,
        progress: Progress | None = None,
    ) -> ImportReport:
        """Take samples in, in batches that each commit; an id that stands already is not touched, but its picture is
        brought back where the file in the workspace is missing or damaged.

        A row that can't be taken (no readable picture, a box outside it, an id twice) is listed in the report's
        errors. Boxes that overhang slightly are clipped. `link` hard-links pictures instead of copying them; those in
        the folder `scratch` are always linked, and removed there once they were looked at. `to_disk` waits at the end
        until the disk has the pictures.
        """
        taking = Taking(source, who, link=link, dry_run=dry_run, to_disk=to_disk, scratch=scratch)
        intake = Intake(self.path, self.pictures, taking)
        return intake.run(samples, progress)

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
        """Save a person's phrase, cleaned, and the boxes unless they are None; a skip or rejection is taken back by it.

        `origin` is "model" where a person took a suggestion as it was. Raises `StoreError` for an empty phrase, a
        placeholder, more than 500 characters or a box outside the picture. The same save sent twice, as a page does
        after a broken connection, is answered with what stands and recorded once; with other boxes it is another save.
        """
        cleaned = check_phrase(phrase)
        edit = Edit(who, action, origin)

        def values(connection: sqlite3.Connection, row: sqlite3.Row) -> Values:
            boxes = {} if boxes_xyxy_px is None else {BOXES: check_boxes(connection, row, boxes_xyxy_px)}
            return {"phrase": cleaned, "state": "written", **WORKED_ON, **boxes}

        try:
            return self._edit(sample_id, expected_revision, edit, values)
        except StaleSaveError as error:
            if self._was_saved_already(error.current, cleaned, boxes_xyxy_px, edit, expected_revision):
                return error.current
            raise

    def add(self, beside: str, phrase: str, boxes_xyxy_px: Sequence[Box], *, who: str) -> Item:
        """A new sample on the picture of the sample `beside`, in its split. No box: the phrase refers to nothing.

        Sent twice by the same person it is added once: as long as it is unchanged, the second answer is that sample.
        """
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

    def _was_saved_already(
        self, current: Item, phrase: str, boxes_xyxy_px: Sequence[Box] | None, edit: Edit, expected_revision: int
    ) -> bool:
        if current.revision != expected_revision + 1 or current.phrase != phrase:
            return False
        last = self.history(current.id)[-1]
        if (last.revision, last.who, last.action) != (current.revision, clean_who(edit.who), edit.action):
            return False
        if boxes_xyxy_px is None:
            return not last.boxes_changed
        return boxes_inside(boxes_xyxy_px, current.image_size_wh) == current.sample.boxes_xyxy_px

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
            return {"state": "approved", **WORKED_ON}

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

    def repair(
        self, who: str, *, as_of: int | None = None, batch: str | None = None, progress: BatchProgress | None = None
    ) -> RepairReport:
        """Fill every placeholder from its own alternatives, a little at a time, so that nobody's save waits.

        The report names the batch for undoing; `batch` chooses that name. Those that people changed since `as_of`
        (that of the preview; None: now) stay as they are.
        """
        edit = Edit(who, "repair", origin="source", batch=batch or batch_name("repair"))
        return run_batch(
            self.path, repairs.PLACEHOLDERS, repairs.fill_from_source, edit, as_of=as_of, progress=progress
        )

    def bulk_preview(self, scope: Scope, edit: BulkEdit, limit: int = 50) -> BulkPreview:
        """What `bulk` would do now."""
        with reading(self.path) as connection:
            return bulk.preview(connection, scope, edit, limit)

    def bulk(
        self,
        scope: Scope,
        edit: BulkEdit,
        *,
        who: str,
        as_of: int | None = None,
        batch: str | None = None,
        progress: BatchProgress | None = None,
    ) -> RepairReport:
        """Edit every sample of the scope, as `repair` does."""
        recorded = bulk.recorded(edit, who, batch)
        return run_batch(self.path, scope, bulk.outcome_of(edit), recorded, as_of=as_of, progress=progress)

    def undo_batch(self, batch: str, who: str, *, progress: BatchProgress | None = None) -> RepairReport:
        """Take a repair or bulk edit back where nobody has changed the sample since.

        One that is still running ends. Raises `StoreError` for an unknown batch.
        """
        return undo_batch(self.path, batch, who, progress)

    def batch(self, name: str) -> Batch | None:
        """Where a repair or bulk edit stands; None when there is none of this name."""
        return batch_named(self.path, name)

    def broken_batch(self) -> Batch | None:
        """The newest repair or bulk edit that ended in the middle, as it does when the power goes."""
        return broken_batch(self.path)

    def batches(self, limit: int = 100) -> list[Batch]:
        """The repairs and bulk edits that changed anything, the newest first."""
        return batches(self.path, limit)
