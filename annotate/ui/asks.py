"""What the page asks for, checked: nothing that a browser sent goes further unchecked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from annotate.items import Place, Queue
from annotate.phrases import clean_text
from annotate.scopes import Scope
from grounding.boxes import Box
from grounding.errors import BoxError, StoreError

_MAX_TEXT_CHARACTERS = 20_000
_MAX_INTEGER = 2**62
_MOST_BOXES = 1000
_MOST_FIELDS = 20
_SCOPE_FIELDS = {"queue": "queue", "split": "split", "category": "category", "words": "phrase", "by": "annotator"}


@dataclass(frozen=True)
class Ask:
    """One request of the page. It names the sample and the revision that the page showed, so that it means the same
    after a restart and in every browser tab.

    `place` is where the page stood in its queue. `then_id` is the sample to show after an edit; empty: the next of the
    queue. `boxes_xyxy_px` is None where the page changed no box. `change` and `opinion` are ids. `taken` is the
    suggestion that the person took (None: they wrote themselves), `seconds` how long they took, `edit` the fields of a
    form, `as_of` the moment of the preview that the person saw (None: there was none).
    """

    do: str
    scope: Scope
    sample_id: str
    revision: int
    place: Place | None
    text: str
    then_id: str
    batch: str
    who: str
    boxes_xyxy_px: tuple[Box, ...] | None = None
    change: int = 0
    opinion: int = 0
    taken: str | None = None
    seconds: float = 0.0
    edit: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    as_of: int | None = None

    @property
    def queue(self) -> Queue:
        return self.scope.queue

    @property
    def split(self) -> str | None:
        return self.scope.split

    @classmethod
    def from_page(cls, sent: object) -> Ask:
        """Raises `StoreError` for anything that the page would not send."""
        if not isinstance(sent, dict):
            raise _unexpected("request", sent)
        address = {name: _text(sent, key) for key, name in _SCOPE_FIELDS.items()}
        address["queue"] = address["queue"] or "placeholders"
        return cls(
            do=_text(sent, "do"),
            scope=Scope.from_address(address, token=_text(sent, "token")),
            sample_id=_text(sent, "id"),
            revision=_integer("revision", sent.get("revision", 0)),
            place=_place(sent.get("place")),
            text=_text(sent, "text"),
            then_id=_text(sent, "then"),
            batch=_text(sent, "batch"),
            who=_text(sent, "who"),
            boxes_xyxy_px=_boxes(sent.get("boxes")),
            change=_integer("change", sent.get("change", 0)),
            opinion=_integer("opinion", sent.get("opinion", 0)),
            taken=None if sent.get("taken") is None else _text(sent, "taken"),
            seconds=_seconds(sent.get("seconds", 0)),
            edit=MappingProxyType(_fields(sent.get("edit"))),
            as_of=None if sent.get("as_of") is None else _integer("as_of", sent.get("as_of")),
        )


Action = Callable[[Ask], dict[str, Any]]


def find_action(
    actions: Mapping[str, Action], sent: object, login_name: str | None, default_who: str
) -> tuple[Action, Ask]:
    """What the page asks for, and by whom: `login_name` wins over the name that it sends. Raises `StoreError`."""
    ask = Ask.from_page(sent)
    action = actions.get(ask.do)
    if action is None:
        raise StoreError(f"The page asked for {ask.do[:40]!r}, which does not exist. Reload the page.")
    return action, replace(ask, who=clean_text(login_name or ask.who) or default_who)


def _text(sent: Mapping[object, object], key: str) -> str:
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


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_INTEGER:
        raise _unexpected("seconds", value)
    return float(value)


def _fields(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > _MOST_FIELDS:
        raise _unexpected("form", value)
    return {str(key): _text(value, key) for key in value}


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
