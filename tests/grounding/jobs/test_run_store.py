"""The record of runs: one active at a time, its events kept and thinned, an end that stays the end."""

from __future__ import annotations

import itertools
import json
import sqlite3
import threading
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from grounding import database
from grounding.database import writing
from grounding.errors import JobError
from grounding.jobs.store import RunProgress, RunRecord, RunState, RunStore
from grounding.training.events import NoteEvent, PhaseEvent, ScoreEvent, StepEvent

ENDED = [RunState.DONE, RunState.STOPPED, RunState.FAILED]


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for the disk: what is tested here is not the power cut."""
    pragmas = [pragma.replace("synchronous = FULL", "synchronous = OFF") for pragma in database._PRAGMAS]
    monkeypatch.setattr(database, "_PRAGMAS", pragmas)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs.db")


def add(store: RunStore, name: str = "tools-v1", **settings: Any) -> RunRecord:
    return store.add(name=name, model_id="demo", quantize="none", snapshot="/w/snapshots/first", settings=settings)


def step(number: int, steps: int = 1000) -> StepEvent:
    return StepEvent(number, steps, 1.5 / number, 1e-3, number * 16, number * 0.5)


def tell_steps(store: RunStore, run: RunRecord, count: int) -> None:
    """Steps 1 to `count`, as `tell` writes them but in one transaction."""
    with writing(store.path) as connection:
        connection.executemany(
            "INSERT INTO events (run_id, number, at, kind, payload) VALUES (?, ?, '', 'step', ?)",
            [(run.id, i, json.dumps(asdict(step(i, count)))) for i in range(1, count + 1)],
        )


def test_a_new_run_is_starting_and_knows_what_it_was_asked(store: RunStore) -> None:
    run = add(store, steps=440, digit_weights=(3.0, 2.0, 0.4))
    assert run == RunRecord(
        id=run.id,
        name="tools-v1",
        state=RunState.STARTING,
        model_id="demo",
        quantize="none",
        snapshot="/w/snapshots/first",
        settings={"steps": 440, "digit_weights": [3.0, 2.0, 0.4]},
        created_at=run.created_at,
        finished_at=None,
        heartbeat_at=None,
        pid=None,
        process_started=None,
        stop_requested=False,
        sentence="",
        started_at=run.started_at,
    )
    assert datetime.fromisoformat(run.created_at).utcoffset() is not None
    assert store.active() == store.get(run.id) == run
    with pytest.raises(TypeError):
        run.settings["steps"] = 1  # type: ignore[index]


def test_another_program_sees_the_same_runs(store: RunStore) -> None:
    run = add(store)
    assert RunStore(store.path).get(run.id) == run


def test_an_unknown_run_is_named(store: RunStore) -> None:
    with pytest.raises(JobError, match=r"There is no run 'gone' in .*runs\.db"):
        store.get("gone")


def test_only_one_run_at_a_time(store: RunStore) -> None:
    store.check_free()
    run = add(store, "first")
    for state in (RunState.STARTING, RunState.RUNNING):
        assert store.get(run.id).state is state
        for refused in (lambda: add(store, "second"), store.check_free):
            with pytest.raises(JobError, match=r"The run 'first' is still going\. Wait until it ends, or stop it"):
                refused()
        store.claim(run.id, 1, 0.0)
    store.finish(run.id, RunState.DONE, "Ready.")
    store.check_free()
    assert add(store, "second").state is RunState.STARTING


def test_of_two_starts_at_once_one_wins(store: RunStore) -> None:
    started: list[RunRecord] = []
    refused: list[str] = []
    together = threading.Barrier(2)

    def start(name: str) -> None:
        own = RunStore(store.path)
        together.wait()
        try:
            started.append(add(own, name))
        except JobError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=start, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(started) == len(refused) == 1
    assert repr(started[0].name) in refused[0]
    assert store.active() == started[0]


def test_the_tables_themselves_refuse_a_second_active_run(store: RunStore) -> None:
    add(store)
    copied = "id, name, state, model_id, quantize, snapshot, settings, created_at"
    with closing(sqlite3.connect(store.path)) as other, pytest.raises(sqlite3.IntegrityError):
        other.execute(f"INSERT INTO runs ({copied}) SELECT 'x', 'y', {copied.partition('name, ')[2]} FROM runs")


@pytest.mark.parametrize("state", ENDED)
def test_a_run_ends_once(store: RunStore, state: RunState) -> None:
    run = add(store)
    store.claim(run.id, 1, 0.0)
    assert store.finish(run.id, state, "It ended so.")
    ended = store.get(run.id)
    assert (ended.state, ended.sentence) == (state, "It ended so.")
    assert not ended.state.active
    assert ended.finished_at is not None and ended.finished_at >= ended.created_at
    assert store.active() is None
    for other in ENDED:
        assert not store.finish(run.id, other, "It ended otherwise.")
    store.claim(run.id, 1, 0.0)
    assert store.get(run.id) == ended


def test_an_unknown_run_does_not_end(store: RunStore) -> None:
    assert not store.finish("gone", RunState.DONE, "")


def test_of_many_ends_at_once_one_counts(store: RunStore) -> None:
    run = add(store)
    results: list[bool] = []
    together = threading.Barrier(4)

    def end(number: int) -> None:
        together.wait()
        results.append(store.finish(run.id, ENDED[number % 3], f"end {number}"))

    threads = [threading.Thread(target=end, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False, False, False, True]


def test_a_stop_is_asked_of_an_active_run_only(store: RunStore) -> None:
    run = add(store)
    store.request_stop(run.id)
    store.request_stop(run.id)
    asked = store.get(run.id)
    assert asked.stop_requested
    assert asked.state.active, "it ends when the worker says so"
    store.finish(run.id, RunState.STOPPED, "Stopped.")
    for run_id in (run.id, "gone"):
        with pytest.raises(JobError, match="there is nothing to stop"):
            store.request_stop(run_id)


def test_a_process_is_remembered(store: RunStore) -> None:
    run = add(store)
    store.set_process(run.id, 4711, 1_764_000_000.25)
    found = store.get(run.id)
    assert (found.pid, found.process_started) == (4711, 1_764_000_000.25)


def test_the_newest_runs_come_first(store: RunStore) -> None:
    assert store.list() == []
    ids = []
    for number in range(5):
        run = add(store, f"run-{number}")
        store.finish(run.id, RunState.DONE, "")
        with writing(store.path) as connection:
            connection.execute("UPDATE runs SET created_at = ? WHERE id = ?", (f"2026-01-0{number + 1}", run.id))
        ids.append(run.id)
    assert [run.id for run in store.list()] == ids[::-1]
    assert [run.id for run in store.list(2)] == ids[:2:-1]


def test_a_run_that_has_told_nothing(store: RunStore) -> None:
    assert store.progress(add(store).id) == RunProgress(None, None, (), ())


def test_what_a_run_told_comes_back(store: RunStore) -> None:
    run = add(store)
    score = ScoreEvent(0, 100, 0.25, 0.1, 0.05, 0.99, 3.5)
    events = [
        PhaseEvent("Loading the model"),
        PhaseEvent("Looking", 20, 40),
        PhaseEvent("Looking", 40, 40),
        score,
        step(1),
        step(2),
        ScoreEvent(2, 100, 0.5, 0.4, 0.3, 1.0, 9.5),
        step(3),
    ]
    for event in events:
        store.tell(run.id, event)
    progress = store.progress(run.id)
    assert progress.phase == PhaseEvent("Looking", 40, 40)
    assert progress.phases == (PhaseEvent("Loading the model"), PhaseEvent("Looking", 40, 40))
    assert progress.last_step == step(3)
    assert progress.last_step_at and progress.last_step_at >= store.get(run.id).created_at
    assert progress.steps == (step(1), step(2), step(3))
    assert progress.scores == (score, events[6])
    heartbeat = store.get(run.id).heartbeat_at
    assert heartbeat is not None and heartbeat >= run.created_at


def test_runs_do_not_mix(store: RunStore) -> None:
    first = add(store, "first")
    store.tell(first.id, step(1))
    store.tell(first.id, PhaseEvent("Looking", 1, 2))
    store.finish(first.id, RunState.DONE, "")
    second = add(store, "second")
    store.tell(second.id, step(9))
    store.tell(second.id, PhaseEvent("Looking", 2, 2))
    assert store.progress(first.id).steps == (step(1),)
    assert store.progress(second.id).steps == (step(9),)
    assert store.progress(first.id).phases == (PhaseEvent("Looking", 1, 2),)
    assert store.progress(second.id).phases == (PhaseEvent("Looking", 2, 2),)


def test_events_told_at_once_are_all_kept(store: RunStore) -> None:
    run = add(store)

    def tell(first: int) -> None:
        for number in range(first, first + 10):
            store.tell(run.id, step(number))

    threads = [threading.Thread(target=tell, args=(first,)) for first in (1, 11, 21)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {event.step for event in store.progress(run.id).steps} == set(range(1, 31))


@pytest.mark.parametrize(
    ("count", "most", "kept"),
    [(0, 10, 0), (1, 10, 1), (10, 10, 10), (11, 10, 5), (20, 10, 10), (21, 10, 7), (1000, 400, 333), (1000, 1, 1)],
)
def test_steps_are_thinned_evenly(store: RunStore, count: int, most: int, kept: int) -> None:
    run = add(store)
    tell_steps(store, run, count)
    progress = store.progress(run.id, most_steps=most)
    steps = [event.step for event in progress.steps]
    assert len(steps) == kept <= most
    assert len({later - earlier for earlier, later in itertools.pairwise(steps)}) <= 1
    assert progress.last_step == (step(count, count) if count else None), "the newest step is known whatever is thinned"


def test_an_event_of_an_unknown_run_is_our_mistake(store: RunStore) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        store.tell("gone", step(1))


@pytest.mark.parametrize("state", list(RunState))
def test_which_states_are_active(state: RunState) -> None:
    assert state.active == (state in (RunState.STARTING, RunState.RUNNING))


def test_a_run_is_claimed_once_and_never_after_its_end(store: RunStore) -> None:
    run = add(store)
    assert store.claim(run.id, 11, 1.5)
    assert not store.claim(run.id, 12, 2.5)
    claimed = store.get(run.id)
    assert (claimed.state, claimed.pid, claimed.process_started) == (RunState.RUNNING, 11, 1.5)
    store.finish(run.id, RunState.FAILED, "It was lost.")
    assert not store.claim(run.id, 13, 3.5)
    assert store.get(run.id).pid == 11


def test_notes_are_kept_in_their_order_through_another_attempt(store: RunStore) -> None:
    run = add(store)
    for text in ("the disk is full", "trackio is missing"):
        store.tell(run.id, NoteEvent(text))
    store.tell(run.id, step(1))
    store.rewind(run.id, 1)
    assert store.progress(run.id).notes == (NoteEvent("the disk is full"), NoteEvent("trackio is missing"))


def test_of_many_notes_the_newest_are_told(store: RunStore) -> None:
    run = add(store)
    for number in range(25):
        store.tell(run.id, NoteEvent(f"note {number}"))
    assert [note.text for note in store.progress(run.id).notes] == [f"note {number}" for number in range(5, 25)]


def test_which_scoring_is_the_best_is_kept(store: RunStore) -> None:
    run = add(store)
    for number, best in ((0, True), (10, True), (20, False)):
        store.tell(run.id, ScoreEvent(number, 4, 0.5, 0.5, 0.5, 1.0, 1.0, best=best))
    assert [score.step for score in store.progress(run.id).scores if score.best] == [0, 10]
