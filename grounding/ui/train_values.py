"""Training settings as a person types them."""

from __future__ import annotations


def as_shown(value: str | float | tuple[float, ...]) -> str:
    """A value as a person reads it: what a sweep has drawn in six digits."""
    if isinstance(value, tuple | list):
        return ", ".join(map(as_shown, value))
    return f"{value:g}" if isinstance(value, float) else as_typed(value)


def as_typed(value: str | float | tuple[float, ...]) -> str:
    """A value as a person would type it; read again it is the same. Numbers are text on the page: a number field would
    round 0.0015."""
    if isinstance(value, tuple | list):
        return ", ".join(map(as_typed, value))
    if isinstance(value, bool):
        return "on" if value else "off"
    if not isinstance(value, float):
        return str(value)
    short = f"{value:g}"
    return short if float(short) == value else repr(value)  # what a sweep has drawn has more digits


# Every field of `TrainSettings`, by what a person has in mind who looks for it.
GROUPS: dict[str, tuple[str, ...]] = {
    "How long": ("steps", "images_per_step", "phrases_per_image", "learning_rate", "warmup_share", "seed"),
    "What it learns from": (
        *("use_alternatives", "template_share", "negative_share", "nothing_weight", "curriculum_share"),
        *("rehearsal_share", "rehearse_snapshot", "learn_new_words", "new_words_rate"),
    ),
    "How pictures are shown": (
        *("augment", "mirrored_share", "farther_share", "cropped_share", "jittered_share", "colour_change"),
    ),
    "LoRA": (
        *("lora_rank", "lora_alpha", "lora_dropout", "lora_layers", "lora_rslora", "lora_dora", "lora_vision"),
        *("lora_b_rate", "strength"),
    ),
    "Loss and optimiser": (
        *("digit_weights", "corner_weights", "smooth_l1_weight", "giou_weight", "soft_labels"),
        *("optimiser", "weight_decay", "max_gradient_norm"),
    ),
    "Memory": ("accumulation", "gradient_checkpointing", "group_lengths"),
    "Scoring and checkpoints": (
        *("score_every_steps", "score_each_epoch", "score_samples", "keep_best", "patience", "least_gain"),
        *("checkpoint_every_steps", "checkpoints_kept", "tensorboard", "trackio"),
    ),
}
