"""Who may come in: the check of name and password that the page asks for, slow for those who guess."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import unicodedata
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from grounding.passwords import MOST_CHARACTERS, MOST_NAME_CHARACTERS, PasswordHash, read_passwords

# Gradio awaits a coroutine function; a plain one would stop the whole page while a password is checked.
LogIn = Callable[[str, str], Awaitable[bool]]

_FORGET_SECONDS = 900.0
_LONGEST_WAIT_SECONDS = 8.0
# More than the pace of all names lets through before a name is forgotten: nobody can flush another's name out.
_MOST_NAMES = 4000
_HASHING_THREADS = 2


def read_log_in(path: Path) -> LogIn:
    """The check of name and password by a file of hashed ones (see `grounding.passwords`).

    Says so on standard error when others may read the file. Raises `SettingsError` when it is no such file.
    """
    passwords = read_passwords(path)
    if os.name == "posix" and path.stat().st_mode & 0o077:
        sys.stderr.write(
            f"Boxwright: others on this machine may read the log-in file {path}. Close it with: chmod 600 {path}\n"
        )
    return LogInDesk(passwords).log_in


@dataclass
class Pace:
    """Attempts one behind the other, with gaps that double. Every attempt counts as failed until it is known to be
    right, so a burst at once gains nothing. Nobody is locked out: the gap has a limit, and is forgotten in time.

    All in seconds: `first_gap` follows the attempt after the `free` ones, `longest_gap` is the most.
    """

    free: int
    first_gap: float
    longest_gap: float
    failed: int = 0
    _open_at: float = 0.0
    _last_at: float = 0.0

    def wait(self, now: float) -> float | None:
        """How long an attempt has to wait, or None when too many wait already: it is then not to be checked."""
        wait = max(0.0, self._open_at - now)
        return wait if wait <= _LONGEST_WAIT_SECONDS else None

    def take(self, now: float) -> None:
        """An attempt is made, after its wait."""
        if now - self._last_at > _FORGET_SECONDS:
            self.failed = 0
        doublings = min(self.failed - self.free, 30)
        gap = min(self.longest_gap, self.first_gap * 2**doublings) if doublings >= 0 else 0.0
        self.failed += 1
        self._last_at = now
        self._open_at = max(now, self._open_at) + gap

    def was_right(self) -> None:
        """Take one attempt back."""
        self.failed = max(0, self.failed - 1)


class LogInDesk:
    """Checks attempts, all on the one event loop of the page. An unknown name is treated like a known one.

    After a wrong password the next attempt for the name waits 0.5 s, then 1, 2 and 4 s; beyond 20 wrong ones over
    all names, attempts are at least 0.25 s apart. 15 quiet minutes wipe that out, the right password does so at
    once for its name.
    """

    def __init__(self, passwords: Mapping[str, PasswordHash], clock: Callable[[], float] = time.monotonic) -> None:
        self._passwords = dict(passwords)
        # Costs as much as the others, and no password is known to match it.
        model = next(iter(self._passwords.values()))
        self._nobody = PasswordHash(model.n, model.r, model.p, os.urandom(16), os.urandom(32))
        self._clock = clock
        self._all = Pace(20, 0.25, 0.25)
        self._of_name: OrderedDict[str, Pace] = OrderedDict()
        self._hashing = ThreadPoolExecutor(_HASHING_THREADS, thread_name_prefix="log-in")

    async def log_in(self, name: str, password: str) -> bool:
        """Whether the name may come in with this password, after the wait that its earlier attempts have earned."""
        name = unicodedata.normalize("NFC", name).strip()
        if len(name) > MOST_NAME_CHARACTERS or len(password) > MOST_CHARACTERS:
            return False
        now, paces = self._clock(), (self._all, self._pace_of(name))
        waits = [wait for pace in paces if (wait := pace.wait(now)) is not None]
        if len(waits) < len(paces):
            # Uncounted: hammering one name must not hold up the others.
            return False
        for pace in paces:
            pace.take(now)
        await asyncio.sleep(max(waits))
        expected = self._passwords.get(name, self._nobody)
        right = await asyncio.get_running_loop().run_in_executor(self._hashing, expected.matches, password)
        if right and name in self._passwords:
            self._all.was_right()
            self._of_name.pop(name, None)
            return True
        return False

    def _pace_of(self, name: str) -> Pace:
        pace = self._of_name.setdefault(name, Pace(0, 0.5, 4.0))
        self._of_name.move_to_end(name)
        while len(self._of_name) > _MOST_NAMES:
            self._of_name.popitem(last=False)
        return pace
