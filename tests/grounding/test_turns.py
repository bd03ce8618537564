"""The lock of a model: fair, re-entrant, and nobody has to wait who no longer wants to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from grounding.errors import Cancelled
from grounding.predict import Predictor
from grounding.turns import Turns

PATIENCE = 20  # seconds until a test gives up


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def waiting(turns: Turns) -> int:
    return len(turns._waiting)


@pytest.fixture
def threads() -> Any:
    """Start a function in a thread of its own; all are joined in the end."""
    started: list[threading.Thread] = []

    def start(run: Callable[[], object]) -> threading.Thread:
        started.append(threading.Thread(target=run))
        started[-1].start()
        return started[-1]

    yield start
    for thread in started:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_turns_come_in_the_order_in_which_they_were_asked_for(threads: Any) -> None:
    turns, order = Turns(), []

    def take(number: int) -> None:
        with turns:
            order.append(number)

    with turns:
        for number in range(6):
            threads(lambda number=number: take(number))
            until(lambda number=number: waiting(turns) == number + 1)
    until(lambda: len(order) == 6)
    assert order == list(range(6))


def test_who_takes_it_again_and_again_lets_others_in_between(threads: Any) -> None:
    turns, rounds = Turns(), 0
    begun, done = threading.Event(), threading.Event()

    def greedy() -> None:
        nonlocal rounds
        while not done.is_set():
            with turns:
                begun.set()
                time.sleep(0.01)
            rounds += 1

    threads(greedy)
    begun.wait(PATIENCE)
    for _ in range(5):
        before = rounds
        with turns:
            assert rounds <= before + 1
    done.set()


def test_one_thread_may_take_it_twice(threads: Any) -> None:
    turns, entered = Turns(), threading.Event()

    def enter() -> None:
        with turns:
            entered.set()

    with turns:
        with turns:
            threads(enter)
            until(lambda: waiting(turns))
        assert turns.acquire(0.0)
        turns.release()
        assert not entered.wait(0.05)
    assert entered.wait(PATIENCE)


def test_a_turn_that_does_not_come_in_time(threads: Any) -> None:
    turns, came = Turns(), []
    with turns:
        threads(lambda: came.append(turns.acquire(0.05))).join(PATIENCE)
        assert came == [False]
        assert not waiting(turns)
    with turns:
        pass


def test_who_gives_up_while_waiting_leaves_the_line(threads: Any) -> None:
    turns, told = Turns(), []

    def give_up() -> None:
        raise Cancelled("Stopped.")

    def enter() -> None:
        with suppress(Cancelled), turns.held(give_up):
            told.append("entered")

    with turns:
        threads(enter).join(PATIENCE)
    assert (told, waiting(turns)) == ([], 0)
    threads(enter).join(PATIENCE)
    assert told == ["entered"], "nobody is asked where there is nothing to wait for"


def test_a_turn_that_comes_while_its_owner_gives_up_is_handed_on(threads: Any) -> None:
    turns, entered = Turns(), threading.Event()

    def give_up_too_late() -> None:
        turns_main.set()
        until(lambda: turns._owner == threading.get_ident())
        raise Cancelled("Stopped.")

    def late() -> None:
        with suppress(Cancelled), turns.held(give_up_too_late):
            pytest.fail("it gave up")

    def enter() -> None:
        with turns:
            entered.set()

    turns_main = threading.Event()
    with turns:
        threads(late)
        until(lambda: waiting(turns) == 1)
        threads(enter)
        until(lambda: waiting(turns) == 2)
        turns_main.wait(PATIENCE)
    assert entered.wait(PATIENCE)


def test_only_who_has_the_turn_can_give_it() -> None:
    turns = Turns()
    with pytest.raises(RuntimeError, match="does not have"):
        turns.release()
    with turns:
        pass


# --- as the lock of a model ---


def test_a_single_question_waits_for_the_batch_in_progress_only(
    predictor: Predictor, questions: list[tuple[Path, str]], threads: Any
) -> None:
    done, begun, answered_at = 0, threading.Event(), []

    def told(count: int, _: int) -> None:
        nonlocal done
        done = count
        begun.set()

    def ask() -> None:
        predictor.predict(*questions[0])
        answered_at.append(done)

    many = threads(lambda: predictor.predict_many(questions[:1] * 30, batch_size=1, progress=told))
    assert begun.wait(PATIENCE)
    asked_at = done
    threads(ask).join(PATIENCE)
    assert answered_at[0] <= asked_at + 3 < 30
    many.join(PATIENCE)


def test_a_call_that_waits_for_the_model_can_be_cancelled(
    predictor: Predictor, questions: list[tuple[Path, str]], threads: Any
) -> None:
    told: list[str] = []
    other = Predictor(replace(predictor.loaded), predictor.registry.folder)
    wanted = threading.Event()

    def ask() -> None:
        try:
            other.predict_many(questions[:2], cancelled=lambda: not wanted.is_set())
        except Cancelled as error:
            told.append(str(error))

    wanted.set()
    with predictor.loaded.lock:
        asking = threads(ask)
        until(lambda: waiting(predictor.loaded.lock))
        wanted.clear()
        asking.join(2)
        assert told == ["Stopped after 0 of 2 phrases."]
