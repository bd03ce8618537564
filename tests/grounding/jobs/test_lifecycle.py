"""Real workers with a stand-in for the training: the queue goes on by itself, and every end is a sentence."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from grounding.adapters import MANIFEST, AdapterInfo
from grounding.database import writing
from grounding.errors import JobError, StoreError
from grounding.jobs import device, endings, launch, processes
from grounding.jobs.files import mend, replace_adapter
from grounding.jobs.launch import (
    advance,
    discard_run,
    end_lost_run,
    is_alive,
    is_hung,
    queue_run,
    remove_run,
    resume_run,
    resume_says,
    start_run,
    stop_run,
)
from grounding.jobs.queue import RunQueue
from grounding.jobs.store import RunRecord, RunState, RunStore
from grounding.jobs.worker import _stopped_early
from grounding.workspace import Workspace
from job_workers import ended, request, wait_for, workers_of

pytestmark = pytest.mark.slow


@pytest.fixture
def store(stand_in: Workspace) -> RunStore:
    return RunStore(stand_in.runs_db)


def has_stepped(store: RunStore, run: RunRecord, least: int = 1) -> bool:
    last = store.progress(run.id).last_step
    return last is not None and last.step >= least


def learned(workspace: Workspace, name: str) -> int:
    return int((workspace.adapters / name / "adapter_model.safetensors").read_text())


def kill_worker(store: RunStore, run: RunRecord) -> None:
    pid = store.get(run.id).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def test_the_queue_goes_on_with_nobody_looking(stand_in: Workspace, store: RunStore) -> None:
    runs = [queue_run(stand_in, request(name, 3)) for name in ("a", "b", "c")]
    assert [store.get(run.id).state for run in runs[1:]] == [RunState.QUEUED, RunState.QUEUED]
    assert ended(store, runs[2]).state is RunState.DONE
    assert [store.get(run.id).sentence for run in runs] == [f"The adapter {n} is ready in Compare." for n in "abc"]
    times = [(store.get(run.id).started_at, store.get(run.id).finished_at) for run in runs]
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(times))  # type: ignore[operator]
    wait_for(lambda: not workers_of(stand_in))


def test_a_killed_worker_is_seen_by_who_watches_it_and_the_queue_goes_on(stand_in: Workspace, store: RunStore) -> None:
    first, second = (queue_run(stand_in, request(name, steps)) for name, steps in (("a", 10_000), ("b", 3)))
    wait_for(lambda: has_stepped(store, first))
    kill_worker(store, first)
    lost = ended(store, first)
    assert lost.state is RunState.FAILED
    assert "(SIGKILL)" in lost.sentence and "Press Resume" in lost.sentence
    assert ended(store, second).state is RunState.DONE


def test_a_worker_goes_on_without_who_watches_it_and_sees_to_the_queue(stand_in: Workspace, store: RunStore) -> None:
    first, second = (queue_run(stand_in, request(name, steps)) for name, steps in (("a", 40), ("b", 3)))
    wait_for(lambda: has_stepped(store, first))
    watcher = workers_of(stand_in)[0]
    assert watcher.pid != store.get(first.id).pid
    watcher.kill()
    assert ended(store, first).state is RunState.DONE
    assert ended(store, second).state is RunState.DONE


def test_both_killed_with_nobody_there_is_seen_by_the_next_who_looks(stand_in: Workspace, store: RunStore) -> None:
    first, second = (queue_run(stand_in, request(name, steps)) for name, steps in (("a", 10_000), ("b", 3)))
    wait_for(lambda: has_stepped(store, first))
    for process in workers_of(stand_in):
        process.kill()
    wait_for(lambda: not is_alive(store.get(first.id)))
    assert store.get(first.id).state is RunState.RUNNING, "nobody has looked yet"
    started = advance(stand_in)
    assert started is not None and started.id == second.id
    assert store.get(first.id).sentence == endings.LOST
    assert ended(store, second).state is RunState.DONE


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_resumed_run_takes_each_step_once(stand_in: Workspace, store: RunStore, how: str) -> None:
    run = start_run(stand_in, request("mugs", 60))
    wait_for(lambda: has_stepped(store, run, 5))
    if how == "stopped":
        stop_run(stand_in, run.id)
    else:
        kill_worker(store, run)
    broken = ended(store, run)
    assert broken.state is (RunState.STOPPED if how == "stopped" else RunState.FAILED)
    assert (stand_in.adapters / "mugs").exists() == (how == "stopped"), "a stop saves, a kill leaves nothing half"
    assert resume_says(stand_in, run.id).startswith("goes on after step ")
    resume_run(stand_in, run.id)
    done = ended(store, run)
    assert (done.state, done.attempt) == (RunState.DONE, 2)
    assert learned(stand_in, "mugs") == sum(range(61))
    assert [step.step for step in store.progress(run.id).steps] == list(range(1, 61))
    assert sorted(path.name for path in stand_in.adapters.iterdir()) == ["mugs"]


@pytest.mark.parametrize("place", ["mugs", ".resumed-{}"])
def test_a_worker_killed_after_its_last_file_has_nothing_to_learn_again(
    stand_in: Workspace, store: RunStore, place: str
) -> None:
    run = ended(store, start_run(stand_in, request("mugs", 5, "kills-itself")))
    folder = stand_in.adapters / place.format(run.id)
    adapter(folder, run.id, 5)
    history = {"format": "boxwright-history/1", "ended": "finished", "kept_step": 5, "sentence": "Better."}
    (folder / "training_history.json").write_text(json.dumps(history))
    resume_run(stand_in, run.id)
    done = ended(store, run)
    assert (done.state, store.progress(run.id).steps) == (RunState.DONE, ())
    assert done.sentence.endswith("is ready in Compare. Better.")
    assert [path.name for path in stand_in.adapters.iterdir()] == ["mugs"]


def test_a_run_whose_name_was_taken_meanwhile_is_not_resumed(stand_in: Workspace, store: RunStore) -> None:
    run = ended(store, start_run(stand_in, request("mugs", 5, "kills-itself")))
    (stand_in.adapters / "mugs").mkdir(parents=True)
    with pytest.raises(JobError, match="Another adapter is called 'mugs' by now"):
        resume_run(stand_in, run.id)
    assert store.get(run.id).state is RunState.FAILED


def test_an_adapter_that_appears_while_a_run_waits_is_never_touched(stand_in: Workspace, store: RunStore) -> None:
    RunQueue(store).pause()
    run = queue_run(stand_in, request("mugs"))
    (stand_in.adapters / "mugs").mkdir(parents=True)
    (stand_in.adapters / "mugs" / "mine.txt").write_text("somebody's")
    RunQueue(store).go_on()
    advance(stand_in)
    assert "stands already" in ended(store, run).sentence
    assert (stand_in.adapters / "mugs" / "mine.txt").read_text() == "somebody's"


def test_a_discarded_run_leaves_its_log_and_what_was_asked_for(stand_in: Workspace, store: RunStore) -> None:
    run = start_run(stand_in, request("mugs", 10_000))
    wait_for(lambda: has_stepped(store, run))
    discard_run(stand_in, run.id)
    gone = ended(store, run)
    assert (gone.state, gone.sentence) == (RunState.DISCARDED, endings.DISCARDED)
    wait_for(lambda: not workers_of(stand_in))
    left = sorted(path.name for path in (stand_in.runs / run.id).iterdir())
    assert left == ["log.txt", "preflight.json", "settings.json"]
    assert not list(stand_in.adapters.glob("*")) and not list(stand_in.adapters.glob(".*"))
    for refused in (resume_run, discard_run):
        with pytest.raises(JobError):
            refused(stand_in, run.id)


def test_a_resumed_run_that_is_stopped_while_it_loads_still_has_its_checkpoint(tmp_path: Path) -> None:
    nothing = "Stopped before the first step: there is nothing to keep."
    assert _stopped_early(tmp_path, nothing) == nothing
    (tmp_path / "checkpoints" / "step-165").mkdir(parents=True)
    assert "checkpoint of step 165 stays. Press Resume" in _stopped_early(tmp_path, nothing)


def test_what_a_stop_has_kept_is_not_called_thrown_away(stand_in: Workspace, store: RunStore) -> None:
    run = start_run(stand_in, request("mugs", 10_000))
    wait_for(lambda: has_stepped(store, run))
    stop_run(stand_in, run.id)
    assert ended(store, run).state is RunState.STOPPED
    wait_for(lambda: not workers_of(stand_in))
    resume_run(stand_in, run.id)
    wait_for(lambda: store.get(run.id).state is RunState.RUNNING)
    discard_run(stand_in, run.id)
    again = ended(store, run)
    assert (again.state, again.sentence) == (RunState.DISCARDED, endings.DISCARDED_SINCE)
    assert (stand_in.adapters / "mugs" / MANIFEST).is_file()


def test_a_stopped_run_that_is_discarded_keeps_its_adapter_and_says_so(stand_in: Workspace, store: RunStore) -> None:
    run = start_run(stand_in, request("mugs", 10_000))
    wait_for(lambda: has_stepped(store, run))
    stop_run(stand_in, run.id)
    ended(store, run)
    wait_for(lambda: not workers_of(stand_in))
    discard_run(stand_in, run.id)
    assert store.get(run.id).sentence == endings.DISCARDED_SINCE
    assert (stand_in.adapters / "mugs" / MANIFEST).is_file()


def test_a_failed_run_is_discarded_and_removed(stand_in: Workspace, store: RunStore) -> None:
    run = start_run(stand_in, request("mugs", 10_000))
    wait_for(lambda: has_stepped(store, run, 5))
    kill_worker(store, run)
    ended(store, run)
    wait_for(lambda: not workers_of(stand_in))
    assert (stand_in.runs / run.id / "checkpoints").is_dir()
    discard_run(stand_in, run.id)
    assert not (stand_in.runs / run.id / "checkpoints").exists()
    assert resume_says(stand_in, run.id).startswith("begins anew")
    remove_run(stand_in, run.id)
    assert store.list() == [] and not (stand_in.runs / run.id).exists()


def test_taking_a_resumed_run_out_of_the_queue_keeps_what_it_learned(stand_in: Workspace, store: RunStore) -> None:
    run = ended(store, start_run(stand_in, request("mugs", 5, "kills-itself")))
    RunQueue(store).pause()
    resume_run(stand_in, run.id)
    assert store.get(run.id).state is RunState.QUEUED
    remove_run(stand_in, run.id)
    assert store.get(run.id).state is RunState.STOPPED
    resume_run(stand_in, run.id)
    assert store.get(run.id).state is RunState.QUEUED


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("out-of-memory", "The memory ran out"),
        ("disk-full", "The disk is full. Free some space and press Resume"),
        ("kills-itself", "ended from outside (SIGKILL)"),
    ],
)
def test_each_bad_end_is_a_sentence_and_can_be_resumed(
    stand_in: Workspace, store: RunStore, model: str, says: str
) -> None:
    run = ended(store, start_run(stand_in, request("mugs", 5, model)))
    assert run.state is RunState.FAILED and run.state.resumable
    assert says in run.sentence
    assert not (stand_in.runs / run.id / endings.RESERVE_FILE).exists()
    assert ended(store, queue_run(stand_in, request("cups", 2))).state is RunState.DONE, "the next one goes"


def test_a_worker_that_hangs_is_named_and_ended_when_it_is_asked_to_stop(
    stand_in: Workspace, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start_run(stand_in, request("mugs", 10_000))
    wait_for(lambda: has_stepped(store, run))
    pid = store.get(run.id).pid
    assert pid is not None
    with writing(store.path):  # so that it doesn't hold SQLite's locks itself just then: that is the next test
        os.kill(pid, signal.SIGSTOP)
    assert not is_hung(store.get(run.id)), "not at once"
    monkeypatch.setattr(launch, "HANG_SECONDS", 0.2)
    monkeypatch.setattr(launch, "_DISCARD_SECONDS", 0.5)
    wait_for(lambda: is_hung(store.get(run.id)))
    end_lost_run(store)
    assert store.get(run.id).state is RunState.RUNNING, "nobody asked it to stop"
    stop_run(stand_in, run.id)
    end_lost_run(store)
    assert psutil.pid_exists(pid), "it is given a while"
    wait_for(lambda: end_lost_run(store) or store.get(run.id).state.ended)
    assert store.get(run.id).state is RunState.FAILED
    assert "Press Resume" in store.get(run.id).sentence


def test_a_worker_that_hangs_while_it_writes_is_ended_by_a_stop(
    stand_in: Workspace, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start_run(stand_in, request("mugs", 10_000))
    wait_for(lambda: has_stepped(store, run))

    def is_locked(*_: object, **__: object) -> None:
        raise StoreError("runs.db is locked")

    monkeypatch.setattr(RunStore, "request_stop", is_locked)
    with pytest.raises(StoreError):
        stop_run(stand_in, run.id)
    monkeypatch.setattr(launch, "HANG_SECONDS", -1.0)
    stop_run(stand_in, run.id)
    assert ended(store, run).state is RunState.FAILED


def test_a_worker_that_does_not_obey_is_discarded_all_the_same(
    stand_in: Workspace, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_DISCARD_SECONDS", 0.3)
    run = start_run(stand_in, request("mugs", 5, "hangs"))
    wait_for(lambda: store.progress(run.id).phase is not None)
    assert not is_hung(store.get(run.id)), "its heart beats, whatever the steps do"
    discard_run(stand_in, run.id)
    wait_for(lambda: end_lost_run(store) or store.get(run.id).state.ended)
    assert store.get(run.id).state is RunState.DISCARDED


def test_the_heart_beats_whatever_the_steps_do(stand_in: Workspace, store: RunStore) -> None:
    run = start_run(stand_in, request("mugs", 5, "hangs"))
    wait_for(lambda: store.progress(run.id).phase is not None)
    before = store.get(run.id).heartbeat_at
    wait_for(lambda: store.get(run.id).heartbeat_at != before)


def test_a_signal_to_end_saves_and_leaves_the_queue_alone(stand_in: Workspace, store: RunStore) -> None:
    """As when the machine is shut down."""
    first, second = (queue_run(stand_in, request(name, steps)) for name, steps in (("a", 10_000), ("b", 3)))
    wait_for(lambda: has_stepped(store, first))
    watcher = workers_of(stand_in)[0]
    watcher.terminate()
    stopped = ended(store, first)
    assert stopped.state is RunState.STOPPED and "is kept" in stopped.sentence
    wait_for(lambda: not workers_of(stand_in))
    assert store.get(second.id).state is RunState.QUEUED
    advance(stand_in)
    assert ended(store, second).state is RunState.DONE


def on_another_boot(store: RunStore, run: RunRecord, seconds_ago: float) -> None:
    beat = (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat(timespec="milliseconds")
    with writing(store.path) as connection:
        connection.execute("UPDATE runs SET machine = 'other-boot', heartbeat_at = ? WHERE id = ?", (beat, run.id))


def test_after_a_restart_of_the_machine_a_run_is_lost_even_if_its_number_lives(
    stand_in: Workspace, store: RunStore
) -> None:
    run = store.add(name="mugs", model_id="demo", quantize="none", snapshot="first", settings={})
    store.claim(run.id, os.getpid(), psutil.Process().create_time())
    assert is_alive(store.get(run.id))
    on_another_boot(store, run, seconds_ago=10)
    assert is_alive(store.get(run.id)), "another machine may have it: its heart beats"
    on_another_boot(store, run, seconds_ago=100)
    assert not is_alive(store.get(run.id))
    end_lost_run(store)
    assert store.get(run.id).sentence == endings.RESTARTED
    assert store.get(run.id).state.resumable


def test_a_process_of_another_start_is_never_killed() -> None:
    child = psutil.Popen(["sleep", "60"])
    try:
        assert not processes.kill(child.pid, child.create_time() - 100)
        assert child.is_running()
        assert processes.kill(child.pid, child.create_time())
    finally:
        with suppress(psutil.Error):
            child.kill()
        child.wait()


def test_the_machine_has_a_mark() -> None:
    assert processes.machine_mark() and processes.machine_mark() == processes.machine_mark()


def test_a_worker_waits_until_the_gpu_is_free(stand_in: Workspace, store: RunStore) -> None:
    assert device.hold(store, "the model of Compare")
    run = start_run(stand_in, request("mugs", 2))
    assert not device.hold(store, "the model of Compare"), "a run goes first"
    wait_for(lambda: store.progress(run.id).phase is not None)
    time.sleep(0.5)
    assert store.progress(run.id).phase.text == "Waiting until the model of Compare lets go of the device"  # type: ignore[union-attr]
    device.release(store)
    assert ended(store, run).state is RunState.DONE


def test_who_died_holds_no_gpu(store: RunStore) -> None:
    with writing(store.path) as connection:
        connection.execute(
            "INSERT INTO device_holders VALUES (?, 1.0, ?, 'a ghost', '')", (os.getppid(), processes.machine_mark())
        )
    assert device.others(store) == []


def test_nobody_is_waited_for_for_ever(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "others", lambda store: ["the model of Compare"])
    told: list[str] = []
    assert not device.wait_for_device(store, told.append, lambda: False, most_seconds=0.2, look_seconds=0.01)
    assert len(told) == 1
    assert device.wait_for_device(store, told.append, lambda: True), "a stop is heard while it waits"


def adapter(folder: Path, run_id: str, steps: int) -> None:
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_text(str(steps))
    AdapterInfo(folder.name, folder, "demo", "none", "2026-01-01T00:00:00+00:00", run_id=run_id, steps=steps).save()


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_a_replacement_that_was_interrupted_is_finished(
    stand_in: Workspace, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    """Killed before, between and after its two moves: there always is a whole adapter, and in the end the new one."""
    adapter(stand_in.adapters / "mugs", "r", 1)
    adapter(stand_in.adapters / ".resumed-r", "r", 2)
    done: list[Path] = []
    rename: Callable[[Path, Path], Path] = Path.rename

    def move(self: Path, target: Path) -> Path:
        if len(done) == moves:
            raise KeyboardInterrupt
        done.append(self)
        return rename(self, target)

    with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
        patched.setattr(Path, "rename", move)
        replace_adapter(stand_in, "r", "mugs")
    mend(stand_in, "r", "mugs")
    assert learned(stand_in, "mugs") == (1 if moves == 0 else 2)
    assert not (stand_in.adapters / ".replaced-r").exists()
    assert json.loads((stand_in.adapters / "mugs" / "adapter.json").read_text())["steps"] == (1 if moves == 0 else 2)


def test_the_disk_is_asked_where_an_error_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapped = RuntimeError("unexpected pos 64 vs 0")
    assert not endings.is_disk_full(wrapped, tmp_path)
    monkeypatch.setattr(endings, "free_bytes", lambda folder: 0)
    assert endings.is_disk_full(wrapped, tmp_path)
    assert not endings.is_disk_full(KeyError("a bug"), tmp_path)


def test_threads_of_a_worker_give_way_unless_somebody_says_otherwise() -> None:
    assert launch.worker_environment({"A": "b"})["A"] == "b"
    chosen = set(launch.worker_environment({})) & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}
    assert chosen
    assert launch.worker_environment({"OMP_WAIT_POLICY": "ACTIVE"}) == {"OMP_WAIT_POLICY": "ACTIVE"}
