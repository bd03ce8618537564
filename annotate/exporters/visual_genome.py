"""A snapshot as Visual Genome has it: region_descriptions.json and image_data.json beside a folder of pictures."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

from annotate.carried import KEY, carry
from annotate.exporters.by_picture import by_picture
from annotate.exporters.instances import Tables
from annotate.exporters.json_list import JsonList
from annotate.exporters.pictures import FOLDER, PicturesBeside
from annotate.importers.visual_genome import PICTURES_FILE, REGIONS_FILE
from annotate.snapshot import SnapshotInfo
from grounding.records import Sample, read_samples

COORDINATES = "x, y, width, height in pixels of the original image"


class Exporter:
    """Writes a region for each box. Those of one phrase share a `ref_id`; splits stand under the key `boxwright`."""

    name = "visual_genome"

    def write(self, snapshot: SnapshotInfo, out: Path, *, link: bool) -> int:
        pictures = PicturesBeside(out, link)
        tables = Tables(read_samples(snapshot.samples_path))
        region_ids, ref_ids = count(1), count(1)
        total = 0
        with JsonList(out / REGIONS_FILE) as regions_file, JsonList(out / PICTURES_FILE) as pictures_file:
            for samples in by_picture(snapshot.samples_path):
                number = tables.picture(samples[0])
                name = pictures.place(samples[0].image).name
                size = {key: tables.entry(number)[key] for key in ("width", "height")}
                pictures_file.append({"image_id": number, "url": f"{FOLDER}/{name}", **size})
                regions: list[dict[str, Any]] = []
                without_box: list[dict[str, Any]] = []
                for sample in samples:
                    ref_id = next(ref_ids)
                    if not sample.boxes_xyxy_px:
                        without_box.append({"phrase": sample.phrase, "ref_id": ref_id, KEY: carry(sample)})
                    for region in _regions(sample, ref_id):
                        regions.append({"region_id": next(region_ids), "image_id": number, **region})
                aside = {"without_box": without_box} if without_box else {}
                regions_file.append({"id": number, "regions": regions, KEY: {"coordinates": COORDINATES, **aside}})
                total += len(samples)
        return total


def _regions(sample: Sample, ref_id: int) -> list[dict[str, Any]]:
    regions: list[dict[str, Any]] = [
        {
            "phrase": sample.phrase,
            "x": box.x1,
            "y": box.y1,
            "width": box.width_px,
            "height": box.height_px,
            "ref_id": ref_id,
        }
        for box in sample.boxes_xyxy_px
    ]
    if regions:
        # The whole sample once is enough.
        regions[0][KEY] = carry(sample)
    return regions
