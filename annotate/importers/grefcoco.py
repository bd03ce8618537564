"""gRefCOCO: grefs(unc).json and instances.json. A phrase may refer to several things, or to nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from annotate.importers.json_stream import members
from annotate.importers.refs import has_ref_files, read_refs, ref_files
from annotate.items import BadRow
from grounding.records import Sample

_PATTERN = "grefs(*).json"


class Importer:
    """Reads a folder with such a file, a folder of such folders, or one file."""

    name = "grefcoco"
    expects = "a folder with grefs(unc).json and instances.json"
    recognise_order = 20

    def recognises(self, source: Path) -> bool:
        return has_ref_files(source, _PATTERN)

    def read(self, source: Path, scratch: Path) -> Iterator[Sample | BadRow]:
        for file in ref_files(source, _PATTERN, self.expects):
            yield from read_refs(file, (ref for key, ref in members(file.path) if key == ""))
