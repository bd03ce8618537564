"""The loss on the answer's tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional


def digit_weights(
    tokens: Sequence[str],
    place_weights: Sequence[float],
    corner_weights: Sequence[float],
) -> list[float]:
    """The loss weight of each token of an answer: place times corner for a coordinate's digit, 1.0 for all others.

    `tokens` are the answer's tokens as text, one digit a token (true of the Qwen tokenizers). `place_weights` are
    those of the hundreds, tens and ones (a fourth digit, only in 1000, counts as hundreds): an error of one in the
    hundreds moves a side by a tenth of the picture, in the ones by a thousandth. `corner_weights` are those of x1,
    y1, x2, y2: once the first numbers are known, the object is chosen, and what is left is to trace its outline.
    The digit in the key `bbox_2d` is no coordinate.
    """
    weights = [1.0] * len(tokens)
    corner, before = 0, ""
    run: list[int] = []
    for i, token in enumerate([*tokens, ""]):
        if token.strip().isdigit() and (run or before[-1:] in ("[", ",")):
            run.append(i)
            continue
        for place, at in enumerate(reversed(run)):
            weights[at] = place_weights[max(0, 2 - place)] * corner_weights[corner % 4]
        corner += bool(run)
        run, before = [], (before + token).rstrip()
    return weights


def answer_loss(logits: torch.Tensor, target_ids: torch.Tensor, token_weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean cross-entropy in nats.

    `logits` [tokens, vocabulary] at the positions that predict, `target_ids` [tokens], `token_weights` [tokens].
    """
    losses = functional.cross_entropy(logits.float(), target_ids, reduction="none")  # [tokens]
    return (losses * token_weights).sum() / token_weights.sum()
