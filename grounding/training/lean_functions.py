"""The functions of the lean pass whose gradients are written by hand, with fewer passes over memory than autograd's.

Each may be differentiated once. Sizes stand as [rows, columns].
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F


class Spread(torch.autograd.Function):
    """Tokens [tokens, ...] into slots, padding included; on the way back every token has one slot, and padding has no
    gradient because nobody looks at it."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, slots: torch.Tensor, back: torch.Tensor) -> torch.Tensor:
        """[slots, ...]."""
        ctx.save_for_backward(back)
        return states.index_select(0, slots)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """A gather where autograd would scatter."""
        (back,) = ctx.saved_tensors
        return grad.index_select(0, back), None, None


class Gather(torch.autograd.Function):
    """Rows by their places: slots back into tokens, padding left behind; or what several branches share, for each."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """[places, ...] of [rows, ...]."""
        ctx.save_for_backward(places)
        ctx.rows = len(states)
        return states.index_select(0, places)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Whole rows added up, where autograd would scatter numbers; zeros where nobody looked."""
        (places,) = ctx.saved_tensors
        return grad.new_zeros(ctx.rows, *grad.shape[1:]).index_add_(0, places, grad), None


class LoraGroup(torch.autograd.Function):
    """y = x W^T + b + for each span of outputs: s (x A^T) B^T. W and b are frozen.

    Only x and its low-rank images are kept for the way back, where one product each gives dx = dy W + dlow A,
    dA = dlow^T x and dB = s dy^T low, with dlow = s dy B.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        spans: tuple[tuple[int, int, float], ...],
        *factors: torch.Tensor,
    ) -> torch.Tensor:
        """[tokens, out]; `spans` are (first output, end, scaling), `factors` A and B of each in turn."""
        output = torch.mm(inputs, weight.t()) if bias is None else torch.addmm(bias, inputs, weight.t())
        downs = [a.to(inputs.dtype) for a in factors[::2]]
        ups = [b.to(inputs.dtype) for b in factors[1::2]]
        ctx.spans, ctx.types = spans, [factor.dtype for factor in factors]
        if not spans:
            ctx.save_for_backward(inputs, weight)
            return output
        down = torch.cat(downs) if len(downs) > 1 else downs[0]  # [ranks, in]
        low = torch.mm(inputs, down.t())  # [tokens, ranks]
        at = 0
        for (begin, end, scaling), up in zip(spans, ups, strict=True):
            rank = up.shape[1]
            output[:, begin:end].addmm_(low[:, at : at + rank], up.t(), alpha=scaling)
            at += rank
        ctx.save_for_backward(inputs, weight, down, low, *ups)
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients for the inputs and the factors; none for what is frozen."""
        inputs, weight, *rest = ctx.saved_tensors
        wants_inputs = ctx.needs_input_grad[0]
        if not rest:
            return (torch.mm(grad, weight) if wants_inputs else None), None, None, None
        down, low, *ups = rest
        grad_low = torch.empty_like(low)
        grads: list[torch.Tensor] = []
        at, spans = 0, []
        for (begin, end, scaling), up in zip(ctx.spans, ups, strict=True):
            rank = up.shape[1]
            part = grad[:, begin:end]
            grad_low[:, at : at + rank] = torch.mm(part, up).mul_(scaling)
            spans.append((at, at + rank))
            grads.append(torch.mm(part.t(), low[:, at : at + rank]).mul_(scaling))
            at += rank
        grad_down = torch.mm(grad_low.t(), inputs)
        factors: list[torch.Tensor] = []
        for (begin, end), grad_up in zip(spans, grads, strict=True):
            factors += [grad_down[begin:end], grad_up]
        typed = [factor.to(dtype) for factor, dtype in zip(factors, ctx.types, strict=True)]
        grad_inputs = torch.addmm(torch.mm(grad, weight), grad_low, down) if wants_inputs else None
        return (grad_inputs, None, None, None, *typed)


class Rotate(torch.autograd.Function):
    """Rotary embedding of states [tokens, heads, head_size]: each half of the last axis with the other one."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, cos: torch.Tensor, signed_sin: torch.Tensor) -> torch.Tensor:
        """`cos` and `signed_sin` [tokens, 1, head_size]."""
        ctx.save_for_backward(cos, signed_sin)
        return torch.addcmul(states * cos, states.roll(states.shape[-1] // 2, -1), signed_sin)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The rotation is linear: its transpose."""
        cos, signed_sin = ctx.saved_tensors
        return (grad * cos).add_((grad * signed_sin).roll(grad.shape[-1] // 2, -1)), None, None


class Gated(torch.autograd.Function):
    """silu(gate) x up for gate and up side by side [tokens, 2 x intermediate]."""

    @staticmethod
    def forward(ctx: Any, both: torch.Tensor) -> torch.Tensor:
        """[tokens, intermediate]."""
        ctx.save_for_backward(both)
        gate, up = both.chunk(2, dim=-1)
        return F.silu(gate).mul_(up)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        """Both halves written where they belong, without one more copy."""
        (both,) = ctx.saved_tensors
        gate, up = both.chunk(2, dim=-1)
        grads = torch.empty_like(both)
        of_gate, of_up = grads.chunk(2, dim=-1)
        torch.mul(grad, F.silu(gate), out=of_up)
        torch.ops.aten.silu_backward.grad_input(grad * up, gate, grad_input=of_gate)
        return grads


class RmsNorm(torch.autograd.Function):
    """x / sqrt(mean(x^2) + eps) x weight over the last axis, computed in float32 at least; the weight is frozen."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype) -> torch.Tensor:
        """In `dtype`. The weight may have a row a head."""
        wide = states if states.dtype in (torch.float32, torch.float64) else states.float()
        length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        inverse = length.square_().div_(states.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(states, inverse, weight)
        return (wide * inverse).mul_(weight).to(dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """dx = r (g - x r^2 mean(g x)) with g = dy weight and r the inverse root."""
        states, inverse, weight = ctx.saved_tensors
        wide = states.to(inverse.dtype)
        scaled = grad.to(inverse.dtype) * weight
        along = torch.linalg.vecdot(scaled, wide).unsqueeze(-1).mul_(inverse.square()).div_(states.shape[-1])
        return scaled.addcmul_(wide, along, value=-1).mul_(inverse).to(states.dtype), None, None, None
