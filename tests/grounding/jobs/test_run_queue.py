"""The queue in runs.db: its order, what may be changed, and that the next run is taken once."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from grounding import database
from grounding.database import connect, prepare
from grounding.errors import JobError
from grounding.jobs.queue import MOST_FALSE_STARTS, RunQueue
from grounding.jobs.schema import migrations
from grounding.jobs.store import RunRecord, RunState, RunStore
from grounding.training.events import PhaseEvent, ScoreEvent, StepEvent


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    pragmas = [pragma.replace("synchronous = FULL", "synchronous = OFF") for pragma in database._PRAGMAS]
    monkeypatch.setattr(database, "_PRAGMAS", pragmas)


@pytest.fixture
def queue(tmp_path: Path) -> RunQueue:
    return RunQueue(RunStore(tmp_path / "runs.db"))


def put(queue: RunQueue, *names: str, **settings: Any) -> list[RunRecord]:
    return [
        queue.store.enqueue(name=name, model_id="demo", quantize="none", snapshot="/s", settings=settings)
        for name in names
    ]


def order(queue: RunQueue) -> str:
    return "".join(run.name for run in queue.waiting())


def test_runs_wait_in_the_order_they_came_and_are_taken_so(queue: RunQueue) -> None:
    assert queue.take_next() is None and not queue.may_start()
    put(queue, "a", "b", "c")
    assert order(queue) == "abc"
    first = queue.take_next()
    assert first is not None and (first.name, first.state, first.attempt) == ("a", RunState.STARTING, 1)
    assert first.started_at is not None and first.position is None
    assert queue.take_next() is None and not queue.may_start(), "one at a time"
    queue.store.finish(first.id, RunState.DONE, "")
    assert queue.may_start()
    second = queue.take_next()
    assert second is not None and second.name == "b"
    assert order(RunQueue(RunStore(queue.store.path))) == "c", "another program sees the same"


def test_of_many_who_take_the_next_one_gets_it(queue: RunQueue) -> None:
    put(queue, "a", "b", "c")
    taken: list[RunRecord | None] = []
    together = threading.Barrier(8)

    def take() -> None:
        own = RunQueue(RunStore(queue.store.path))
        together.wait()
        taken.append(own.take_next())

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [run.name for run in taken if run is not None] == ["a"]


@pytest.mark.parametrize(
    ("moved", "place", "result"),
    [("c", 1, "cabd"), ("a", 2, "bacd"), ("a", 99, "bcda"), ("d", 4, "abcd"), ("b", 0, "bacd")],
)
def test_a_run_is_given_another_place(queue: RunQueue, moved: str, place: int, result: str) -> None:
    runs = {run.name: run for run in put(queue, "a", "b", "c", "d")}
    queue.move(runs[moved].id, place)
    assert order(queue) == result
    put(queue, "e")
    assert order(queue) == result + "e"


def test_what_does_not_wait_can_not_be_moved_or_edited(queue: RunQueue) -> None:
    (run,) = put(queue, "a")
    queue.take_next()
    for change in (lambda: queue.move(run.id, 1), lambda: queue.edit(run.id, name="b", settings={})):
        with pytest.raises(JobError, match="doesn't wait in the queue"):
            change()
    with pytest.raises(JobError, match="goes on: stop or discard it first"):
        queue.remove(run.id)


def test_a_queued_run_is_edited(queue: RunQueue) -> None:
    first, second = put(queue, "a", "b", steps=5)
    changed = queue.edit(first.id, name="c", settings={"steps": 9})
    assert (changed.name, changed.settings["steps"], changed.position) == ("c", 9, first.position)
    with pytest.raises(JobError, match="'b' waits or goes on already"):
        queue.edit(first.id, name="b", settings={})
    queue.edit(second.id, name="b", settings={"steps": 6})


def test_a_run_that_was_begun_keeps_its_settings(queue: RunQueue) -> None:
    (run,) = put(queue, "a", steps=5)
    queue.take_next()
    queue.store.tell(run.id, StepEvent(1, 5, 1.0, 1e-3, 4, 0.5))
    queue.store.finish(run.id, RunState.STOPPED, "")
    queue.requeue(run.id)
    with pytest.raises(JobError, match="was begun with its settings"):
        queue.edit(run.id, name="a", settings={"steps": 6})
    assert queue.edit(run.id, name="z", settings={"steps": 5}).name == "z"


def test_two_runs_on_their_way_never_share_a_name(queue: RunQueue) -> None:
    (run,) = put(queue, "a")
    with pytest.raises(JobError, match="Choose another name"):
        put(queue, "a")
    with pytest.raises(JobError, match="Choose another name"):
        queue.check_name("a")
    queue.take_next()
    with pytest.raises(JobError, match="Choose another name"):
        put(queue, "a")
    queue.store.finish(run.id, RunState.FAILED, "")
    put(queue, "a")
    with pytest.raises(JobError, match="Choose another name"):
        queue.requeue(run.id)


@pytest.mark.parametrize("state", [RunState.DONE, RunState.DISCARDED, RunState.STOPPED, RunState.FAILED])
def test_only_what_was_broken_off_is_queued_again(queue: RunQueue, state: RunState) -> None:
    (run,) = put(queue, "a")
    queue.take_next()
    queue.store.request_stop(run.id)
    queue.store.finish(run.id, state, "So it ended.")
    if not state.resumable:
        with pytest.raises(JobError, match="only a stopped or failed run can be resumed"):
            queue.requeue(run.id)
        return
    again = queue.requeue(run.id)
    assert (again.state, again.stop_requested, again.attempt) == (RunState.QUEUED, False, 1)
    taken = queue.take_next()
    assert taken is not None and (taken.id, taken.attempt, taken.sentence, taken.finished_at) == (run.id, 2, "", None)


def test_a_failure_pauses_the_queue_only_where_it_is_asked_to(queue: RunQueue) -> None:
    assert queue.settings().go_on_after_failure, "the default"
    put(queue, "a", "b", "c")
    first = queue.take_next()
    assert first is not None
    queue.store.finish(first.id, RunState.FAILED, "")
    second = queue.take_next()
    assert second is not None
    queue.set_go_on_after_failure(False)
    queue.store.finish(second.id, RunState.FAILED, "")
    assert queue.take_next() is None
    assert queue.settings().paused and "a run has failed" in queue.settings().reason
    queue.go_on()
    third = queue.take_next()
    assert third is not None and third.name == "c"
    queue.store.finish(third.id, RunState.STOPPED, "")
    assert not queue.settings().paused, "a stop is no failure"


def test_a_run_nobody_started_goes_back_to_the_front_but_not_for_ever(queue: RunQueue) -> None:
    put(queue, "a", "b")
    for attempt in range(1, MOST_FALSE_STARTS):
        run = queue.take_next()
        assert run is not None and (run.name, run.attempt) == ("a", attempt)
        assert queue.put_back(run)
        assert order(queue) == "ab"
    run = queue.take_next()
    assert run is not None and not queue.put_back(run)
    assert queue.store.get(run.id).state is RunState.STARTING


def test_a_run_that_got_a_worker_meanwhile_is_not_put_back(queue: RunQueue) -> None:
    put(queue, "a")
    run = queue.take_next()
    assert run is not None
    queue.store.set_process(run.id, 11, 1.5)
    assert not queue.put_back(run)


def test_a_judgement_of_an_earlier_attempt_is_not_heard(queue: RunQueue) -> None:
    put(queue, "a")
    first = queue.take_next()
    assert first is not None
    queue.store.finish(first.id, RunState.FAILED, "")
    queue.requeue(first.id)
    second = queue.take_next()
    assert second is not None and second.id == first.id
    assert not queue.store.finish(first.id, RunState.FAILED, "It was lost.", judged=first)
    assert queue.store.get(first.id).state is RunState.STARTING
    assert queue.store.finish(first.id, RunState.FAILED, "It was lost.", judged=second)


def test_what_an_attempt_takes_anew_replaces_what_was_told(queue: RunQueue) -> None:
    put(queue, "a")
    run = queue.take_next()
    assert run is not None
    store = queue.store
    for step in (1, 2, 3):
        store.tell(run.id, StepEvent(step, 9, 1.0, 1e-3, step, 0.1))
        store.tell(run.id, ScoreEvent(step, 2, 0.1, 0.1, 0.1, 1.0, 0.1))
    store.tell(run.id, PhaseEvent("Looking", 1, 2))
    store.claim(run.id, 1, 1.0)
    assert store.progress(run.id).phase is None
    store.tell(run.id, ScoreEvent(2, 2, 0.9, 0.1, 0.1, 1.0, 0.1))
    store.rewind(run.id, 3)
    progress = store.progress(run.id)
    assert [step.step for step in progress.steps] == [1, 2]
    assert [(score.step, score.mean_iou) for score in progress.scores] == [(1, 0.1), (2, 0.9)]


def test_the_run_to_look_at(queue: RunQueue) -> None:
    assert queue.store.shown() is None
    put(queue, "a", "b", "c")
    names = [queue.store.shown().name]  # type: ignore[union-attr]
    for _ in range(2):
        run = queue.take_next()
        assert run is not None
        names.append(queue.store.shown().name)  # type: ignore[union-attr]
        queue.store.finish(run.id, RunState.DONE, "")
        names.append(queue.store.shown().name)  # type: ignore[union-attr]
    assert names == ["a", "a", "a", "b", "b"]


def test_a_record_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with connect(path) as connection:
        migrations.apply(Database(connection), stop_before="m002_queue")
    with closing(sqlite3.connect(path)) as old:
        old.execute(
            "INSERT INTO runs (id, name, state, model_id, quantize, snapshot, settings, created_at, sentence) "
            "VALUES ('r', 'mugs', 'done', 'demo', 'none', '/s', '{}', '2026-01-01T00:00:00+00:00', 'Ready.')"
        )
        old.execute("INSERT INTO events VALUES ('r', 1, '', 'phase', '{\"text\": \"Looking\"}')")
        old.commit()
    store = RunStore(path)
    run = store.get("r")
    assert (run.name, run.state, run.sentence, run.attempt) == ("mugs", RunState.DONE, "Ready.", 1)
    assert store.progress("r").phase == PhaseEvent("Looking")
    assert RunQueue(store).remove("r").name == "mugs"
    assert store.list() == [] and store.progress("r").phase is None
    with connect(path) as connection:
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    prepare(path, migrations)
