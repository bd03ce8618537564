"""How the weights are moved: the learning rate over a run."""

from __future__ import annotations

import math

from grounding.training.settings import TrainSettings


def learning_rate_share(step: int, settings: TrainSettings) -> float:
    """The share, 0.0 to 1.0, of the highest learning rate at this step: linear rise, then a cosine to zero."""
    warmup = max(1, round(settings.steps * settings.warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, settings.steps - warmup)))
