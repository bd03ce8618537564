"""Read a pickle that holds lists, dictionaries, texts and numbers, and refuse any other.

A pickle is a program. Here only those of its instructions exist that build plain values: nothing that names a class
or function, calls one, or sets attributes. It is the standard library's reader in Python rather than the one in C, as
that one reserves as much memory as a hostile file asks for.
"""

from __future__ import annotations

import io
import pickle
import struct
from pathlib import Path
from typing import Any, NoReturn

from grounding.errors import RecordError

_PLAIN_CODES = (
    *(pickle.MARK, pickle.STOP, pickle.POP, pickle.POP_MARK, pickle.PROTO, pickle.FRAME, pickle.MEMOIZE),
    *(pickle.GET, pickle.BINGET, pickle.LONG_BINGET, pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT),
    *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.FLOAT, pickle.BINFLOAT),
    *(pickle.INT, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG, pickle.LONG1),
    *(pickle.STRING, pickle.BINSTRING, pickle.SHORT_BINSTRING, pickle.SHORT_BINBYTES, pickle.BINBYTES),
    *(pickle.UNICODE, pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE8),
    *(pickle.EMPTY_LIST, pickle.LIST, pickle.APPEND, pickle.APPENDS),
    *(pickle.EMPTY_DICT, pickle.DICT, pickle.SETITEM, pickle.SETITEMS),
    *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
)
_BROKEN = (EOFError, KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
_MAX_VALUES = 100_000


class _Codes(dict[int, Any]):
    def __missing__(self, code: int) -> NoReturn:
        raise pickle.UnpicklingError(f"the instruction {bytes([code])!r}")


class _PlainReader(pickle._Unpickler):
    dispatch = _Codes({code[0]: pickle._Unpickler.dispatch[code[0]] for code in _PLAIN_CODES})  # type: ignore[attr-defined]

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"the name {module}.{name}")


def read_plain_pickle(path: Path) -> Any:
    """What the pickle holds. Raises `RecordError` when it holds more than plain values, or can't be read.

    The texts of Python 2 are taken as UTF-8, or else as Latin-1.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path} can't be read ({error.strerror or error}).") from error
    try:
        try:
            return _load(data, "utf-8")
        except UnicodeDecodeError:
            return _load(data, "latin-1")
    except pickle.UnpicklingError as error:
        raise RecordError(
            f"{path} is refused: a pickle is a program, and this one holds more than lists, dictionaries, texts and "
            f"numbers ({error}). Expected refs as REFER ships them. Don't open the file with other tools either, "
            "unless you know who made it."
        ) from error
    except (*_BROKEN, struct.error) as error:
        raise RecordError(f"{path} is no whole pickle ({type(error).__name__}: {error}). Download it anew.") from error


def _load(data: bytes, encoding: str) -> Any:
    return _PlainReader(io.BytesIO(data), encoding=encoding).load()


def plain_json(value: Any) -> Any:
    """The value as JSON knows it: tuples as lists, bytes as text. Raises `RecordError` for one that can't be.

    A pickle may hold one list a thousand times over, or inside itself; such a value is refused too.
    """
    left = [_MAX_VALUES]
    try:
        return _plain(value, left)
    except RecursionError as error:
        raise RecordError("a value is nested too deeply.") from error


def _plain(value: Any, left: list[int]) -> Any:
    left[0] -= 1
    if left[0] < 0:
        raise RecordError(f"it holds more than {_MAX_VALUES} values.")
    if isinstance(value, dict):
        return {str(key): _plain(one, left) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, left) for one in value]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value
