"""A snapshot as the REFER toolkit reads it: refs(unc).p, instances.json and a folder of pictures.

A ref points at exactly one box there. Phrases that refer to nothing or to several boxes stand in a second file, which
REFER passes over and `import` reads; for tools that know such phrases there is the format grefcoco.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from types import TracebackType
from typing import Any

from annotate.exporters.instances import InstancesFile, Tables, stamp
from annotate.exporters.pictures import PicturesBeside
from annotate.exporters.refs import Refs
from annotate.snapshot import SnapshotInfo
from grounding.records import read_samples

REFS_FILE = "refs(unc).p"
OTHERS_FILE = "refs(none or several).p"


class Exporter:
    """Writes a folder for the parameters `dataset` (the folder's name) and `splitBy="unc"`."""

    name = "refer"

    def write(self, snapshot: SnapshotInfo, out: Path, *, link: bool) -> int:
        pictures = PicturesBeside(out, link)
        tables = Tables(read_samples(snapshot.samples_path))
        with (
            InstancesFile(out / "instances.json", tables, stamp(snapshot)) as instances,
            _PickledList(out / REFS_FILE) as single,
            _PickledList(out / OTHERS_FILE) as others,
        ):
            refs = Refs(tables, instances)
            for sample in read_samples(snapshot.samples_path):
                pictures.place(sample.image)
                ref = refs.ref(sample)
                if len(ref["ann_id"]) == 1:
                    single.append(ref | {"ann_id": ref["ann_id"][0], "category_id": ref["category_id"][0]})
                else:
                    others.append(ref)
            instances.finish()
        if not others.count:
            (out / OTHERS_FILE).unlink()
        return single.count + others.count


class _PickledList:
    """A pickle of one list, protocol 2, written element by element so that memory holds one."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._file.write(pickle.PROTO + bytes([2]) + pickle.EMPTY_LIST)
        self.count = 0

    def __enter__(self) -> _PickledList:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.write(pickle.STOP)
        self._file.close()

    def append(self, element: dict[str, Any]) -> None:
        # Without its own beginning (two bytes) and end (one), a pickle is the instructions that make its value.
        self._file.write(pickle.dumps(element, protocol=2)[2:-1] + pickle.APPEND)
        self.count += 1
