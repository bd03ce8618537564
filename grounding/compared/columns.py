"""A kept evaluation as columns: what was asked of each sample, and what one model answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from grounding.buckets import FIXED_BUCKETS, NO_CATEGORY, has_spatial_word, size_bucket, words_bucket
from grounding.errors import WorkspaceError
from grounding.measures import STATUSES, Floats, Measures, RaggedBoxes, Wholes, measure, spread, starts_of
from grounding.records import SPLITS
from grounding.reports import SAMPLES

if TYPE_CHECKING:
    import pyarrow

Texts = np.ndarray  # of `str` objects
DIMENSIONS = ("phrase_words", "spatial", "box_size", "category", "source")
"""What samples are told apart by, whatever was answered; "iou" of `FIXED_BUCKETS` belongs to an answer."""

_TEXTS = ("id", "image", "phrase", "split")
_MAY_LACK = {"category": None, "image_file": "image", "image_sha256": None, "image_id": None, "source": None}
"""Columns that may be null or missing in reports of earlier versions, with what stands in for them."""


@dataclass(frozen=True, eq=False)
class Samples:
    """What was asked, one row a sample: texts, "" where something is not known.

    `image` is the picture's file name, `image_file` its path, `image_sha256` that of its content. `image_size_wh` is
    [samples, 2] in pixels, 0 where it is not known. `truth` are the true boxes.
    """

    id: Texts
    image: Texts
    image_file: Texts
    image_sha256: Texts
    image_id: Texts
    phrase: Texts
    category: Texts
    split: Texts
    source: Texts
    image_size_wh: Wholes
    truth: RaggedBoxes

    def __len__(self) -> int:
        return len(self.id)

    def take(self, rows: Wholes) -> Samples:
        """These samples in this order."""
        return Samples(**{spec.name: _taken(getattr(self, spec.name), rows) for spec in fields(self)})

    @cached_property
    def buckets(self) -> Mapping[str, Texts]:
        """{dimension of `DIMENSIONS`: the bucket of each sample}, as `buckets.bucket_of` has them."""
        areas_px = np.bincount(
            np.repeat(np.arange(len(self)), self.truth.counts), weights=self.truth.areas_px, minlength=len(self)
        )
        means_px = areas_px / np.maximum(self.truth.counts, 1)
        sizes = [size_bucket(px if n else None) for px, n in zip(means_px, self.truth.counts, strict=True)]
        return MappingProxyType(
            {
                "phrase_words": _texts([words_bucket(phrase) for phrase in self.phrase]),
                "spatial": _texts(["spatial" if has_spatial_word(phrase) else "plain" for phrase in self.phrase]),
                "box_size": _texts(sizes),
                "category": _texts([category or NO_CATEGORY for category in self.category]),
                "source": _texts([source or NO_CATEGORY for source in self.source]),
            }
        )

    @cached_property
    def folded(self) -> Texts:
        """The phrases without regard to case."""
        return _texts([phrase.casefold() for phrase in self.phrase])

    @cached_property
    def picture(self) -> Wholes:
        """The number of each sample's picture, in the order in which pictures come."""
        numbers: dict[str, int] = {}
        return np.array([numbers.setdefault(path, len(numbers)) for path in self.image_file], dtype=np.int64)

    def bucket_names(self, dimension: str) -> tuple[str, ...]:
        """The buckets of a dimension in the order of a report: fixed ones, else by falling number, then by name."""
        fixed = FIXED_BUCKETS.get(dimension)
        if fixed:
            return fixed
        counts = Counter(self.buckets[dimension].tolist())
        return tuple(sorted(counts, key=lambda name: (-counts[name], name)))


@dataclass(frozen=True, eq=False)
class Answers:
    """What one model answered, one row a sample. `boxes` are in pixels of the original image; `box_confidences` belong
    to `boxes.xyxy_px`, NaN where they are not known; `seconds` is an answer's share of its batch."""

    measures: Measures
    boxes: RaggedBoxes
    box_confidences: Floats
    seconds: Floats
    raw_text: Texts

    def __len__(self) -> int:
        return len(self.measures)

    def take(self, rows: Wholes) -> Answers:
        """The answers to these samples in this order."""
        of_boxes = spread(self.boxes.starts[rows], self.boxes.counts[rows])
        return Answers(
            self.measures.take(rows),
            self.boxes.take(rows),
            self.box_confidences[of_boxes],
            self.seconds[rows],
            self.raw_text[rows],
        )


@dataclass(frozen=True, eq=False)
class Columns:
    """A whole evaluation."""

    samples: Samples
    answers: Answers

    def take(self, rows: Wholes) -> Columns:
        """These samples in this order."""
        return Columns(self.samples.take(rows), self.answers.take(rows))


def read_columns(folder: Path) -> Columns:
    """The samples and answers of a kept evaluation in their order.

    Raises `WorkspaceError` when there is no samples.parquet or it is damaged.
    """
    import pyarrow
    from pyarrow import parquet

    path = folder / SAMPLES
    try:
        with path.open("rb") as file:  # pyarrow would take a text such as "a:b" for an address
            table = parquet.read_table(file, use_threads=False)
        return _columns(table)
    except FileNotFoundError as error:
        raise WorkspaceError(
            f"There is no {SAMPLES} in {folder}. Give the folder of a finished `python -m grounding evaluate`."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException) as error:
        raise WorkspaceError(f"{path} can't be read as a report's samples ({error}). Evaluate anew.") from error


def _columns(table: pyarrow.Table) -> Columns:
    known = {name: _text(table, name, may_lack=False) for name in _TEXTS}
    for name, stand_in in _MAY_LACK.items():
        found = _text(table, name) if name in table.column_names else np.full(table.num_rows, "", dtype=object)
        known[name] = np.where(found == "", known[stand_in], found) if stand_in else found
    if not all(known["id"]) or not set(known["split"]) <= set(SPLITS):
        raise ValueError("a sample has no id, or a split that is none")
    truth, boxes = _boxes(table, "truth_xyxy_px"), _boxes(table, "answer_xyxy_px")
    samples = Samples(image_size_wh=_sizes(table), truth=truth, **known)
    iou = _numbers(table, "iou")
    if np.isnan(iou).any():
        raise ValueError("an IoU is missing")
    confidences = _box_confidences(table, boxes)
    sure = ~np.isnan(confidences)
    counts = np.bincount(np.repeat(np.arange(len(boxes)), boxes.counts), weights=sure, minlength=len(boxes))
    given = (counts.astype(np.int64), confidences[sure])
    measures = measure(truth, boxes, iou, _statuses(table), _numbers(table, "confidence"), given)
    answers = Answers(measures, boxes, confidences, _numbers(table, "seconds"), _text(table, "raw_text"))
    return Columns(samples, answers)


def _taken(value: Any, rows: Wholes) -> Any:
    return value.take(rows) if isinstance(value, RaggedBoxes) else value[rows]


def _texts(values: list[str]) -> Texts:
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


def _text(table: pyarrow.Table, name: str, *, may_lack: bool = True) -> Texts:
    values = table[name].to_pylist()
    if not all(isinstance(value, str) or (may_lack and value is None) for value in values):
        raise ValueError(f"the column {name} holds something else than text")
    return _texts([value or "" for value in values])


def _numbers(table: pyarrow.Table, name: str) -> Floats:
    """NaN where there is none."""
    import pyarrow

    return table[name].cast(pyarrow.float64()).to_numpy()


def _sizes(table: pyarrow.Table) -> Wholes:
    if "image_width_px" not in table.column_names:
        return np.zeros((table.num_rows, 2), dtype=np.int64)
    sizes = np.stack([_numbers(table, f"image_{side}_px") for side in ("width", "height")], axis=1)
    return np.nan_to_num(sizes).astype(np.int64)


def _statuses(table: pyarrow.Table) -> np.ndarray:
    import pyarrow
    from pyarrow import compute

    found = compute.index_in(table["status"], value_set=pyarrow.array([str(status) for status in STATUSES]))
    if found.null_count:
        raise ValueError("an answer has no known status")
    return found.to_numpy().astype(np.int8)


def _boxes(table: pyarrow.Table, name: str) -> RaggedBoxes:
    counts, fours = _lists(table[name].combine_chunks())
    lengths, numbers = _lists(fours)
    xyxy_px = np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=float)
    if fours.null_count or np.any(lengths != 4):
        raise ValueError(f"a box in {name} has not four numbers")
    boxes = RaggedBoxes(xyxy_px.reshape(-1, 4), starts_of(counts))
    rising = (boxes.xyxy_px[:, :2] < boxes.xyxy_px[:, 2:]).all(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        areas_px = boxes.areas_px
    if not np.all(rising & np.isfinite(areas_px) & (areas_px > 0)):
        raise ValueError(f"a box in {name} is no box")
    return boxes


def _box_confidences(table: pyarrow.Table, boxes: RaggedBoxes) -> Floats:
    found = np.full(len(boxes.xyxy_px), np.nan)
    if "box_confidences" not in table.column_names:
        return found
    counts, values = _lists(table["box_confidences"].combine_chunks())
    if np.any((counts > 0) & (counts != boxes.counts)):
        raise ValueError("a sample has not as many confidences as boxes")
    found[np.repeat(counts > 0, boxes.counts)] = values.to_numpy(zero_copy_only=False)
    return found


def _lists(column: pyarrow.ListArray) -> tuple[Wholes, Any]:
    """(how many each list holds, all that they hold); a list that is null holds nothing."""
    from pyarrow import compute

    counts = compute.fill_null(compute.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    return counts.astype(np.int64), column.flatten()
