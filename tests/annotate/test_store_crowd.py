"""Twenty people and a training run at once: what was acknowledged stands, nothing is overwritten, nobody is locked out.

The people are threads of four processes, as several apps on one workspace would be; each does what a page does.
"""

from __future__ import annotations

import itertools
import multiprocessing
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any

from annotate.heard import Heard
from annotate.leases import Leases
from annotate.opinions import Opinions
from annotate.store import Store
from grounding.boxes import Box
from grounding.database import connect
from grounding.errors import BoxwrightError, StaleSaveError
from grounding.jobs.store import RunState, RunStore
from grounding.records import Prediction, Status
from grounding.training.events import StepEvent
from grounding.workspace import Workspace

PROCESSES, THREADS, ROUNDS = 4, 5, 4
PEOPLE = PROCESSES * THREADS
SHARED = ("shared0", "shared1")
CONTESTED = tuple(f"round{number}" for number in range(ROUNDS))
TARGET = Box(1, 2, 10, 12.5)


@dataclass
class Told:
    """What one person was told had worked: (sample, revision, phrase) of saves, opinion ids, rounds whose lease they
    got; and whatever went wrong."""

    who: str
    saves: list[tuple[str, int, str]] = field(default_factory=list)
    opinions: list[int] = field(default_factory=list)
    leases: list[str] = field(default_factory=list)
    heard: int = 0
    errors: list[str] = field(default_factory=list)


def work(root: Path, who: str, together: Barrier) -> Told:
    """What one person does: their own sample, those that everybody edits, a contested lease, answers, opinions."""
    workspace, told = Workspace(root), Told(who)
    try:
        store = Store(workspace.annotations_db, workspace.pictures)
        for number in range(ROUNDS):
            together.wait(60)
            _one_round(store, told, number)
    except (BoxwrightError, AssertionError, sqlite3.Error, threading.BrokenBarrierError) as error:
        together.abort()
        told.errors.append(f"{type(error).__name__}: {error}")
    return told


def _one_round(store: Store, told: Told, number: int) -> None:
    leases, heard, opinions = Leases(store.path), Heard(store.path), Opinions(store)
    if leases.hold(CONTESTED[number], told.who, f"{told.who} r{number}").yours:
        told.leases.append(CONTESTED[number])
    for sample_id in (f"own {told.who}", *SHARED):
        phrase = f"{told.who} says {number}"
        told.saves.append((sample_id, _save(store, sample_id, phrase, told.who), phrase))
    answer = Prediction((TARGET,), Status.OK, "", 0.5, 0.1)
    told.heard += heard.record(f"own {told.who}", f"{told.who} says {number}", [answer])
    opinions.next_blind(told.who)
    if number < 2:
        told.opinions.append(opinions.point(f"still{number + 1}", 1, told.who, boxes_xyxy_px=[TARGET]).id)
    told.opinions.append(opinions.propose("still0", 1, told.who, f"{told.who} would say {number}").id)


def _save(store: Store, sample_id: str, phrase: str, who: str) -> int:
    """Save until it is acknowledged, each time over what then stands; returns the revision."""
    while True:
        revision = store.get(sample_id).revision
        try:
            saved = store.save(sample_id, phrase, who=who, expected_revision=revision)
            assert saved.revision == revision + 1, "it went over what this person had not seen"
            return saved.revision
        except StaleSaveError as error:
            assert error.current.revision > revision


def people(root: Path, process: int, together: Barrier, answers: Any) -> None:
    """One process with its people."""
    with ThreadPoolExecutor(THREADS) as pool:
        names = [f"p{process}t{thread}" for thread in range(THREADS)]
        answers.put(list(pool.map(lambda who: work(root, who, together), names)))


def train(root: Path, ready: Event, stop: Event, answers: Any) -> None:
    """What a training run writes while it goes, only quicker."""
    store = RunStore(Workspace(root).runs_db)
    run = store.add(name="new", model_id="demo", quantize="none", snapshot="s", settings={})
    steps = 0
    while not stop.is_set():
        store.tell(run.id, StepEvent(steps, 10_000, 1.0, 1e-4, steps, float(steps)))
        steps += 1
        ready.set()
    store.finish(run.id, RunState.DONE, "done")
    answers.put(steps)


def let_them_work(fill: Callable[..., Store], workspace: Workspace) -> tuple[Store, list[Told], int]:
    """The store after all of it, what the people were told, and how many steps the run took meanwhile."""
    names = [f"p{process}t{thread}" for process in range(PROCESSES) for thread in range(THREADS)]
    store = fill(*(f"own {name}" for name in names), *SHARED, *CONTESTED, "still0", "still1", "still2")
    context = multiprocessing.get_context("spawn")
    together, ready, stop = context.Barrier(PEOPLE), context.Event(), context.Event()
    answers, steps = context.SimpleQueue(), context.SimpleQueue()
    training = context.Process(target=train, args=(workspace.root, ready, stop, steps), daemon=True)
    training.start()
    assert ready.wait(30)
    processes = [
        context.Process(target=people, args=(workspace.root, number, together, answers), daemon=True)
        for number in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    told = [one for _ in processes for one in answers.get()]
    stop.set()
    steps_taken: int = steps.get()
    for process in (*processes, training):
        process.join(30)
        assert process.exitcode == 0
    return store, told, steps_taken


def test_twenty_people_and_a_training_run_lose_nothing(fill: Callable[..., Store], workspace: Workspace) -> None:
    store, told, steps = let_them_work(fill, workspace)
    assert len({one.who for one in told}) == PEOPLE == 20
    assert {error for one in told for error in one.errors} == set()
    assert steps > 20, "the run never ran beside them"
    acknowledged = [save for one in told for save in one.saves]
    assert len(acknowledged) == PEOPLE * ROUNDS * 3
    _check_saves(store, acknowledged)
    _check_opinions(store, told)
    assert Counter(name for one in told for name in one.leases) == dict.fromkeys(CONTESTED, 1)
    assert sum(one.heard for one in told) == PEOPLE * ROUNDS
    with connect(store.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def _check_saves(store: Store, acknowledged: list[tuple[str, int, str]]) -> None:
    """Each acknowledged save is one change of the history, and each change is built on the one before."""
    histories = {sample_id: store.history(sample_id) for sample_id in {save[0] for save in acknowledged}}
    written = [
        (change.sample_id, change.revision, change.phrase_after)
        for history in histories.values()
        for change in history
        if change.action == "write"
    ]
    assert sorted(written) == sorted(acknowledged)
    for sample_id, history in histories.items():
        assert [change.revision for change in history] == list(range(1, len(history) + 1))
        for earlier, later in itertools.pairwise(history):
            assert later.phrase_before == earlier.phrase_after
        assert store.get(sample_id).phrase == history[-1].phrase_after
    assert len(histories[SHARED[0]]) == 1 + PEOPLE * ROUNDS


def _check_opinions(store: Store, told: list[Told]) -> None:
    opinions = Opinions(store)
    kept = {one.id: one for number in range(3) for one in opinions.of(f"still{number}")}
    assert sorted(kept) == sorted(number for one in told for number in one.opinions)
    for one in told:
        assert {kept[number].who for number in one.opinions} == {one.who}
    assert len(opinions.agreement("still0").phrases) == PEOPLE * ROUNDS
