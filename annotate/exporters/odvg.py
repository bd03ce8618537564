"""A snapshot as ODVG: train.jsonl, val.jsonl and test.jsonl, a picture a line, beside a folder of pictures."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from annotate.carried import KEY, carry
from annotate.exporters.by_picture import by_picture
from annotate.exporters.pictures import FOLDER, PicturesBeside
from annotate.importers.odvg import COORDINATES
from annotate.snapshot import SnapshotInfo
from grounding.errors import PictureError, SnapshotError
from grounding.pictures import picture_size_wh
from grounding.records import SPLITS, Sample

_BETWEEN_PHRASES = " . "


class Exporter:
    """Writes what Grounding DINO is fine-tuned on, and what `import` reads back."""

    name = "odvg"

    def write(self, snapshot: SnapshotInfo, out: Path, *, link: bool) -> int:
        pictures = PicturesBeside(out, link)
        count = 0
        with ExitStack() as stack:
            files = {
                split: stack.enter_context(
                    (out / f"{split}.jsonl").open("w", encoding="utf-8", errors="backslashreplace")
                )
                for split in SPLITS
                if snapshot.counts.get(split)
            }
            for samples in by_picture(snapshot.samples_path):
                pictures.place(samples[0].image)
                for split in files:
                    of_split = [sample for sample in samples if sample.split == split]
                    if of_split:
                        files[split].write(json.dumps(_line(of_split), ensure_ascii=False) + "\n")
                        count += len(of_split)
        return count


def _line(samples: list[Sample]) -> dict[str, Any]:
    image = samples[0].image
    try:
        width, height = picture_size_wh(image)
    except PictureError as error:
        raise SnapshotError(f"{samples[0].id}: {error}") from error
    # Trainers expect a box in every region: a phrase that refers to nothing stands aside.
    with_box = [sample for sample in samples if sample.boxes_xyxy_px]
    phrases = list(dict.fromkeys(sample.phrase for sample in with_box))
    starts, caption = {}, ""
    for phrase in phrases:
        starts[phrase] = len(caption)
        caption += phrase + _BETWEEN_PHRASES
    caption = caption.rstrip(" ") if phrases else ""
    without_box = [_region(sample, None) for sample in samples if not sample.boxes_xyxy_px]
    return {
        "filename": f"{FOLDER}/{image.name}",
        "height": height,
        "width": width,
        "grounding": {"caption": caption, "regions": [_region(sample, starts[sample.phrase]) for sample in with_box]},
        KEY: {"coordinates": COORDINATES, **({"without_box": without_box} if without_box else {})},
    }


def _region(sample: Sample, start: int | None) -> dict[str, Any]:
    """`start` is where the phrase begins in the caption, in characters."""
    boxes = [list(box) for box in sample.boxes_xyxy_px]
    place = {} if start is None else {"tokens_positive": [[start, start + len(sample.phrase)]]}
    return {
        "bbox": boxes[0] if len(boxes) == 1 else boxes,
        "phrase": sample.phrase,
        **place,
        "category": sample.category,
        KEY: carry(sample),
    }
