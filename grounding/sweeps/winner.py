"""From a sweep into the registry: the adapter of one of its runs, copied whole with where it comes from."""

from __future__ import annotations

import secrets
import shutil
from dataclasses import replace
from types import MappingProxyType

from grounding.adapters import AdapterInfo, AdapterRegistry
from grounding.adapters.changes import names_at_work
from grounding.errors import AdapterError, JobError
from grounding.jobs.files import adapters_folder
from grounding.jobs.launch import check_free_name
from grounding.sweeps.report import SweepReport, TrialRow, report_of
from grounding.workspace import Workspace


def keep(workspace: Workspace, sweep: str, *, name: str = "", run: int | None = None) -> AdapterInfo:
    """Put the adapter of a run into the registry, where Compare finds it; the sweep stays as it is.

    `name`: what it is called there ("": as the sweep, with a number where that is taken). `run`: its number in the
    sweep from 1 (None: the best). Raises `JobError` when there is no such run with an adapter or the name is taken,
    `AdapterError` when it can't be copied.
    """
    report = report_of(workspace, sweep)
    row = _chosen(report, run)
    name = check_free_name(workspace, name or free_name(workspace, sweep))
    if name in names_at_work(workspace):
        raise JobError(f"A run that has not ended will call its adapter {name!r}. Choose another name.")
    source = adapters_folder(workspace, sweep) / report.settings.run_name(row.number)
    partial = workspace.adapters / f".partial-kept-{secrets.token_hex(4)}"
    try:
        info = AdapterInfo.load(source)
        shutil.copytree(source, partial, ignore=shutil.ignore_patterns("adapter.json"))
        replace(info, name=name, path=partial, sweep=MappingProxyType(origin(report, row))).save()
        partial.rename(workspace.adapters / name)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise AdapterError(
            f"{source} can't be copied to {workspace.adapters / name} ({error.strerror or error}). Free some space, "
            "then try again."
        ) from error
    return AdapterRegistry(workspace.adapters).find(name)


def origin(report: SweepReport, row: TrialRow) -> dict[str, object]:
    """Where an adapter comes from, as adapter.json has it under `sweep`: the sweep, the run's number from 1, of how
    many, what was searched, and what this run had."""
    return {
        "name": report.record.name,
        "run": row.number + 1,
        "of": report.settings.runs,
        "seed": report.settings.seed,
        "searched": {name: str(space) for name, space in report.settings.search.items()},
        "values": dict(row.values),
        "best": report.best is not None and report.best.number == row.number,
    }


def free_name(workspace: Workspace, wanted: str) -> str:
    """The name, or the first with a number that no adapter and no run on its way has."""
    taken = {path.name for path in workspace.adapters.glob("*")} | names_at_work(workspace)
    numbered = (f"{wanted}-{number}" for number in range(2, 10_000))
    return wanted if wanted not in taken else next(name for name in numbered if name not in taken)


def _chosen(report: SweepReport, run: int | None) -> TrialRow:
    if run is None:
        if report.best is None:
            raise JobError(f"No run of the sweep {report.record.name!r} has left an adapter yet.")
        return report.best
    row = next((row for row in report.rows if row.number == run - 1), None)
    if row is None or not row.has_adapter:
        there = ", ".join(str(row.number + 1) for row in report.rows if row.has_adapter) or "none yet"
        raise JobError(f"Run {run} of the sweep {report.record.name!r} has left no adapter. Runs that have: {there}.")
    return row
