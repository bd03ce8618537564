"""The app's model as a listener for Annotate: the base and the newest adapter answer in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from grounding.adapters import AdapterRegistry
from grounding.records import Prediction
from grounding.ui.model_service import ModelService


class AppListener:
    """Answers where a phrase points, with the model that Compare uses and under the same lock.

    Never makes anybody wait long: raises `BusyError` while the model loads, is lent to a training run, or has been
    answering somebody else for `wait_seconds`. Raises `ModelError` when the model can't be loaded.
    """

    def __init__(self, models: ModelService, wait_seconds: float = 1.0) -> None:
        self._models = models
        self._wait_seconds = wait_seconds
        self._registry = AdapterRegistry(models.workspace.adapters)

    @property
    def model(self) -> str:
        """The base model that the app was started with."""
        return self._models.model

    def __call__(self, image: Path, phrase: str) -> tuple[Prediction, ...]:
        """The answers to one phrase on one picture: of the base, then of the newest adapter when there is one."""
        return self.many([(image, phrase)])[0]

    def many(self, asks: Sequence[tuple[Path, str]]) -> list[tuple[Prediction, ...]]:
        """The answers to several (picture, phrase), in order."""
        with self._models.use_if_free(self._wait_seconds) as predictor:
            return [tuple(answers) for answers in predictor.compare_many(asks, self.asked())]

    def asked(self) -> tuple[str | None, ...]:
        """The base (None), and the newest adapter that was made for it."""
        fitting = [info.name for info in self._registry.fitting(self._models.model)]
        return (None, *fitting[:1])
