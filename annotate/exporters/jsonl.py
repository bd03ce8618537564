"""A snapshot as our own JSONL: train.jsonl, val.jsonl and test.jsonl beside a folder of pictures."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from annotate.exporters.pictures import PicturesBeside
from annotate.snapshot import SnapshotInfo
from grounding.records import SPLITS, read_samples


class Exporter:
    """Writes a folder that `import` reads back, and that is complete in itself."""

    name = "jsonl"

    def write(self, snapshot: SnapshotInfo, out: Path, *, link: bool) -> int:
        pictures = PicturesBeside(out, link)
        count = 0
        with ExitStack() as stack:
            files = {
                split: stack.enter_context((out / f"{split}.jsonl").open("w", encoding="utf-8"))
                for split in SPLITS
                if snapshot.counts.get(split)
            }
            for sample in read_samples(snapshot.samples_path):
                moved = replace(sample, image=pictures.place(sample.image))
                files[sample.split].write(json.dumps(moved.to_json(out), ensure_ascii=False) + "\n")
                count += 1
        return count
