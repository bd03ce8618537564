"""Processors shared between the model and the browser that shows its answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grounding.predict import Predictor

SMALL_WEIGHTS = 50_000_000
"""A model with at most so many weights gains little from one more processor: its products are over too soon."""


@contextmanager
def one_for_the_page(predictor: Predictor) -> Iterator[None]:
    """While the block runs, a small model on a CPU leaves one processor to the page; others keep all.

    Browser and server often share the machine. Where PyTorch counts on all of its processors, each product waits for
    the one that draws the page (`benchmarks/compare_page.py`). The caller holds the model; a thread that begins to use
    PyTorch meanwhile has one less, too.
    """
    import torch

    threads = _all_threads()
    if threads < 2 or predictor.device != "cpu" or predictor.weight_count > SMALL_WEIGHTS:
        yield
        return
    torch.set_num_threads(threads - 1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@cache
def _all_threads() -> int:
    """As many as PyTorch had when it was first asked: a thread that began inside a block must not take it for less."""
    import torch

    return torch.get_num_threads()
