"""Write a JSON list element by element, so that memory holds one."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any


class JsonList:
    """A file that holds one list, an element a line; whole once the context has been left."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", errors="backslashreplace")
        self._before = "[\n"

    def __enter__(self) -> JsonList:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.write("\n]\n" if self._before != "[\n" else "[]\n")
        self._file.close()

    def append(self, element: dict[str, Any]) -> None:
        self._file.write(self._before + json.dumps(element, ensure_ascii=False))
        self._before = ",\n"
