"""`python -m grounding runs` and `train --queue`, with real workers whose training is a stand-in."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import psutil
import pytest

from grounding.__main__ import main
from grounding.jobs import launch
from grounding.jobs.queue import RunQueue
from grounding.jobs.store import RunRecord, RunState, RunStore
from grounding.training.settings import TrainSettings
from grounding.workspace import Workspace

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def store(own_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    """A record in which nothing is ever started."""
    workspace = Workspace(own_workspace)
    workspace.check_writable()
    monkeypatch.setattr(launch, "advance", lambda workspace: launch.end_lost_run(RunStore(workspace.runs_db)))
    return RunStore(workspace.runs_db)


def put(store: RunStore, *names: str) -> list[RunRecord]:
    settings = TrainSettings(steps=3).to_json()
    return [
        store.enqueue(name=name, model_id="demo", quantize="none", snapshot="/s", settings=settings) for name in names
    ]


def order(store: RunStore) -> list[str]:
    return [run.name for run in RunQueue(store).waiting()]


def test_the_list_shows_who_waits_and_who_has_ended(store: RunStore, capsys: Capture) -> None:
    put(store, "a", "b")
    run = RunQueue(store).take_next()
    assert run is not None
    store.finish(run.id, RunState.FAILED, "The disk is full.")
    for arguments in (["runs"], ["runs", "list"]):
        assert main(arguments) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[1] for line in lines] == ["queued,", "failed"]
        assert lines[1].endswith("The disk is full.")
    for arguments in (["runs", "--json"], ["runs", "list", "--json"], ["runs", "--json", "list"]):
        assert main(arguments) == 0
        document = json.loads(capsys.readouterr().out)
        assert [run["name"] for run in document["runs"]] == ["b", "a"]
        assert document["queue"]["go_on_after_failure"] is True


def test_runs_are_moved_removed_and_found_by_name_or_id(store: RunStore, capsys: Capture) -> None:
    runs = put(store, "a", "b", "c")
    assert main(["runs", "move", "c", "1"]) == 0
    assert order(store) == ["c", "a", "b"]
    assert main(["runs", "remove", runs[0].id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"id": runs[0].id, "state": "removed"}
    assert order(store) == ["c", "b"]
    assert main(["runs", "remove", "gone"]) == 1
    assert "There is no run 'gone'" in capsys.readouterr().err
    assert main(["runs", "stop", "b"]) == 1
    assert "nothing to stop" in capsys.readouterr().err


def test_a_failed_run_is_resumed_and_discarded(store: RunStore, capsys: Capture) -> None:
    (run,) = put(store, "a")
    RunQueue(store).take_next()
    store.finish(run.id, RunState.FAILED, "")
    assert main(["runs", "resume", "a"]) == 0
    assert "begins anew: it has no checkpoint" in capsys.readouterr().err
    assert store.get(run.id).state is RunState.QUEUED
    RunQueue(store).take_next()
    store.finish(run.id, RunState.FAILED, "")
    assert main(["runs", "discard", "a"]) == 0
    assert store.get(run.id).state is RunState.DISCARDED


def test_the_log_and_the_queues_settings(store: RunStore, capsys: Capture) -> None:
    (run,) = put(store, "a")
    assert main(["runs", "log", "a"]) == 1
    assert "has no log yet" in capsys.readouterr().err
    folder = store.path.parent / "runs" / run.id
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text("a word\n")
    assert main(["runs", "log", "a"]) == 0
    assert capsys.readouterr().out == "a word\n"
    assert main(["runs", "queue", "--pause", "--after-failure", "pause", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["paused"] is True
    assert main(["runs", "queue", "--go-on"]) == 0
    assert "after a failed run it waits" in capsys.readouterr().out


def test_train_queue_returns_at_once(store: RunStore, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[launch.RunRequest] = []

    def queue(workspace: Workspace, request: launch.RunRequest, *, force: bool) -> RunRecord:
        assert not force
        asked.append(request)
        return put(store, request.name)[0]

    monkeypatch.setattr(launch, "queue_run", queue)
    assert main(["train", "tiny", "--name", "mugs", "--set", "steps=7", "--queue", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["state"] == "queued"
    assert "waits in the queue" in shown.err
    assert (asked[0].name, asked[0].settings.steps) == ("mugs", 7)


def test_a_run_that_hangs_is_named(store: RunStore, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    child = psutil.Popen(["sleep", "60"])
    try:
        put(store, "a")
        run = RunQueue(store).take_next()
        assert run is not None
        store.claim(run.id, child.pid, child.create_time())
        child.send_signal(signal.SIGSTOP)
        monkeypatch.setattr(launch, "HANG_SECONDS", -1.0)
        assert main(["runs"]) == 0
        assert "hangs: no sign of life" in capsys.readouterr().out
    finally:
        child.kill()
        child.wait()
