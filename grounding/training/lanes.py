"""Parts of a step side by side on a CPU, each in a thread of its own.

The products of a small model are over too soon for PyTorch to share one among the cores: on two cores the second one
stood still two thirds of the time, and the bfloat16 products of oneDNN took longer on two threads than on one
(measured by `benchmarks/lanes.py`). Two halves of a step side by side keep both busy. PyTorch lets go of Python's lock
inside its operators, so threads will do; the weights are not copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

from grounding.training.settings import TrainSettings

_Given = TypeVar("_Given")
_Found = TypeVar("_Found")


class Lanes:
    """Runs a function on several parts at once. `count` 1: one after the other, in the caller's thread."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool: ThreadPoolExecutor | None = None

    def map(self, function: Callable[[_Given], _Found], parts: Sequence[_Given]) -> list[_Found]:
        """What the function makes of each part, in order. An error of a part is raised when all have ended."""
        if self.count == 1 or len(parts) == 1:
            return [function(part) for part in parts]
        of_caller = torch.get_num_threads()
        share = max(1, of_caller // self.count)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.count, "lane", initializer=torch.set_num_threads, initargs=(share,))
        # OpenMP counts its threads for each of ours, MKL once for all: so the caller's count changes, too.
        torch.set_num_threads(share)
        try:
            futures = [self._pool.submit(function, part) for part in parts]
            wait(futures)
        finally:
            torch.set_num_threads(of_caller)
        return [future.result() for future in futures]


def lanes_for(settings: TrainSettings, device: str) -> int:
    """Into how many lanes the pictures of a step go.

    One on a GPU; with dropout, whose random numbers would come in another order each time; and where the vision tower
    learns, because its pass over the pictures is one for all lanes.
    """
    if not device.startswith("cpu") or settings.lora_dropout > 0 or settings.lora_vision:
        return 1
    return max(1, min(settings.images_per_step, torch.get_num_threads()))


def split_evenly(items: Sequence[_Given], parts: int) -> list[Sequence[_Given]]:
    """The sequence in `parts` runs whose lengths differ by at most one, in order."""
    size, larger = divmod(len(items), parts)
    ends = [size * (i + 1) + min(i + 1, larger) for i in range(parts)]
    return [items[start:end] for start, end in zip([0, *ends], ends, strict=False)]
