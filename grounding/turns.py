"""A lock that goes round: who has waited longest is next, however often another thread asks."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_ASK_SECONDS = 0.1  # between two questions whether a waiting caller still wants its turn


class Turns:
    """A re-entrant lock whose turns go in the order in which they were asked for.

    With a `threading.RLock`, a thread that gives it back and takes it again at once, as between two batches, mostly
    gets it again, and others wait for many batches. Here the turn is handed on.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._owner: int | None = None  # a thread
        self._depth = 0
        self._waiting: deque[tuple[int, threading.Event]] = deque()

    def acquire(self, timeout_seconds: float | None = None, should_stop: Callable[[], None] | None = None) -> bool:
        """Wait for the turn; False when it did not come within `timeout_seconds` (None: as long as it takes).

        While it waits, `should_stop` is called about ten times a second and raises to give up the place.
        """
        me = threading.get_ident()
        with self._guard:
            if self._owner in (None, me):
                self._owner, self._depth = me, self._depth + 1
                return True
            place = (me, threading.Event())
            self._waiting.append(place)
        came = False
        try:
            came = self._wait(place[1], timeout_seconds, should_stop)
        finally:
            if not came:
                self._leave(place)
        return came

    @staticmethod
    def _wait(turn: threading.Event, timeout_seconds: float | None, should_stop: Callable[[], None] | None) -> bool:
        end = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while True:
            left = _ASK_SECONDS if end is None else min(_ASK_SECONDS, max(0.0, end - time.monotonic()))
            if turn.wait(left):
                return True
            if end is not None and time.monotonic() >= end:
                return False
            if should_stop is not None:
                should_stop()

    def _leave(self, place: tuple[int, threading.Event]) -> None:
        """Give up a place; the turn is handed on where it has just come."""
        with self._guard:
            if place in self._waiting:
                self._waiting.remove(place)
            else:
                self._hand_on()

    def release(self) -> None:
        """Give the turn to who has waited longest. Raises `RuntimeError` for a thread that does not have it."""
        with self._guard:
            if self._owner != threading.get_ident():
                raise RuntimeError("This thread can't give a turn that it does not have.")
            self._depth -= 1
            if not self._depth:
                self._hand_on()

    def _hand_on(self) -> None:
        self._owner, self._depth = None, 0
        if self._waiting:
            self._owner, turn = self._waiting.popleft()
            self._depth = 1
            turn.set()

    @contextmanager
    def held(self, should_stop: Callable[[], None] | None = None) -> Iterator[None]:
        """The turn for as long as the block runs; raises what `should_stop` raises while waiting for it."""
        self.acquire(should_stop=should_stop)
        try:
            yield
        finally:
            self.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *unused: object) -> None:
        self.release()
