"""How a run ended, in the words that stand under it."""

from __future__ import annotations

from pathlib import Path

from grounding.adapters import AdapterInfo
from grounding.errors import JobError
from grounding.training.history import read_history


def ended_before(folder: Path, run_id: str) -> AdapterInfo | None:
    """The adapter of this run when it has ended by itself already: there is nothing left to do."""
    info = AdapterInfo.at(folder, run_id)
    if info is None:
        return None
    try:
        return None if read_history(info.path)["ended"] == "stopped" else info
    except (JobError, KeyError):
        return None


def ending(info: AdapterInfo, steps: int, where: str = "is ready in Compare") -> tuple[bool, str]:
    """(whether the run is done, not just stopped; its closing sentences) for an adapter meant to take `steps` steps.

    `where` says what became of the adapter."""
    try:
        history = read_history(info.path)
    except JobError:
        history = {}
    verdict = f" {history['sentence']}" if history.get("sentence") else ""
    if history.get("ended", "stopped" if info.steps < steps else "finished") == "stopped":
        return False, f"Stopped after {info.steps} of {steps} steps; the adapter so far is kept.{verdict}"
    early = ""
    if history.get("ended") == "early":
        early = f" It ended early, after {info.steps:,} of {steps:,} steps: the scores had stopped rising."
    kept = history.get("kept_step", info.steps)
    chosen = f" The best step, {kept:,}, is kept." if kept != info.steps else ""
    return True, f"The adapter {info.name} {where}.{early}{chosen}{verdict}"
