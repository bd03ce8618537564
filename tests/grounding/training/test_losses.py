"""The loss on the answer's tokens, and how much each token weighs."""

from __future__ import annotations

import json
import math
import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from grounding.errors import JobError
from grounding.training.losses import answer_loss, check_finite, digit_weights
from plain_loss import plain_loss

PLACES = (5.0, 3.0, 2.0)
EVEN = (1.0, 1.0, 1.0, 1.0)
CORNERS = (1.0, 10.0, 100.0, 1000.0)


def tokens_of(text: str) -> list[str]:
    """The text as a Qwen tokenizer cuts it: each digit alone. What else hangs together does not matter."""
    return list(text)


def answer(*boxes: tuple[int, int, int, int]) -> str:
    return json.dumps([{"bbox_2d": list(box)} for box in boxes])


def weights_of_digits(text: str, corners: tuple[float, ...] = EVEN) -> list[tuple[str, float]]:
    tokens = tokens_of(text)
    weights = digit_weights(tokens, PLACES, corners)
    assert len(weights) == len(tokens)
    return [(token, weight) for token, weight in zip(tokens, weights, strict=True) if token.isdigit()]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        pytest.param((123, 456, 789, 987), [5, 3, 2] * 4, id="three digits"),
        pytest.param((12, 34, 56, 78), [3, 2] * 4, id="two digits"),
        pytest.param((0, 1, 8, 9), [2] * 4, id="one digit"),
        pytest.param((0, 10, 200, 1000), [2, 3, 2, 5, 3, 2, 5, 5, 3, 2], id="the fourth digit of 1000 as hundreds"),
        pytest.param((1000, 1000, 1000, 1000), [5, 5, 3, 2] * 4, id="nothing but 1000"),
    ],
)
def test_a_digit_weighs_by_its_place(box: tuple[int, int, int, int], expected: list[float]) -> None:
    (key, key_weight), *digits = weights_of_digits(answer(box))
    assert (key, key_weight) == ("2", 1.0)  # the 2 of bbox_2d is no coordinate
    assert [weight for _, weight in digits] == expected


def test_a_digit_weighs_by_its_corner_too() -> None:
    _, *digits = weights_of_digits(answer((12, 3, 456, 1000)), CORNERS)
    assert digits == [
        ("1", 3), ("2", 2), ("3", 20), ("4", 500), ("5", 300), ("6", 200),
        ("1", 5000), ("0", 5000), ("0", 3000), ("0", 2000),
    ]  # fmt: skip


def test_each_box_begins_with_its_first_corner() -> None:
    one, two = (weights_of_digits(answer(*[(1, 2, 3, 4)] * count), CORNERS) for count in (1, 2))
    assert two == one * 2


def test_all_but_digits_weigh_one() -> None:
    tokens = tokens_of(answer((123, 456, 789, 987)) + "<|im_end|>")
    weights = digit_weights(tokens, PLACES, CORNERS)
    assert {weight for token, weight in zip(tokens, weights, strict=True) if not token.isdigit()} == {1.0}


@pytest.mark.parametrize("text", ["[]", "", "[]<|im_end|>"])
def test_nothing_there_weighs_one_a_token(text: str) -> None:
    assert digit_weights(tokens_of(text), PLACES, CORNERS) == [1.0] * len(text)


@pytest.mark.parametrize(
    "cut",
    [
        pytest.param(r"\d|\D", id="every character alone"),
        pytest.param(r"\d|\D+", id="as long as it goes"),
        pytest.param(r"\d|, |\D", id="comma and blank in one"),
        pytest.param(r" ?\d|\D", id="a blank before its digit"),
        pytest.param(r"\d|[a-z_]+|\D", id="words"),
    ],
)
def test_how_the_rest_is_cut_does_not_matter(cut: str) -> None:
    text = answer((1, 20, 3, 4))
    tokens = re.findall(cut, text)
    assert "".join(tokens) == text
    weights = digit_weights(tokens, PLACES, CORNERS)
    digits = [weight for token, weight in zip(tokens, weights, strict=True) if token.strip().isdigit()]
    assert digits == [1.0, 2.0, 30.0, 20.0, 200.0, 2000.0]


def test_the_embedded_models_tokens(loaded: Any) -> None:
    """The weights land on the coordinates of a real answer, cut by the real tokenizer."""
    tokenizer = loaded.processor.tokenizer
    ids = tokenizer(answer((12, 345, 678, 1000), (5, 6, 7, 8)) + "<|im_end|>", add_special_tokens=False)["input_ids"]
    tokens = [tokenizer.decode([token]) for token in ids]
    weights = digit_weights(tokens, PLACES, EVEN)
    weighed = [(token.strip(), weight) for token, weight in zip(tokens, weights, strict=True) if weight != 1.0]
    assert "".join(token for token, _ in weighed) == "1234567810005678"
    assert [weight for _, weight in weighed] == [3, 2, 5, 3, 2, 5, 3, 2, 5, 5, 3, 2, 2, 2, 2, 2]


def test_equal_weights_give_torchs_cross_entropy() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(7, 11), torch.randint(11, (7,))
    expected = torch.nn.functional.cross_entropy(logits, targets)
    for weight in (1.0, 0.3):
        assert torch.allclose(plain_loss(logits, targets, torch.full((7,), weight)), expected)


def test_weights_count_like_repetitions() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(3, 5), torch.tensor([1, 4, 0])
    weighted = plain_loss(logits, targets, torch.tensor([1.0, 3.0, 0.0]))
    repeated = torch.nn.functional.cross_entropy(logits[[0, 1, 1, 1]], targets[[0, 1, 1, 1]])
    assert torch.allclose(weighted, repeated)


def test_half_precision_is_summed_in_full() -> None:
    torch.manual_seed(0)
    logits = torch.randn(50, 100)
    targets, weights = torch.randint(100, (50,)), torch.ones(50)
    loss = plain_loss(logits.bfloat16(), targets, weights)
    assert loss.dtype == torch.float32
    assert torch.allclose(loss, plain_loss(logits.bfloat16().float(), targets, weights))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_step_term_and_sample(value: float) -> None:
    logits = torch.zeros(6, 4)
    logits[3, 1] = value
    owner = torch.tensor([0, 0, 1, 1, 2, 2])
    batch: Any = SimpleNamespace(
        target_ids=torch.zeros(6, dtype=torch.long),
        token_weights=torch.ones(6),
        owner=owner,
        numbers=None,
        soft_labels=False,
    )
    parts = answer_loss(logits, batch)
    assert parts.not_finite() == ("tokens", [1])
    with pytest.raises(JobError, match=r"term 'tokens' became (nan|inf) at step 7 on 'the mug': look at this sample"):
        check_finite(parts, 7, ["'the dog'", "'the mug'", "'a cat'"])
    logits[3, 1] = 0.0
    check_finite(answer_loss(logits, batch), 7, ["'the dog'", "'the mug'", "'a cat'"])


def test_weights_that_are_spoiled_are_no_samples_fault() -> None:
    owner = torch.tensor([0, 1])
    batch: Any = SimpleNamespace(
        target_ids=owner, token_weights=torch.ones(2), owner=owner, numbers=None, soft_labels=False
    )
    parts = answer_loss(torch.full((2, 4), math.nan), batch)
    with pytest.raises(JobError, match=r"on every sample of the step, so the weights are spoiled"):
        check_finite(parts, 3, ["a", "b"])


def test_long_lists_of_samples_are_cut() -> None:
    owner = torch.arange(7)
    batch: Any = SimpleNamespace(
        target_ids=torch.zeros(7, dtype=torch.long),
        token_weights=torch.ones(7),
        owner=owner,
        numbers=None,
        soft_labels=False,
    )
    logits = torch.zeros(7, 4)
    logits[:6] = math.nan
    with pytest.raises(JobError, match=r"on s0, s1, s2, s3 and 2 more:"):
        check_finite(answer_loss(logits, batch), 1, [f"s{i}" for i in range(7)])
