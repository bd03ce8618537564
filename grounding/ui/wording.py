"""Counts and names of settings as the page writes them."""

from __future__ import annotations

# Where the field's own words would not be those of the paper or the program.
_LABELS = {
    "warmup_share": "Warm-up share",
    "lora_rslora": "rsLoRA",
    "lora_dora": "DoRA",
    "lora_b_rate": "LoRA+ rate of B",
    "lora_vision": "LoRA in the vision tower",
    "smooth_l1_weight": "Smooth L1 weight",
    "giou_weight": "GIoU weight",
    "tensorboard": "TensorBoard",
    "trackio": "trackio",
}


def count_of(count: int, noun: str) -> str:
    """Such as "1 phrase" or "1,200 phrases"; for nouns whose plural is an -s."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def setting_label(name: str) -> str:
    """What a field of `TrainSettings` is called on the page."""
    return _LABELS.get(name, name.replace("_", " ").capitalize().replace("Lora", "LoRA"))
