"""The same curves for TensorBoard and trackio, where they are asked for and installed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from grounding.training.events import ScoreEvent, StepEvent, TrainEvent
from grounding.training.plan import TrainPlan

log = logging.getLogger(__name__)


class Tracker(Protocol):
    """Takes figures by name, step by step."""

    def log(self, figures: Mapping[str, float], step: int) -> None: ...
    def close(self) -> None: ...


class TensorBoardTracker:
    """Event files in a folder; what a first half wrote after step `taken` is purged."""

    def __init__(self, folder: Path, taken: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(str(folder), purge_step=taken + 1 if taken else None)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        for name, value in figures.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class TrackioTracker:
    """A run of the project "boxwright" in trackio's local store; nothing leaves this machine."""

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        import trackio

        self.trackio: Any = trackio
        trackio.init(project="boxwright", name=name, config=dict(settings), resume="allow")

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self.trackio.log(dict(figures), step=step)

    def close(self) -> None:
        self.trackio.finish()


class Trackers:
    """All that were asked for. One that fails is told of once and left alone: it never ends a run."""

    def __init__(self, plan: TrainPlan, folder: Path, taken: int, tell: Callable[[str], None]) -> None:
        self.tell = tell
        self.open: dict[str, Tracker] = {}
        settings = plan.settings
        if settings.tensorboard:
            self._try("TensorBoard", "tensorboard", lambda: TensorBoardTracker(folder / "tensorboard", taken))
        if settings.trackio:
            self._try("trackio", "trackio", lambda: TrackioTracker(plan.run_id or plan.name, settings.to_json()))

    def hear(self, event: TrainEvent) -> None:
        """Pass on the figures of a step or a scoring."""
        figures = figures_of(event)
        if not isinstance(event, StepEvent | ScoreEvent) or not figures:
            return
        for name, tracker in list(self.open.items()):
            try:
                tracker.log(figures, event.step)
            except Exception as error:
                log.exception("%s failed", name)
                del self.open[name]
                self.tell(f"{name} takes no more figures ({error}); the run goes on.")

    def close(self) -> None:
        """Let each write what it still holds."""
        for name, tracker in self.open.items():
            try:
                tracker.close()
            except Exception:
                log.exception("%s failed to close", name)

    def _try(self, name: str, package: str, make: Callable[[], Tracker]) -> None:
        try:
            self.open[name] = make()
        except ImportError:
            self.tell(f"{name} is not installed: nothing is logged there. Install it with `pip install {package}`.")
        except Exception as error:
            log.exception("%s could not be opened", name)
            self.tell(f"{name} could not be opened ({error}): nothing is logged there.")


def figures_of(event: TrainEvent) -> dict[str, float]:
    """The figures of an event by name, as trackers group them; empty for what has none."""
    if isinstance(event, StepEvent):
        terms = {f"loss/{name}": value for name, value in event.terms.items()}
        return {"loss/train": event.loss, "learning_rate": event.learning_rate, **terms}
    if isinstance(event, ScoreEvent):
        figures = {
            "boxes/mean_iou": event.mean_iou,
            "boxes/accuracy_50": event.accuracy_50,
            "boxes/accuracy_75": event.accuracy_75,
            "boxes/detection_rate": event.detection_rate,
        }
        if event.loss is not None and event.perplexity is not None:
            figures |= {"loss/validation": event.loss, "perplexity/validation": event.perplexity}
        return figures
    return {}
