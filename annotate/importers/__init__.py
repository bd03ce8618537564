"""Sources of samples: one module a format, found by itself.

A format is a module of this package with a class `Importer`. `recognise_order` says when it is asked (low first): a
format that many files could pass for comes last.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Protocol

from annotate.items import BadRow
from grounding.errors import StoreError
from grounding.records import Sample


class Importer(Protocol):
    """One format of sources."""

    name: str
    expects: str
    recognise_order: int

    def recognises(self, source: Path) -> bool:
        """True when this file or folder is of this format; looks at names and first lines only. Never raises."""

    def read(self, source: Path, scratch: Path) -> Iterator[Sample | BadRow]:
        """Its samples one by one, a `BadRow` for each row that is none. Raises `RecordError` for the whole source.

        Pictures that the source holds inside are written into `scratch`, a folder of this import that may vanish
        after it; each may be removed once its samples are taken.
        """


@cache
def importers() -> dict[str, Importer]:
    """Every format by its name, in the order in which a source is shown to them."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    formats: list[Importer] = [module.Importer() for module in modules if hasattr(module, "Importer")]
    return {one.name: one for one in sorted(formats, key=lambda one: (one.recognise_order, one.name))}


def find_importer(source: Path, format_name: str = "auto") -> Importer:
    """The importer for the source, recognised when the format is "auto"; raises `StoreError` with what is expected."""
    if not source.exists():
        raise StoreError(f"There is nothing at {source}. Name the file or folder that holds the data set.")
    formats = importers()
    if format_name in formats:
        return formats[format_name]
    if format_name != "auto":
        raise StoreError(f"There is no format {format_name!r}. Expected auto or one of {', '.join(formats)}.")
    for importer in formats.values():
        if importer.recognises(source):
            return importer
    expected = "; ".join(f"{importer.name}: {importer.expects}" for importer in formats.values())
    raise StoreError(f"{source} is no data set that can be recognised. Expected {expected}.")
