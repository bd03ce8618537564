"""RefCOCO, RefCOCO+ and RefCOCOg as the REFER toolkit keeps them: refs(unc).p and instances.json in a folder each."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from annotate.importers.plain_pickle import read_plain_pickle
from annotate.importers.refs import RefFile, has_ref_files, read_refs, ref_files
from annotate.items import BadRow
from grounding.errors import RecordError
from grounding.records import Sample

_PATTERN = "refs(*).p"
# Ways to split the same refs, the best first: the Google split of RefCOCOg has pictures of val in train.
_SPLIT_BY = ("unc", "umd", "google", "berkeley")


class Importer:
    """Reads one such folder, several beside each other into one store, or one refs(*).p."""

    name = "refer"
    expects = "a folder with refs(unc).p and instances.json, or one that holds such folders (refcoco, refcoco+, ...)"
    recognise_order = 20

    def recognises(self, source: Path) -> bool:
        return has_ref_files(source, _PATTERN)

    def read(self, source: Path, scratch: Path) -> Iterator[Sample | BadRow]:
        files = ref_files(source, _PATTERN, self.expects)
        for _, beside in groupby(files, key=lambda file: file.path.parent):
            chosen, left = _without_other_splits(list(beside))
            for file in left:
                yield BadRow(
                    f"{file.dataset}/{file.path.name}",
                    f"left out: it splits the refs of {chosen[0].path.name} otherwise, which would put pictures of "
                    "test into train. Import the file itself to have its split.",
                )
            for file in chosen:
                yield from _read(file)


def _without_other_splits(files: list[RefFile]) -> tuple[list[RefFile], list[RefFile]]:
    """(those to read, those that split the same refs in another way)."""
    rivals = sorted((file for file in files if file.split_by in _SPLIT_BY), key=lambda f: _SPLIT_BY.index(f.split_by))
    return rivals[:1] + [file for file in files if file not in rivals], rivals[1:]


def _read(file: RefFile) -> Iterator[Sample | BadRow]:
    refs = read_plain_pickle(file.path)
    if not isinstance(refs, list):
        raise RecordError(f"{file.path} holds a {type(refs).__name__}. Expected a list of refs.")
    yield from read_refs(file, refs)
