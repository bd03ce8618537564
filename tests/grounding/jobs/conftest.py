"""A workspace with a snapshot, in which real workers run a stand-in for the training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from grounding.boxes import Box
from grounding.records import Sample, write_samples
from grounding.training.preflight import start
from grounding.workspace import Workspace
from job_workers import STAND_IN, end_workers, workers_of


@pytest.fixture
def stand_in(own_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A workspace whose workers train nothing; none of them is left when the test ends."""
    monkeypatch.setenv("PYTHONPATH", str(STAND_IN))
    # The name of the model tells a stand-in what to do; the check of the rows takes all of them for the same one.
    profile = start.base_profile("demo")
    monkeypatch.setattr(start, "base_profile", lambda model_id: profile)
    workspace = Workspace(own_workspace)
    folder = workspace.snapshots / "first"
    folder.mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(folder / "a.png")
    write_samples(folder / "samples.jsonl", [Sample("s", folder / "a.png", "mug", (Box(0, 0, 9, 9),), "train")])
    sha256 = hashlib.sha256((folder / "samples.jsonl").read_bytes()).hexdigest()
    manifest = {"format": "boxwright-snapshot/1", "name": "first", "samples_sha256": sha256}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    yield workspace
    for process in workers_of(workspace):
        process.kill()  # first, as one that is stopped may hold the lock
    end_workers(workspace)
