"""One whole sweep of the embedded model: real steps, real scorings, the winner answers in Compare's way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from grounding.adapters import AdapterRegistry
from grounding.sweeps.drive import start_sweep
from grounding.sweeps.record import SweepState, SweepStore
from grounding.sweeps.report import report_of
from grounding.sweeps.winner import keep
from grounding.workspace import Workspace
from job_workers import wait_for, workers_of
from sweep_samples import sweep_settings


@pytest.mark.slow
def test_the_embedded_model_is_swept_and_the_winner_kept(
    own_workspace: Path, make_snapshot: Any, tiny_samples: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    workspace = Workspace(own_workspace)
    make_snapshot(tiny_samples, "first")
    start_sweep(workspace, sweep_settings(search={"lora_rank": "2,4"}, steps=4, runs=2, base={"augment": False}))
    try:
        wait_for(lambda: SweepStore(workspace.runs_db).get("mugs").state is SweepState.DONE, 240)
    finally:
        for process in workers_of(workspace):
            process.kill()
    report = report_of(workspace, "mugs")
    assert [row.state for row in report.rows] == ["done", "done"], [row.sentence for row in report.rows]
    assert report.base_mean_iou is not None and all(row.mean_iou is not None for row in report.rows)
    assert AdapterRegistry(workspace.adapters).list() == []
    info = keep(workspace, "mugs", name="winner")
    assert report.best is not None and info.settings["lora_rank"] == report.best.values["lora_rank"]
    assert info.scores["mean_iou"] == pytest.approx(report.best.mean_iou)
    assert info.base_sha256 and info.sweep["name"] == "mugs", "the provenance of the run, and of the sweep"
