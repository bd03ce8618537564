"""Which samples several evaluations have in common, whatever their order and wherever their pictures stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from grounding.compared.columns import Samples
from grounding.measures import Floats, Wholes

_Key = tuple[str, str, str, bytes, int]


@dataclass(frozen=True, eq=False)
class Alignment:
    """`rows[k]` are the common samples' rows in evaluation k, all in the order of the first one; `only[k]` the rows of
    evaluation k that another one lacks."""

    rows: tuple[Wholes, ...]
    only: tuple[Wholes, ...]


def align(evaluations: Sequence[Samples]) -> Alignment:
    """Samples are the same when they ask the same: id, name of the picture, phrase and true boxes in hundredths of a
    pixel (as in `paired.compare_rows`). One that stands twice is paired twice, where it stands twice everywhere."""
    places = [{key: row for row, key in enumerate(_keys(samples))} for samples in evaluations]
    common = [key for key in places[0] if all(key in others for others in places[1:])]
    rows = tuple(np.array([of[key] for key in common], dtype=np.int64) for of in places)
    only = tuple(np.setdiff1d(np.arange(len(of)), taken) for of, taken in zip(places, rows, strict=True))
    return Alignment(rows, only)


def _keys(samples: Samples) -> list[_Key]:
    """What each sample asks, and how often it was asked before."""
    boxes = _rounded(samples.truth.xyxy_px)
    starts = samples.truth.starts.tolist()
    contents = [boxes[start:end].tobytes() for start, end in pairwise(starts)]
    asked = list(zip(samples.id, samples.image, samples.phrase, contents, strict=True))
    if len(set(asked)) == len(asked):
        return [(*key, 0) for key in asked]
    before: Counter[tuple[str, str, str, bytes]] = Counter()
    keys = []
    for key in asked:
        keys.append((*key, before[key]))
        before[key] += 1
    return keys


def _rounded(boxes_xyxy_px: Floats) -> Floats:
    """As `Box.rounded`: as they are where rounding would leave no box. Python's own rounding is exact."""
    flat = [round(value, 2) for value in boxes_xyxy_px.ravel().tolist()]
    rounded = np.array(flat, dtype=float).reshape(-1, 4) + 0.0  # no -0.0, which has other bytes than 0.0
    stays = (rounded[:, :2] < rounded[:, 2:]).all(axis=1, keepdims=True)
    return np.where(stays, rounded, boxes_xyxy_px + 0.0)
