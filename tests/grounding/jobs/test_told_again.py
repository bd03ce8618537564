"""What a resumed run tells replaces what its earlier attempt told and its checkpoint does not know of."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from grounding.jobs.store import RunRecord, RunStore
from grounding.jobs.worker import _Teller
from grounding.training.checkpoint import Checkpoint, Checkpoints
from grounding.training.events import ScoreEvent, StepEvent, kept_score


def step(number: int) -> StepEvent:
    return StepEvent(number, 200, 1.0, 1e-3, number, 0.1)


def score(number: int, mean_iou: float) -> ScoreEvent:
    return ScoreEvent(number, 4, mean_iou, mean_iou, mean_iou, 1.0, 0.1, best=number > 0)


SCORES = [score(0, 0.1), score(100, 0.6)]


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs.db")


@pytest.fixture
def run(store: RunStore) -> RunRecord:
    """A run that was stopped at step 130: its scoring came after the checkpoint."""
    run = store.add(name="a", model_id="demo", quantize="none", snapshot="s", settings={"steps": 200})
    for event in (SCORES[0], *map(step, range(99, 101)), SCORES[1], *map(step, range(101, 131)), score(130, 0.72)):
        store.tell(run.id, event)
    return run


def write_checkpoint(folder: Path, number: int) -> None:
    nothing: dict[str, torch.Tensor] = {}
    state = {"scores": [asdict(event) for event in SCORES]}
    Checkpoints(folder / "checkpoints", "of this run").save(Checkpoint(number, nothing, None, nothing, state))


def test_a_scoring_that_the_checkpoint_does_not_know_goes(store: RunStore, run: RunRecord, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 130)
    teller = _Teller(store, run, tmp_path)
    teller.tell(step(131))
    progress = store.progress(run.id)
    assert progress.scores == tuple(SCORES) and progress.last_step == step(131)
    assert kept_score(progress.scores, keep_best=True) == SCORES[1], "the run goes on with the weights of step 100"
    teller.tell(score(150, 0.5))
    teller.tell(step(151))
    assert [event.step for event in store.progress(run.id).scores] == [0, 100, 150], "rewound once only"


def test_a_newer_checkpoint_that_was_passed_over_says_nothing(store: RunStore, run: RunRecord, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 100)
    write_checkpoint(tmp_path, 130)
    (tmp_path / "checkpoints" / "step-00000130" / "state.json").write_text('{"scores": []}')
    _Teller(store, run, tmp_path).tell(step(101))
    assert store.progress(run.id).scores == tuple(SCORES)


@pytest.mark.parametrize("damage", ["gone", "torn"])
def test_without_a_readable_checkpoint_the_steps_tell(
    store: RunStore, run: RunRecord, tmp_path: Path, damage: str
) -> None:
    if damage == "torn":
        write_checkpoint(tmp_path, 110)
        (tmp_path / "checkpoints" / "step-00000110" / "state.json").write_text('{"scores": [')
    _Teller(store, run, tmp_path).tell(step(111))
    assert store.progress(run.id).scores == tuple(SCORES)
