"""What a run tells while it goes: small frozen records, stored as they come and plotted on the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class PhaseEvent:
    """The run is busy with `text`; `done` of `total` parts are finished."""

    text: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class StepEvent:
    """One optimiser step: loss in nats (weighted), learning rate, phrases learned from, seconds since the start
    of the steps, and the steps in all."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    phrases: int
    seconds: float


@dataclass(frozen=True)
class ScoreEvent:
    """Boxes generated for the validation split after `step` steps (0: the base). Shares from 0.0 to 1.0."""

    step: int
    count: int
    mean_iou: float
    accuracy_50: float
    accuracy_75: float
    detection_rate: float
    seconds: float


TrainEvent = PhaseEvent | StepEvent | ScoreEvent
Listener = Callable[[TrainEvent], None]
