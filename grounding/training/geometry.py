"""Loss terms on the boxes that the model expects: differentiable coordinates from the logits of their digits.

The expected value of one number with decisions p = 1, 2, ... (its symbols, then its end) under teacher forcing is

    E = sum over p of reach(p) x sum over wrong options c of P(c | p) x m(p, c)  +  reach(after the last) x right number

    reach(p) = product of P(right | q) over the decisions q before p
    m(p, c)  = the number nearest to the right one among all that go on as the right one does up to p and then take c

P is the softmax over the tokens that may stand there (digits that fit, tokens that end the number), as forced decoding
chooses. Nothing is assumed to be independent: a digit's share counts only as far as the digits before it are reached,
and a wrong digit carries into all later ones. The one assumption is m, because the model was never shown the wrong
beginning; it is exact for the end of a number, for its last symbol and for location tokens, and elsewhere the least
error that the wrong digit can mean. So the error is never overstated at a carry (199 against 200), and a model that
would in truth go on elsewhere is judged too mildly; the loss of the tokens is what tells it the digits.

Where gradients flow: into the logits of the options of every decision of the number, and nowhere else; into later
decisions only as far as they are reached. Each number is expected given the *true* numbers before it, and the
expectation is taken before smooth L1 and GIoU: two equally likely values on either side of the right one cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from grounding.training.numbers import Number

SMOOTH_BETA = 0.02  # share of a side below which smooth L1 is quadratic


@dataclass(frozen=True)
class NumberTable:
    """The numbers of a batch as padded tensors; row 4 b + c is corner c (x1, y1, x2, y2) of box b.

    `at` [numbers, places]: the row of the logits (0 where padded); `tokens` [numbers, places, options]; `real` of the
    same shape, False where padded; `shares` and `labels` likewise; `right` bool likewise; `share` [numbers] is the
    right value; `owner` [boxes] the branch each box belongs to.
    """

    at: torch.Tensor
    tokens: torch.Tensor
    real: torch.Tensor
    shares: torch.Tensor
    labels: torch.Tensor
    right: torch.Tensor
    share: torch.Tensor
    owner: torch.Tensor


def number_table(
    numbers: Sequence[tuple[Number, int]], owner: Sequence[int], device: str | torch.device
) -> NumberTable | None:
    """Each number with the row of the logits that its answer begins at, four a box; `owner` one a box. None without."""
    if not numbers:
        return None
    places = max(len(number.decisions) for number, _ in numbers)
    options = max(len(decision.tokens) for number, _ in numbers for decision in number.decisions)
    shape = (len(numbers), places, options)
    at = torch.zeros(shape[:2], dtype=torch.long)
    tokens, real = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.bool)
    shares, labels, right = torch.zeros(shape), torch.zeros(shape), torch.zeros(shape, dtype=torch.bool)
    for n, (number, begin) in enumerate(numbers):
        for p, (decision, place) in enumerate(zip(number.decisions, number.places, strict=True)):
            size = len(decision.tokens)
            at[n, p] = begin + place
            tokens[n, p, :size] = torch.tensor(decision.tokens)
            real[n, p, :size] = True
            shares[n, p, :size] = torch.tensor(decision.shares)
            labels[n, p, :size] = torch.tensor(decision.labels)
            right[n, p, :size] = torch.tensor(decision.right)
    share = torch.tensor([number.share for number, _ in numbers])
    tensors = (at, tokens, real, shares, labels, right, share, torch.tensor(owner))
    return NumberTable(*(tensor.to(device) for tensor in tensors))


def expected_shares(logits: torch.Tensor, table: NumberTable) -> torch.Tensor:
    """[numbers] expected coordinates in shares of the side, from logits [tokens, vocabulary]."""
    chosen = logits[table.at[..., None], table.tokens]  # [numbers, places, options]
    is_decision = table.real.any(-1)  # [numbers, places]
    # A padded place has no options: its row is all zeros instead, so that no softmax is over nothing.
    chosen = chosen.masked_fill(~table.real & is_decision[..., None], -torch.inf)
    chances = chosen.softmax(-1)
    stays = (chances * table.right).sum(-1).masked_fill(~is_decision, 1.0)
    arrives = torch.cat((torch.ones_like(stays[:, :1]), stays), dim=1).cumprod(1)  # [numbers, places + 1]
    # Distances from the right number rather than numbers: their sum keeps its digits where the model is nearly sure.
    astray = chances * (table.shares - table.share[:, None, None]) * (table.real & ~table.right)
    return table.share.to(chances.dtype) + (arrives[:, :-1] * astray.sum(-1)).sum(1)


def smooth_l1(expected: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """[boxes] mean over the four coordinates [boxes, 4] of e^2 / (2 beta) below beta, else |e| - beta / 2.

    e is the error in shares of the side, beta `SMOOTH_BETA`. Source: Girshick, Fast R-CNN, ICCV 2015, equation 3.
    """
    return functional.smooth_l1_loss(expected, truth, beta=SMOOTH_BETA, reduction="none").mean(-1)


def giou_loss(expected: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """[boxes] 1 - GIoU, 0.0 to 2.0, of boxes [boxes, 4] as x1, y1, x2, y2; the true ones have an area.

    Expected corners that are swapped are put in order first. Source: Rezatofighi et al., Generalized Intersection over
    Union, CVPR 2019, algorithm 2.
    """
    low, high = torch.minimum(expected[:, :2], expected[:, 2:]), torch.maximum(expected[:, :2], expected[:, 2:])
    true_low, true_high = truth[:, :2], truth[:, 2:]
    overlap = (torch.minimum(high, true_high) - torch.maximum(low, true_low)).clamp_min(0).prod(-1)
    union = (high - low).prod(-1) + (true_high - true_low).prod(-1) - overlap
    hull = (torch.maximum(high, true_high) - torch.minimum(low, true_low)).prod(-1)
    return 1 - overlap / union + (hull - union) / hull
