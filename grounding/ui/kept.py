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
        self._open: OrderedDict[tuple[tuple[Path, str], ...], tuple[Comparison, tuple[int, ...]]] = OrderedDict()
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
            stand = self._stand()
            if key not in self._open or not (_is_known(self._open[key][0]) or self._open[key][1] == stand):
                comparison = open_comparison([report.path for report in found], workspace=self.workspace)
                self._open[key] = comparison, stand
            self._open.move_to_end(key)
            while len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)
            return self._open[key][0]

    def _stand(self) -> tuple[int, ...]:
        """What changes as adapters and snapshots come and go: what is not known of one may be known then."""
        folders = (self.workspace.adapters, self.workspace.snapshots)
        return tuple(folder.stat().st_mtime_ns if folder.is_dir() else 0 for folder in folders)


def _is_known(comparison: Comparison) -> bool:
    """Whether it is known what each adapter of it saw in training."""
    return all(side.seen is None or side.seen.known for side in comparison.sides)


def id_of(report: KeptReport) -> str:
    """What `Kept.find` finds it by."""
    return report.path.name
