"""Which step to keep, and when to stop, by mean IoU on the validation samples.

Every scoring is of the model as it would be kept: with the share `strength` of what it has learned. So the scores of
different steps can be compared with each other and with the base, and the score of the chosen step is the adapter's
own. What the steps go on from is the full change; scaling is taken back after each scoring, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from grounding.training.events import ScoreEvent
from grounding.training.settings import TrainSettings


class Best:
    """The best scoring so far with the weights of its step, unscaled; and how long there was no gain."""

    def __init__(self, settings: TrainSettings) -> None:
        self.settings = settings
        self.event: ScoreEvent | None = None
        self.weights: Mapping[str, torch.Tensor] | None = None
        self._reached: float | None = None
        self.without_gain = 0

    def hear(self, event: ScoreEvent, weights: Callable[[], Mapping[str, torch.Tensor] | None]) -> ScoreEvent:
        """Take in a scoring; returns it, marked when it is the best. `weights` gives those of its step.

        Of two equal ones the later is better: it has seen more. The base (step 0) is no candidate, but it is the
        mark that the first gain is counted from.
        """
        if event.step == 0:
            self._reached = event.mean_iou
            return event
        # Patience counts from the last real gain, not from the last best: many small ones may be noise.
        if self._reached is None or event.mean_iou > self._reached + self.settings.least_gain:
            self._reached, self.without_gain = event.mean_iou, 0
        elif event.count:  # without a sample with a box there is nothing to gain
            self.without_gain += 1
        if self.event is not None and event.mean_iou < self.event.mean_iou:
            return event
        self.event, self.weights = replace(event, best=True), weights()
        return self.event

    def restore(self, scores: Sequence[ScoreEvent], weights: Mapping[str, torch.Tensor] | None) -> None:
        """As it was after these scorings. `weights` are those of the best of them."""
        for score in scores:
            self.hear(score, lambda: weights)

    @property
    def should_stop(self) -> bool:
        """Whether patience has run out."""
        return 0 < self.settings.patience <= self.without_gain
