"""Who may hold the GPU: the app while its model stands there, a worker while it trains. Written down in runs.db, so
that a worker starts to load only when the others have let go, whoever started it."""

from __future__ import annotations

import time
from collections.abc import Callable

from grounding.database import reading, writing
from grounding.jobs.processes import is_process, machine_mark, own_mark
from grounding.jobs.store import RunStore, now

# Letting go takes seconds; a holder that doesn't let go is waited for no longer than this.
WAIT_SECONDS = 180.0


def hold(store: RunStore, what: str, *, beside_a_run: bool = False) -> bool:
    """Say that this process holds the GPU, or is about to. False while a run is active, unless `beside_a_run`."""
    mark = own_mark()
    with writing(store.path) as connection:
        active = connection.execute("SELECT 1 FROM runs WHERE state IN ('starting', 'running')").fetchone()
        if active is not None and not beside_a_run:
            return False
        connection.execute(
            "INSERT OR REPLACE INTO device_holders (pid, process_started, machine, what, since) VALUES (?, ?, ?, ?, ?)",
            (mark.pid, mark.started, mark.machine, what, now()),
        )
    return True


def release(store: RunStore) -> None:
    """This process has let go."""
    mark = own_mark()
    with writing(store.path) as connection:
        connection.execute("DELETE FROM device_holders WHERE machine = ? AND pid = ?", (mark.machine, mark.pid))


def others(store: RunStore) -> list[str]:
    """What other living processes of this machine hold the GPU."""
    mark = own_mark()
    with reading(store.path) as connection:
        rows = connection.execute(
            "SELECT * FROM device_holders WHERE machine = ? AND pid != ?", (machine_mark(), mark.pid)
        ).fetchall()
    return [row["what"] for row in rows if is_process(row["pid"], row["process_started"])]


def wait_for_device(
    store: RunStore,
    told: Callable[[str], None],
    should_stop: Callable[[], bool],
    *,
    most_seconds: float = WAIT_SECONDS,
    look_seconds: float = 0.3,
) -> bool:
    """Wait until no other process holds the GPU; `told` hears once whom it waits for. False when it gave up waiting."""
    deadline = time.monotonic() + most_seconds
    said = False
    while (holding := others(store)) and not should_stop():
        if time.monotonic() > deadline:
            return False
        if not said:
            told(f"Waiting until {holding[0]} lets go of the device")
            said = True
        time.sleep(look_seconds)
    return True
