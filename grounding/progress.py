"""A line of progress on standard error, told no more often than somebody can look."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable

_FILE_SECONDS = 5.0


def rarely(tell: Callable[[int, int], None], terminal_seconds: float = 0.0) -> Callable[[int, int], None]:
    """`tell(done, total)`, called at most every `terminal_seconds`, or every few seconds where standard error is no
    terminal; at the end in any case."""
    told_at, pause_seconds = -math.inf, terminal_seconds if sys.stderr.isatty() else _FILE_SECONDS

    def call(done: int, total: int) -> None:
        nonlocal told_at
        if done < total and time.monotonic() < told_at + pause_seconds:
            return
        told_at = time.monotonic()
        tell(done, total)

    return call
