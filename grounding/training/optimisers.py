"""How the weights are moved: the optimiser, and the learning rate over a run."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch

from grounding.errors import JobError, first_sentence
from grounding.training.settings import TrainSettings

# The usual memory of squared gradients, 1,000 steps, is longer than a short run; 50 is not.
_BETAS = (0.9, 0.98)
_RATE = "times_the_rate"
_NEW_WORDS = "trainable_tokens_delta"  # what peft calls the embeddings of single tokens
_LENGTHS = "lora_magnitude_vector"  # and what the lengths of DoRA
_OF_BITSANDBYTES = {"adamw_8bit": "AdamW8bit", "paged_adamw_8bit": "PagedAdamW8bit"}


def make_optimiser(
    weights: Mapping[str, torch.nn.Parameter], settings: TrainSettings, device: str
) -> tuple[torch.optim.Optimizer, str]:
    """(the optimiser that the settings ask for, a sentence about it; "" for plain AdamW as asked).

    `weights` by their names in the model, from which LoRA's B are known: `lora_b_rate` is for them (LoRA+, Hayou et
    al. 2024, arXiv 2402.12354). Where bitsandbytes can't take a step with 8-bit states on this device, plain AdamW
    takes its place and the sentence says why.
    """
    options: dict[str, Any] = {
        "lr": settings.learning_rate,
        "betas": _BETAS,
        "weight_decay": settings.weight_decay,
    }
    groups = _groups(weights, settings)
    name = _OF_BITSANDBYTES.get(settings.optimiser)
    if name is None:
        # Hundreds of small matrices: one by one, Python would take longer than the arithmetic.
        return torch.optim.AdamW(groups, fused=device.startswith("cpu") or None, **options), ""
    try:
        import bitsandbytes

        maker = getattr(bitsandbytes.optim, name)
        _probe(maker, options, device)
    except Exception as error:  # noqa: BLE001  (each backend fails in its own way, and at use only)
        reason = first_sentence(error)
        return torch.optim.AdamW(groups, **options), f"AdamW in full instead of {settings.optimiser}: {reason}."
    paged = name.startswith("Paged") and device.startswith("cpu")
    note = "AdamW with states of 8 bits (bitsandbytes)" + (", not paged: this is the CPU." if paged else ".")
    return maker(groups, **options), note


def _groups(weights: Mapping[str, torch.nn.Parameter], settings: TrainSettings) -> list[dict[str, Any]]:
    """The weights by the multiple of the learning rate that is theirs. Embeddings of new words don't decay: nothing is
    no meaning to fall back to. Nor do DoRA's lengths, which begin as those of the base: shrunk, they would take the
    base's own weights with them."""
    by_rate: dict[tuple[float, bool], list[torch.nn.Parameter]] = {}
    for name, weight in weights.items():
        is_word = _NEW_WORDS in name
        rate = settings.new_words_rate if is_word else settings.lora_b_rate if "lora_B" in name else 1.0
        # Only where anything decays: the groups of a checkpoint are those of the run that goes on from it.
        is_kept = is_word or (settings.weight_decay > 0 and _LENGTHS in name)
        by_rate.setdefault((rate, is_kept), []).append(weight)
    return [
        {"params": listed, _RATE: rate, **({"weight_decay": 0.0} if is_kept else {})}
        for (rate, is_kept), listed in by_rate.items()
    ]


def _probe(maker: Any, options: dict[str, Any], device: str) -> None:
    """Take one step on a matrix large enough for 8-bit states. Raises whatever is wrong with it."""
    probe = torch.nn.Parameter(torch.ones(64, 128, device=device))
    optimiser = maker([probe], **options)
    probe.grad = torch.ones_like(probe)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Paged optimizers are not supported on CPU", UserWarning)
        optimiser.step()
    if not bool(torch.isfinite(probe).all()) or bool((probe == 1).all()):
        raise JobError("its step on a small matrix did not move it as it should")


def optimiser_step(optimiser: torch.optim.Optimizer) -> None:
    """One step, without bitsandbytes' word on paging at each weight: `make_optimiser` has said it already."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Paged optimizers are not supported on CPU", UserWarning)
        optimiser.step()


def set_rate(optimiser: torch.optim.Optimizer, step: int, settings: TrainSettings) -> float:
    """Set the learning rate of step `step`, the first being 0; returns that of LoRA's A. A function of the step alone,
    so a run that goes on from a checkpoint needs no memory of its schedule."""
    rate = settings.learning_rate * learning_rate_share(step, settings)
    for group in optimiser.param_groups:
        group["lr"] = rate * group[_RATE]
    return rate


def learning_rate_share(step: int, settings: TrainSettings) -> float:
    """The share, 0.0 to 1.0, of the highest learning rate at this step: linear rise, then a cosine to zero."""
    return warmed_cosine(step, settings.steps, max(1, round(settings.steps * settings.warmup_share)))


def warmed_cosine(step: int, steps: int, warmup_steps: int) -> float:
    """The share, 0.0 to 1.0, at this step of `steps`, the first being 0: a line up to 1.0 at the end of the warm-up,
    then half a cosine down to 0.0."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))
