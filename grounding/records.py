"""The frozen records that cross every boundary, and their JSONL form."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from grounding.boxes import Box
from grounding.errors import BoxError, RecordError

SPLITS = ("train", "val", "test")
MAX_PHRASE_CHARACTERS = 500
_KNOWN_KEYS = frozenset({"id", "image", "phrase", "boxes_xyxy_px", "split", "category", "image_id", "alternatives"})


class Status(StrEnum):
    """What an answer was: never an empty list that could mean any of these."""

    OK = "ok"
    NO_BOX = "no_box"
    UNREADABLE = "unreadable"
    DEGENERATE = "degenerate"


@dataclass(frozen=True)
class Sample:
    """One image, one phrase, its target boxes and a split.

    `image` is the absolute path of the picture. `boxes_xyxy_px` is empty when the phrase refers to nothing.
    `alternatives` holds other phrases that the source gave for the same box. `extra` holds the keys of the
    source that Boxwright does not know; they come back on export.
    Raises `RecordError` for an empty id or an unknown split.
    """

    id: str
    image: Path
    phrase: str
    boxes_xyxy_px: tuple[Box, ...]
    split: str = "test"
    category: str = ""
    image_id: str = ""
    alternatives: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if not self.id:
            raise RecordError("A sample needs an id that is not empty.")
        if self.split not in SPLITS:
            raise RecordError(f"Sample {self.id}: split {self.split!r} is not one of {', '.join(SPLITS)}.")

    def to_json(self, folder: Path) -> dict[str, Any]:
        """The JSONL form of the contract, its image path relative to `folder`."""
        return {
            **self.extra,
            "id": self.id,
            "image": Path(os.path.relpath(self.image, folder)).as_posix(),
            "phrase": self.phrase,
            "boxes_xyxy_px": [list(box) for box in self.boxes_xyxy_px],  # to the last digit: nothing is lost on the way
            "split": self.split,
            "category": self.category,
            "image_id": self.image_id,
            "alternatives": list(self.alternatives),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any], folder: Path) -> Sample:
        """A sample from one decoded JSONL line whose image path is relative to `folder`; raises `RecordError`."""
        for key in ("id", "image", "phrase", "boxes_xyxy_px"):
            if key not in record:
                raise RecordError(f"The sample {record.get('id', '?')} lacks the key {key!r}.")
        for key in ("id", "image", "phrase"):
            if not isinstance(record[key], str):
                raise RecordError(f"The sample {record['id']}: {key!r} must be text, not {record[key]!r}.")
        alternatives = record.get("alternatives", [])
        if not isinstance(alternatives, list) or not all(isinstance(phrase, str) for phrase in alternatives):
            raise RecordError(f"The sample {record['id']}: 'alternatives' must be a list of texts.")
        listed = record["boxes_xyxy_px"]
        if not isinstance(listed, list) or any(isinstance(box, int | float) for box in listed):
            raise RecordError(f"The sample {record['id']}: 'boxes_xyxy_px' must be a list of boxes, as [[0, 0, 9, 9]].")
        try:
            boxes = tuple(Box.from_numbers(numbers) for numbers in listed)
        except (BoxError, TypeError) as error:
            raise RecordError(f"The sample {record['id']}: {error}") from error
        try:
            image = (folder / record["image"]).resolve()
        except (OSError, RuntimeError, ValueError) as error:  # a NUL, or links that go round in circles
            raise RecordError(f"The sample {record['id']}: {record['image']!r:.200} is no path ({error}).") from error
        return cls(
            id=record["id"],
            image=image,
            phrase=record["phrase"],
            boxes_xyxy_px=boxes,
            split=_text(record, "split", "test"),
            category=_text(record, "category", ""),
            image_id=_text(record, "image_id", ""),
            alternatives=tuple(alternatives),
            extra=MappingProxyType({key: value for key, value in record.items() if key not in _KNOWN_KEYS}),
        )


def _text(record: Mapping[str, Any], key: str, default: str) -> str:
    """The value as text; the default where the key is missing or null."""
    value = record.get(key)
    return default if value is None else str(value)


@dataclass(frozen=True)
class Prediction:
    """One answer of one model to one phrase.

    `boxes_xyxy_px` lie inside the image; empty unless `status` is ok. `raw_text` is what the model wrote.
    `confidence`, 0.0 to 1.0 or None, is that of the first box, or of "nothing there"; of a freely written answer, the
    geometric mean probability of its tokens; of several merged answers, the share of those that agree.
    `seconds` is this answer's share of its batch. `adapter` is None for the base. `box_confidences` holds for
    each box, in the order of the boxes, the estimated chance that it is right (IoU with a true box >= 0.5), 0.0
    to 1.0, measured where the base has a calibration; empty when nobody estimated it.
    """

    boxes_xyxy_px: tuple[Box, ...]
    status: Status
    raw_text: str
    confidence: float | None
    seconds: float
    adapter: str | None = None
    box_confidences: tuple[float, ...] = ()

    @property
    def boxes(self) -> tuple[Box, ...]:
        """`boxes_xyxy_px` under the contract's short name."""
        return self.boxes_xyxy_px

    def to_json(self) -> dict[str, Any]:
        """As plain values, boxes in hundredths of a pixel: what `predict --json` and the API say."""
        return {
            "boxes_xyxy_px": [list(box.rounded()) for box in self.boxes_xyxy_px],
            "status": str(self.status),
            "raw_text": self.raw_text,
            "confidence": self.confidence,
            "box_confidences": list(self.box_confidences),
            "seconds": self.seconds,
            "adapter": self.adapter,
        }


def read_samples(path: str | Path) -> Iterator[Sample]:
    """The samples of a JSONL file, one by one. Raises `RecordError` naming the file and line that is wrong."""
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    record = json.loads(line)
                    if not isinstance(record, dict):
                        raise RecordError(f"expected a JSON object, found {type(record).__name__}.")
                    yield Sample.from_json(record, path.parent)
                except json.JSONDecodeError as error:
                    raise RecordError(
                        f"{path}, line {number}: no JSON ({error.msg}, at character {error.colno}). "
                        "Expected one object a line, each a sample: correct that line, or take it out."
                    ) from error
                except (ValueError, RecursionError) as error:
                    raise RecordError(f"{path}, line {number}: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path} can't be read as a JSONL file of samples: {error}") from error


def write_samples(path: str | Path, samples: Iterable[Sample]) -> int:
    """Write samples as JSONL with image paths relative to the file; returns how many."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    # A lone surrogate has no UTF-8; its backslash form is JSON's own escape, so it reads back as it was.
    with path.open("w", encoding="utf-8", errors="backslashreplace") as lines:
        for sample in samples:
            lines.write(json.dumps(sample.to_json(path.parent.resolve()), ensure_ascii=False) + "\n")
            count += 1
    return count


def check_phrase(phrase: str) -> str:
    """The phrase without outer blanks. Raises `RecordError` when it is empty, too long or no text."""
    if not isinstance(phrase, str):
        raise RecordError(f'{phrase!r} is no phrase: expected text, such as "the left mug".')
    stripped = " ".join(phrase.split())
    if not stripped:
        raise RecordError('The phrase is empty. Write what to look for, such as "the left mug".')
    if any("\ud800" <= character <= "\udfff" for character in stripped):
        raise RecordError(f"The phrase {stripped!r} holds half a character (a lone surrogate). Type it anew.")
    if len(stripped) > MAX_PHRASE_CHARACTERS:
        raise RecordError(
            f"The phrase has {len(stripped)} characters; the limit is {MAX_PHRASE_CHARACTERS}. Shorten it."
        )
    return stripped


def source_of(sample: Sample) -> str:
    """Where the sample is from, as its data set says under "source" or "dataset"; "" where it says nothing."""
    named = (sample.extra.get(key) for key in ("source", "dataset"))
    return next((value for value in named if isinstance(value, str) and value), "")
