"""The app's model as a long evaluation may use it: a batch at a time, so that whoever asks live has the next turn."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from grounding.errors import BusyError, Cancelled
from grounding.records import Prediction

if TYPE_CHECKING:
    from grounding.predict import Predictor

# What somebody who asks live waits for at most, where one answer does not take longer by itself.
BATCH_SECONDS = 0.3
_FIRST_BATCH = 4
_WAIT_SECONDS = 1.0


class Lender(Protocol):
    """Who has the model; `grounding.ui.model_service.ModelService` is one."""

    model: str
    quantize: str

    def away(self) -> str:
        """Why the model can't be asked now, "" when it can."""

    def use_if_free(self, wait_seconds: float = ...) -> AbstractContextManager[Predictor]:
        """The model for a block. Raises `BusyError` while somebody else has it or it is away."""


class ModelAway(BusyError):
    """The model was unloaded, or another was loaded, in the midst of an evaluation: to be begun again with it."""


class BorrowedPredictor:
    """A predictor for `evaluate`. It has a turn on the model for each call and none in between, and does not keep the
    model in memory when it is to go. Raises `ModelAway` once the model is not the same any more.

    `samples_per_call` follows the time that calls take, so that one takes `BATCH_SECONDS`.
    """

    def __init__(self, lender: Lender) -> None:
        self._lender = lender
        self.samples_per_call = _FIRST_BATCH
        with lender.use_if_free(_WAIT_SECONDS) as predictor:
            self._known = weakref.ref(predictor)
            self._most = 40 if predictor.device == "cpu" else 128

    def __getattr__(self, name: str) -> Any:
        """What else the predictor says of itself."""
        predictor = None if name.startswith("__") else self._known()
        if predictor is None:
            raise ModelAway(self._lender.away() or "Another model was loaded.")
        return getattr(predictor, name)

    def predict_many(
        self,
        pairs: Sequence[tuple[Path, str]],
        adapter: str | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[Prediction]:
        """As `Predictor.predict_many`, within one turn on the model."""
        while True:
            if cancelled is not None and cancelled():
                raise Cancelled("Stopped while somebody else had the model.")
            try:
                with self._lender.use_if_free(_WAIT_SECONDS) as predictor:
                    if predictor is self._known():
                        return self._answers(predictor, pairs, adapter, progress, cancelled)
            except BusyError:
                if not self._lender.away():
                    continue
            raise ModelAway(self._lender.away() or "Another model was loaded.")

    def _answers(
        self,
        predictor: Predictor,
        pairs: Sequence[tuple[Path, str]],
        adapter: str | None,
        progress: Callable[[int, int], None] | None,
        cancelled: Callable[[], bool] | None,
    ) -> list[Prediction]:
        began = time.perf_counter()
        answers = predictor.predict_many(pairs, adapter, progress=progress, cancelled=cancelled)
        seconds = (time.perf_counter() - began) / max(1, len(pairs))
        fitting = int(BATCH_SECONDS / max(seconds, 1e-6))
        self.samples_per_call = max(1, min(fitting, 2 * self.samples_per_call, self._most))
        return answers
