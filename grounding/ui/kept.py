"""Kept evaluations by their ids: found, and opened side by side; the last few stay open."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from threading import Lock

from grounding.compared import Comparison, open_comparison
from grounding.errors import WorkspaceError
from grounding.reports import KeptReport, ReportStore, read_report
from grounding.workspace import Workspace, check_name

_MOST_OPEN = 4


class Kept:
    """The evaluations of a workspace. Here one is called what its folder is called; nobody can name a path."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.reports = ReportStore(workspace.evaluations)
        self._open: OrderedDict[tuple[tuple[Path, str], ...], Comparison] = OrderedDict()
        self._lock = Lock()

    def list(self) -> list[KeptReport]:
        """Every complete one, newest first."""
        return self.reports.list()

    def find(self, evaluation: object) -> KeptReport:
        """Raises `WorkspaceError` for what is no name, for one that isn't here, and for a damaged one."""
        if not isinstance(evaluation, str):
            raise WorkspaceError(f"{evaluation!r:.80} names no evaluation: expected the id of a kept one.")
        found = read_report(self.workspace.evaluations / check_name(evaluation, "an evaluation"))
        if found is None:
            raise WorkspaceError(
                f"There is no evaluation {evaluation!r} in this workspace. It may have been removed: choose another."
            )
        return found

    def open(self, *evaluations: object) -> Comparison:
        """These, the one to compare with first. Raises `WorkspaceError` as `find`, and `RecordError` when they have no
        sample in common."""
        found = [self.find(evaluation) for evaluation in evaluations]
        key = tuple((report.path, report.created_at) for report in found)
        with self._lock:
            if key not in self._open:
                self._open[key] = open_comparison([report.path for report in found], workspace=self.workspace)
            self._open.move_to_end(key)
            while len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)
            return self._open[key]


def id_of(report: KeptReport) -> str:
    """What `Kept.find` finds it by."""
    return report.path.name
