"""A throw-away head on the visual tokens: what stands in each cell, and where its box is.

Plain next-token loss from nothing finds no objects (Acc@0.5 1.7% after 1.4 million samples): the way from a digit back
to the pixels is too long. With this beside it the tower learns to see first.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class DenseHead(nn.Module):
    """One linear map from a visual token [.., width] to `nouns` + 1 classes (0: ground) and four shares of the
    picture's sides."""

    def __init__(self, width: int, nouns: int) -> None:
        super().__init__()
        self.nouns = nouns
        self.linear = nn.Linear(width, nouns + 1 + 4)

    def loss(
        self,
        pooled: torch.Tensor,
        cells: torch.Tensor,
        cell_boxes: torch.Tensor,
        box_weight: float,
        of_all: tuple[int, int],
    ) -> torch.Tensor:
        """Cross-entropy of the classes plus `box_weight` times smooth L1 of the boxes, where there is an object: the
        share of these pictures in the means over a step of `of_all` cells and, of them, cells with an object.

        `pooled` [pictures, cells, width], `cells` [pictures, cells], `cell_boxes` [pictures, cells, 4] in 0.0 to 1.0.
        """
        told = self.linear(pooled).float()
        flat = told[..., : self.nouns + 1].flatten(0, 1)
        classes = functional.cross_entropy(flat, cells.flatten(), reduction="sum") / of_all[0]
        off = functional.smooth_l1_loss(told[..., self.nouns + 1 :], cell_boxes, reduction="none")
        boxes = (off * (cells > 0)[..., None]).sum()
        return classes + box_weight * boxes / max(1, 4 * of_all[1])
