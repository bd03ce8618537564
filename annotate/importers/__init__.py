"""Sources of samples: one module a format, and the list that `import` goes through to recognise a source.

A format is an `Importer`: add its module and put one into `IMPORTERS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from annotate.importers import jsonl
from annotate.items import BadRow
from grounding.errors import StoreError
from grounding.records import Sample


class Importer(Protocol):
    """One format of sources."""

    name: str
    expects: str

    def recognises(self, source: Path) -> bool:
        """True when this file or folder is of this format; looks at names and first lines only."""

    def read(self, source: Path) -> Iterator[Sample | BadRow]:
        """Its samples one by one, a `BadRow` for each row that is none. Raises `RecordError` for the whole source."""


IMPORTERS: tuple[Importer, ...] = (jsonl.Importer(),)
FORMATS = tuple(importer.name for importer in IMPORTERS)


def find_importer(source: Path, format_name: str = "auto") -> Importer:
    """The importer for the source, recognised when the format is "auto"; raises `StoreError` with what is expected."""
    if not source.exists():
        raise StoreError(f"There is nothing at {source}. Name the file or folder that holds the data set.")
    for importer in IMPORTERS:
        if importer.name == format_name or (format_name == "auto" and importer.recognises(source)):
            return importer
    if format_name != "auto":
        raise StoreError(f"There is no format {format_name!r}. Expected auto or one of {', '.join(FORMATS)}.")
    expected = "; ".join(f"{importer.name}: {importer.expects}" for importer in IMPORTERS)
    raise StoreError(f"{source} is no data set that can be recognised. Expected {expected}.")
