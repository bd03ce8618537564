"""Which process is meant by a number: numbers are given again, machines restart, and a workspace may be shared."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

# A process that we can't see, on another machine or in another container, lives while its heartbeat is this fresh.
AWAY_SECONDS = 60.0


@dataclass(frozen=True)
class ProcessMark:
    """A process beyond doubt: its number, its start in seconds since 1970, and the boot of its machine."""

    pid: int
    started: float
    machine: str


def own_mark() -> ProcessMark:
    """The mark of this process."""
    return ProcessMark(os.getpid(), start_time(os.getpid()), machine_mark())


def start_time(pid: int) -> float:
    """When the process began, in seconds since 1970; 0.0 when it can't be learned."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return 0.0


@functools.cache
def machine_mark() -> str:
    """What is new after each restart of the machine, and differs between containers. Empty where it can't be learned.

    On Linux the kernel's boot id and the namespace of process numbers: a number means something only within both.
    """
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    if sys.platform == "darwin":
        with suppress(OSError, subprocess.SubprocessError):
            told = subprocess.run(
                ["sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, text=True, timeout=5, check=True
            )
            return told.stdout.strip()
    return ""


def is_process(pid: int, started: float, word: str = "") -> bool:
    """Whether the process of that number is there and is the one that is meant: it began at `started`, or `word` is
    among its arguments. A zombie is not there.

    The start time alone would not do: it moves when the machine's clock is set.
    """
    try:
        process = psutil.Process(pid)
        same = (word and word in process.cmdline()) or abs(process.create_time() - started) < 1.0
        return bool(same) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def kill(pid: int, started: float, word: str = "") -> bool:
    """End the process at once when it is the one that is meant; False when it is not there."""
    if not is_process(pid, started, word):
        return False
    with suppress(psutil.Error):
        psutil.Process(pid).kill()
    return True


def seconds_since(moment: str | None) -> float:
    """Seconds since an ISO moment; infinite for none. Never below 0.0, whatever the clock does."""
    if moment is None:
        return float("inf")
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())


def oom_kills() -> int:
    """How many processes this machine has killed for lack of memory since it started; 0 where it doesn't tell."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
