"""What a foreign format can't hold travels along under one key of its own, and is put back when the file returns.

`carry` gives the whole sample as plain JSON. `restore` takes it back, but what the file shows in the format's own
fields wins wherever somebody has changed it there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from grounding.boxes import Box
from grounding.errors import BoxError
from grounding.records import Sample

KEY = "boxwright"
# Formats show sizes, or 32-bit numbers: less than this share of a coordinate (or of a pixel) is no change of a person.
_SAME_BOX = 1e-6


def carry(sample: Sample, **shown: Any) -> dict[str, Any]:
    """The sample without its picture, as plain JSON.

    `shown` names fields that the format shows otherwise than the sample has them, as they will be read back.
    """
    kept: dict[str, Any] = {
        "id": sample.id,
        "phrase": sample.phrase,
        "boxes_xyxy_px": [list(box) for box in sample.boxes_xyxy_px],
        "split": sample.split,
        "category": sample.category,
        "image_id": sample.image_id,
        "alternatives": list(sample.alternatives),
        "extra": dict(sample.extra),
    }
    return {**kept, "shown": shown} if shown else kept


def restore(seen: Sample, kept: object, own_keys: Collection[str]) -> Sample:
    """The sample that was carried, with what the file shows now where that was changed.

    `own_keys` are the keys of `seen.extra` that the format has of itself; others were added by somebody and stay.
    `seen` comes back as it is when `kept` is nothing that `carry` has made.
    """
    carried = _carried(kept, seen)
    if carried is None or not isinstance(kept, Mapping):
        return seen
    shown = kept.get("shown")
    shown = shown if isinstance(shown, Mapping) else {}
    changed: dict[str, Any] = {}
    for field in ("phrase", "split", "category"):
        if getattr(seen, field) != shown.get(field, getattr(carried, field)):
            changed[field] = getattr(seen, field)
    if list(seen.alternatives) != list(shown.get("alternatives", carried.alternatives)):
        changed["alternatives"] = seen.alternatives
    if not _same_boxes(seen.boxes_xyxy_px, carried.boxes_xyxy_px):
        changed["boxes_xyxy_px"] = seen.boxes_xyxy_px
    added = {key: value for key, value in seen.extra.items() if key not in own_keys}
    return replace(carried, extra={**added, **carried.extra}, **changed)


def _carried(kept: object, seen: Sample) -> Sample | None:
    """The carried sample on the picture of the one that is seen, or None when `kept` is none."""
    if not isinstance(kept, Mapping):
        return None
    texts = [kept.get(key) for key in ("id", "phrase", "split", "category", "image_id")]
    alternatives, extra, boxes = kept.get("alternatives"), kept.get("extra"), kept.get("boxes_xyxy_px")
    if not (isinstance(alternatives, list) and isinstance(extra, dict) and isinstance(boxes, list)):
        return None
    if not all(isinstance(text, str) for text in (*texts, *alternatives)):
        return None
    sample_id, phrase, split, category, image_id = (str(text) for text in texts)
    try:
        boxes_xyxy_px = tuple(Box.from_numbers(box) for box in boxes)
        return Sample(
            id=sample_id,
            image=seen.image,
            phrase=phrase,
            boxes_xyxy_px=boxes_xyxy_px,
            split=split,
            category=category,
            image_id=image_id,
            alternatives=tuple(alternatives),
            extra=extra,
        )
    except (BoxError, TypeError, ValueError):
        return None


def _same_boxes(first: Sequence[Box], second: Sequence[Box]) -> bool:
    return len(first) == len(second) and all(
        abs(a - b) <= _SAME_BOX * max(1.0, abs(a), abs(b))
        for one, other in zip(first, second, strict=True)
        for a, b in zip(one, other, strict=True)
    )
