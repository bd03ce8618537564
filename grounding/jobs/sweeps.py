"""What the queue knows of sweeps: which of them wait for their next run. `grounding.sweeps` chooses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grounding.database import reading

if TYPE_CHECKING:
    from grounding.jobs.store import RunStore
    from grounding.workspace import Workspace


def see_to_sweeps(workspace: Workspace, store: RunStore) -> None:
    """Let each sweep that goes on and has no run on its way queue the next one. Cheap when there is none.

    What keeps a sweep from going on is written down with it, and tried again the next time.
    """
    for name in _idle(store):
        from grounding.sweeps.drive import drive_and_tell  # it queues through this package

        drive_and_tell(workspace, name)


def sweep_goes_on(store: RunStore, name: str) -> bool:
    """Whether the sweep queues further runs."""
    with reading(store.path) as connection:
        row = connection.execute("SELECT 1 FROM sweeps WHERE name = ? AND state = 'going'", (name,)).fetchone()
    return row is not None


def _idle(store: RunStore) -> list[str]:
    with reading(store.path) as connection:
        rows = connection.execute(
            "SELECT name FROM sweeps WHERE state = 'going' AND NOT EXISTS (SELECT 1 FROM runs "
            "WHERE runs.sweep = sweeps.name AND runs.state IN ('queued', 'starting', 'running')) ORDER BY created_at"
        ).fetchall()
    return [row["name"] for row in rows]
