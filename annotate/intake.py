"""Take samples into the store: check each, keep its picture, and name what is wrong with those left out."""

from __future__ import annotations

import json
import os
import random
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from annotate.checks import profile_named, same_wording
from annotate.edits import clean_who, is_stand_in, known_templates, now
from annotate.items import BadRow, ImportReport
from annotate.phrases import clean_text
from annotate.problems import check_imported, kept_profile, problems_alone
from annotate.remembered import KeptPicture, Remembered
from grounding.boxes import Box
from grounding.database import connect, transaction
from grounding.errors import PictureError, RecordError, StoreError
from grounding.pictures import PictureStore, file_sha256, picture_size_wh
from grounding.records import Sample

Progress = Callable[[int], None]
_BATCH_SAMPLES = 1000
SHUFFLE_PLACES = 1_000_000_007
# Each row touches two dozen indices: their pages in use should stay in memory from batch to batch.
_CACHE_KIB = 64 * 1024
# Sources round and pad, so an edge may stand out this far: the larger of the two. More means another picture or format.
_OVERHANG_PX = 2.0
_OVERHANG_SHARE = 0.02
# An id stands in addresses, and on the page once for each sample of a picture.
_MAX_ID_CHARACTERS = 1000
_MAX_ERROR_CHARACTERS = 2000


@dataclass(frozen=True)
class _Ready:
    sample: Sample
    picture: KeptPicture
    boxes_xyxy_px: tuple[Box, ...]
    alternatives: str
    extra: str


@dataclass(frozen=True)
class Taking:
    """How an import takes samples in. `dry_run` checks everything and writes nothing, pictures included. `link`
    hard-links pictures; those inside `scratch` are linked anyway, and removed there once they were looked at. `to_disk`
    waits at the end until the disk has the pictures: what can be drawn again need not."""

    source: str
    who: str
    link: bool = False
    dry_run: bool = False
    to_disk: bool = True
    scratch: Path | None = None

    def passing(self, path: Path) -> bool:
        """Whether the picture is one that an importer has taken out of its source."""
        return self.scratch is not None and path.is_relative_to(self.scratch)


class Intake:
    """One import: feed it samples with `run`."""

    def __init__(self, path: Path, pictures: PictureStore, taking: Taking) -> None:
        self._path = path
        self._pictures = pictures
        self._taking = taking
        self._source = clean_text(taking.source)
        self._who = clean_who(taking.who)
        self._dry_run, self._to_disk = taking.dry_run, taking.to_disk
        self._errors: list[str] = []
        self._imported = self._already_there = self._clipped = self._brought_back = 0

    def run(self, samples: Iterable[Sample | BadRow], progress: Progress | None) -> ImportReport:
        """Take every sample, a batch a transaction; `progress` gets the number of rows done after each batch."""
        rows = iter(samples)
        done = 0
        with Remembered() as self._remembered, connect(self._path) as self._connection:
            self._connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            while batch := list(islice(rows, _BATCH_SAMPLES)):
                self._take(batch)
                done += len(batch)
                if progress is not None:
                    progress(done)
        if self._to_disk and not self._dry_run and (self._imported or self._brought_back):
            sync_disk()
        return ImportReport(
            self._imported,
            self._already_there,
            tuple(self._errors),
            clipped=self._clipped,
            dry_run=self._dry_run,
            brought_back=self._brought_back,
        )

    def _take(self, batch: list[Sample | BadRow]) -> None:
        standing = self._standing_ids([row.id for row in batch if isinstance(row, Sample)])
        ready: list[_Ready] = []
        for row in batch:
            if isinstance(row, BadRow):
                self._note(str(row))
            elif not self._remembered.is_new(row.id):
                self._note(f"{row.id}: this id stands twice in the source; only the first row of it counts.")
            elif row.id in standing:
                self._already_there += 1
                self._bring_back(row, standing[row.id])
            else:
                ready.extend(self._check(row))
        if self._dry_run:
            self._imported += len(ready)
        elif ready:
            self._insert(ready)

    def _note(self, error: str) -> None:
        """Keep the error, cut and without what steers a terminal: a hostile source may put megabytes, or a command of
        the terminal, where an id or the name of a file belongs."""
        cut = error if len(error) <= _MAX_ERROR_CHARACTERS else f"{error[:_MAX_ERROR_CHARACTERS]}…"
        self._errors.append("".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut))

    def _standing_ids(self, ids: list[str]) -> dict[str, str]:
        # A lone surrogate is no UTF-8: such an id can't stand, and `_check` names it.
        askable = [sample_id.encode(errors="replace").decode() for sample_id in ids]
        return _standing(self._connection, askable)

    def _bring_back(self, sample: Sample, sha256: str) -> None:
        """Place the picture of a sample that stands where the file here is missing or damaged, once a picture."""
        if self._remembered.is_whole(sha256):
            return
        if not self._pictures.holds(sha256):
            try:
                if file_sha256(sample.image) != sha256:
                    raise PictureError(f"{sample.image.name} is another picture. Restore a backup.")
                self._keep_picture(sample.image)
            except PictureError as error:
                self._note(f"{sample.id}: its picture in the workspace is missing or damaged, and stays so: {error}")
                return
            self._brought_back += 1
        self._remembered.keep_whole(sha256)

    def _check(self, sample: Sample) -> Iterator[_Ready]:
        """The sample when it can be taken; otherwise its error is noted and nothing comes."""
        try:
            alternatives, extra = _checked_text(sample)
            picture = self._keep_picture(sample.image)
            boxes_xyxy_px = tuple(clip_overhang(box, picture.size_wh) for box in sample.boxes_xyxy_px)
        except (PictureError, RecordError) as error:
            self._note(f"{ascii(sample.id)[1:-1]}: {error}")
            return
        self._clipped += boxes_xyxy_px != sample.boxes_xyxy_px
        yield _Ready(sample, picture, boxes_xyxy_px, alternatives, extra)

    def _keep_picture(self, path: Path) -> KeptPicture:
        """Keep the picture, once a file. Raises `PictureError`, and `StoreError` when the workspace can't hold it."""
        kept = self._remembered.picture(path)
        if kept is None:
            try:
                kept = self._remembered.keep(path, self._place_picture(path))
            except PictureError as error:
                kept = self._remembered.keep(path, KeptPicture(problem=str(error)))
            except OSError as error:
                raise StoreError(
                    f"The picture folder {self._pictures.folder} can't be written ({error.strerror or error}). "
                    "Free some space or give yourself the right to write there, then import again: "
                    "what was imported so far is kept."
                ) from error
        if kept.problem:
            raise PictureError(kept.problem)
        return kept

    def _place_picture(self, path: Path) -> KeptPicture:
        passing = self._taking.passing(path)
        try:
            if self._dry_run:
                return KeptPicture(size_wh=picture_size_wh(path))
            sha256, size_wh = self._pictures.add(path, link=self._taking.link or passing)
        finally:
            if passing:
                path.unlink(missing_ok=True)
        file = self._pictures.path(sha256).relative_to(self._pictures.folder).as_posix()
        return KeptPicture(sha256, file, size_wh)

    def _insert(self, ready: list[_Ready]) -> None:
        with transaction(self._connection):
            # Somebody else's import may have put an id in since it was checked.
            standing = _standing(self._connection, [one.sample.id for one in ready])
            fresh = [one for one in ready if one.sample.id not in standing]
            _insert_samples(self._connection, fresh, self._source)
            _insert_parts(self._connection, fresh, self._who, self._source)
            check_imported(self._connection, [one.sample.id for one in fresh])
        self._imported += len(fresh)
        self._already_there += len(standing)


def clip_overhang(box: Box, image_size_wh: tuple[int, int]) -> Box:
    """The box cut at the picture's edges. Raises `RecordError` when it stands out by more than a slip of rounding."""
    width, height = image_size_wh
    slack_x = max(_OVERHANG_PX, width * _OVERHANG_SHARE)
    slack_y = max(_OVERHANG_PX, height * _OVERHANG_SHARE)
    inside = box.clip(image_size_wh)
    fits = min(box.x1, width - box.x2) >= -slack_x and min(box.y1, height - box.y2) >= -slack_y
    if inside is None or not fits:
        raise RecordError(
            f"the box {box.rounded()} stands outside its picture of {width} x {height} pixels. "
            "Expected x1, y1, x2, y2 in pixels of the original image."
        )
    return inside


def _checked_text(sample: Sample) -> tuple[str, str]:
    """Its alternatives and further keys as JSON. Raises `RecordError` for what is no text."""
    if not sample.id.isprintable():
        raise RecordError("the id has characters that can't be printed.")
    if len(sample.id) > _MAX_ID_CHARACTERS:
        raise RecordError(f"the id has {len(sample.id)} characters; the limit is {_MAX_ID_CHARACTERS}.")
    for name, text in (("phrase", sample.phrase), ("category", sample.category), ("image_id", sample.image_id)):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RecordError(f"{name!r} is no valid text ({error.reason}).") from error
    try:
        kept = tuple(json.dumps(value, ensure_ascii=False) for value in (list(sample.alternatives), dict(sample.extra)))
        "".join(kept).encode()
    except (TypeError, ValueError) as error:
        raise RecordError(f"its alternatives or further keys can't be kept as JSON ({error}).") from error
    return kept[0], kept[1]


def _standing(connection: sqlite3.Connection, ids: list[str]) -> dict[str, str]:
    """The SHA-256 of the picture of each of these that stands, by id."""
    marks = ", ".join("?" * len(ids))
    found = connection.execute(f"SELECT id, picture_sha256 FROM samples WHERE id IN ({marks})", ids)
    return {row["id"]: row["picture_sha256"] for row in found}


def sync_disk() -> None:
    """Wait until the disk has everything: once, as waiting for each picture takes several times as long as the rest of
    an import. After a power cut before that, the same import again brings back what was lost."""
    if hasattr(os, "sync"):  # not on Windows
        os.sync()


def _insert_samples(connection: sqlite3.Connection, fresh: list[_Ready], source: str) -> None:
    """The pictures and samples, behind all that stand."""
    first = connection.execute("SELECT COALESCE(MAX(position), 0) + 1 FROM samples").fetchone()[0]
    pictures = {one.picture.sha256: one.picture for one in fresh}
    profile = profile_named(kept_profile(connection))
    phrases = {one.sample.phrase for one in fresh}
    templates = known_templates(connection)
    placeholder = {phrase: is_stand_in(phrase, templates) for phrase in phrases}
    problems = {phrase: "" if placeholder[phrase] else problems_alone(phrase, profile) for phrase in phrases}
    connection.executemany(
        "INSERT INTO pictures (sha256, file, width_px, height_px) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [(picture.sha256, picture.file, *picture.size_wh) for picture in pictures.values()],
    )
    connection.executemany(
        "INSERT INTO samples (id, position, picture_sha256, image_id, phrase, category, split, source, alternatives, "
        "extra, placeholder, problems, wording, shuffle, state) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'imported')",
        (
            (
                one.sample.id,
                position,
                one.picture.sha256,
                one.sample.image_id,
                one.sample.phrase,
                one.sample.category,
                one.sample.split,
                source,
                one.alternatives,
                one.extra,
                placeholder[one.sample.phrase],
                problems[one.sample.phrase],
                same_wording(one.sample.phrase),
                random.randrange(SHUFFLE_PLACES),
            )
            for position, one in enumerate(fresh, start=first)
        ),
    )


def _insert_parts(connection: sqlite3.Connection, fresh: list[_Ready], who: str, source: str) -> None:
    """The boxes of the samples, and the first line of their history."""
    at = now()
    connection.executemany(
        "INSERT INTO boxes (sample_id, ordinal, x1_px, y1_px, x2_px, y2_px) VALUES (?, ?, ?, ?, ?, ?)",
        ((one.sample.id, ordinal, *box) for one in fresh for ordinal, box in enumerate(one.boxes_xyxy_px)),
    )
    connection.executemany(
        "INSERT INTO changes (sample_id, revision, at, who, action, origin, phrase_after, before, note) "
        "VALUES (?, 1, ?, ?, 'import', 'import', ?, '{}', ?)",
        ((one.sample.id, at, who, one.sample.phrase, source) for one in fresh),
    )
