"""The frozen records that the store hands out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from grounding.records import Sample

State = Literal["imported", "repaired", "written", "approved", "rejected"]
Queue = Literal[
    "placeholders", "problems", "low_iou", "disagree", "review", "unseen", "flagged", "skipped", "rejected", "all"
]
BatchState = Literal["running", "done", "broken", "undoing", "undone"]
Place = tuple[float, int]


@dataclass(frozen=True)
class Item:
    """A sample as it stands in the store.

    `revision` grows by one with every change: an edit names the revision that its page showed.
    `image_size_wh` is (width, height) in pixels. `place` is where it stands in most queues (skip order, position):
    hand the place that the page showed to `Store.next_item` to go on from there, even after a skip moved it; `place_in`
    is that of a queue with an order of its own. `problems` are codes of failed phrase checks. `listener_iou` (0.0 to
    1.0) is the lowest IoU at which a model found the box, `listener_gap` how far base and adapter were apart; None
    while nobody asked. `edited_by` is the last person who changed it, `seen_at` when a person first had it open.
    `source` is the name under which it was imported.
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
    problems: tuple[str, ...] = ()
    reject_reason: str = ""
    edited_by: str = ""
    seen_at: str | None = None
    shuffle: int = 0
    listener_iou: float | None = None
    listener_gap: float | None = None
    source: str = ""

    def place_in(self, queue: Queue) -> Place:
        """Where it stands in this queue: (what the queue runs by, position)."""
        order = {"low_iou": self.listener_iou, "disagree": self.listener_gap, "review": self.shuffle}
        own = order.get(queue)
        return self.place if own is None else (own, self.place[1])

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
    `batch` names the repair or bulk edit it was part of; `undone` is true when a later change took it back.
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
    boxes_changed: bool = False


@dataclass(frozen=True)
class Counts:
    """How many samples there are. `placeholders` are those still to fill (not rejected ones); `written` includes
    approved ones. `per_split` is the total of each split, empty ones included. The last five are the lengths of the
    queues of the same name."""

    total: int
    placeholders: int
    flagged: int
    skipped: int
    repaired: int
    written: int
    approved: int
    rejected: int
    per_split: Mapping[str, int]
    problems: int = 0
    unseen: int = 0
    low_iou: int = 0
    disagree: int = 0
    review: int = 0


@dataclass(frozen=True)
class BadRow:
    """A row of a source that is no sample; an importer yields it in the sample's place."""

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass(frozen=True)
class ImportReport:
    """What an import did, or in a dry run would do. `clipped` counts samples with a box cut at the picture's edge,
    `brought_back` pictures of samples that were there already, missing or damaged before and whole again."""

    imported: int
    already_there: int
    errors: tuple[str, ...]
    clipped: int = 0
    dry_run: bool = False
    brought_back: int = 0


@dataclass(frozen=True)
class RepairPreview:
    """What `repair` would do: `total` placeholders filled, `left_for_people` without a usable alternative.

    `examples` are (sample id, phrase before, phrase after), the first few in import order. `as_of` is the moment of
    the preview: hand it to the repair, which then leaves alone what people change in between.
    """

    total: int
    left_for_people: int
    examples: tuple[tuple[str, str, str], ...]
    as_of: int | None = None


@dataclass(frozen=True)
class RepairReport:
    """`count` samples were changed under the name `batch`; `left` ones were not (no usable alternative, a phrase that
    can't stand, or changed by somebody since). `meanwhile` says how many of these were changed since the preview."""

    count: int
    batch: str
    left: int
    meanwhile: int = 0


@dataclass(frozen=True)
class Batch:
    """Where a repair or bulk edit stands. `done` of `total` samples were looked at, `count` changed, `left` not; once
    it is taken back these speak of the way back. `broken`: it ended in the middle, and may be taken back.
    `began_at` is UTC in ISO 8601."""

    name: str
    action: str
    who: str
    began_at: str
    state: BatchState
    done: int = 0
    total: int = 0
    count: int = 0
    left: int = 0
