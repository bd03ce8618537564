"""Checkpoints are whole or not there: what a kill, a full disk or a bad sector leaves behind is never taken for one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from grounding.errors import JobError
from grounding.training.checkpoint import Checkpoint, Checkpoints, identity_of
from grounding.training.settings import TrainSettings


def at(step: int, best: bool = True) -> Checkpoint:
    weights = {"a": torch.full((3, 2), float(step)), "b": torch.arange(4.0)}
    optimiser = {
        "state": {0: {"step": torch.tensor(float(step)), "exp_avg": torch.rand(3)}},
        "param_groups": [{"lr": 0.1}],
    }
    return Checkpoint(step, weights, weights if best else None, optimiser, {"position": {"step": step}, "scores": []})


@pytest.fixture
def place(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", "run of the test", kept=2)


def names(place: Checkpoints) -> list[str]:
    return sorted(path.name for path in place.folder.iterdir())


def test_everything_comes_back(place: Checkpoints) -> None:
    saved = at(7)
    place.save(saved)
    found, refused = place.newest()
    assert found is not None and refused == ()
    assert (found.step, found.state) == (7, saved.state)
    assert all(torch.equal(found.weights[name], weight) for name, weight in saved.weights.items())
    assert found.best is not None and torch.equal(found.best["a"], saved.weights["a"])
    assert torch.equal(found.optimiser["state"][0]["exp_avg"], saved.optimiser["state"][0]["exp_avg"])
    place.save(at(8, best=False))
    newest, _ = place.newest()
    assert newest is not None and newest.best is None


def test_none_yet(place: Checkpoints) -> None:
    assert place.newest() == (None, ())


def test_the_newest_stay(place: Checkpoints) -> None:
    for step in (1, 2, 3, 10):
        place.save(at(step))
    assert names(place) == ["step-00000003", "step-00000010"]


def test_the_same_step_can_be_written_again(place: Checkpoints) -> None:
    place.save(at(5))
    place.save(at(5, best=False))
    found, _ = place.newest()
    assert found is not None and found.best is None


@pytest.mark.parametrize("name", ["weights.safetensors", "best.safetensors", "optimiser.pt", "state.json"])
@pytest.mark.parametrize("harm", ["flipped", "cut", "gone"])
def test_a_damaged_file_sends_the_run_back_to_the_checkpoint_before(place: Checkpoints, name: str, harm: str) -> None:
    place.save(at(1))
    place.save(at(2))
    file = place.folder / "step-00000002" / name
    content = bytearray(file.read_bytes())
    if harm == "flipped":
        content[-1] ^= 1
        file.write_bytes(content)
    elif harm == "cut":
        file.write_bytes(content[:-5])
    else:
        file.unlink()
    found, refused = place.newest()
    assert found is not None and found.step == 1
    assert len(refused) == 1 and "step-00000002" in refused[0]


@pytest.mark.parametrize("manifest", ["", "{", "[]", "null", '{"format": "boxwright-checkpoint/9"}'])
def test_a_damaged_manifest_is_no_checkpoint(place: Checkpoints, manifest: str) -> None:
    place.save(at(1))
    place.save(at(2))
    (place.folder / "step-00000002" / "manifest.json").write_text(manifest)
    found, refused = place.newest()
    assert found is not None and found.step == 1 and len(refused) == 1


def test_one_of_another_run_is_passed_over(place: Checkpoints) -> None:
    place.save(at(1))
    found, refused = Checkpoints(place.folder, "another").newest()
    assert found is None
    assert "other settings" in refused[0]


@pytest.mark.parametrize("kept", [1, 2])
def test_those_that_were_passed_over_never_push_out_the_runs_own(place: Checkpoints, kept: int) -> None:
    """After an update, say, whose settings are others: the run begins anew, below their steps."""
    for step in (300, 400):
        place.save(at(step))
    updated = Checkpoints(place.folder, "of other settings", kept=kept)
    assert updated.newest()[0] is None
    for step in (100, 200):
        updated.save(at(step))
        newest, refused = updated.newest()
        assert newest is not None and newest.step == step and refused == ()


def test_what_a_kill_left_half_written_is_no_checkpoint_and_goes(place: Checkpoints) -> None:
    place.save(at(1))
    shutil.copytree(place.folder / "step-00000001", place.folder / ".partial-step-00000002")
    found, refused = place.newest()
    assert found is not None and found.step == 1 and refused == ()
    place.save(at(3))
    assert names(place) == ["step-00000001", "step-00000003"]


class FullDisk:
    """Refuses to write once so many bytes stand in the folder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, room: int) -> None:
        from grounding.training import checkpoint

        real = checkpoint.write_synced

        def write(path: Path, content: bytes) -> None:
            taken = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            if taken + len(content) > room:
                raise OSError(28, "No space left on device")
            real(path, content)

        monkeypatch.setattr(checkpoint, "write_synced", write)


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_an_older_one_makes_room_when_the_disk_is_full(place: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    place.save(at(1))
    place.save(at(2))
    FullDisk(monkeypatch, place.folder, size(place.folder) + 300)
    place.save(at(3))
    assert names(place) == ["step-00000002", "step-00000003"]


def test_a_damaged_later_one_makes_room_first_when_the_disk_is_full(
    place: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (3, 4):
        place.save(at(step))
    (place.folder / "step-00000004" / "weights.safetensors").write_bytes(b"")
    FullDisk(monkeypatch, place.folder, 0)
    with pytest.raises(JobError, match="That of step 3 still stands"):
        place.save(at(3, best=False))
    assert names(place) == ["step-00000003"]


def test_a_full_disk_never_costs_the_last_checkpoint(place: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    place.save(at(1))
    FullDisk(monkeypatch, place.folder, size(place.folder) + 300)
    with pytest.raises(
        JobError, match=r"step 2 could not be written \(No space left on device\)\. That of step 1 still"
    ):
        place.save(at(2))
    assert names(place) == ["step-00000001"]
    found, _ = place.newest()
    assert found is not None and found.step == 1


def test_the_first_one_on_a_full_disk_says_so(place: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    FullDisk(monkeypatch, place.folder, 0)
    with pytest.raises(JobError, match="There is none yet; the run goes on"):
        place.save(at(1))


def test_the_identity_hangs_on_what_moves_a_weight() -> None:
    settings = TrainSettings()
    same = identity_of("demo", "none", "0", settings)
    changed: dict[str, Any] = {"accumulation": 4, "gradient_checkpointing": True, "tensorboard": True}
    assert identity_of("demo", "none", "0", TrainSettings(**changed)) == same
    for other in ({"learning_rate": 1e-4}, {"seed": 1}, {"lora_rank": 8}, {"strength": 0.5}):
        assert identity_of("demo", "none", "0", TrainSettings(**other)) != same
    assert identity_of("demo", "4bit", "0", settings) != same
    assert identity_of("demo", "none", "1", settings) != same


_WRITER = """
import sys, torch
from pathlib import Path
from grounding.training.checkpoint import Checkpoint, Checkpoints
place = Checkpoints(Path(sys.argv[1]), "killed", kept=2)
for step in range(1, 100_000):
    weights = {"a": torch.full((256, 256), float(step))}
    optimiser = {"state": torch.full((999,), float(step))}
    place.save(Checkpoint(step, weights, weights, optimiser, {"position": {"step": step}}))
    print(step, flush=True)
"""


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    folder, told = tmp_path / "checkpoints", 0
    for turn in range(6):
        process = subprocess.Popen([sys.executable, "-c", _WRITER, str(folder)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        told = int(process.stdout.readline())
        time.sleep(0.037 * turn)
        os.kill(process.pid, signal.SIGKILL)
        told = max([told, *map(int, process.stdout.read().split())])
        process.stdout.close()
        process.wait()
        found, refused = Checkpoints(folder, "killed").newest()
        assert found is not None and refused == ()
        assert found.step >= told, "what was written before the kill is there"
        assert (
            {float(value) for value in found.weights["a"].unique()}
            == {float(found.step)}
            == {float(value) for value in found.optimiser["state"].unique()}
        )
        assert json.loads(json.dumps(found.state))["position"]["step"] == found.step
        shutil.rmtree(folder)
