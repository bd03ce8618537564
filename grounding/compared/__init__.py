"""Kept evaluations, compared: which samples, which figures, which labels look wrong. No torch, no page.

from grounding import compared

report = compared.open("evaluations/base", "evaluations/tools")
report.headline.differences["accuracy_50"]
report.only(outcome="loss").samples()
report.export("build/comparison", "markdown")
"""

from __future__ import annotations

from pathlib import Path

from grounding.compared.comparison import Comparison, open_comparison
from grounding.compared.filters import Filter
from grounding.compared.report import Report
from grounding.workspace import Workspace

__all__ = ["Comparison", "Filter", "Report", "open", "open_comparison"]


def open(
    *folders: str | Path,
    names: tuple[str, ...] = (),
    workspace: Workspace | str | Path | None = None,
    with_seen: bool = False,
) -> Report:
    """Open one or more kept evaluations (folders that `evaluate` left), the one to compare with first.

    See `open_comparison` for `names` and `workspace`, `Report` for `with_seen`. Raises `WorkspaceError` when one can't
    be read, `RecordError` when they have no sample in common.
    """
    return Report(open_comparison(folders, names=names, workspace=workspace), with_seen=with_seen)
