"""The one model of the app: loaded behind the page, lent out under one lock, handed back for training."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from grounding.errors import BoxwrightError, BusyError, ModelError
from grounding.turns import Turns
from grounding.workspace import Workspace

if TYPE_CHECKING:
    from grounding.predict import Predictor

log = logging.getLogger(__name__)

Loader = Callable[[], "Predictor"]


class Phase(StrEnum):
    """Where the model stands."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    UNLOADED = "unloaded"


@dataclass(frozen=True)
class ModelState:
    """What the status chip says. `seconds` since loading began, or how long it took; `notes` give the reasons."""

    phase: Phase
    sentence: str
    seconds: float
    notes: tuple[str, ...] = ()


class ModelService:
    """Loads one model in a background thread and lends it out.

    The page opens at once: nothing of torch is imported before `start`. Everything that touches the model goes
    through `use`, which holds the one lock: whoever has waited longest is next. `unload` frees the memory for a
    training run, `reload` fetches the model again; `lent` frees it as long as a block runs.
    """

    def __init__(self, model: str, quantize: str, workspace: Workspace, *, load: Loader | None = None) -> None:
        self.model = model
        self.quantize = quantize
        self.workspace = workspace
        self._load: Loader = load or self._load_predictor
        self._lock = Turns()
        self._changed = threading.Condition()
        self._generation = 0
        self._predictor: Predictor | None = None
        self._borrowers = 0
        self._companions: list[ModelService] = []
        self._began = time.monotonic()
        self._state = ModelState(Phase.UNLOADED, "The model is not loaded.", 0.0)

    @property
    def state(self) -> ModelState:
        """Where the model stands now; never waits."""
        with self._changed:
            if self._state.phase is not Phase.LOADING:
                return self._state
            return ModelState(Phase.LOADING, self._state.sentence, time.monotonic() - self._began)

    def away(self) -> str:
        """Why the model can't be asked now, "" when it can."""
        state = self.state
        return "" if state.phase is Phase.READY else state.sentence

    def start(self) -> None:
        """Begin loading in the background, unless the model is there or on its way."""
        with self._changed:
            if self._state.phase in (Phase.LOADING, Phase.READY):
                return
            self._generation += 1
            self._began = time.monotonic()
            self._set(ModelState(Phase.LOADING, f"Loading {self._name}", 0.0))
            thread = threading.Thread(
                target=self._load_in_background, args=(self._generation,), name="model-loader", daemon=True
            )
        thread.start()

    reload = start

    def unload(self, borrower: str = "a training run") -> None:
        """Give up the model and its memory, once whoever uses it is done, and those of its companions that are loaded.
        Safe to call in any phase."""
        with self._lock, self._changed:
            self._generation += 1
            self._predictor = None
            self._set(
                ModelState(
                    Phase.UNLOADED,
                    f"The model is unloaded: its memory is lent to {borrower}. It comes back by itself.",
                    0.0,
                )
            )
        for companion in self._beside():
            if companion.state.phase is Phase.READY:
                companion.unload(borrower)
        _release_memory()

    def accompany(self, companion: ModelService) -> None:
        """Let a further model give up its memory whenever this one does."""
        with self._changed:
            self._companions.append(companion)

    def part_with(self, companion: ModelService) -> None:
        """The further model no longer follows this one."""
        with self._changed:
            self._companions.remove(companion)

    def start_beside(self, companion: ModelService) -> bool:
        """Begin loading a companion while this model is there, and so holds the GPU for both. False: it isn't."""
        with self._changed:
            if self._state.phase is not Phase.READY:
                return False
            companion.start()
            return True

    @property
    def companions_load(self) -> bool:
        """Whether a further model is on its way to the GPU: as little as this one can it be broken off."""
        return any(companion.state.phase is Phase.LOADING for companion in self._beside())

    def _beside(self) -> tuple[ModelService, ...]:
        with self._changed:
            return tuple(self._companions)

    @property
    def _on_gpu(self) -> bool:
        with self._changed:
            return self._predictor is not None and self._predictor.device != "cpu"

    @property
    def is_lent(self) -> bool:
        """Whether something that this process does needs the GPU's memory now: the model is not to come back."""
        with self._changed:
            return self._borrowers > 0

    @contextmanager
    def lent(self, borrower: str) -> Iterator[None]:
        """The GPU's memory for something else as long as the block runs. On a CPU both have room, and the model stays.

        Afterwards the keeper of the runs fetches the model, unless a run needs its place by then.
        """
        with self._changed:
            self._borrowers += 1
        on_gpu = any(service._on_gpu for service in (self, *self._beside()))
        try:
            if on_gpu:
                self.unload(borrower)
            yield
        finally:
            with self._changed:
                self._borrowers -= 1

    def predictor(self, timeout_seconds: float = 600.0) -> Predictor:
        """The model, waiting while it loads. Raises `ModelError` with the reason when it can't come."""
        with self._changed:
            self._changed.wait_for(lambda: self._state.phase is not Phase.LOADING, timeout_seconds)
            if self._predictor is not None:
                return self._predictor
            if self._state.phase is Phase.LOADING:
                raise ModelError(f"{self._name} is still loading after {timeout_seconds:.0f} s. Try again in a moment.")
            raise ModelError(self._state.sentence)

    @contextmanager
    def use(self, timeout_seconds: float = 600.0) -> Iterator[Predictor]:
        """The model for as long as the block runs, and for nobody else. Raises `ModelError` as `predictor` does."""
        self.predictor(timeout_seconds)
        with self._lock:
            # Asked again under the lock: it may have been unloaded while this caller waited its turn.
            yield self.predictor(timeout_seconds)

    @contextmanager
    def use_if_free(self, wait_seconds: float = 1.0) -> Iterator[Predictor]:
        """As `use`, for who would rather come back than wait. Raises `BusyError` while the model loads, is lent out,
        or has been busy for `wait_seconds`; `ModelError` when it can't come."""
        if not self._lock.acquire(wait_seconds):
            raise BusyError("The model is answering somebody else. Ask again in a moment.")
        try:
            with self._changed:
                predictor, state = self._predictor, self._state
            if predictor is None:
                if state.phase is Phase.FAILED:
                    raise ModelError(state.sentence)
                raise BusyError(f"{state.sentence.rstrip('.')}. Ask again later.")
            yield predictor
        finally:
            self._lock.release()

    @property
    def _name(self) -> str:
        return "the demo model" if self.model == "demo" else self.model

    def _load_predictor(self) -> Predictor:
        from grounding import load

        return load(self.model, quantize=self.quantize, workspace=self.workspace)

    def _load_in_background(self, generation: int) -> None:
        predictor: Predictor | None = None
        try:
            predictor = self._load()
            state = ModelState(Phase.READY, _ready_sentence(predictor), self._elapsed(), tuple(predictor.load_notes))
        except BoxwrightError as error:
            state = ModelState(Phase.FAILED, str(error), self._elapsed())
        except Exception as error:  # the thread's edge: logged here and shown on the page
            log.error("Loading %s failed", self.model, exc_info=error)
            sentence = f"{self._name} can't be loaded ({type(error).__name__}: {error}). The terminal has the details."
            state = ModelState(Phase.FAILED, sentence, self._elapsed())
        with self._changed:
            if generation != self._generation:
                return  # unloaded or started anew meanwhile: this result is nobody's
            self._predictor = predictor
            self._set(state)

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _set(self, state: ModelState) -> None:
        self._state = state
        self._changed.notify_all()


def _ready_sentence(predictor: Predictor) -> str:
    """Such as "Ready on CPU, float32": the number type is the first word of the note that explains it."""
    device = {"cpu": "CPU", "mps": "Apple GPU"}.get(predictor.device, predictor.device.replace("cuda", "GPU"))
    number_types = [
        known
        for note in predictor.load_notes
        for known in ("float32", "float16", "bfloat16", "4-bit", "8-bit")
        if note.startswith(known)
    ]
    return ", ".join([f"Ready on {device}", *number_types])


def _release_memory() -> None:
    import gc
    import sys

    gc.collect()
    torch = sys.modules.get("torch")  # nothing to release when it was never loaded
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
