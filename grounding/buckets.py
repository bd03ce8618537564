"""The figures of a report by kind of sample: where a model is strong and where it is weak."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from grounding.metrics import ScoredSample, Scores, summarise

Buckets = Mapping[str, Mapping[str, Scores]]
NO_CATEGORY = "(none)"
_LOCATION_WORDS = (
    "left leftmost right rightmost top topmost upper uppermost bottom bottommost lower lowermost middle center centre "
    "above over below under underneath beneath behind front between among beside besides next near nearer nearest "
    "close closer closest far farther farthest further furthest side corner edge end foreground background inside "
    "outside across opposite back"
)
# Where on the picture, or where beside what: the kind of word that RefCOCO+ keeps its phrases free of (Yu et al.,
# Modeling Context in Referring Expressions, ECCV 2016). The list is our own.
SPATIAL_WORDS = frozenset(_LOCATION_WORDS.split())
_WORD = re.compile(r"[^\W_]+")
_MOST_WORDS = ((1, "1"), (3, "2-3"), (7, "4-7"))
# COCO's areas in square pixels, here of the box: cocodataset.org/#detection-eval (Lin et al., Microsoft COCO, 2014).
_BELOW_AREA_PX = ((32**2, "small"), (96**2, "medium"))
_BELOW_IOU = ((0.25, "0-0.25"), (0.5, "0.25-0.5"), (0.75, "0.5-0.75"), (0.9, "0.75-0.9"))

# The buckets of each dimension in the order of a report; those of "category" follow from the samples.
FIXED_BUCKETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "phrase_words": ("1", "2-3", "4-7", "8+"),
        "spatial": ("spatial", "plain"),
        "box_size": ("small", "medium", "large", "none"),
        "iou": ("0", "0-0.25", "0.25-0.5", "0.5-0.75", "0.75-0.9", "0.9-1.0"),
        "category": (),
    }
)


def bucket_scores(rows: Sequence[ScoredSample]) -> Buckets:
    """{dimension: {bucket: figures}}: every row is counted in exactly one bucket of each dimension.

    The dimensions and buckets are those of `FIXED_BUCKETS`, in that order, empty ones too; categories stand by
    falling number of samples, then by name. See `bucket_of` for what falls where.
    """
    found = {}
    for dimension, fixed in FIXED_BUCKETS.items():
        members: dict[str, list[ScoredSample]] = {bucket: [] for bucket in fixed or _categories(rows)}
        for row in rows:
            members[bucket_of(dimension, row)].append(row)
        found[dimension] = MappingProxyType({bucket: summarise(inside) for bucket, inside in members.items()})
    return MappingProxyType(found)


def bucket_of(dimension: str, row: ScoredSample) -> str:
    """The one bucket of a dimension that a row falls into.

    - "phrase_words": words of the phrase as blanks part them.
    - "spatial": whether a word of the phrase is one of `SPATIAL_WORDS`.
    - "box_size": mean area of the true boxes in square pixels of the original image: small below 32 x 32, medium
      below 96 x 96, large; "none" for a phrase that refers to nothing.
    - "iou": "0" is exactly 0; each of the others holds its lower bound but not its upper one, the first not 0, the
      last also 1.
    - "category": the sample's own, `NO_CATEGORY` where it has none.
    """
    return _BUCKET_OF[dimension](row)


def has_spatial_word(phrase: str) -> bool:
    """Whether a word of the phrase, in any case, is one of `SPATIAL_WORDS`; "left-most" counts as "left"."""
    return not SPATIAL_WORDS.isdisjoint(_WORD.findall(phrase.lower()))


def words_bucket(phrase: str) -> str:
    """The bucket of "phrase_words" that a phrase falls into."""
    words = len(phrase.split())
    return next((bucket for most, bucket in _MOST_WORDS if words <= most), "8+")


def size_bucket(mean_area_px: float | None) -> str:
    """The bucket of "box_size" for true boxes of this mean area in square pixels; None where there is no box."""
    if mean_area_px is None:
        return "none"
    return next((bucket for limit_px, bucket in _BELOW_AREA_PX if mean_area_px < limit_px), "large")


def iou_bucket(iou: float) -> str:
    """The bucket of "iou" for an IoU from 0.0 to 1.0."""
    if iou <= 0:
        return "0"
    return next((bucket for limit, bucket in _BELOW_IOU if iou < limit), "0.9-1.0")


def _categories(rows: Sequence[ScoredSample]) -> list[str]:
    counts = Counter(_category(row) for row in rows)
    return sorted(counts, key=lambda name: (-counts[name], name))


def _category(row: ScoredSample) -> str:
    return row.sample.category or NO_CATEGORY


def _phrase_words(row: ScoredSample) -> str:
    return words_bucket(row.sample.phrase)


def _spatial(row: ScoredSample) -> str:
    return "spatial" if has_spatial_word(row.sample.phrase) else "plain"


def _box_size(row: ScoredSample) -> str:
    areas_px = [box.area_px for box in row.sample.boxes_xyxy_px]
    return size_bucket(sum(areas_px) / len(areas_px) if areas_px else None)


def _iou(row: ScoredSample) -> str:
    return iou_bucket(row.iou)


_BUCKET_OF: Mapping[str, Callable[[ScoredSample], str]] = MappingProxyType(
    {
        "phrase_words": _phrase_words,
        "spatial": _spatial,
        "box_size": _box_size,
        "iou": _iou,
        "category": _category,
    }
)
