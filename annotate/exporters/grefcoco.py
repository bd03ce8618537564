"""A snapshot as gRefCOCO: grefs(unc).json, instances.json and a folder of pictures."""

from __future__ import annotations

import json
from pathlib import Path

from annotate.exporters.instances import InstancesFile, Tables, stamp
from annotate.exporters.pictures import PicturesBeside
from annotate.exporters.refs import Refs
from annotate.snapshot import SnapshotInfo
from grounding.records import read_samples

GREFS_FILE = "grefs(unc).json"


class Exporter:
    """Writes phrases with no, one and several boxes alike: `ann_id` is a list, [-1] for none."""

    name = "grefcoco"

    def write(self, snapshot: SnapshotInfo, out: Path, *, link: bool) -> int:
        pictures = PicturesBeside(out, link)
        tables = Tables(read_samples(snapshot.samples_path))
        total = 0
        with (
            InstancesFile(out / "instances.json", tables, stamp(snapshot)) as instances,
            (out / GREFS_FILE).open("w", encoding="utf-8", errors="backslashreplace") as file,
        ):
            refs = Refs(tables, instances)
            for total, sample in enumerate(read_samples(snapshot.samples_path), start=1):
                pictures.place(sample.image)
                ref = refs.ref(sample)
                no_target = not ref["ann_id"]
                nothing = {"ann_id": [-1], "category_id": [-1]} if no_target else {}
                line = json.dumps({**ref, **nothing, "no_target": no_target}, ensure_ascii=False)
                file.write(("[\n" if total == 1 else ",\n") + line)
            file.write("\n]\n" if total else "[]\n")
            instances.finish()
        return total
