"""What starting a run asks of pre-flight: the rows checked, a blocking finding refused unless it is forced."""

from __future__ import annotations

from dataclasses import replace

from grounding.models import base_profile
from grounding.snapshots import Snapshot
from grounding.training.preflight.check import check_snapshot
from grounding.training.preflight.records import Preflight
from grounding.training.settings import TrainSettings
from grounding.workspace import Workspace


def clear_to_start(
    workspace: Workspace, snapshot: Snapshot, model_id: str, settings: TrainSettings, *, force: bool = False
) -> Preflight:
    """The row checks of this snapshot; `save` it into the run's folder, where the worker goes on with it.

    Raises `PreflightError` when something blocks and `force` is not given, `ModelError` for a model that can't be
    found.
    """
    checked = replace(check_snapshot(workspace, snapshot, base_profile(model_id), settings), forced=force)
    checked.check()
    return checked
