"""A zip file of any other format: unpacked safely, then read as what is inside."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from annotate import importers
from annotate.importers.unzip import unzip
from annotate.items import BadRow
from grounding.errors import RecordError, StoreError
from grounding.records import Sample

_PICTURES = "pictures"


class Importer:
    """Looks at the top of the archive, then at each folder there, then at each file."""

    name = "zip"
    expects = "a .zip file that holds a data set of another format"
    recognise_order = 900

    def recognises(self, source: Path) -> bool:
        try:
            return source.is_file() and source.suffix.lower() == ".zip" and zipfile.is_zipfile(source)
        except OSError:
            return False

    def read(self, source: Path, scratch: Path) -> Iterator[Sample | BadRow]:
        # Named after the archive: some formats take the folder's name into their ids.
        inside = scratch.resolve() / "unzipped" / (source.stem or "archive")
        unzip(source, inside)
        found = _data_sets(inside)
        if not found:
            raise RecordError(f"{source} holds no data set that can be recognised, and no pictures.")
        rows = (row for importer, place in found for row in importer.read(place, scratch))
        try:
            for row in _without_pictures_of_others(rows, scratch.resolve()):
                # The folder is gone by the time that somebody reads of it.
                yield (
                    BadRow(row.where, row.reason.replace(str(inside), str(source))) if isinstance(row, BadRow) else row
                )
        except RecordError as error:
            raise RecordError(str(error).replace(str(inside), str(source))) from error


def _without_pictures_of_others(rows: Iterator[Sample | BadRow], scratch: Path) -> Iterator[Sample | BadRow]:
    """The rows, an error in place of each with a picture from elsewhere: an archive may name any of this machine."""
    inside_of: dict[Path, bool] = {}
    for row in rows:
        if isinstance(row, Sample):
            if row.image not in inside_of:
                inside_of[row.image] = row.image.resolve().is_relative_to(scratch)
            if not inside_of[row.image]:
                yield BadRow(ascii(row.id)[1:-1], "its picture lies outside of the zip file.")
                continue
        yield row


def _data_sets(folder: Path) -> list[tuple[importers.Importer, Path]]:
    """What can be read, with the place: the whole, or else its folders, or else its files, or else its pictures."""
    top = folder
    while len(entries := sorted(top.iterdir())) == 1 and entries[0].is_dir():
        top = entries[0]
    places = ([folder] if folder != top else []) + [top]
    groups = [[place] for place in places]
    groups += [[path for path in entries if path.is_dir()], [path for path in entries if path.is_file()]]
    for group in groups:
        found = [(importer, place) for place in group if (importer := _importer(place)) is not None]
        if found:
            return found
    pictures = importers.importers()[_PICTURES]
    return [(pictures, top)] if pictures.recognises(top) else []


def _importer(place: Path) -> importers.Importer | None:
    try:
        importer = importers.find_importer(place)
    except StoreError:
        return None
    return None if importer.name in (_PICTURES, Importer.name) else importer
