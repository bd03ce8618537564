"""Where a model computes and in which numbers, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def choose_device(torch: Any, device: str | None = None, stored: str = "") -> tuple[str, torch.dtype, list[str]]:
    """(device, dtype, reasons): CUDA before MPS before CPU; bfloat16 where it is fast, float32 elsewhere.

    `stored` is the number type of the model's files (`stored_numbers`). On a CPU only files in bfloat16 stay so, and
    only where the processor has instructions for it: half the memory and half the time of a large model, and no
    weight is rounded.
    """
    if device is None:
        if torch.cuda.is_available():
            device, why = "cuda", f"a GPU was found ({torch.cuda.get_device_name(0)})"
        elif torch.backends.mps.is_available():
            device, why = "mps", "an Apple GPU was found"
        else:
            device, why = "cpu", "no GPU was found"
    else:
        why = "it was asked for"
    number_note = "float32: float16 overflows in training and bfloat16 is slow here."
    dtype = torch.float32
    if device.startswith("cuda"):
        # Older GPUs emulate bfloat16, slower than float32.
        if torch.cuda.is_bf16_supported(including_emulation=False):
            dtype, number_note = torch.bfloat16, "bfloat16: the GPU computes in it at full speed."
    elif device.startswith("cpu"):
        instructions = bfloat16_instructions(torch.cpu.get_capabilities())
        if stored == "float32":
            number_note = "float32: as its files."
        elif instructions and stored == "bfloat16":
            dtype = torch.bfloat16
            number_note = f"bfloat16: as its files, and this processor has {instructions} instructions for it."
        elif instructions:
            number_note = "float32: float16 overflows in training and bfloat16 would round the weights."
    return device, dtype, [f"{device}: {why}.", number_note]


def stored_numbers(config: Any) -> str:
    """The number type that a model's config says its weights are in, as "bfloat16"; "" where it says nothing.

    Qwen's configs say it of the language model alone.
    """
    dtype = getattr(config, "dtype", None) or getattr(config.get_text_config(), "dtype", None)
    return str(dtype or "").removeprefix("torch.")


def bfloat16_instructions(capabilities: Mapping[str, Any]) -> str | None:
    """The processor's instructions for bfloat16, by name, from `torch.cpu.get_capabilities()`; None: it has none."""
    for instruction, name in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX-512")):
        if capabilities.get(instruction):
            return name
    return None
