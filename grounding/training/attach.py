"""LoRA on a loaded model: put on, and scaled back at the end."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from grounding.errors import JobError
from grounding.models import LoadedModel
from grounding.training.settings import TrainSettings


def attach_lora(loaded: LoadedModel, settings: TrainSettings) -> Any:
    """LoRA on the profile's targets; returns the PeftModel whose weights are trained. `loaded` now uses it."""
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if getattr(loaded.model, "is_quantized", False):
        prepare_model_for_kbit_training(loaded.model, use_gradient_checkpointing=False)
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=loaded.profile.lora_targets,
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5.23 for a property under its old name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        peft_model = get_peft_model(loaded.model, config)
    reached = [name for name, weight in peft_model.named_parameters() if weight.requires_grad]
    strangers = [name for name in reached if "language_model" not in name]
    if strangers or not reached:
        raise JobError(
            f"LoRA reached {len(reached)} weights, {len(strangers)} outside the language model: "
            f"the targets of the profile {loaded.profile.name!r} do not fit this model."
        )
    return peft_model


@torch.no_grad()
def keep_share(model: Any, strength: float) -> None:
    """Scale what LoRA has learned: the weights become base + strength x change.

    Going back part of the way loses little of the new and wins back much of the old. Source: Wortsman et al.,
    Robust fine-tuning of zero-shot models (WiSE-FT), CVPR 2022, which interpolates all weights this way.
    """
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.mul_(strength)
