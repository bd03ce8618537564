"""The figures of an ended run are those of the adapter that it has left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from grounding.adapters import AdapterInfo
from grounding.jobs.files import adapters_folder
from grounding.jobs.store import RunProgress, RunRecord, RunState, RunStore
from grounding.training.events import ScoreEvent
from grounding.training.saving import score_values
from grounding.ui.own_score import own_score
from grounding.ui.queue_view import Row, queue_html
from grounding.ui.run_view import run_html
from grounding.ui.train_queue import QueueHandlers
from grounding.workspace import Workspace

OWN = ScoreEvent(130, 4, 0.5, 0.25, 0.125, 1.0, 0.0, loss=1.5)
SCORES = (ScoreEvent(0, 4, 0.1, 0.0, 0.0, 1.0, 0.1), replace(OWN, seconds=2.0), ScoreEvent(150, 4, 0.7, 0.7, 0.7, 1, 3))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture
def run(workspace: Workspace) -> RunRecord:
    """A run that was stopped with an adapter at step 130, resumed, and failed after another scoring."""
    store = RunStore(workspace.runs_db)
    run = store.add(name="a", model_id="demo", quantize="none", snapshot="s", settings={"steps": 200})
    for event in SCORES:
        store.tell(run.id, event)
    store.finish(run.id, RunState.FAILED, "It failed.")
    return store.get(run.id)


def leave(workspace: Workspace, run: RunRecord, made_by: str) -> None:
    folder = adapters_folder(workspace, run.sweep) / run.name
    folder.mkdir(parents=True)
    info = AdapterInfo(run.name, folder, "demo", "none", "2026-01-01T00:00:00+00:00", run_id=made_by)
    replace(info, scores=score_values(OWN)).save()


@pytest.mark.parametrize("sweep", ["", "mugs"])
def test_the_adapter_tells_once_the_run_has_ended(workspace: Workspace, run: RunRecord, sweep: str) -> None:
    run = replace(run, sweep=sweep)
    assert own_score(workspace, run) is None
    leave(workspace, run, run.id)
    assert own_score(workspace, run) == OWN
    assert own_score(workspace, replace(run, state=RunState.RUNNING)) is None
    assert own_score(workspace, replace(run, id="another")) is None


def test_an_adapter_with_figures_of_another_version_is_passed_over(workspace: Workspace, run: RunRecord) -> None:
    leave(workspace, run, run.id)
    info = AdapterInfo.load(workspace.adapters / "a")
    for scores in ({}, {"mean_iou": 0.5}, {**info.scores, "strange": 1}):
        replace(info, scores=scores).save()
        assert own_score(workspace, run) is None


def test_page_and_queue_show_its_figures(workspace: Workspace, run: RunRecord) -> None:
    leave(workspace, run, run.id)
    html = run_html(run, RunProgress(None, None, (), SCORES), own_score(workspace, run))
    assert '<dt>Mean IoU</dt><dd data-sign="up">0.500</dd>' in html
    assert "Figures of step 130, those of the adapter that it has left" in html
    assert "IoU 0.100 → 0.500" in QueueHandlers(workspace, ()).open()[0]
    assert "IoU 0.100 → 0.700" in queue_html([Row(run, SCORES)], QueueHandlers(workspace, ()).queue.settings())
