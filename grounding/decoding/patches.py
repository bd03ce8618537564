"""A convolution over patches that don't overlap, as a matrix product."""

from __future__ import annotations

import torch
import torch.nn.functional as F


class PatchProduct(torch.nn.Module):
    """Stands in for a convolution whose stride is its kernel's size, with the same weights under the same names."""

    def __init__(self, convolution: torch.nn.Conv3d) -> None:
        super().__init__()
        self.weight = convolution.weight
        self.bias = convolution.bias

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """[patches, channels, *kernel] -> [patches, features]."""
        return F.linear(patches.flatten(1), self.weight.flatten(1), self.bias)
