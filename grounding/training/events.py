"""What a run tells while it goes: small frozen records, stored as they come and plotted on the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class PhaseEvent:
    """The run is busy with `text`; `done` of `total` parts are finished."""

    text: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class NoteEvent:
    """Something a person should know of the run though it goes on, such as a checkpoint that could not be written.

    `step` is the last step that was taken before it.
    """

    text: str
    step: int = 0


@dataclass(frozen=True)
class StepEvent:
    """One optimiser step: loss in nats (weighted), learning rate, phrases learned from, seconds since the start
    of the steps, and the steps in all. `terms`: what the loss is made of, by name, where it has several parts."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    phrases: int
    seconds: float
    terms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoreEvent:
    """Boxes generated for the validation split after `step` steps (0: the base), with the share of the change that
    the adapter keeps (`strength`). Shares from 0.0 to 1.0.

    `loss` is the mean of the true answers' tokens in nats, unweighted; `best` says whether this scoring is the best
    of the run so far by mean IoU, step 0 apart.
    """

    step: int
    count: int
    mean_iou: float
    accuracy_50: float
    accuracy_75: float
    detection_rate: float
    seconds: float
    loss: float | None = None
    no_target_accuracy: float | None = None
    best: bool = False

    @property
    def perplexity(self) -> float | None:
        """e to the loss: among how many tokens the model as good as guesses; infinite beyond a float's range."""
        if self.loss is None:
            return None
        try:
            return math.exp(self.loss)
        except OverflowError:
            return math.inf


def kept_score(scores: Sequence[ScoreEvent], *, keep_best: bool) -> ScoreEvent | None:
    """The scoring of the weights that a run keeps: the newest that was marked best, or the newest; None before its
    first after step 0."""
    learned = [score for score in scores if score.step > 0]
    best = [score for score in learned if score.best]
    return next(reversed(best if keep_best and best else learned), None)


TrainEvent = PhaseEvent | NoteEvent | StepEvent | ScoreEvent
Listener = Callable[[TrainEvent], None]
