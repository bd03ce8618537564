"""A sample as a ref: what REFER's and gRefCOCO's files have in common."""

from __future__ import annotations

from itertools import count
from typing import Any

from annotate.carried import KEY, carry
from annotate.exporters.instances import NO_CATEGORY, InstancesFile, Tables
from annotate.importers.splits import split_in
from grounding.records import Sample


class Refs:
    """Numbers refs, sentences and annotations from 1, and writes the boxes to the instances file."""

    def __init__(self, tables: Tables, instances: InstancesFile) -> None:
        self._tables = tables
        self._instances = instances
        self._ref_ids, self._sent_ids, self._ann_ids = count(1), count(1), count(1)

    def ref(self, sample: Sample) -> dict[str, Any]:
        """The ref, with `ann_id` and `category_id` as lists; empty ones when the phrase refers to nothing."""
        image_number = self._instances.mention(sample)
        category_id = self._tables.category(sample.category)
        ann_ids = [next(self._ann_ids) for _ in sample.boxes_xyxy_px]
        for ann_id, box in zip(ann_ids, sample.boxes_xyxy_px, strict=True):
            self._instances.annotate(ann_id, sample, box)
        sentences = [self._sentence(text) for text in (sample.phrase, *sample.alternatives)]
        # Without a box there is no annotation whose category could be shown.
        shown_category = (sample.category or NO_CATEGORY) if ann_ids else ""
        return {
            "ref_id": next(self._ref_ids),
            "ann_id": ann_ids,
            "category_id": [category_id] * len(ann_ids),
            "image_id": image_number,
            "file_name": sample.image.name,
            "split": _split(sample),
            "sent_ids": [sentence["sent_id"] for sentence in sentences],
            "sentences": sentences,
            KEY: carry(sample, category=shown_category),
        }

    def _sentence(self, text: str) -> dict[str, Any]:
        return {"sent_id": next(self._sent_ids), "sent": text, "raw": text, "tokens": text.split()}


def _split(sample: Sample) -> str:
    """The split under the source's own name, such as testA, where it had one."""
    source_split = sample.extra.get("source_split")
    found = split_in(source_split) if isinstance(source_split, str) else None
    return str(source_split) if found and found[0] == sample.split else sample.split
