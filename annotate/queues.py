"""Next and previous in a queue: one index seek a split, so that a million samples cost what a hundred do."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice

from annotate.items import Place, Queue
from grounding.errors import StoreError
from grounding.records import SPLITS


@dataclass(frozen=True)
class QueueOrder:
    """What a queue holds and the column that it runs by before the position; `falling`: from the largest down.

    `condition` is word for word that of its partial index (schema m002 and m006), or SQLite could not use it.
    """

    index: str
    condition: str
    column: str = "skip_order"
    falling: bool = False

    @property
    def place_sql(self) -> str:
        """The columns of a place, as `annotate.items.Place` has them."""
        return f"{self.column}, position"

    def order_sql(self, *, forward: bool) -> str:
        """What follows ORDER BY."""
        way = "ASC" if forward != self.falling else "DESC"
        by_position = f"position {way}"
        return by_position if self.column == "0" else f"{self.column} {way}, {by_position}"

    def behind_sql(self, *, forward: bool) -> str:
        """Whether a row stands behind the place `:order`, `:position` when walking this way."""
        sign = ">" if forward != self.falling else "<"
        if self.column == "0":
            return f"position {sign} :position"
        return f"({self.place_sql}) {sign} (:order, :position)"


_STANDING = "state <> 'rejected'"
ORDERS: dict[str, QueueOrder] = {
    "placeholders": QueueOrder("samples_placeholders", f"placeholder = 1 AND {_STANDING}"),
    "problems": QueueOrder("samples_problems", f"problems <> '' AND {_STANDING}"),
    "low_iou": QueueOrder("samples_low_iou", f"typeof(listener_iou) = 'real' AND {_STANDING}", "listener_iou"),
    "disagree": QueueOrder(
        "samples_disagree", f"typeof(listener_gap) = 'real' AND {_STANDING}", "listener_gap", falling=True
    ),
    "review": QueueOrder("samples_review", "state IN ('repaired', 'written')", "shuffle"),
    "unseen": QueueOrder("samples_unseen", "seen_at IS NULL"),
    "flagged": QueueOrder("samples_flagged", "flagged = 1"),
    "skipped": QueueOrder("samples_skipped", "skipped_at IS NOT NULL"),
    "rejected": QueueOrder("samples_rejected", "state = 'rejected'"),
    "all": QueueOrder("samples_of_split", "1", "0"),  # by position alone
}
QUEUES: tuple[str, ...] = tuple(ORDERS)
_BEFORE_ALL: Place = (-1, -1)
_BEHIND_ALL: Place = (2**62, 2**62)


def walk(
    connection: sqlite3.Connection,
    queue: Queue,
    place: Place | None,
    *,
    split: str | None = None,
    category: str = "",
    passed_over: Sequence[int] = (),
    forward: bool,
    limit: int = 1,
) -> list[Place]:
    """The places of up to `limit` samples behind `place` in the queue, nearest first.

    `place` None starts at the front, or at the back when not `forward`. `passed_over` are positions to leave out.
    """
    parameters = place_parameters(queue, place, forward=forward) | {
        "category": category,
        "passed_over": json.dumps(list(passed_over)),
        "limit": limit,
    }
    sql = walk_sql(queue, forward=forward, of_category=bool(category), passing_over=bool(passed_over))
    # One row ahead of each split is read, not `limit` of each.
    of_splits = [
        map(_place, connection.execute(sql, parameters | {"split": one_split}))
        for one_split in ([split] if split else SPLITS)
    ]
    return list(islice(merge(*of_splits, reverse=forward == ORDERS[queue].falling), limit))


def _place(row: sqlite3.Row) -> Place:
    return row[0], row[1]


def walk_sql(queue: str, *, forward: bool, of_category: bool = False, passing_over: bool = False) -> str:
    """The statement of one split's walk, along the queue's own index or the one led by the category."""
    order = ORDERS[queue]
    index, led_by = (f"{order.index}_by_category", "category = :category AND ") if of_category else (order.index, "")
    passing = " AND position NOT IN (SELECT value FROM json_each(:passed_over))" if passing_over else ""
    return (
        f"SELECT {order.place_sql} FROM samples INDEXED BY {index} WHERE {led_by}split = :split "
        f"AND {order.condition} AND {order.behind_sql(forward=forward)}{passing} "
        f"ORDER BY {order.order_sql(forward=forward)} LIMIT :limit"
    )


def place_parameters(queue: str, place: Place | None, *, forward: bool) -> dict[str, object]:
    """`place`, or the end of the queue to start from, as the parameters of `QueueOrder.behind_sql`."""
    if place is None:
        place = _BEFORE_ALL if forward != ORDERS[queue].falling else _BEHIND_ALL
    return {"order": place[0], "position": place[1]}


def check_queue(queue: str) -> None:
    if queue not in ORDERS:
        raise StoreError(f"There is no queue {queue!r}. Expected one of {', '.join(QUEUES)}.")


def check_split(split: str | None) -> None:
    if split is not None and split not in SPLITS:
        raise StoreError(f"There is no split {split!r}. Expected one of {', '.join(SPLITS)}, or none for all.")
