"""The real app in a process of its own, for tests that talk to it."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from annotate.store import Store
from grounding.demo.dataset import DemoSize, write_demo
from grounding.records import SPLITS, read_samples
from grounding.workspace import Workspace

ROOT = Path(__file__).resolve().parent.parent
_START_SECONDS = 90.0
_TAKEN = itertools.count()


def small_workspace(folder: Path, size: DemoSize) -> Workspace:
    """A workspace with a small demo data set in it."""
    workspace = Workspace(folder / "workspace")
    write_demo(folder / "demo", size=size)
    samples = (sample for split in SPLITS for sample in read_samples(folder / "demo" / f"{split}.jsonl"))
    Store(workspace.annotations_db, workspace.pictures).import_samples(samples, source="demo", who="demo")
    return workspace


@dataclass
class ServedApp:
    """The app on a port of its own, started and stopped as often as a test likes.

    `before` is Python that its process runs first, for what this machine can't bring about.
    """

    workspace: Workspace
    port: int
    model: str = "demo"
    flags: tuple[str, ...] = ()
    before: str = ""
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start the app and wait until its page answers."""
        log = self.workspace.root.parent / "app.log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, *self._program(), *self._arguments()],
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "BOXWRIGHT_USER": "tester"},
            )
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the app ended with {self.process.returncode}:\n{log.read_text()}")
            try:
                urllib.request.urlopen(self.url, timeout=5).close()
                return
            except OSError:
                time.sleep(0.2)
        self.process.kill()  # whoever asked for it never gets to stop it
        self.process.wait()
        raise AssertionError(f"the page did not answer in {_START_SECONDS:.0f} s:\n{log.read_text()}")

    def _program(self) -> list[str]:
        if not self.before:
            return ["app.py"]
        return ["-c", f"{self.before}\nimport runpy\nrunpy.run_path('app.py', run_name='__main__')"]

    def _arguments(self) -> list[str]:
        where = ["--workspace", str(self.workspace.root), "--port", str(self.port)]
        return [*where, "--model", self.model, *self.flags]

    def stop(self) -> None:
        """End the app; whatever it has started on its own goes on."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=20)
            self.process = None


def free_port() -> int:
    """A port of 127.0.0.1 that nobody takes before the app does, nor while it is restarted.

    The system gives outgoing connections a port of 32768 or more; below that each process of tests has 40 of its own.
    """
    first = 20_000 + os.getpid() % 250 * 40
    for _ in range(40):
        port = first + next(_TAKEN) % 40
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError(f"none of the ports {first} to {first + 39} is free")
