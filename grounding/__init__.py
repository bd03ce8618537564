"""Boxwright's core: where does a vision-language model put the box for a phrase?

    import grounding

    p = grounding.load("demo")
    p.predict("picture.png", "left dog").boxes

Importing this package imports no torch: that happens in `load`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from grounding.boxes import Box
from grounding.errors import BoxwrightError
from grounding.records import Prediction, Sample, Status, read_samples, write_samples
from grounding.workspace import Workspace

if TYPE_CHECKING:
    from grounding.evaluation import Report
    from grounding.predict import Predictor

__all__ = [
    "Box",
    "BoxwrightError",
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


def load(model: str = "demo", *, quantize: str = "none", workspace: Workspace | None = None) -> Predictor:
    """A Predictor for "demo", a local folder or a Hub id; `quantize` is "none", "4bit" or "8bit".

    Adapters are found by name in `workspace` (default: $BOXWRIGHT_WORKSPACE, else data/workspace) or by folder.
    Raises `ModelError` when the model can't be loaded.
    """
    from grounding.models import load_model
    from grounding.predict import Predictor
    from grounding.workspace import find_workspace

    return Predictor(load_model(model, quantize=quantize), (workspace or find_workspace()).adapters)


def evaluate(
    samples: Iterable[Sample],
    predictor: Predictor,
    adapter: str | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Report:
    """Answer every sample with the base or an adapter and score the answers; see `grounding.evaluation`."""
    from grounding.evaluation import evaluate as run

    return run(samples, predictor, adapter, progress=progress, cancelled=cancelled)
