"""How a run ends when it doesn't end well: one sentence each, with the way out."""

from __future__ import annotations

import errno
import shutil
import signal
from pathlib import Path

from grounding.errors import is_out_of_memory
from grounding.jobs.processes import machine_mark, oom_kills
from grounding.jobs.store import RunRecord

# Room on the disk that a run keeps for its last words, given back when the disk is full.
RESERVE_BYTES = 1 << 20
RESERVE_FILE = "reserve"
_LITTLE_BYTES = 4 << 20
_RESUME = "Press Resume to go on."
LOST = (
    "The worker ended without a word: it was killed, ran out of memory, or the machine restarted. "
    f"Its log stands in the run's folder. {_RESUME}"
)
NEVER_STARTED = f"No worker came to life for this run, several times. Its log stands in the run's folder. {_RESUME}"
RESTARTED = f"The machine, or its container, was restarted while the run went on. {_RESUME}"
HUNG = f"The worker gave no sign of life for long, and was ended when a stop was asked for. {_RESUME}"
_KILLED = "The worker was ended from outside"
# The likely reason of each signal: its name alone says little to most people.
_REASONS = {
    "SIGKILL": "most often that is the system when the memory runs out, else somebody who ended it by hand. "
    "If it happens again, lower pictures or phrases per step",
    "SIGTERM": "somebody ended it, or the machine was shutting down, and it had no time to save",
    "SIGINT": "somebody pressed Ctrl-C where it ran",
    "SIGHUP": "the terminal or the session that it ran in was closed",
    "SIGSEGV": "a library crashed in it; a faulty driver or memory module does that too",
    "SIGBUS": "a file that it was reading was cut short, or the disk behind it has failed or is full",
    "SIGABRT": "a library gave up in it; the log in the run's folder may say why",
    "SIGILL": "a library was built for another processor than this one",
    "SIGXCPU": "a limit on computing time was reached",
}
DISCARDED = "Discarded: what it learned was thrown away."
TAKEN_OUT = "Taken out of the queue before it was resumed. Press Resume to queue it again."
DISCARDED_SINCE = (
    "Discarded: its checkpoints were thrown away. The adapter that was kept when it was stopped stays under Adapters."
)


def explain(error: BaseException, folder: Path) -> str:
    """A sentence with the way out for failures that are nobody's bug; the log's place for the others. `folder` is the
    run's own."""
    if is_out_of_memory(error):
        return (
            "The memory ran out. Lower pictures or phrases per step, or choose 4-bit weights, and train again; or free "
            "memory and press Resume."
        )
    if is_disk_full(error, folder):
        return "The disk is full. Free some space and press Resume to go on from the last checkpoint."
    kind = type(error).__name__
    return f"The run failed on something Boxwright did not foresee ({kind}: {error}). See {folder / 'log.txt'}."


def is_disk_full(error: BaseException, folder: Path) -> bool:
    """Whether it failed as the disk is full. Libraries wrap this in errors of their own, so the disk is asked too."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if any(word in str(error).lower() for word in ("no space left", "disk is full", "quota exceeded")):
        return True
    writes = isinstance(error, OSError) or type(error).__name__ in ("SafetensorError", "RuntimeError")
    return writes and free_bytes(folder) < _LITTLE_BYTES


def free_bytes(folder: Path) -> int:
    """Free space where the folder stands; very much when it can't be learned."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 1 << 62


def keep_reserve(folder: Path) -> None:
    """Take the room for the last words. Where there is none, the run fails soon enough on something else."""
    try:
        (folder / RESERVE_FILE).write_bytes(b"\0" * RESERVE_BYTES)
    except OSError:
        give_reserve(folder)


def give_reserve(folder: Path) -> None:
    """Give the room back."""
    try:
        (folder / RESERVE_FILE).unlink(missing_ok=True)
    except OSError:
        return


def of_exit(code: int, oom_kills_before: int) -> str:
    """How a worker ended that said nothing itself. `code` as of `Popen.wait`: below 0, the number of a signal."""
    if code == -signal.SIGKILL and oom_kills() > oom_kills_before:
        return (
            "The system killed the worker (SIGKILL) as the memory had run out. "
            f"Lower pictures or phrases per step, or close other programs. {_RESUME}"
        )
    if code < 0:
        name = next((known.name for known in signal.Signals if known == -code), f"signal {-code}")
        reason = f": {_REASONS[name]}" if name in _REASONS else ""
        return f"{_KILLED} ({name}){reason}. {_RESUME}"
    return (
        f"The worker ended without a word, with exit status {code}: its log in the run's folder may say why. {_RESUME}"
    )


def is_lost(run: RunRecord) -> bool:
    """Whether the run failed only as its worker was gone: it may do better when it goes on. Not so where the system
    killed it for its memory, which would happen again."""
    lost = run.sentence in (LOST, RESTARTED, HUNG) or run.sentence.startswith(_KILLED)
    return str(run.state) == "failed" and lost


def of_lost(run: RunRecord) -> str:
    """How a run ended whose worker is gone and which nobody watched."""
    return RESTARTED if run.machine and machine_mark() and run.machine != machine_mark() else LOST
