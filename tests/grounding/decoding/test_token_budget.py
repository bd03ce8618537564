"""Large pictures make small batches: what is decoded at once is bounded by its tokens."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from grounding.answering import Answerer
from grounding.decoding import fast
from grounding.errors import ModelError
from grounding.predict import Predictor


def test_a_small_budget_splits_the_batch_and_changes_no_answer(
    predictor: Predictor, questions: list[tuple[Path, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [(p.boxes, p.status) for p in predictor.predict_many(questions)]
    sizes: list[int] = []
    decode = fast.decode

    def counting(text: Any, prompts: Any, *arguments: Any) -> Any:
        sizes.append(len(prompts))
        return decode(text, prompts, *arguments)

    monkeypatch.setattr(fast, "decode", counting)
    monkeypatch.setattr(fast, "tokens_at_once", lambda loaded: 300)  # three prompts of a demo picture
    assert [(p.boxes, p.status) for p in predictor.predict_many(questions)] == whole
    assert sum(sizes) == len(questions) and 1 < max(sizes) <= 3


def test_a_prompt_beyond_the_budget_is_asked_alone(
    predictor: Predictor, questions: list[tuple[Path, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast, "tokens_at_once", lambda loaded: 1)
    assert len(predictor.predict_many(questions[:3])) == 3


def test_the_budget_is_of_the_models_own_keys_and_values(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    config = predictor.loaded.model.config.get_text_config()
    bytes_per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4
    for available_bytes, budget_bytes in ((10 * 2**30, 2 * 2**30), (2**20, 2**28), (2**50, 16 * 2**30)):
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=available_bytes: SimpleNamespace(available=free))
        assert fast.tokens_at_once(predictor.loaded) == budget_bytes // bytes_per_token


@pytest.mark.parametrize(
    "too_little",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.00 GB, other allocations: 1.00 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to"),
        MemoryError(),
    ],
)
def test_a_batch_that_does_not_fit_is_halved_until_it_does(
    predictor: Predictor, questions: list[tuple[Path, str]], monkeypatch: pytest.MonkeyPatch, too_little: Exception
) -> None:
    whole = [(p.boxes, p.status) for p in predictor.predict_many(questions)]
    answer = Answerer.answer

    def small(self: Answerer, asks: Any, *arguments: Any) -> Any:
        if len(asks) > 2:
            raise too_little
        return answer(self, asks, *arguments)

    monkeypatch.setattr(Answerer, "answer", small)
    assert [(p.boxes, p.status) for p in predictor.predict_many(questions)] == whole
    monkeypatch.setattr(Answerer, "answer", lambda self, asks, *arguments: (_ for _ in ()).throw(too_little))
    with pytest.raises(ModelError, match="too small for a phrase on this picture"):
        predictor.predict(*questions[0])
