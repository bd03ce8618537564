"""What a command tells a person: a line of progress, no more often than somebody can look; that its output is lost."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress

_FILE_SECONDS = 5.0


class Rarely:
    """`tell(done, total)`, called at most every `terminal_seconds`, or every few seconds where standard error is no
    terminal; at the end in any case."""

    def __init__(self, tell: Callable[[int, int], None], terminal_seconds: float = 0.0) -> None:
        self._tell = tell
        self._pause_seconds = terminal_seconds if sys.stderr.isatty() else _FILE_SECONDS
        self._told_at = -math.inf
        self._held_back: tuple[int, int] | None = None

    def __call__(self, done: int, total: int) -> None:
        if done < total and time.monotonic() < self._told_at + self._pause_seconds:
            self._held_back = done, total
            return
        self._told_at, self._held_back = time.monotonic(), None
        self._tell(done, total)

    def catch_up(self) -> None:
        """Tell what was held back last, where the work ends before its end."""
        if self._held_back is not None:
            self._tell(*self._held_back)
            self._held_back = None


class _Interrupt(KeyboardInterrupt):
    """Ctrl-C. Where a plain KeyboardInterrupt passes through an `exec` of text, as imports have them, Python 3.11 ends
    the process by the signal in the end, although it was caught."""


def _interrupt(*unused: object) -> None:
    raise _Interrupt


def catch_interrupts() -> None:
    """Ctrl-C ends a program as its own code says, wherever it comes. It may be ignored, as behind nohup: then it stays
    so."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def output_lost(error: OSError) -> str:
    """What is said when standard output can't be written. It is given up: what can't be written now can't be written
    at the end of the program either, when Python tries again."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return f"the output can't be written ({error.strerror}). Free some space, or send it elsewhere."
