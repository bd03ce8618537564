"""The loss of plain tokens, without a packed batch around them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from grounding.training.losses import answer_loss


def plain_loss(logits: torch.Tensor, target_ids: torch.Tensor, token_weights: torch.Tensor) -> torch.Tensor:
    """The loss of these tokens as one branch without coordinates."""
    owner = torch.zeros_like(target_ids)
    batch: Any = SimpleNamespace(
        target_ids=target_ids, token_weights=token_weights, owner=owner, numbers=None, soft_labels=False
    )
    return answer_loss(logits, batch).total
