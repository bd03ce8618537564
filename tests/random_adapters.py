"""Adapters of random weights for the embedded model: something that answers otherwise than the base."""

from __future__ import annotations

import warnings
from pathlib import Path


def write_random_adapter(folder: Path, *, seed: int = 1, spread: float = 0.05, created_at: str = "") -> Path:
    """An adapter in this folder, named after it. Each seed answers differently; little `spread`, nearly as the base."""
    import torch
    from peft import LoraConfig, get_peft_model

    from grounding.adapters import AdapterInfo
    from grounding.models import load_model

    source = load_model("demo")
    config = LoraConfig(r=4, lora_alpha=8, target_modules=source.profile.lora_targets, task_type="CAUSAL_LM")
    generator = torch.Generator().manual_seed(seed)
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5.23 for a property under its old name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        model = get_peft_model(source.model, config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
    model.save_pretrained(str(folder), save_embedding_layers=False)
    AdapterInfo(folder.name, folder, "demo", source.profile.name, created_at or "2026-11-22T10:00:00+00:00").save()
    return folder
