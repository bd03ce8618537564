"""In which numbers the steps of a run compute, and why."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from grounding.devices import bfloat16_instructions


def choose_precision(device: str, capabilities: Mapping[str, Any] | None = None) -> tuple[torch.dtype | None, str]:
    """(dtype to compute the matrix products in, reason); None: whatever the weights have.

    `capabilities` are those of `torch.cpu.get_capabilities()`, given by tests. On a GPU the weights are in the
    right type already. LoRA's own weights and the optimiser stay in float32 either way.
    """
    if not device.startswith("cpu"):
        return None, "The steps compute in the type of the weights."
    known = torch.cpu.get_capabilities() if capabilities is None else capabilities
    name = bfloat16_instructions(known)
    if name:
        return torch.bfloat16, f"The steps compute in bfloat16: this processor has {name} instructions for it."
    return None, "The steps compute in float32: this processor has no instructions for bfloat16."


def computing_in(device: str, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """Autocast to this type, or nothing."""
    return torch.autocast(device.split(":")[0], dtype=dtype) if dtype is not None else nullcontext()
