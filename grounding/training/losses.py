"""The loss on the answer's tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional


def digit_place_weights(tokens: Sequence[str], weights_hundreds_tens_ones: tuple[float, float, float]) -> list[float]:
    """The loss weight of each token of an answer: a digit's by its place in its number, 1.0 for all others.

    `tokens` are the answer's tokens as text, one digit a token (true of the Qwen tokenizers). A fourth digit
    from the right (only in 1000) weighs as much as the hundreds. An error of one in the hundreds moves a box
    by a tenth of the picture, in the ones by a thousandth: equal weights teach the model to mind the wrong one.
    """
    weights = [1.0] * len(tokens)
    place = 0
    for i in range(len(tokens) - 1, -1, -1):
        if tokens[i].strip().isdigit():
            weights[i] = weights_hundreds_tens_ones[max(0, 2 - place)]
            place += 1
        else:
            place = 0
    return weights


def answer_loss(logits: torch.Tensor, target_ids: torch.Tensor, token_weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean cross-entropy in nats.

    `logits` [tokens, vocabulary] at the positions that predict, `target_ids` [tokens], `token_weights` [tokens].
    """
    losses = functional.cross_entropy(logits.float(), target_ids, reduction="none")  # [tokens]
    return (losses * token_weights).sum() / token_weights.sum()
