"""Large pictures make small batches: what is decoded at once is bounded by its tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from grounding.decoding import fast
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
    monkeypatch.setattr(fast, "_TOKENS_AT_ONCE", 300)  # three prompts of a demo picture
    assert [(p.boxes, p.status) for p in predictor.predict_many(questions)] == whole
    assert sum(sizes) == len(questions) and 1 < max(sizes) <= 3


def test_a_prompt_beyond_the_budget_is_asked_alone(
    predictor: Predictor, questions: list[tuple[Path, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast, "_TOKENS_AT_ONCE", 1)
    assert len(predictor.predict_many(questions[:3])) == 3
