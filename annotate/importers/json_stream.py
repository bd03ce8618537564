"""Read a large JSON file piece by piece: memory holds one element of its lists at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from grounding.errors import RecordError

_CHUNK_CHARACTERS = 1 << 20
_BEHIND_VALUES = " \t\r\n,:]}"
_SPACE = re.compile(r"[ \t\r\n]*")


def members(path: Path) -> Iterator[tuple[str, Any]]:
    """Each (key, value) of the object in the file; a value that is a list comes as (key, element) for each element.

    A list in place of the object gives ("", element). Raises `RecordError` when the file can't be read or is no JSON.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from _top(_Text(file))
    except RecursionError as error:
        raise RecordError(f"{path} is nested too deeply to be a data set.") from error
    except ValueError as error:
        raise RecordError(f"{path} is no JSON file in UTF-8 ({error}). Expected an object or a list.") from error
    except OSError as error:
        raise RecordError(f"{path} can't be read ({error.strerror or error}).") from error


def _top(text: _Text) -> Iterator[tuple[str, Any]]:
    if text.peek() == "[":
        yield from (("", element) for element in _elements(text))
    else:
        text.take("{")
        if text.peek() == "}":
            text.take("}")
        else:
            yield from _pairs(text)
    if text.peek():
        raise ValueError("there is something behind its end")


def _pairs(text: _Text) -> Iterator[tuple[str, Any]]:
    while True:
        if text.peek() != '"':
            raise ValueError(f"expected a key, found {text.peek()!r}")
        key = text.value()
        text.take(":")
        if text.peek() == "[":
            yield from ((key, element) for element in _elements(text))
        else:
            yield key, text.value()
        if text.take(",}") == "}":
            return


def _elements(text: _Text) -> Iterator[Any]:
    text.take("[")
    if text.peek() == "]":
        text.take("]")
        return
    while True:
        yield text.value()
        if text.take(",]") == "]":
            return


class _Text:
    """The text of a file, as much of it as the next value needs."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._buffer = ""
        self._at = 0
        self._ended = False
        self._decode = json.JSONDecoder().raw_decode

    def peek(self) -> str:
        """The next character that is no space, or "" at the end."""
        while True:
            match = _SPACE.match(self._buffer, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if self._ended:
                return ""
            self._more()

    def take(self, expected: str) -> str:
        """The next character, which must be one of these."""
        character = self.peek()
        if not character or character not in expected:
            raise ValueError(f"expected {' or '.join(expected)}, found {character or 'the end of the file'!r}")
        self._at += 1
        return character

    def value(self) -> Any:
        """The next value, whole."""
        self.peek()
        while True:
            try:
                value, end = self._decode(self._buffer, self._at)
            except json.JSONDecodeError:
                if self._ended:
                    raise
            else:
                # Near the end of the buffer a number may go on in the next piece, and "1." reads as 1 until then.
                if self._ended or (end < len(self._buffer) and self._buffer[end] in _BEHIND_VALUES):
                    self._at = end
                    return value
            self._more()

    def _more(self) -> None:
        # Twice as much each time, so that a huge value is not decoded from its start too often.
        rest = self._buffer[self._at :]
        piece = self._file.read(max(_CHUNK_CHARACTERS, len(rest)))
        self._ended = not piece
        self._buffer = rest + piece
        self._at = 0
