"""Take samples into the store: check each, keep its picture, and name what is wrong with those left out."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from annotate.edits import clean_who, insert_boxes, now
from annotate.items import BadRow, ImportReport
from annotate.phrases import clean_text
from annotate.placeholders import is_placeholder
from grounding.boxes import Box
from grounding.database import reading, writing
from grounding.errors import PictureError, RecordError, StoreError
from grounding.pictures import PictureStore, picture_size_wh
from grounding.records import Sample

Progress = Callable[[int], None]
_BATCH_SAMPLES = 500
SHUFFLE_PLACES = 1_000_000_007
# Sources round and pad, so an edge may stand out this far: the larger of the two. More means another picture or format.
_OVERHANG_PX = 2.0
_OVERHANG_SHARE = 0.02


@dataclass(frozen=True)
class _Picture:
    sha256: str
    file: str
    size_wh: tuple[int, int]


@dataclass(frozen=True)
class _Ready:
    sample: Sample
    picture: _Picture
    boxes_xyxy_px: tuple[Box, ...]


@dataclass(frozen=True)
class Taking:
    """How an import takes samples in. `dry_run` checks everything and writes nothing, pictures included. `link`
    hard-links pictures; those inside `scratch` are linked anyway, and removed there once they are kept."""

    source: str
    who: str
    link: bool = False
    dry_run: bool = False
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
        self._dry_run = taking.dry_run
        self._kept: dict[Path, _Picture | PictureError] = {}
        self._seen_ids: set[str] = set()
        self._errors: list[str] = []
        self._imported = self._already_there = self._clipped = 0

    def run(self, samples: Iterable[Sample | BadRow], progress: Progress | None) -> ImportReport:
        """Take every sample, a batch a transaction; `progress` gets the number of rows done after each batch."""
        rows = iter(samples)
        done = 0
        while batch := list(islice(rows, _BATCH_SAMPLES)):
            self._take(batch)
            done += len(batch)
            if progress is not None:
                progress(done)
        return ImportReport(
            self._imported, self._already_there, tuple(self._errors), clipped=self._clipped, dry_run=self._dry_run
        )

    def _take(self, batch: list[Sample | BadRow]) -> None:
        standing = self._standing_ids([row.id for row in batch if isinstance(row, Sample)])
        ready: list[_Ready] = []
        for row in batch:
            if isinstance(row, BadRow):
                self._errors.append(str(row))
            elif row.id in self._seen_ids:
                self._errors.append(f"{row.id}: this id stands twice in the source; the first one was taken.")
            else:
                self._seen_ids.add(row.id)
                if row.id in standing:
                    self._already_there += 1
                else:
                    ready.extend(self._check(row))
        if self._dry_run:
            self._imported += len(ready)
        elif ready:
            self._insert(ready)

    def _standing_ids(self, ids: list[str]) -> set[str]:
        marks = ", ".join("?" * len(ids))
        # A lone surrogate is no UTF-8: such an id can't stand, and `_check` names it.
        askable = [sample_id.encode(errors="replace").decode() for sample_id in ids]
        with reading(self._path) as connection:
            return {row["id"] for row in connection.execute(f"SELECT id FROM samples WHERE id IN ({marks})", askable)}

    def _check(self, sample: Sample) -> Iterator[_Ready]:
        """The sample when it can be taken; otherwise its error is noted and nothing comes."""
        try:
            _check_text(sample)
            picture = self._keep_picture(sample.image)
            boxes_xyxy_px = tuple(clip_overhang(box, picture.size_wh) for box in sample.boxes_xyxy_px)
        except (PictureError, RecordError) as error:
            self._errors.append(f"{ascii(sample.id)[1:-1]}: {error}")
            return
        self._clipped += boxes_xyxy_px != sample.boxes_xyxy_px
        yield _Ready(sample, picture, boxes_xyxy_px)

    def _keep_picture(self, path: Path) -> _Picture:
        """Keep the picture, once a file. Raises `PictureError`, and `StoreError` when the workspace can't hold it."""
        if path not in self._kept:
            try:
                self._kept[path] = self._place_picture(path)
            except PictureError as error:
                self._kept[path] = error
            except OSError as error:
                raise StoreError(
                    f"The picture folder {self._pictures.folder} can't be written ({error.strerror or error}). "
                    "Free some space or give yourself the right to write there, then import again: "
                    "what was imported so far is kept."
                ) from error
        kept = self._kept[path]
        if isinstance(kept, PictureError):
            raise kept
        return kept

    def _place_picture(self, path: Path) -> _Picture:
        if self._dry_run:
            return _Picture("", "", picture_size_wh(path))
        passing = self._taking.passing(path)
        sha256, size_wh = self._pictures.add(path, link=self._taking.link or passing)
        if passing:
            path.unlink(missing_ok=True)
        file = self._pictures.path(sha256).relative_to(self._pictures.folder).as_posix()
        return _Picture(sha256, file, size_wh)

    def _insert(self, ready: list[_Ready]) -> None:
        at = now()
        with writing(self._path) as connection:
            position = connection.execute("SELECT COALESCE(MAX(position), 0) FROM samples").fetchone()[0]
            for one in ready:
                position += 1
                if _insert_sample(connection, one, position, self._source):
                    _insert_parts(connection, one, self._who, self._source, at)
                    self._imported += 1
                else:
                    self._already_there += 1


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


def _check_text(sample: Sample) -> None:
    if not sample.id.isprintable():
        raise RecordError("the id has characters that can't be printed.")
    for name, text in (("phrase", sample.phrase), ("category", sample.category), ("image_id", sample.image_id)):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RecordError(f"{name!r} is no valid text ({error.reason}).") from error
    try:
        json.dumps([*sample.alternatives, dict(sample.extra)], ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise RecordError(f"its alternatives or further keys can't be kept as JSON ({error}).") from error


def _insert_sample(connection: sqlite3.Connection, one: _Ready, position: int, source: str) -> bool:
    """False when somebody else's import has put this id in since it was checked."""
    sample, picture = one.sample, one.picture
    connection.execute(
        "INSERT INTO pictures (sha256, file, width_px, height_px) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (picture.sha256, picture.file, *picture.size_wh),
    )
    cursor = connection.execute(
        "INSERT INTO samples (id, position, picture_sha256, image_id, phrase, category, split, source, alternatives, "
        "extra, placeholder, shuffle, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'imported') "
        "ON CONFLICT (id) DO NOTHING",
        (
            sample.id,
            position,
            picture.sha256,
            sample.image_id,
            sample.phrase,
            sample.category,
            sample.split,
            source,
            json.dumps(list(sample.alternatives)),
            json.dumps(dict(sample.extra)),
            is_placeholder(sample.phrase),
            random.randrange(SHUFFLE_PLACES),
        ),
    )
    return cursor.rowcount == 1


def _insert_parts(connection: sqlite3.Connection, one: _Ready, who: str, source: str, at: str) -> None:
    insert_boxes(connection, one.sample.id, one.boxes_xyxy_px)
    connection.execute(
        "INSERT INTO changes (sample_id, revision, at, who, action, origin, phrase_after, before, note) "
        "VALUES (?, 1, ?, ?, 'import', 'import', ?, '{}', ?)",
        (one.sample.id, at, who, one.sample.phrase, source),
    )
