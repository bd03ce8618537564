"""What models heard in phrases: each answer kept beside its sample, judged against the boxes that stand."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from annotate.edits import now
from annotate.rows import boxes_of, boxes_on_picture
from grounding.boxes import SAME_THING_IOU, Box, iou, set_iou
from grounding.database import reading, writing
from grounding.errors import StoreError
from grounding.records import Prediction, Status

BASE = "base"
_ADAPTER = "adapter "
_MODEL = "listener_model"
RIVAL_IOU = 0.5


@dataclass(frozen=True)
class HeardAnswer:
    """Where a model points for a phrase. `listener` is "base" or "adapter NAME".

    `iou` (0.0 to 1.0) is that with the sample's boxes; of a phrase that refers to nothing it is 1.0 when the model
    says so too, else 0.0. `rival` is the id of the sample on the same picture whose box the answer hits instead
    (IoU of at least 0.5, and more than with the target). `at` is UTC in ISO 8601, "" for what was not recorded.
    """

    listener: str
    phrase: str
    boxes_xyxy_px: tuple[Box, ...]
    status: Status
    iou: float
    confidence: float | None
    rival: str | None = None
    at: str = ""


def listener_name(adapter: str | None) -> str:
    """What answers of this adapter, or of the base (None), are kept under: "base" or "adapter NAME"."""
    return BASE if adapter is None else f"{_ADAPTER}{adapter}"


def heard_iou(boxes_xyxy_px: Sequence[Box], status: Status, target: Sequence[Box]) -> float:
    """How well an answer finds the target, 0.0 to 1.0. An unreadable answer to a phrase for nothing is no hit."""
    return set_iou(boxes_xyxy_px, target) if target else float(status is Status.NO_BOX)


def rival_of(boxes_xyxy_px: Sequence[Box], target: Sequence[Box], siblings: Mapping[str, Sequence[Box]]) -> str | None:
    """The id of the sibling that the answer points at instead of the target, or None. `siblings`: boxes by id."""
    pointed = boxes_xyxy_px if len(target) > 1 else boxes_xyxy_px[:1]
    if not pointed:
        return None
    others = {
        sample_id: max(iou(answer, box) for answer in pointed for box in boxes)
        for sample_id, boxes in siblings.items()
        if boxes and not (target and set_iou(boxes, target) >= SAME_THING_IOU)
    }
    best = max(others, key=lambda sample_id: others[sample_id], default=None)
    if best is None or others[best] < RIVAL_IOU or others[best] <= set_iou(boxes_xyxy_px, target):
        return None
    return best


def judge(
    predictions: Iterable[Prediction], phrase: str, target: Sequence[Box], siblings: Mapping[str, Sequence[Box]]
) -> tuple[HeardAnswer, ...]:
    """What the answers to a phrase are worth, recorded or not: also for one that is still being typed."""
    return tuple(
        HeardAnswer(
            listener=listener_name(one.adapter),
            phrase=phrase,
            boxes_xyxy_px=one.boxes_xyxy_px,
            status=one.status,
            iou=heard_iou(one.boxes_xyxy_px, one.status, target),
            confidence=one.confidence,
            rival=rival_of(one.boxes_xyxy_px, target, siblings),
        )
        for one in predictions
    )


class Heard:
    """The answers kept in one workspace. Safe to share between threads and processes.

    Every method raises `StoreError` when the file can't be used.
    """

    def __init__(self, annotations_db: Path) -> None:
        self.path = Path(annotations_db).absolute()

    def record(self, sample_id: str, phrase: str, predictions: Sequence[Prediction]) -> bool:
        """Keep answers to this phrase of the sample, and bring its `listener_iou` and `listener_gap` up to date.

        What adapters answered before goes: one that is asked no more must not keep a sample in a queue. The sample's
        revision stays. False, and nothing is kept, when the sample reads otherwise by now or is gone.
        """
        return self.record_many([(sample_id, phrase, predictions)]) == 1

    def record_many(self, answered: Sequence[tuple[str, str, Sequence[Prediction]]]) -> int:
        """`record` for several (sample id, phrase, answers) in one transaction; how many samples still read so."""
        kept = 0
        with writing(self.path, to_disk=False) as connection:
            for sample_id, phrase, predictions in answered:
                row = connection.execute("SELECT phrase FROM samples WHERE id = ?", (sample_id,)).fetchone()
                if row is not None and row["phrase"] == phrase:
                    _keep(connection, sample_id, phrase, predictions)
                    _sum_up(connection, sample_id, phrase)
                    kept += 1
        return kept

    def belong_to(self, model: str) -> None:
        """From now on the answers kept are those of this model: what another one answered is forgotten."""
        if self._model() == model:
            return
        with writing(self.path, to_disk=False) as connection:
            before = connection.execute("SELECT value FROM meta WHERE key = ?", (_MODEL,)).fetchone()
            connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (_MODEL, model))
            if before is None or before["value"] == model:
                return  # nobody knows of another
            connection.execute(
                "UPDATE samples SET listener_iou = NULL, listener_gap = NULL WHERE id IN (SELECT sample_id FROM heard)"
            )
            connection.execute("DELETE FROM heard")

    def _model(self) -> str | None:
        with reading(self.path) as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = ?", (_MODEL,)).fetchone()
        return None if row is None else str(row["value"])

    def has(self, sample_id: str, phrase: str, asked: Sequence[str | None]) -> bool:
        """Whether the answers of exactly these to this phrase are kept: adapters by name, None for the base."""
        with reading(self.path) as connection:
            rows = connection.execute(
                "SELECT listener FROM heard WHERE sample_id = ? AND phrase = ?", (sample_id, phrase)
            ).fetchall()
        return {row["listener"] for row in rows} == {listener_name(one) for one in asked}

    def of(self, sample_id: str) -> tuple[HeardAnswer, ...]:
        """What was heard in the phrase that stands, the base first, then the newest adapter.

        Judged against the boxes as they stand now. Raises `StoreError` for an unknown id.
        """
        with reading(self.path) as connection:
            row = connection.execute("SELECT phrase, picture_sha256 FROM samples WHERE id = ?", (sample_id,)).fetchone()
            if row is None:
                raise StoreError(f"There is no sample {sample_id[:80]!r} in this workspace. Reload the page.")
            answers = _answers(connection, sample_id, row["phrase"])
            boxes = boxes_on_picture(connection, row["picture_sha256"]) if answers else {}
        target = boxes.pop(sample_id, [])
        judged = judge([one for one, _ in answers], row["phrase"], target, boxes)
        return tuple(replace(one, at=at) for one, (_, at) in zip(judged, answers, strict=True))

    def judge(self, sample_id: str, phrase: str, predictions: Sequence[Prediction]) -> tuple[HeardAnswer, ...]:
        """What answers to a phrase that is not kept are worth, judged against every box of the sample's picture."""
        with reading(self.path) as connection:
            row = connection.execute("SELECT picture_sha256 FROM samples WHERE id = ?", (sample_id,)).fetchone()
            boxes = {} if row is None else boxes_on_picture(connection, row["picture_sha256"])
        return judge(predictions, phrase, boxes.pop(sample_id, []), boxes)


def _keep(connection: sqlite3.Connection, sample_id: str, phrase: str, predictions: Sequence[Prediction]) -> None:
    connection.execute("DELETE FROM heard WHERE sample_id = ? AND listener <> ?", (sample_id, BASE))
    target = boxes_of(connection, [sample_id]).get(sample_id, [])
    connection.executemany(
        "INSERT OR REPLACE INTO heard (sample_id, listener, phrase, boxes_xyxy_px, status, iou, confidence, at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                sample_id,
                listener_name(one.adapter),
                phrase,
                json.dumps([list(box) for box in one.boxes_xyxy_px]),
                one.status.value,
                heard_iou(one.boxes_xyxy_px, one.status, target),
                one.confidence,
                now(),
            )
            for one in predictions
        ],
    )


def _sum_up(connection: sqlite3.Connection, sample_id: str, phrase: str) -> None:
    """The lowest IoU and the gap between base and newest adapter, over the answers to the phrase that stands."""
    target = boxes_of(connection, [sample_id]).get(sample_id, [])
    answers = [one for one, _ in _answers(connection, sample_id, phrase)]
    lowest = min((heard_iou(one.boxes_xyxy_px, one.status, target) for one in answers), default=None)
    gap = answer_gap(*answers[:2]) if len(answers) > 1 and answers[0].adapter is None else None
    connection.execute("UPDATE samples SET listener_iou = ?, listener_gap = ? WHERE id = ?", (lowest, gap, sample_id))


def answer_gap(first: Prediction, second: Prediction) -> float:
    """How far two answers are apart: 0.0 for the same boxes or both "nothing there", 1.0 for nothing in common."""
    if first.status is not second.status:
        return 1.0
    # The longer one as the truth, so that every box without a partner costs, whoever drew it.
    fewer, more = sorted((first.boxes_xyxy_px, second.boxes_xyxy_px), key=len)
    return 1.0 - set_iou(fewer, more)


def _answers(connection: sqlite3.Connection, sample_id: str, phrase: str) -> list[tuple[Prediction, str]]:
    """Those to this phrase, each with its moment: the base first, then adapters, the newest answer first."""
    rows = connection.execute(
        "SELECT * FROM heard WHERE sample_id = ? AND phrase = ? ORDER BY listener <> ?, at DESC, listener",
        (sample_id, phrase, BASE),
    )
    return [(_to_prediction(row), row["at"]) for row in rows]


def _to_prediction(row: sqlite3.Row) -> Prediction:
    return Prediction(
        boxes_xyxy_px=tuple(Box.from_numbers(numbers) for numbers in json.loads(row["boxes_xyxy_px"])),
        status=Status(row["status"]),
        raw_text="",
        confidence=row["confidence"],
        seconds=0.0,
        adapter=None if row["listener"] == BASE else row["listener"].removeprefix(_ADAPTER),
    )
