"""Long work behind a page that goes on telling how long it has taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Waiting(Generic[Result]):
    """`work` in a thread of its own, begun at once. It goes on when nobody waits for it any more."""

    def __init__(self, work: Callable[[], Result]) -> None:
        executor = ThreadPoolExecutor(1, thread_name_prefix="waiting")
        self._begun = time.monotonic()
        self._future = executor.submit(work)
        executor.shutdown(wait=False)

    def seconds(self, every: float = 1.0) -> Iterator[float]:
        """How long it has taken so far, every so many seconds until it has ended."""
        while not wait([self._future], every).done:
            yield time.monotonic() - self._begun

    def result(self) -> Result:
        """What came of it. Raises what the work raised."""
        return self._future.result()
