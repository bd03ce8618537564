"""The pass behind the page: what it asks, in which pieces, and how it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from annotate import listening
from annotate.heard import Heard
from annotate.listening import Ask, Listening, ListeningState, Phase, walk
from annotate.scopes import Scope
from annotate.store import Store
from annotate_samples import PLACEHOLDER
from grounding.boxes import Box
from grounding.errors import BusyError, ModelError, PictureError, StoreError
from grounding.records import Prediction, Status

Fill = Callable[..., Store]
ANSWER = (Prediction((Box(1, 2, 10, 12.5),), Status.OK, "", 0.5, 0.1),)


class FakeListener:
    """Answers `ANSWER`; `before` runs first, with the phrases asked, and may raise."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.before: Callable[[list[str]], None] = lambda phrases: None
        self.adapters: tuple[str | None, ...] = (None,)

    @property
    def model(self) -> str:
        return "demo"

    def asked(self) -> tuple[str | None, ...]:
        return self.adapters

    def __call__(self, image: Path, phrase: str) -> tuple[Prediction, ...]:
        return self.many([(image, phrase)])[0]

    def many(self, asks: Sequence[Ask]) -> list[tuple[Prediction, ...]]:
        assert all(image.is_file() for image, _ in asks)
        phrases = [phrase for _, phrase in asks]
        self.before(phrases)
        self.batches.append(phrases)
        return [tuple(replace(ANSWER[0], adapter=name) for name in self.adapters) for _ in asks]

    @property
    def phrases(self) -> list[str]:
        return [phrase for batch in self.batches for phrase in batch]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(listening, "_BUSY_SECONDS", 0.01)


@pytest.fixture
def listener() -> FakeListener:
    return FakeListener()


@pytest.fixture
def run(listener: FakeListener) -> Iterator[Callable[..., ListeningState]]:
    """Runs a pass over "all" to its end."""

    def run_pass(store: Store, **settings: object) -> ListeningState:
        one = Listening(store, listener)
        one.start(walk(store, Scope()), **settings)  # type: ignore[arg-type]
        return one.wait(10)

    yield run_pass


def test_every_usable_sample_is_heard_once(
    fill: Fill, listener: FakeListener, run: Callable[..., ListeningState]
) -> None:
    fill("a", "b", "r")
    store = fill("p", phrase=PLACEHOLDER)
    store.reject("r", "no mug", who="ann", expected_revision=1)
    Heard(store.path).record("b", "the b thing", ANSWER)
    assert run(store) == ListeningState(Phase.DONE, 1, 1)
    assert listener.phrases == ["the a thing"]
    assert store.get("a").listener_iou == 1.0
    assert run(store) == ListeningState(Phase.DONE, 0, 0)
    assert run(store, again=True).done == 2


def test_a_newer_adapter_is_asked_about_what_the_one_before_has_heard(
    fill: Fill, listener: FakeListener, run: Callable[..., ListeningState]
) -> None:
    store = fill("a", "b")
    run(store)
    assert (store.counts().low_iou, store.counts().disagree) == (2, 0)
    for name in ("older", "newer"):
        listener.adapters = (None, name)
        assert run(store).done == 2
        assert [one.listener for one in Heard(store.path).of("a")] == ["base", f"adapter {name}"]
    assert store.counts().disagree == 2
    assert run(store).done == 0


def test_it_is_bounded_and_goes_on_from_there(
    fill: Fill, listener: FakeListener, run: Callable[..., ListeningState]
) -> None:
    store = fill(*(f"s{n:02}" for n in range(20)))
    assert run(store, limit=12).done == 12
    assert [len(batch) for batch in listener.batches] == [2, 4, 6]
    assert run(store, limit=12).done == 8
    assert sorted(listener.phrases) == [f"the s{n:02} thing" for n in range(20)]


def test_a_slow_model_is_asked_in_small_pieces() -> None:
    assert listening._next_size(8, 3.0) == 4
    assert listening._next_size(1, 30.0) == 1
    assert listening._next_size(8, 1.5) == 8
    assert listening._next_size(16, 0.1) == 16


def test_it_stops_between_batches_and_keeps_what_was_heard(fill: Fill, listener: FakeListener) -> None:
    store = fill(*(f"s{n}" for n in range(8)))
    one = Listening(store, listener)
    listener.before = lambda phrases: one.stop() if len(phrases) == 4 else None
    one.start(walk(store, Scope()))
    assert one.wait(10) == ListeningState(Phase.STOPPED, 6, 8)
    assert store.counts().low_iou == 6


def test_one_pass_at_a_time_and_its_progress_is_told(fill: Fill, listener: FakeListener) -> None:
    store = fill("a", "b")
    one = Listening(store, listener)
    assert one.state == ListeningState()
    arrived, go_on = threading.Event(), threading.Event()

    def wait(phrases: list[str]) -> None:
        arrived.set()
        assert go_on.wait(10)

    listener.before = wait
    one.start(walk(store, Scope()))
    assert arrived.wait(10)
    assert one.state == ListeningState(Phase.RUNNING, 0, 2)
    with pytest.raises(StoreError, match="listening already"):
        one.start(walk(store, Scope()))
    store.save("a", "left mug", who="ann", expected_revision=1)
    go_on.set()
    assert one.wait(10).phase is Phase.DONE
    assert store.get("a").listener_iou is None, "its words changed while the model was answering the old ones"
    assert store.get("b").listener_iou == 1.0
    one.start(walk(store, Scope()))
    assert one.wait(10).done == 1


def test_a_busy_model_is_waited_for(fill: Fill, listener: FakeListener) -> None:
    store = fill("a")
    one = Listening(store, listener)
    tries: list[str] = []

    def busy_twice(phrases: list[str]) -> None:
        tries.append(one.state.sentence)
        if len(tries) < 3:
            raise BusyError("The model is answering somebody else.")

    listener.before = busy_twice
    one.start(walk(store, Scope()))
    assert one.wait(10) == ListeningState(Phase.DONE, 1, 1)
    assert tries == ["", *["The model is answering somebody else."] * 2]


def test_waiting_for_a_busy_model_can_be_stopped(fill: Fill, listener: FakeListener) -> None:
    one = Listening(fill("a"), listener)

    def busy(phrases: list[str]) -> None:
        one.stop()
        raise BusyError("later")

    listener.before = busy
    one.start(walk(one._store, Scope()))
    assert one.wait(10).phase is Phase.STOPPED


def test_one_bad_picture_is_left_out_and_the_rest_is_heard(
    fill: Fill, listener: FakeListener, run: Callable[..., ListeningState]
) -> None:
    store = fill(*"abcd")

    def refuse(phrases: list[str]) -> None:
        if "the c thing" in phrases:
            raise PictureError("c.png is no picture")

    listener.before = refuse
    state = run(store)
    assert (state.phase, state.done, state.left_out) == (Phase.DONE, 4, 1)
    assert "1 could not be asked about" in state.sentence
    assert sorted(listener.phrases) == ["the a thing", "the b thing", "the d thing"]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [(ModelError("The model is broken."), "The model is broken."), (RuntimeError("boom"), "RuntimeError: boom")],
)
def test_a_failure_becomes_a_sentence_and_a_new_pass_may_begin(
    error: Exception, sentence: str, fill: Fill, listener: FakeListener
) -> None:
    store = fill("a")
    one = Listening(store, listener)

    def fail(phrases: list[str]) -> None:
        raise error

    listener.before = fail
    one.start(walk(store, Scope()))
    state = one.wait(10)
    assert state.phase is Phase.FAILED and sentence in state.sentence
    listener.before = lambda phrases: None
    one.start(walk(store, Scope()))
    assert one.wait(10) == ListeningState(Phase.DONE, 1, 1)
