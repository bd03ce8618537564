"""Where pre-flight stands in the way: starting a run, the worker before its first step, the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from grounding.__main__ import main
from grounding.adapters import AdapterInfo
from grounding.errors import JobError
from grounding.jobs import launch, worker
from grounding.jobs.launch import RunRequest, start_run
from grounding.jobs.queue import RunQueue
from grounding.jobs.store import RunRecord, RunState, RunStore
from grounding.records import Sample
from grounding.snapshots import read_snapshot
from grounding.training.batches import BranchBuilder
from grounding.training.events import PhaseEvent, TrainEvent
from grounding.training.preflight import Preflight, PreflightError
from grounding.training.run import TrainPlan, train
from grounding.training.settings import TrainSettings
from grounding.workspace import Workspace, find_workspace

PLACEHOLDER = "Please carefully observe the area circled in the image and come up with a caption for the area."
QUICK = TrainSettings(steps=2, images_per_step=2, phrases_per_image=2, score_samples=2, augment=False)
Freeze = Callable[..., Path]


@pytest.fixture
def workspace() -> Workspace:
    workspace = find_workspace()
    workspace.check_writable()
    return workspace


@pytest.fixture
def placeholders(make_snapshot: Freeze, tiny_samples: Sequence[Sample]) -> Path:
    return make_snapshot([replace(s, phrase=PLACEHOLDER, alternatives=()) for s in tiny_samples], "empty")


@pytest.fixture
def nobody_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_spawn", lambda *_: None)


def plant_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prompt is learned too."""
    right = BranchBuilder.branch

    def wrong(self: BranchBuilder, *given: Any) -> Any:
        branch = right(self, *given)
        return replace(branch, supervised=len(branch.token_ids), weights=(1.0,) * len(branch.token_ids))

    monkeypatch.setattr(BranchBuilder, "branch", wrong)


def test_placeholders_only_start_nothing(workspace: Workspace, placeholders: Path, nobody_works: None) -> None:
    request = RunRequest("mugs", "empty", "demo", QUICK)
    with pytest.raises(
        PreflightError, match=r"Every one of the \d+ train phrases is a placeholder.*nothing about phrases"
    ):
        start_run(workspace, request)
    assert RunStore(workspace.runs_db).list() == []
    run = start_run(workspace, request, force=True)
    kept = Preflight.load(workspace.runs / run.id)
    assert kept is not None and kept.forced
    assert "placeholder" in [finding.kind for finding in kept.blocking]


def test_whoever_takes_a_run_from_the_queue_knows_that_it_was_forced(
    workspace: Workspace, placeholders: Path, nobody_works: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file stands before anybody else can see the run."""
    store, seen = RunStore(workspace.runs_db), []
    enqueue = RunStore.enqueue

    def and_look(self: RunStore, **asked: Any) -> RunRecord:
        run = enqueue(self, **asked)
        taken = RunQueue(store).take_next()
        assert taken is not None
        seen.append(Preflight.load(workspace.runs / taken.id))
        return run

    monkeypatch.setattr(RunStore, "enqueue", and_look)
    launch.queue_run(workspace, RunRequest("mugs", "empty", "demo", QUICK), force=True)
    (kept,) = seen
    assert kept is not None and kept.forced


@pytest.mark.parametrize("begin", [start_run, launch.queue_run])
def test_a_run_whose_folder_can_not_be_written_is_none(
    workspace: Workspace, make_snapshot: Freeze, tiny_samples: Sequence[Sample], nobody_works: None,
    monkeypatch: pytest.MonkeyPatch, begin: Callable[..., RunRecord],
) -> None:  # fmt: skip
    def full(self: Preflight, folder: Path) -> None:
        raise OSError(28, "No space left on device")

    make_snapshot(tiny_samples)
    monkeypatch.setattr(Preflight, "save", full)
    with pytest.raises(JobError, match=r"No space left on device.*there is no run"):
        begin(workspace, RunRequest("mugs", "tiny", "demo", QUICK))
    assert RunStore(workspace.runs_db).list() == []


def test_a_sound_set_starts_unforced(
    workspace: Workspace, make_snapshot: Freeze, tiny_samples: Sequence[Sample], nobody_works: None
) -> None:
    make_snapshot(tiny_samples)
    run = start_run(workspace, RunRequest("mugs", "tiny", "demo", QUICK))
    kept = Preflight.load(workspace.runs / run.id)
    assert kept is not None and not kept.forced and not kept.blocking


@pytest.mark.slow
def test_forced_through_the_report_says_that_the_phrases_carried_no_signal(
    workspace: Workspace, placeholders: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_spawn", lambda *_: None)
    run = start_run(workspace, RunRequest("mugs", "empty", "demo", QUICK), force=True)
    store = RunStore(workspace.runs_db)
    assert worker.work(workspace, store, store.get(run.id)) == 0
    ended = store.get(run.id)
    assert ended.state is RunState.DONE
    assert "carried no signal" in ended.sentence
    info = AdapterInfo.load(workspace.adapters / "mugs")
    assert info.phrase_signal["verdict"] == "none"
    assert info.phrase_signal["nats"]["gain"] == pytest.approx(0, abs=1e-4)
    kept = Preflight.load(workspace.runs / run.id)
    assert kept is not None and kept.forced and kept.seen and kept.probes


@pytest.mark.slow
def test_the_worker_takes_no_step_with_a_broken_mask(
    tiny_samples: Sequence[Sample], make_snapshot: Freeze, tmp_path: Path, one_thread: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    plant_a_fault(monkeypatch)
    folder = make_snapshot(tiny_samples)
    plan = TrainPlan(
        "mugs", read_snapshot(folder.parent, "tiny"), "demo", "none", QUICK, tmp_path / "adapters" / "mugs"
    )
    told: list[TrainEvent] = []
    with pytest.raises(PreflightError, match="don't teach the answers alone"):
        train(plan, told.append, lambda: False)
    assert not plan.adapter_folder.exists()
    assert any(isinstance(event, PhaseEvent) and "what the model sees" in event.text for event in told)


@pytest.mark.slow
def test_the_command_prints_what_was_found(
    workspace: Workspace, make_snapshot: Freeze, tiny_samples: Sequence[Sample], one_thread: None,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    make_snapshot(tiny_samples)
    assert main(["train", "tiny", "--check", "--set", "steps=3"]) == 0
    text = capsys.readouterr().out
    assert "Nothing stands in the way" in text
    assert '«[{"bbox_2d": [' in text and "<|im_end|>»" in text
    assert "[image x64]" in text
    assert "Largest step (as asked): fits" in text
    assert RunStore(workspace.runs_db).list() == []


@pytest.mark.slow
def test_the_command_fails_on_a_broken_mask(
    make_snapshot: Freeze, tiny_samples: Sequence[Sample], one_thread: None, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    plant_a_fault(monkeypatch)
    make_snapshot(tiny_samples)
    assert main(["train", "tiny", "--check", "--json", "--set", "steps=3"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["blocked"]
    assert "masking" in [finding["kind"] for finding in document["findings"]]


def test_a_run_needs_a_name_and_a_check_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "tiny"])
    assert ended.value.code == 2
    assert "--name" in capsys.readouterr().err
