"""A folder of pictures: each is a sample without a phrase and without a box, waiting for a person."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from annotate.importers.foreign import printable
from annotate.importers.splits import split_in
from annotate.items import BadRow
from grounding.errors import PictureError, RecordError
from grounding.pictures import file_sha256
from grounding.records import Sample

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
# A folder with one of these is a data set that should be read, not its pictures alone.
_DATA_SUFFIXES = frozenset({".json", ".jsonl", ".parquet", ".arrow", ".p", ".pkl", ".xml", ".csv", ".tsv"})
_FILES_LOOKED_AT = 10_000
_MAX_STEM_CHARACTERS = 60


class Importer:
    """Reads every picture of a folder and of those below it, in the order of their names."""

    name = "pictures"
    expects = "a folder of pictures (JPEG, PNG, WebP, BMP, GIF or TIFF), those in folders below included"
    recognise_order = 1000

    def recognises(self, source: Path) -> bool:
        try:
            if not source.is_dir() or any(path.suffix.lower() in _DATA_SUFFIXES for path in source.iterdir()):
                return False
        except OSError:
            return False
        return any(True for _ in _pictures(source, most=_FILES_LOOKED_AT))

    def read(self, source: Path, scratch: Path) -> Iterator[Sample | BadRow]:
        if not source.is_dir():
            raise RecordError(f"{source} is no folder. Expected {self.expects}.")
        folder = source.resolve()
        for path in _pictures(folder):
            name = path.relative_to(folder).as_posix()
            try:
                yield _sample(path, name)
            except (PictureError, RecordError) as error:
                yield BadRow(printable(name), str(error))


def _pictures(folder: Path, most: int | None = None) -> Iterator[Path]:
    """The pictures by their names; hidden ones are passed over. Looks at no more than `most` files."""
    looked_at = 0
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            looked_at += 1
            if most is not None and looked_at > most:
                return
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield Path(place, name)


def _sample(path: Path, name: str) -> Sample:
    # The content tells two pictures apart that have one name, in this folder or in one imported before.
    sha256 = file_sha256(path)
    named = split_in(Path(name).parent.as_posix())
    return Sample(
        id=f"{printable(path.stem)[:_MAX_STEM_CHARACTERS]}-{sha256[:16]}",
        image=path,
        phrase="",
        boxes_xyxy_px=(),
        split=named[0] if named else "train",
        image_id=printable(name),
    )
