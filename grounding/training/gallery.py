"""The samples on which a run gained and lost most, from the answers kept beside its adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from grounding.errors import JobError
from grounding.training.history import SampleRow, read_history, read_rows

LEAST_CHANGE = 0.05  # of IoU; less is no news


@dataclass(frozen=True)
class Change:
    """One validation sample before (the base) and after (the kept step)."""

    before: SampleRow
    after: SampleRow

    @property
    def gain(self) -> float:
        """IoU after minus IoU before, -1.0 to 1.0. Of a phrase that refers to nothing, "nothing there" has 1.0."""
        return self.after.iou - self.before.iou


@dataclass(frozen=True)
class Gallery:
    """Biggest gains and losses, the biggest first. `gained`, `lost` and `same` count all `count` samples."""

    gains: tuple[Change, ...]
    losses: tuple[Change, ...]
    gained: int
    lost: int
    count: int
    kept_step: int
    sentence: str = ""
    kind: str = ""


def read_gallery(folder: Path, most: int = 8) -> Gallery | None:
    """The gallery of an adapter's or run's folder, at most `most` of each; None where there is no history."""
    try:
        history = read_history(folder)
        kept_step = int(history["kept_step"])
    except (JobError, KeyError, TypeError, ValueError):
        return None
    found = pick_changes(read_rows(folder, 0), read_rows(folder, kept_step), most)
    gains, losses, gained, lost, count = found
    return Gallery(
        gains, losses, gained, lost, count, kept_step, str(history.get("sentence", "")), str(history.get("verdict", ""))
    )


def pick_changes(
    before: Sequence[SampleRow], after: Sequence[SampleRow], most: int
) -> tuple[tuple[Change, ...], tuple[Change, ...], int, int, int]:
    """(biggest gains, biggest losses, number gained, number lost, number compared); samples are paired by id."""
    of_id = {row.id: row for row in after}
    changes = [Change(row, of_id[row.id]) for row in before if row.id in of_id]
    ordered = sorted(changes, key=lambda change: -change.gain)
    gains = [change for change in ordered if change.gain >= LEAST_CHANGE]
    losses = [change for change in reversed(ordered) if change.gain <= -LEAST_CHANGE]
    return tuple(gains[:most]), tuple(losses[:most]), len(gains), len(losses), len(changes)
