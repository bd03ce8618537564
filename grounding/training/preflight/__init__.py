"""Pre-flight: what a run would learn from, and how the model would see it, checked before the first step.

The row checks (`rows`) read samples and picture headers only and need no model. The model's part (`sight`, `memory`)
looks at the very tensors that the steps are made of. Nothing here imports torch until the model's part is asked for.
"""

from grounding.training.preflight.records import (
    Cost,
    Finding,
    Piece,
    Preflight,
    PreflightError,
    Probe,
    Rounding,
    Seen,
    annotate_address,
)

__all__ = [
    "Cost",
    "Finding",
    "Piece",
    "Preflight",
    "PreflightError",
    "Probe",
    "Rounding",
    "Seen",
    "annotate_address",
]
