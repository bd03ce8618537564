"""What the page asks for, checked: nothing that a browser sent goes further unchecked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from annotate.items import Place, Queue
from annotate.queues import check_queue, check_split
from grounding.boxes import Box
from grounding.errors import BoxError, StoreError

_MAX_TEXT_CHARACTERS = 20_000
_MAX_INTEGER = 2**62
_MOST_BOXES = 1000


@dataclass(frozen=True)
class Ask:
    """One request of the page. It names the sample and the revision that the page showed, so that it means the same
    after a restart and in every browser tab.

    `place` is where the page stood in its queue. `then_id` is the sample to show after an edit; empty: the next of the
    queue. `boxes_xyxy_px` is None where the page changed no box. `change` is the id of a change in the history.
    """

    do: str
    queue: Queue
    split: str | None
    sample_id: str
    revision: int
    place: Place | None
    text: str
    then_id: str
    batch: str
    who: str
    boxes_xyxy_px: tuple[Box, ...] | None = None
    change: int = 0

    @classmethod
    def from_page(cls, sent: object) -> Ask:
        """Raises `StoreError` for anything that the page would not send."""
        if not isinstance(sent, dict):
            raise _unexpected("request", sent)
        queue, split = _text(sent, "queue") or "placeholders", _text(sent, "split") or None
        check_queue(queue)
        check_split(split)
        return cls(
            do=_text(sent, "do"),
            queue=cast(Queue, queue),
            split=split,
            sample_id=_text(sent, "id"),
            revision=_integer("revision", sent.get("revision", 0)),
            place=_place(sent.get("place")),
            text=_text(sent, "text"),
            then_id=_text(sent, "then"),
            batch=_text(sent, "batch"),
            who=_text(sent, "who"),
            boxes_xyxy_px=_boxes(sent.get("boxes")),
            change=_integer("change", sent.get("change", 0)),
        )


def _text(sent: dict[object, object], key: str) -> str:
    value = sent.get(key, "")
    if not isinstance(value, str):
        raise _unexpected(key, value)
    if len(value) > _MAX_TEXT_CHARACTERS:
        raise StoreError(f"The page sent {len(value):,} characters as {key}; the limit is {_MAX_TEXT_CHARACTERS:,}.")
    return value


def _integer(key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -1 <= value <= _MAX_INTEGER:
        raise _unexpected(key, value)
    return value


def _place(value: object) -> Place | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2:
        raise _unexpected("place", value)
    order, position = value
    if isinstance(order, bool) or not isinstance(order, int | float) or not -1 <= order <= _MAX_INTEGER:
        raise _unexpected("place", value)
    return order, _integer("place", position)


def _boxes(value: object) -> tuple[Box, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > _MOST_BOXES or not all(isinstance(one, list) for one in value):
        raise _unexpected("boxes", value)
    try:
        return tuple(Box.from_numbers(numbers) for numbers in value)
    except (BoxError, TypeError) as error:
        raise _unexpected("boxes", value) from error


def _unexpected(key: str, value: object) -> StoreError:
    return StoreError(f"The page sent {str(value)[:40]!r} as {key}, which makes no sense here. Reload the page.")
