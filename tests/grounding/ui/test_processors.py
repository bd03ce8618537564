"""A small model leaves a processor to the page while it answers."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from grounding.ui.processors import SMALL_WEIGHTS, _all_threads, one_for_the_page


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    _all_threads.cache_clear()
    yield
    torch.set_num_threads(before)
    _all_threads.cache_clear()


def predictor(weights: int = 10, device: str = "cpu") -> Any:
    return SimpleNamespace(device=device, weight_count=weights)


def test_a_small_model_leaves_one_and_takes_it_back() -> None:
    with pytest.raises(KeyError), one_for_the_page(predictor()):
        assert torch.get_num_threads() == 2
        raise KeyError
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("other", [predictor(SMALL_WEIGHTS + 1), predictor(device="cuda")])
def test_a_large_one_and_a_gpu_s_keep_all(other: Any) -> None:
    with one_for_the_page(other):
        assert torch.get_num_threads() == 3


def test_the_last_one_is_kept() -> None:
    torch.set_num_threads(1)
    with one_for_the_page(predictor()):
        assert torch.get_num_threads() == 1


def test_a_thread_that_began_inside_does_not_leave_another_one() -> None:
    with one_for_the_page(predictor()):
        pass
    torch.set_num_threads(2)  # as a thread has that first used PyTorch inside a block
    with one_for_the_page(predictor()):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 3
