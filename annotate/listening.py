"""Ask a model what it hears in many phrases, behind the page: bounded, stoppable, and giving way to people."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Protocol

from annotate.heard import Heard
from annotate.items import Item, Place
from annotate.phrases import usable_phrase
from annotate.scopes import Scope
from annotate.store import Store
from grounding.errors import BoxwrightError, BusyError, PictureError, RecordError, StoreError
from grounding.records import Prediction

log = logging.getLogger(__name__)

MOST_SAMPLES = 1000
_FIRST_BATCH, _LARGEST_BATCH = 2, 16
# Whoever presses a button meanwhile waits about this long at most.
_BATCH_SECONDS = 2.0
# Time for somebody who waits for the model to get it: a lock is not handed on in turn.
_PAUSE_SECONDS = 0.05
_BUSY_SECONDS = 1.0
Ask = tuple[Path, str]
# What these have heard is left out, as `Listener.asked` names them; None: nothing is.
KnownTo = tuple[str | None, ...] | None


class Listener(Protocol):
    """A model that points where a phrase says; the app hands one in. Answers are of the base and perhaps adapters.

    Raises `BusyError` when it can't answer now but will later, and `ModelError` when it never will.
    """

    @property
    def model(self) -> str:
        """The base model that answers, and that its adapters were made for."""

    def asked(self) -> tuple[str | None, ...]:
        """Who would answer now: None for the base, adapters by name. Never waits for a model."""

    def __call__(self, image: Path, phrase: str) -> tuple[Prediction, ...]:
        """The answers to one phrase on one picture, one for each model asked."""

    def many(self, asks: Sequence[Ask]) -> list[tuple[Prediction, ...]]:
        """The answers to several (picture, phrase), in order."""


class Phase(StrEnum):
    """Where a pass stands."""

    IDLE = "idle"
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class ListeningState:
    """What the page says about the pass. `total` is 0 until the samples are found; `left_out` counts those that the
    model could not be asked about. `sentence` says why it waits, failed or left some out; "" when all is well."""

    phase: Phase = Phase.IDLE
    done: int = 0
    total: int = 0
    left_out: int = 0
    sentence: str = ""


def walk(store: Store, scope: Scope) -> Iterator[Item]:
    """The samples of a scope in its order, each read when it is asked for."""
    place: Place | None = None
    while (item := store.next_item(scope, place)) is not None:
        yield item
        place = item.place_in(scope.queue)


def can_be_heard(item: Item) -> bool:
    """Whether its phrase says anything: no placeholder, not rejected, not too long."""
    return not item.placeholder and item.state != "rejected" and usable_phrase(item.phrase) is not None


class Listening:
    """One pass at a time over samples that those who are asked now have not heard, in a thread of its own."""

    def __init__(self, store: Store, listener: Listener) -> None:
        self._store = store
        self._heard = Heard(store.path)
        self._listener = listener
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._state = ListeningState()

    @property
    def state(self) -> ListeningState:
        """Where the pass stands; never waits."""
        with self._lock:
            return self._state

    def start(self, items: Iterable[Item], *, limit: int = MOST_SAMPLES, again: bool = False) -> None:
        """Begin with the first `limit` of these samples that are usable and not heard yet (`again`: heard or not).

        Returns at once: `items`, such as those of `walk`, are read in the thread. Raises `StoreError` while a pass
        is running.
        """
        with self._lock:
            if self._state.phase is Phase.RUNNING:
                raise StoreError("The model is listening already. Wait for it, or stop it first.")
            self._stop = threading.Event()
            self._state = ListeningState(Phase.RUNNING)
            self._thread = threading.Thread(
                target=self._run, args=(items, limit, again, self._stop), name="listening", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """End the pass after the batch that is on its way; what was heard is kept."""
        self._stop.set()

    def wait(self, timeout_seconds: float | None = None) -> ListeningState:
        """Wait for the pass to end, and say where it stands."""
        if self._thread is not None:
            self._thread.join(timeout_seconds)
        return self.state

    def _run(self, items: Iterable[Item], limit: int, again: bool, stop: threading.Event) -> None:
        try:
            self._heard.belong_to(self._listener.model)
            known_to = None if again else self._listener.asked()
            self._listen(list(islice(self._wanted(items, known_to, stop), limit)), known_to, stop)
            self._say(phase=Phase.STOPPED if stop.is_set() else Phase.DONE)
        except BoxwrightError as error:
            self._say(phase=Phase.FAILED, sentence=str(error))
        except Exception as error:  # the thread's edge: logged here and shown on the page
            log.error("Listening failed", exc_info=error)
            sentence = f"Listening ended ({type(error).__name__}: {error}). The terminal has the details."
            self._say(phase=Phase.FAILED, sentence=sentence)

    def _listen(self, ids: list[str], known_to: KnownTo, stop: threading.Event) -> None:
        self._say(total=len(ids))
        size, done = _FIRST_BATCH, 0
        while done < len(ids) and not stop.is_set():
            batch = ids[done : done + size]
            began = time.monotonic()
            try:
                self._batch(batch, known_to)
            except BusyError as error:
                self._say(sentence=str(error))
                stop.wait(_BUSY_SECONDS)
                continue
            done += len(batch)
            size = _next_size(size, time.monotonic() - began)
            self._say(done=done, sentence=self._left_out_sentence())
            stop.wait(_PAUSE_SECONDS)

    def _wanted(self, items: Iterable[Item], known_to: KnownTo, stop: threading.Event) -> Iterator[str]:
        for item in items:
            if stop.is_set():
                return
            if self._is_wanted(item, known_to):
                yield item.id

    def _is_wanted(self, item: Item, known_to: KnownTo) -> bool:
        if not can_be_heard(item):
            return False
        if known_to is None or item.listener_iou is None:
            return True
        return not self._heard.has(item.id, item.phrase, known_to)

    def _batch(self, ids: Sequence[str], known_to: KnownTo) -> None:
        # Read now: people have been working since the samples were found.
        items = [item for item in map(self._store.get, ids) if self._is_wanted(item, known_to)]
        asks = [(item.sample.image, item.phrase) for item in items]
        try:
            answers = self._listener.many(asks) if asks else []
        except (PictureError, RecordError):
            answers = [self._one(ask) for ask in asks]
        self._heard.record_many(
            [(item.id, item.phrase, given) for item, given in zip(items, answers, strict=True) if given]
        )

    def _one(self, ask: Ask) -> tuple[Prediction, ...]:
        """The answers to one; none where its picture can't be read or its phrase can't be asked."""
        try:
            return self._listener(*ask)
        except (PictureError, RecordError) as error:
            log.warning("Not asked about %s: %s", ask[0], error)
            self._say(left_out=self.state.left_out + 1)
            return ()

    def _left_out_sentence(self) -> str:
        left_out = self.state.left_out
        return f"{left_out} could not be asked about; the terminal names them." if left_out else ""

    def _say(self, **changes: object) -> None:
        with self._lock:
            self._state = replace(self._state, **changes)  # type: ignore[arg-type]


def _next_size(size: int, seconds: float) -> int:
    """Twice as many as long as that stays quick, half as many when it was not."""
    if seconds > _BATCH_SECONDS:
        return max(1, size // 2)
    return min(_LARGEST_BATCH, size * 2) if seconds < _BATCH_SECONDS / 2 else size
