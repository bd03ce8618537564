"""A snapshot as COCO: instances_train.json, instances_val.json and instances_test.json beside a folder of pictures.

Each box is an annotation; its `caption` is the phrase. The boxes of one phrase share a `ref_id`. Phrases that refer
to nothing stand in a list of their own, as COCO has no annotation without a box.
"""

from __future__ import annotations

from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

from annotate.carried import KEY, carry
from annotate.exporters.instances import NO_CATEGORY, InstancesFile, Tables, stamp
from annotate.exporters.pictures import PicturesBeside
from annotate.snapshot import SnapshotInfo
from grounding.records import SPLITS, Sample, read_samples


class Exporter:
    """Writes a folder that detectors train on, and that `import` reads back."""

    name = "coco"

    def write(self, snapshot: SnapshotInfo, out: Path, *, link: bool) -> int:
        pictures = PicturesBeside(out, link)
        tables = Tables(read_samples(snapshot.samples_path))
        ann_ids = count(1)
        total = 0
        with ExitStack() as stack:
            files = {
                split: stack.enter_context(InstancesFile(out / f"instances_{split}.json", tables, stamp(snapshot)))
                for split in SPLITS
                if snapshot.counts.get(split)
            }
            without_box: dict[str, list[dict[str, Any]]] = {split: [] for split in files}
            for total, sample in enumerate(read_samples(snapshot.samples_path), start=1):
                pictures.place(sample.image)
                file, of_ref = files[sample.split], _of_ref(sample, total)
                if not sample.boxes_xyxy_px:
                    entry = {"image_id": file.mention(sample), "category_id": tables.category(sample.category)}
                    without_box[sample.split].append(entry | of_ref)
                for number, box in enumerate(sample.boxes_xyxy_px):
                    # The whole sample once is enough.
                    shown = {key: value for key, value in of_ref.items() if key != KEY or number == 0}
                    file.annotate(next(ann_ids), sample, box, **shown)
            for split, file in files.items():
                file.finish({KEY: without_box[split]})
        return total


def _of_ref(sample: Sample, ref_id: int) -> dict[str, Any]:
    """What the annotations of one phrase have in common."""
    several = {"ref_boxes": len(sample.boxes_xyxy_px)} if len(sample.boxes_xyxy_px) > 1 else {}
    kept = carry(sample, category=sample.category or NO_CATEGORY, alternatives=[])
    return {"caption": sample.phrase, "ref_id": ref_id, **several, KEY: kept}
