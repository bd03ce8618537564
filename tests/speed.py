"""How long something takes at its best: on a busy machine the least of a few tries says most."""

from __future__ import annotations

import time
from collections.abc import Callable


def takes_less(seconds: float, work: Callable[[], object], tries: int = 5) -> bool:
    """Whether `work` took less than `seconds` of this thread's processor time in one of at most `tries`."""
    for _ in range(tries):
        began = time.thread_time()
        work()
        if time.thread_time() - began < seconds:
            return True
    return False
