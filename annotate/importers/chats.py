"""Conversations about a picture, in the ways that training files of Qwen, LLaVA and ms-swift write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from annotate.conventions import XYXY_PX, XYXY_SHARE
from grounding.errors import RecordError

PICTURE_MARK = "<image>"
TURN_KEYS = ("conversations", "messages")
RECORD_KEYS = frozenset({*TURN_KEYS, "image", "images", "objects", "coordinates"})
_ASKERS = ("human", "user")
_ANSWERERS = ("gpt", "assistant", "model")
_BOX_TYPES = {"real": XYXY_PX, "norm1": XYXY_SHARE}


@dataclass(frozen=True)
class Chat:
    """One record: its picture's name, and its (question, answer) pairs. `stamp`: the convention that it names."""

    picture: str
    turns: tuple[tuple[str, str], ...]
    stamp: object = None


def read_chat(record: object) -> Chat:
    """The conversation of a record. Raises `RecordError` saying what it lacks."""
    if not isinstance(record, dict):
        raise RecordError(f"expected a JSON object, found {type(record).__name__}.")
    messages = next((record[key] for key in TURN_KEYS if key in record), None)
    if not isinstance(messages, list):
        raise RecordError('it has no list "conversations" or "messages".')
    said = [_said(message) for message in messages]
    named = [name for _, _, names in said for name in names]
    spoken = [(role, text) for role, text, _ in said if role]
    stamp = record.get("coordinates")
    if isinstance(record.get("objects"), Mapping):
        spoken, meant = _with_objects(spoken, record["objects"])
        stamp = meant if stamp is None else stamp
    return Chat(_picture(record, named), tuple(_turns(spoken)), stamp)


def _said(message: object) -> tuple[str, str, list[Any]]:
    """(role, text, names of pictures in it); the role is "" for those who neither ask nor answer."""
    if not isinstance(message, dict):
        raise RecordError(f"a message is an object, not {type(message).__name__}.")
    role, content = message.get("from", message.get("role")), message.get("value", message.get("content"))
    known = "human" if role in _ASKERS else "gpt" if role in _ANSWERERS else ""
    if isinstance(content, str):
        return known, content, []
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise RecordError(f"the message of {str(role)[:40]!r} has no text.")
    texts = [part["text"] for part in content if isinstance(part.get("text"), str)]
    pictures = [part["image"] for part in content if isinstance(part.get("image"), str)]
    return known, "\n".join(texts), pictures


def _picture(record: Mapping[str, Any], named: list[Any]) -> str:
    """The one picture of the record."""
    names: list[Any] = []
    for value in (record.get("image"), record.get("images")):
        for one in value if isinstance(value, list) else [] if value is None else [value]:
            names.append(one.get("path") if isinstance(one, dict) else one)
    names = list(dict.fromkeys(name for name in (names or named) if isinstance(name, str)))
    if len(names) != 1:
        raise RecordError(f'it is about {len(names)} pictures. Expected one, named by "image".')
    return str(names[0])


def _turns(spoken: list[tuple[str, str]]) -> list[tuple[str, str]]:
    turns: list[tuple[str, str]] = []
    question: str | None = None
    for role, text in spoken:
        if role == "human":
            if question is not None:
                raise RecordError("two questions follow each other: one has no answer.")
            question = text
        elif question is None:
            raise RecordError("an answer stands without a question.")
        else:
            turns.append((question, text))
            question = None
    if question is not None or not turns:
        raise RecordError("its last question has no answer." if turns or question else "nobody asks in it.")
    return turns


def _with_objects(spoken: list[tuple[str, str]], objects: Mapping[str, Any]) -> tuple[list[tuple[str, str]], object]:
    """ms-swift keeps words and boxes apart, and marks where they belong: the texts with both, and the convention."""
    filled = spoken
    for mark, key in (("<ref-object>", "ref"), ("<bbox>", "bbox")):
        values = objects.get(key) or []
        marks = sum(text.count(mark) for _, text in filled)
        if not marks:
            continue
        if not isinstance(values, list) or len(values) != marks:
            raise RecordError(f'"objects" has other than {marks} values of {key!r}, one for each {mark}.')
        waiting = iter(values)
        filled = [(role, _filled(text, mark, waiting)) for role, text in filled]
    box_type = objects.get("bbox_type", "real")
    return filled, _BOX_TYPES.get(box_type, box_type) if isinstance(box_type, str) else box_type


def _filled(text: str, mark: str, values: Any) -> str:
    first, *rest = text.split(mark)
    return first + "".join(_written(next(values)) + part for part in rest)


def _written(value: object) -> str:
    return f"[{', '.join(str(one) for one in value)}]" if isinstance(value, list) else str(value)
