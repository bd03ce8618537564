"""Which samples of a comparison, and in which order: masks and row numbers, no records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np

from grounding.buckets import FIXED_BUCKETS, iou_bucket
from grounding.compared.columns import DIMENSIONS
from grounding.compared.comparison import Comparison, Side
from grounding.errors import RecordError
from grounding.measures import Flags, Wholes
from grounding.records import Status

OUTCOMES = ("win", "loss", "tie", "both_right", "both_wrong")
SEEN = ("", "unseen", "seen", "sample_seen", "picture_seen")
TARGETS = ("", "some", "none")
ORDERS = ("sample", "worst", "gain", "loss", "unsure")


@dataclass(frozen=True)
class Filter:
    """What a sample must be; "" asks for nothing.

    - `outcome`, at IoU 0.5 (a phrase that refers to nothing: "nothing there"), of b against a: "win", "loss", "tie",
      "both_right" or "both_wrong".
    - `target`: "some" where the phrase has a true box, "none" where it refers to nothing.
    - `phrase_words`, `spatial`, `box_size`, `category`, `source`: the bucket (`columns.DIMENSIONS`).
    - `iou` (a bucket of `buckets.FIXED_BUCKETS`) and `status` (a `Status`): of the answer of `side`, a letter; by
      default that of b, or of a where it stands alone.
    - `words`: each of them, parted by blanks, stands somewhere in the phrase, in any case.
    - `seen`: "unseen" by any adapter in training, "seen", "sample_seen" (the very sample) or "picture_seen" (the
      picture alone).

    Raises `RecordError` for a value that can't be.
    """

    outcome: str = ""
    target: str = ""
    phrase_words: str = ""
    spatial: str = ""
    box_size: str = ""
    category: str = ""
    source: str = ""
    iou: str = ""
    status: str = ""
    side: str = ""
    words: str = ""
    seen: str = ""

    def __post_init__(self) -> None:
        for spec in fields(self):
            if not isinstance(getattr(self, spec.name), str):
                raise RecordError(f"The filter {spec.name} is {getattr(self, spec.name)!r}: expected text.")
        self._check("outcome", OUTCOMES)
        self._check("target", TARGETS)
        self._check("seen", SEEN)
        self._check("status", map(str, Status))
        for dimension in ("phrase_words", "spatial", "box_size", "iou"):
            self._check(dimension, FIXED_BUCKETS[dimension])

    def _check(self, name: str, allowed: Iterable[str]) -> None:
        value, known = getattr(self, name), [one for one in allowed if one]
        if value and value not in known:
            raise RecordError(f"The filter {name} is {value!r}: expected one of {', '.join(known)}, or nothing.")

    def mask(self, comparison: Comparison) -> Flags:
        """[samples]: which ones pass. Raises `RecordError` for an outcome without a b, and for an unknown side."""
        found = np.ones(len(comparison), dtype=bool)
        samples = comparison.samples
        side = comparison.side(self.side) if self.side else comparison.newest
        if self.outcome:
            found &= outcome_mask(comparison, self.outcome)
        if self.target:
            found &= side.answers.measures.has_target == (self.target == "some")
        for dimension in DIMENSIONS:
            if wanted := getattr(self, dimension):
                found &= samples.buckets[dimension] == wanted
        if self.iou:
            found &= iou_codes(side) == FIXED_BUCKETS["iou"].index(self.iou)
        if self.status:
            found &= side.answers.measures.is_status(Status(self.status))
        if self.seen:
            found &= _seen(comparison, self.seen)
        rows = np.flatnonzero(found)
        for word in self.words.casefold().split():  # the dearest comes last, over what is left
            rows = rows[[word in phrase for phrase in samples.folded[rows]]] if len(rows) else rows
        passed = np.zeros(len(comparison), dtype=bool)
        passed[rows] = True
        return passed


def outcome_mask(comparison: Comparison, outcome: str) -> Flags:
    """[samples]: where b against a ends so. Raises `RecordError` where there is no b."""
    if comparison.b is None:
        raise RecordError(f"The outcome {outcome!r} needs a second evaluation to compare with: open two.")
    a, b = comparison.a.answers.measures.right, comparison.b.answers.measures.right
    if outcome == "tie":
        return a == b
    was, is_now = {"win": (False, True), "loss": (True, False), "both_right": (True, True)}.get(outcome, (False, False))
    return (a == was) & (b == is_now)


def order_rows(comparison: Comparison, mask: Flags, order: str = "sample") -> Wholes:
    """The row numbers that `mask` holds for, in an order; of equals, the earlier sample first.

    - "sample": as they stand in the evaluation.
    - "worst": by rising IoU of b (or of a alone), of equal ones those that the model was surest of.
    - "gain", "loss": by how much higher (lower) the IoU of b is than that of a.
    - "unsure": by rising confidence of b (or of a alone); unknown ones last.

    Raises `RecordError` for another order, and for "gain" and "loss" where there is no b.
    """
    if order not in ORDERS:
        raise RecordError(f"There is no order {order!r}: expected one of {', '.join(ORDERS)}.")
    rows = np.flatnonzero(mask)
    measures = comparison.newest.answers.measures
    iou, confidence = measures.iou[rows], measures.confidence[rows]
    if order == "sample":
        return rows
    if order == "worst":
        return rows[np.lexsort((-np.nan_to_num(confidence), iou))]
    if order == "unsure":
        return rows[np.argsort(confidence, kind="stable")]
    if comparison.b is None:
        raise RecordError(f"The order {order!r} needs a second evaluation to compare with: open two.")
    gain = iou - comparison.a.answers.measures.iou[rows]
    return rows[np.argsort(-gain if order == "gain" else gain, kind="stable")]


@dataclass(frozen=True)
class Page:
    """One page of rows. `number` counts from 1 to `pages`, which is at least 1; `total` rows stand on all of them."""

    rows: tuple[int, ...]
    number: int
    pages: int
    total: int


def page_of(rows: Wholes, number: int, size: int) -> Page:
    """The page with this number, or the nearest that there is. Raises `RecordError` for a size below 1."""
    if size < 1:
        raise RecordError(f"A page of {size} rows can't be shown: expected 1 or more.")
    pages = max(1, -(-len(rows) // size))
    number = min(max(1, number), pages)
    return Page(tuple(rows[(number - 1) * size : number * size].tolist()), number, pages, len(rows))


def iou_codes(side: Side) -> Wholes:
    """[samples]: the number of the bucket of `FIXED_BUCKETS["iou"]` that each answer falls into."""
    names = FIXED_BUCKETS["iou"]
    values, inverse = np.unique(side.answers.measures.iou, return_inverse=True)
    return np.array([names.index(iou_bucket(value)) for value in values.tolist()], dtype=np.int64)[inverse]


def _seen(comparison: Comparison, wanted: str) -> Flags:
    if wanted in ("seen", "unseen"):
        return comparison.seen == (wanted == "seen")
    return comparison.sample_seen if wanted == "sample_seen" else comparison.seen & ~comparison.sample_seen
