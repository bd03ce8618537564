"""The scoring of the adapter that a run has left, for what the Train tab says of the run."""

from __future__ import annotations

from grounding.adapters import AdapterInfo
from grounding.jobs.files import adapters_folder
from grounding.jobs.store import RunRecord
from grounding.training.events import ScoreEvent
from grounding.workspace import Workspace


def own_score(workspace: Workspace, run: RunRecord) -> ScoreEvent | None:
    """What the adapter that the run has left says of itself: the run may have told other scorings since, of weights
    that were thrown away. None while the run goes on, and where its adapter is gone, renamed or was never scored.
    """
    if run.state.active:
        return None
    info = AdapterInfo.at(adapters_folder(workspace, run.sweep) / run.name, run.id)
    if info is None or not info.scores:
        return None
    try:
        return ScoreEvent(**{**info.scores, "seconds": 0.0})
    except TypeError:  # figures of another version
        return None
