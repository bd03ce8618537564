"""Packed attention: each token sees its prefix and, of its own branch, what stands before it; padding sees nothing."""

from __future__ import annotations

import pytest
import torch

from grounding.training import layout
from grounding.training.layout import Layout

PREFIXES = (5, 3)
BRANCHES = ((4, 2, 7), (1, 6))
LENGTH = 20
HEADS, SIZE = 2, 8


def one_by_one(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Token by token, as the text above says it."""
    found, start = [], 0
    for prefix, sizes in zip(PREFIXES, BRANCHES, strict=True):
        parts = [
            (start, start, prefix),
            *((start, start + prefix + sum(sizes[:i]), sizes[i]) for i in range(len(sizes))),
        ]
        for number, (of_prefix, begin, size) in enumerate(parts):
            for token in range(begin, begin + size):
                seen = list(range(begin, token + 1))
                if number:
                    seen = [*range(of_prefix, of_prefix + prefix), *seen]
                scores = torch.einsum("hd,khd->hk", queries[token], keys[seen]) * SIZE**-0.5
                found.append(torch.einsum("hk,khd->hd", scores.softmax(-1), values[seen]).flatten())
        start += prefix + sum(sizes)
    return torch.stack(found)


@pytest.mark.parametrize("multiple", [1, 16])
@pytest.mark.parametrize("most_scores", [0, 2**24], ids=["fused", "products"])
def test_who_sees_whom(multiple: int, most_scores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_MOST_SCORES", most_scores)
    made = Layout.of(PREFIXES, BRANCHES, LENGTH, torch.device("cpu"), multiple)
    tokens = sum(PREFIXES) + sum(map(sum, BRANCHES))
    assert made.real.tolist() == [*range(18), *range(20, 30)]
    torch.manual_seed(0)
    queries, keys, values = (torch.randn(tokens, HEADS, SIZE, requires_grad=True) for _ in range(3))
    expected = one_by_one(queries, keys, values)
    attended = made.attend(queries, keys, values)
    assert torch.allclose(attended, expected, atol=1e-5)
    in_branches = torch.tensor([6, 9, 26])
    assert torch.allclose(made.attend(queries, keys, values, in_branches), expected[in_branches], atol=1e-5)
    anywhere = torch.tensor([0, 9])
    assert torch.allclose(made.attend(queries, keys, values, anywhere), expected[anywhere], atol=1e-5)

    toward = torch.randn_like(expected)
    ours = torch.autograd.grad((attended * toward).sum(), (queries, keys, values))
    theirs = torch.autograd.grad((expected * toward).sum(), (queries, keys, values))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, theirs, strict=True))
