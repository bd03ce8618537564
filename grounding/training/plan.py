"""What a run is to do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from grounding.snapshots import Snapshot
from grounding.training.settings import TrainSettings


@dataclass(frozen=True)
class TrainPlan:
    """What to train: a snapshot on a base, with these settings, into this folder under this name.

    `run_folder` is where checkpoints and logs of the run stand; a run that finds checkpoints there goes on from the
    newest. None: they stand beside the adapter while the run lasts, and it can't be resumed.
    """

    name: str
    snapshot: Snapshot
    model_id: str
    quantize: str
    settings: TrainSettings
    adapter_folder: Path
    run_id: str = ""
    run_folder: Path | None = None


@contextmanager
def folder_of(plan: TrainPlan) -> Iterator[Path]:
    """The run's folder, made where it is missing; one that nobody named is removed afterwards."""
    folder = plan.run_folder or plan.adapter_folder.with_name(f".run-{plan.run_id or plan.name}")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        if plan.run_folder is None:
            shutil.rmtree(folder, ignore_errors=True)
