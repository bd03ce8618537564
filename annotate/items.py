"""The frozen records that the store hands out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from grounding.records import Sample

State = Literal["imported", "repaired", "written", "approved", "rejected"]
Queue = Literal["placeholders", "flagged", "skipped", "all"]
Place = tuple[int, int]


@dataclass(frozen=True)
class Item:
    """A sample as it stands in the store.

    `revision` grows by one with every change: an edit names the revision that its page showed.
    `image_size_wh` is (width, height) in pixels. `place` is where it stands in the queues (skip order, position):
    hand the place that the page showed to `Store.next_item` to go on from there, even after a skip moved it.
    """

    sample: Sample
    revision: int
    state: State
    placeholder: bool
    flagged: bool
    flag_note: str
    skipped: bool
    image_size_wh: tuple[int, int]
    picture_sha256: str
    place: Place

    @property
    def id(self) -> str:
        return self.sample.id

    @property
    def phrase(self) -> str:
        return self.sample.phrase


@dataclass(frozen=True)
class Change:
    """One line of a sample's history. `phrase_before` is None for the import; `at` is UTC in ISO 8601.

    `origin` says where the words came from: human, source (its own alternatives), model or import.
    `batch` names the repair it was part of; `undone` is true when a later change took it back.
    """

    id: int
    sample_id: str
    revision: int
    at: str
    who: str
    action: str
    origin: str
    phrase_before: str | None
    phrase_after: str
    note: str
    batch: str | None
    undone: bool


@dataclass(frozen=True)
class Counts:
    """How many samples there are. `placeholders` are those still to fill (not rejected ones); `written` includes
    approved ones. `per_split` is the total of each split, empty ones included."""

    total: int
    placeholders: int
    flagged: int
    skipped: int
    repaired: int
    written: int
    approved: int
    rejected: int
    per_split: Mapping[str, int]


@dataclass(frozen=True)
class BadRow:
    """A row of a source that is no sample; an importer yields it in the sample's place."""

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass(frozen=True)
class ImportReport:
    """What an import did, or in a dry run would do. `clipped` counts samples with a box cut at the picture's edge."""

    imported: int
    already_there: int
    errors: tuple[str, ...]
    clipped: int = 0
    dry_run: bool = False


@dataclass(frozen=True)
class RepairPreview:
    """What `repair` would do: `total` placeholders filled, `left_for_people` without a usable alternative.

    `examples` are (sample id, phrase before, phrase after), the first few in queue order.
    """

    total: int
    left_for_people: int
    examples: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class RepairReport:
    """`count` samples were changed under the name `batch`; `left` ones were not (no usable alternative, or, when
    undoing, changed by somebody since)."""

    count: int
    batch: str
    left: int
