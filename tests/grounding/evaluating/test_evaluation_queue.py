"""Evaluations in runs.db: their order, their ends, and what a process leaves behind that is gone."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlite_utils import Database

from grounding.database import connect, prepare, writing
from grounding.errors import JobError, SettingsError, StoreError
from grounding.evaluating.queue import CLOSED, Evaluation, EvaluationQueue, EvaluationState
from grounding.evaluating.selection import Selection
from grounding.jobs.schema import migrations
from grounding.records import Sample

TEST = Selection("test")


@pytest.fixture
def queue(tmp_path: Path) -> EvaluationQueue:
    return EvaluationQueue(tmp_path / "runs.db")


def add(queue: EvaluationQueue, adapter: str | None = None, selection: Selection = TEST) -> Evaluation:
    added = queue.add("demo", "none", adapter, selection, total=7, left_out=2)
    assert added is not None
    return added


def taken(queue: EvaluationQueue) -> Evaluation:
    one = queue.take_next("demo", "none")
    assert one is not None
    return one


def states(queue: EvaluationQueue) -> list[tuple[str | None, str]]:
    return [(one.adapter, str(one.state)) for one in queue.list()]


def test_they_come_in_the_order_in_which_they_were_asked_for(queue: EvaluationQueue) -> None:
    for adapter in (None, "b", "a"):
        add(queue, adapter)
    assert [taken(queue).adapter for _ in range(3)] == [None, "b", "a"]
    assert queue.take_next("demo", "none") is None


def test_the_same_is_not_on_its_way_twice(queue: EvaluationQueue) -> None:
    add(queue)
    assert queue.add("demo", "none", None, TEST, total=7) is None
    one = taken(queue)
    assert queue.add("demo", "none", None, TEST, total=7) is None
    for other in (Selection("val"), Selection("test", words="left"), Selection("test", category="mug")):
        add(queue, None, other)
    assert queue.add("demo", "4bit", None, TEST, total=7) is not None
    queue.end(one.id, EvaluationState.DONE, "")
    assert queue.add("demo", "none", None, TEST, total=7) is not None


def test_one_for_another_model_waits_for_it(queue: EvaluationQueue) -> None:
    add(queue)
    assert queue.take_next("demo", "4bit") is None and queue.take_next("other", "none") is None
    assert states(queue) == [(None, "waiting")]


def test_a_stop_before_and_after_its_turn_came(queue: EvaluationQueue) -> None:
    waits, runs = add(queue, "waits"), add(queue, "runs")
    queue.stop(waits.id)
    assert taken(queue).id == runs.id
    assert queue.tell(runs.id, 3, 1.5) is False
    queue.stop(runs.id)
    assert queue.get(runs.id).state is EvaluationState.RUNNING, "its process has yet to hear of it"
    assert queue.tell(runs.id, 4, 2.0) is True
    queue.end(runs.id, EvaluationState.STOPPED, "Stopped.")
    assert (queue.get(runs.id).done, queue.get(runs.id).seconds) == (4, 2.0)
    for one in (waits, runs):
        assert queue.get(one.id).state is EvaluationState.STOPPED
        with pytest.raises(JobError, match="already ended"):
            queue.stop(one.id)


def test_what_can_be_gone_on_with_stays_listed(queue: EvaluationQueue) -> None:
    stopped = add(queue, "stopped")
    queue.stop(stopped.id)
    for number in range(5):
        add(queue, str(number))
        queue.end(taken(queue).id, EvaluationState.DONE, "")
    listed = [one.adapter for one in queue.list(most_ended=2)]
    assert "stopped" in listed and len(listed) == 3


def test_going_on_is_for_what_ended_early_and_goes_to_the_end_of_the_queue(queue: EvaluationQueue) -> None:
    first, second = add(queue, "first"), add(queue, "second")
    with pytest.raises(JobError, match="Only an evaluation"):
        queue.go_on(first.id)
    queue.stop(first.id)
    queue.go_on(first.id)
    assert [one.adapter for one in queue.list()] == ["second", "first"]
    queue.stop(second.id)
    add(queue, "second")
    with pytest.raises(JobError, match="asks the same"):
        queue.go_on(second.id)


def test_a_running_one_is_not_removed(queue: EvaluationQueue) -> None:
    one = add(queue)
    taken(queue)
    with pytest.raises(JobError, match="stop it first"):
        queue.remove(one.id)
    queue.end(one.id, EvaluationState.DONE, "", folder="report")
    assert queue.newest_done().endswith(" report")
    assert queue.remove(one.id).folder == "report"
    assert queue.newest_done() == ""
    with pytest.raises(JobError, match="There is no evaluation"):
        queue.get(one.id)


@pytest.mark.parametrize(
    ("case", "changes", "idle", "state"),
    [
        ("its own process works on it", "", False, "running"),
        ("its own process has nothing to do", "", True, "waiting"),
        ("no process has the number", "pid = 2147483646", False, "waiting"),
        ("another process was given the number", "pid = 1, process_started = 5", False, "waiting"),
        ("elsewhere, with a fresh sign of life", "machine = 'elsewhere'", True, "running"),
        ("elsewhere, silent", "machine = 'elsewhere', heartbeat_at = '2026-01-01T00:00:00+00:00'", True, "waiting"),
        ("asked to stop, and then gone", "pid = 2147483646, stop_requested = 1", False, "stopped"),
    ],
)
def test_what_a_process_that_is_gone_left_does_not_pass_for_running(
    queue: EvaluationQueue, case: str, changes: str, idle: bool, state: str
) -> None:
    one = add(queue)
    taken(queue)
    if changes:
        with writing(queue.path) as connection:
            connection.execute(f"UPDATE evaluations SET {changes}")
    queue.put_back_lost(idle=idle)
    now = queue.get(one.id)
    assert str(now.state) == state, case
    assert (now.sentence == CLOSED) == (state != "running")
    assert bool(now.finished_at) == (state == "stopped")


def test_a_workspace_of_an_earlier_version_gets_the_table(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with connect(path) as connection:
        migrations.apply(Database(connection), stop_before="m004_evaluations")
    prepare(path, migrations)
    assert EvaluationQueue(path).list() == []


# --- what is selected ---


class Listed:
    def __init__(self, *samples: Sample) -> None:
        self.samples = samples

    def iterate(self, split: str | None, *, with_source: bool = False) -> object:
        return (s for s in self.samples if split in (None, s.split))


SAMPLES = Listed(
    *(
        Sample(f"s{number}", Path(f"/{number}.png"), phrase, (), split, category)
        for number, (phrase, split, category) in enumerate(
            [
                ("the LEFT mug", "test", "mug"),
                ("the left dog", "test", "dog"),
                ("describe this", "test", "mug"),
                ("describe this", "test", "dog"),
                (" ", "test", "dog"),
                ("x" * 501, "val", "dog"),
                ("the mug", "val", "mug"),
            ]
        )
    )
)


@pytest.mark.parametrize(
    ("selection", "ids", "left_out", "title"),
    [
        (Selection("test"), "s0 s1", 3, "test"),
        (Selection("all"), "s0 s1 s6", 4, "all"),
        (Selection("val"), "s6", 1, "val"),
        (Selection("test", "left  Mug"), "s0", 3, "test: “left Mug”"),
        (Selection("all", category="mug"), "s0 s6", 1, "all: category mug"),
        (Selection("test", "LE", "dog"), "s1", 2, "test: “LE”, category dog"),
    ],
)
def test_what_is_asked_and_what_is_left_out(selection: Selection, ids: str, left_out: int, title: str) -> None:
    picked = selection.pick(SAMPLES, lambda phrase: phrase == "describe this")  # type: ignore[arg-type]
    assert (" ".join(s.id for s in picked.samples), picked.left_out, selection.title) == (ids, left_out, title)


def test_nothing_to_ask_and_what_can_t_be_asked_are_sentences() -> None:
    with pytest.raises(StoreError, match="No test sample that the filter lets through has a usable phrase"):
        Selection("test", "right").pick(SAMPLES, lambda _: False)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="No train sample has a usable phrase"):
        Selection("train").pick(SAMPLES, lambda _: False)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="The split is 'everything'"):
        Selection("everything")
    with pytest.raises(SettingsError, match="at most 200"):
        Selection("test", "x" * 201)
