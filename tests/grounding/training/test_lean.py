"""The pieces of the lean training pass against finite differences and plain expressions."""

from __future__ import annotations

import pytest
import torch

from grounding.training.lean_functions import Gated, Gather, LoraGroup, RmsNorm, Rotate, Spread


def wide(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("biased", [False, True])
def test_lora_on_some_of_three_layers(biased: bool) -> None:
    inputs, weight = wide(5, 7), wide(9, 7).detach()
    bias = wide(9).detach() if biased else None
    spans = ((0, 4, 0.5), (6, 9, 2.0))
    first_a, first_b, second_a, second_b = wide(2, 7), wide(4, 2), wide(3, 7), wide(3, 3)
    factors = (first_a, first_b, second_a, second_b)
    output = LoraGroup.apply(inputs, weight, bias, spans, *factors)
    expected = torch.nn.functional.linear(inputs, weight, bias).clone()
    expected[:, 0:4] += 0.5 * inputs @ first_a.t() @ first_b.t()
    expected[:, 6:9] += 2.0 * inputs @ second_a.t() @ second_b.t()
    torch.testing.assert_close(output, expected)
    assert torch.autograd.gradcheck(lambda x, *f: LoraGroup.apply(x, weight, bias, spans, *f), (inputs, *factors))


def test_layers_without_lora() -> None:
    inputs, weight = wide(5, 7), wide(9, 7).detach()
    assert torch.autograd.gradcheck(lambda x: LoraGroup.apply(x, weight, None, ()), (inputs,))


def test_factors_keep_their_own_type() -> None:
    inputs, weight = torch.randn(5, 7, dtype=torch.bfloat16), torch.randn(9, 7, dtype=torch.bfloat16)
    a, b = torch.randn(2, 7, requires_grad=True), torch.randn(9, 2, requires_grad=True)
    LoraGroup.apply(inputs, weight, None, ((0, 9, 1.0),), a, b).sum().backward()
    assert a.grad is not None
    assert b.grad is not None
    assert (a.grad.dtype, b.grad.dtype) == (torch.float32, torch.float32)


@pytest.mark.parametrize("rows_of_weight", [(8,), (3, 8)])
def test_rms_norm(rows_of_weight: tuple[int, ...]) -> None:
    states, weight = wide(4, 3, 8), wide(*rows_of_weight).detach()
    expected = states / (states.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight
    torch.testing.assert_close(RmsNorm.apply(states, weight, 1e-6, torch.float64), expected)
    assert torch.autograd.gradcheck(lambda x: RmsNorm.apply(x, weight, 1e-6, torch.float64), (states,))


def test_rotation() -> None:
    states, angles = wide(4, 3, 8), torch.randn(4, 1, 4, dtype=torch.float64)
    cos = torch.cat((angles.cos(), angles.cos()), dim=-1)
    signed = torch.cat((-angles.sin(), angles.sin()), dim=-1)
    first, second = states.chunk(2, dim=-1)
    expected = torch.cat(
        (first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()), dim=-1
    )
    torch.testing.assert_close(Rotate.apply(states, cos, signed), expected)
    assert torch.autograd.gradcheck(lambda x: Rotate.apply(x, cos, signed), (states,))


def test_tokens_into_slots_and_back() -> None:
    """Slot 2 and 5 are padding: nobody looks at them, so their gradient is nothing by the way they are used."""
    slots, back = torch.tensor([0, 1, 0, 2, 3, 0]), torch.tensor([0, 1, 3, 4])
    tokens = wide(4, 3)
    used = torch.tensor([1.0, 2.0, 0.0, 3.0, 4.0, 0.0], dtype=torch.float64)[:, None]
    assert torch.autograd.gradcheck(lambda x: Spread.apply(x, slots, back) * used, (tokens,))
    in_slots = wide(6, 3)
    assert torch.equal(Gather.apply(in_slots, back), in_slots[back])
    assert torch.autograd.gradcheck(lambda x: Gather.apply(x, back), (in_slots,))


def test_what_branches_share_gets_the_gradients_of_all_of_them() -> None:
    states, picture_of = wide(3, 2), torch.tensor([0, 0, 2, 2, 2])
    torch.testing.assert_close(Gather.apply(states, picture_of), states[picture_of])
    assert torch.autograd.gradcheck(lambda x: Gather.apply(x, picture_of), (states,))


def test_gates() -> None:
    both = wide(5, 6)
    gate, up = both.chunk(2, dim=-1)
    torch.testing.assert_close(Gated.apply(both), torch.nn.functional.silu(gate) * up)
    assert torch.autograd.gradcheck(Gated.apply, (both,))
