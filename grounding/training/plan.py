"""What a run is to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from grounding.snapshots import Snapshot
from grounding.training.settings import TrainSettings


@dataclass(frozen=True)
class TrainPlan:
    """What to train: a snapshot on a base, with these settings, into this folder under this name."""

    name: str
    snapshot: Snapshot
    model_id: str
    quantize: str
    settings: TrainSettings
    adapter_folder: Path
    run_id: str = ""
