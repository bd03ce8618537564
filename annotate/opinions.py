"""What further people say about a sample: where they point from its phrase alone, and what they would write."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from annotate.blind import FRONT, Point, check_point, last_place, met_by_point, place_of, seek_blind
from annotate.edits import clean_who, now
from annotate.items import Item
from annotate.phrases import check_phrase
from annotate.queues import check_split
from annotate.rows import boxes_of, one_item
from annotate.store import Store
from annotate.undecided import HIT_IOU, is_undecided, refresh, stands_since
from annotate.versions import check_boxes
from grounding.boxes import Box, set_iou
from grounding.database import reading, writing
from grounding.errors import StoreError
from grounding.placeholders import normalise
from grounding.records import SPLITS

_LONGEST_SECONDS = 24 * 3600.0
_NEXT_UNDECIDED = "SELECT sample_id, position FROM undecided WHERE split = ? AND position > ? ORDER BY position LIMIT 1"


@dataclass(frozen=True)
class BlindAsk:
    """A phrase for somebody to point from, without its target. `image_size_wh` is (width, height) in pixels."""

    sample_id: str
    revision: int
    phrase: str
    split: str
    image: Path
    image_size_wh: tuple[int, int]
    picture_sha256: str


@dataclass(frozen=True)
class Opinion:
    """What one person said about a sample as it stood at `revision`. `at` is UTC in ISO 8601.

    Kind "blind": they saw `phrase` and pointed with `boxes_xyxy_px` (none: it refers to nothing) or at `point_xy_px`;
    `iou` (0.0 to 1.0) says how well that met the boxes that stood, at a point 1.0 or 0.0. Kind "phrase": they would
    write `phrase` for these boxes; `iou` is None. `seconds` is how long they took.
    """

    id: int
    sample_id: str
    revision: int
    kind: Literal["blind", "phrase"]
    who: str
    at: str
    phrase: str
    boxes_xyxy_px: tuple[Box, ...]
    point_xy_px: Point | None
    iou: float | None
    seconds: float

    @property
    def hit(self) -> bool:
        """Whether they found the target from the phrase alone: an IoU of at least 0.5."""
        return self.iou is not None and self.iou >= HIT_IOU


@dataclass(frozen=True)
class Agreement:
    """How far people agree on a sample: `hits` of `asked` people found the target from the phrase and boxes that
    stand (`mean_iou`, None when nobody was asked); `phrases` are the different wordings that were proposed.
    `undecided`: somebody should decide."""

    asked: int
    hits: int
    mean_iou: float | None
    phrases: tuple[str, ...]
    undecided: bool


@dataclass(frozen=True)
class Figures:
    """How often somebody (all together when `who` is None) found the target: `hits` of `asked`; how long it took."""

    who: str | None
    asked: int
    hits: int
    mean_iou: float
    mean_seconds: float

    @property
    def share(self) -> float:
        """Share of hits, 0.0 to 1.0."""
        return self.hits / self.asked if self.asked else 0.0


class Opinions:
    """The opinions in one workspace. Safe to share between threads and processes.

    None is ever changed or removed. Every method raises `StoreError` when the file can't be used, and for an unknown
    id.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.path = store.path

    # Blind

    def next_blind(self, who: str, split: str | None = None, behind: str | None = None) -> BlindAsk | None:
        """A phrase for this person to point from, or None when there is none left.

        One that they neither edited last nor have pointed from before; in an order that is random but the same for
        all, going on where this person was, or behind the sample of the id `behind` that they pass over.
        """
        check_split(split)
        who = clean_who(who)
        with reading(self.path) as connection:
            for one_split in [split] if split else SPLITS:
                place = last_place(connection, who, one_split) if behind is None else place_of(connection, behind)
                found = seek_blind(connection, who, one_split, place)
                if found is None and place != FRONT:
                    # Round again: words change, and are then asked about anew.
                    found = seek_blind(connection, who, one_split, FRONT)
                if found is not None:
                    return _to_ask(one_item(connection, found, self._store.pictures.folder))
        return None

    def point(
        self,
        sample_id: str,
        revision: int,
        who: str,
        *,
        boxes_xyxy_px: Sequence[Box] | None = None,
        point_xy_px: Point | None = None,
        seconds: float = 0.0,
    ) -> Opinion:
        """Record where somebody points who saw the phrase alone: with boxes (none: it refers to nothing) or a point.

        Only then may the page show the target. Who answers the same again gets their first answer back, and nothing
        is recorded. Raises `StoreError`, and records nothing, when the sample was changed since `revision`, when they
        changed it last themselves, or for a place outside the picture.
        """
        if (boxes_xyxy_px is None) == (point_xy_px is None):
            raise StoreError("Point with boxes or with a point, and not with both.")
        who = clean_who(who)
        with writing(self.path) as connection:
            earlier = connection.execute(
                "SELECT * FROM opinions WHERE sample_id = ? AND revision = ? AND who = ? AND kind = 'blind'",
                (sample_id, revision, who),
            ).fetchone()
            if earlier is not None:
                return _to_opinion(earlier)
            row = self._row(connection, sample_id, revision)
            if row["edited_by"] == who:
                raise StoreError("You changed this sample last: who knows the target can't point at it blindly.")
            if boxes_xyxy_px is None:
                assert point_xy_px is not None
                check_point(connection, row, point_xy_px)
                boxes, met = [], met_by_point(connection, row, point_xy_px)
            else:
                boxes = check_boxes(connection, row, boxes_xyxy_px)
                target = boxes_of(connection, [sample_id]).get(sample_id, [])
                met = set_iou([Box(*numbers) for numbers in boxes], target)
            return _add(connection, row, "blind", (who, row["phrase"], boxes, point_xy_px, met, seconds))

    # Further writers

    def propose(
        self,
        sample_id: str,
        revision: int,
        who: str,
        phrase: str,
        *,
        boxes_xyxy_px: Sequence[Box] | None = None,
        seconds: float = 0.0,
    ) -> Opinion:
        """Record what a further person would write, for the boxes that stand unless they give others.

        The sample stays as it is. The same proposal sent twice is recorded once. Raises `StoreError` when the sample
        was changed since `revision`, for a phrase that can't be saved or a box outside the picture.
        """
        cleaned, who = check_phrase(phrase), clean_who(who)
        with writing(self.path) as connection:
            row = self._row(connection, sample_id, revision)
            if boxes_xyxy_px is None:
                boxes = [list(box) for box in boxes_of(connection, [sample_id]).get(sample_id, [])]
            else:
                boxes = check_boxes(connection, row, boxes_xyxy_px)
            same = connection.execute(
                "SELECT * FROM opinions WHERE sample_id = ? AND revision = ? AND who = ? AND kind = 'phrase' "
                "AND phrase = ? AND boxes_xyxy_px = ?",
                (sample_id, revision, who, cleaned, json.dumps(boxes)),
            ).fetchone()
            if same is not None:
                return _to_opinion(same)
            return _add(connection, row, "phrase", (who, cleaned, boxes, None, None, seconds))

    # Decide

    def of(self, sample_id: str) -> tuple[Opinion, ...]:
        """Everything that was said about the sample, oldest first."""
        with reading(self.path) as connection:
            one_item(connection, sample_id, self._store.pictures.folder)
            rows = connection.execute("SELECT * FROM opinions WHERE sample_id = ? ORDER BY id", (sample_id,))
            return tuple(_to_opinion(row) for row in rows)

    def agreement(self, sample_id: str) -> Agreement:
        """How far people agree on the sample as it stands."""
        opinions = self.of(sample_id)
        with reading(self.path) as connection:
            since = stands_since(connection, sample_id)
            undecided = is_undecided(connection, sample_id)
        pointed = [one for one in opinions if one.kind == "blind" and one.revision >= since]
        overlaps = [one.iou for one in pointed if one.iou is not None]
        wordings = {normalise(one.phrase): one.phrase for one in reversed(opinions) if one.kind == "phrase"}
        return Agreement(
            asked=len(pointed),
            hits=sum(one.hit for one in pointed),
            mean_iou=sum(overlaps) / len(overlaps) if overlaps else None,
            phrases=tuple(reversed(wordings.values())),
            undecided=undecided,
        )

    def next_undecided(self, split: str | None = None, after: int = -1) -> Item | None:
        """The first sample in import order, behind the position `after` (`Item.place[1]`), that awaits a decision."""
        check_split(split)
        with reading(self.path) as connection:
            found = [
                row
                for one_split in ([split] if split else SPLITS)
                if (row := connection.execute(_NEXT_UNDECIDED, (one_split, after)).fetchone()) is not None
            ]
            if not found:
                return None
            first = min(found, key=lambda row: int(row["position"]))
            return one_item(connection, first["sample_id"], self._store.pictures.folder)

    def undecided_count(self, split: str | None = None) -> int:
        """How many samples await a decision."""
        check_split(split)
        with reading(self.path) as connection:
            row = connection.execute("SELECT COUNT(*) FROM undecided WHERE ? IN (split, '')", (split or "",)).fetchone()
        return int(row[0])

    def decide(self, opinion_id: int, who: str, expected_revision: int) -> Item:
        """Give the sample the phrase and the boxes of this opinion; every opinion stays.

        Raises `StoreError` for an unknown opinion or one that is a mere point, and `StaleSaveError` when another
        revision stands.
        """
        with reading(self.path) as connection:
            row = connection.execute("SELECT * FROM opinions WHERE id = ?", (opinion_id,)).fetchone()
        if row is None:
            raise StoreError(f"There is no opinion {opinion_id} in this workspace. Reload the page.")
        opinion = _to_opinion(row)
        if opinion.point_xy_px is not None:
            raise StoreError("This opinion is a point, and a point is no box. Draw the box, or choose another opinion.")
        return self._store.save(
            opinion.sample_id,
            opinion.phrase,
            who=who,
            expected_revision=expected_revision,
            action="decide",
            boxes_xyxy_px=opinion.boxes_xyxy_px,
        )

    def keep(self, sample_id: str, who: str, expected_revision: int) -> Item:
        """Decide for what stands. Raises `StaleSaveError` when another revision stands, `StoreError` for a
        placeholder."""
        phrase = self._store.get(sample_id).phrase
        return self._store.save(sample_id, phrase, who=who, expected_revision=expected_revision, action="decide")

    def figures(self) -> tuple[Figures, tuple[Figures, ...]]:
        """How often the target was found from the phrase alone: in all, and by each person who took part, by name."""
        sums = (
            "COUNT(*) AS asked, COALESCE(SUM(iou >= ?), 0) AS hits, COALESCE(AVG(iou), 0.0) AS mean_iou, "
            "COALESCE(AVG(seconds), 0.0) AS mean_seconds FROM opinions WHERE kind = 'blind'"
        )
        with reading(self.path) as connection:
            total = connection.execute(f"SELECT NULL AS who, {sums}", (HIT_IOU,)).fetchone()
            people = connection.execute(f"SELECT who, {sums} GROUP BY who ORDER BY who", (HIT_IOU,)).fetchall()
        return Figures(**dict(total)), tuple(Figures(**dict(row)) for row in people)

    def _row(self, connection: sqlite3.Connection, sample_id: str, revision: int) -> sqlite3.Row:
        row = connection.execute("SELECT * FROM samples WHERE id = ?", (sample_id,)).fetchone()
        if row is None:
            one_item(connection, sample_id, self._store.pictures.folder)  # raises, and says so
        if row["revision"] != revision:
            # Without the sample as it stands: it must not show the target to who points blindly.
            raise StoreError("Somebody changed this sample meanwhile. Nothing was recorded: take the next one.")
        return row


def _to_ask(item: Item) -> BlindAsk:
    sample = item.sample
    return BlindAsk(
        item.id, item.revision, item.phrase, sample.split, sample.image, item.image_size_wh, item.picture_sha256
    )


_Said = tuple[str, str, list[list[float]], Point | None, float | None, float]


def _add(connection: sqlite3.Connection, row: sqlite3.Row, kind: str, said: _Said) -> Opinion:
    """`said`: who, phrase, boxes, point, IoU, seconds."""
    who, phrase, boxes, point_xy_px, met, seconds = said
    x, y = point_xy_px or (None, None)
    took = min(max(0.0, seconds), _LONGEST_SECONDS) if math.isfinite(seconds) else 0.0
    added = connection.execute(
        "INSERT INTO opinions (sample_id, revision, kind, who, at, phrase, boxes_xyxy_px, point_x_px, point_y_px, "
        "iou, seconds) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *",
        (row["id"], row["revision"], kind, who, now(), phrase, json.dumps(boxes), x, y, met, took),
    ).fetchone()
    refresh(connection, row["id"])
    return _to_opinion(added)


def _to_opinion(row: sqlite3.Row) -> Opinion:
    return Opinion(
        id=row["id"],
        sample_id=row["sample_id"],
        revision=row["revision"],
        kind=row["kind"],
        who=row["who"],
        at=row["at"],
        phrase=row["phrase"],
        boxes_xyxy_px=tuple(Box.from_numbers(numbers) for numbers in json.loads(row["boxes_xyxy_px"])),
        point_xy_px=None if row["point_x_px"] is None else (row["point_x_px"], row["point_y_px"]),
        iou=row["iou"],
        seconds=row["seconds"],
    )
