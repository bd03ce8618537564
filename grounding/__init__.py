"""Boxwright's core: where does a vision-language model put the box for a phrase?

    import grounding

    p = grounding.load("demo")
    p.predict("picture.png", "left dog").boxes

Importing this package imports no torch: that happens in `load`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from grounding.boxes import Box
from grounding.decoding.settings import Decoding
from grounding.errors import BoxwrightError
from grounding.records import Prediction, Sample, Status, read_samples, write_samples
from grounding.workspace import Workspace

if TYPE_CHECKING:
    from grounding.choose import CropScorer
    from grounding.evaluation import Report
    from grounding.predict import Predictor

__all__ = [
    "Box",
    "BoxwrightError",
    "Decoding",
    "Prediction",
    "Sample",
    "Status",
    "Workspace",
    "evaluate",
    "load",
    "read_samples",
    "write_samples",
]
__version__ = "0.1.0"


def load(
    model: str = "demo",
    *,
    quantize: str = "none",
    workspace: Workspace | str | Path | None = None,
    profile: str | None = None,
    decoding: Decoding | None = None,
    scorer: CropScorer | None = None,
) -> Predictor:
    """A Predictor for "demo", a local folder or a Hub id; `quantize` is "none", "4bit" or "8bit".

    Adapters are found by name in `workspace`, a folder (default: $BOXWRIGHT_WORKSPACE, else data/workspace), or by
    folder; where the workspace stands, image features are kept in it. `profile` names another way of asking the
    model than its own, `decoding` another way of making answers, `scorer` what `Decoding(choose="rerank")` asks.
    Raises `ModelError` when the model can't be loaded.
    """
    from dataclasses import replace

    from grounding.calibration import kept_calibration
    from grounding.feature_store import FeatureStore
    from grounding.models import load_model
    from grounding.predict import Predictor
    from grounding.workspace import find_workspace

    place = workspace if isinstance(workspace, Workspace) else find_workspace(workspace)
    loaded = load_model(model, quantize=quantize, profile=profile)
    own = kept_calibration(place.calibrations, loaded.model_id, loaded.profile.name, loaded.quantize)
    if own is not None:
        loaded = replace(loaded, calibration=own)
    features = FeatureStore(place.features) if place.root.is_dir() else None
    return Predictor(loaded, place.adapters, decoding=decoding, features=features, scorer=scorer)


def evaluate(
    samples: Iterable[Sample],
    predictor: Predictor,
    adapter: str | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    log: Path | None = None,
) -> Report:
    """Answer every sample with the base or an adapter and score the answers; see `grounding.evaluation`."""
    from grounding.evaluation import evaluate as run

    return run(samples, predictor, adapter, progress=progress, cancelled=cancelled, log=log)
