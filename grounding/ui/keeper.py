"""What the app does for runs while it is open: see to the queue, and lend the GPU to whoever trains."""

from __future__ import annotations

import logging
import shutil
import sys
import threading
from pathlib import Path

from grounding.errors import BoxwrightError, ModelError
from grounding.jobs.device import hold, release
from grounding.jobs.launch import advance
from grounding.jobs.queue import RunQueue
from grounding.jobs.store import RunStore
from grounding.ui.model_service import ModelService, Phase
from grounding.workspace import Workspace

log = logging.getLogger(__name__)
_LOOK_SECONDS = 1.5


class Keeper:
    """Looks after the runs of a workspace, every second or so, in a thread of its own.

    On a GPU the app's model gives way while a run is active or about to begin, and comes back afterwards; on a CPU
    both have room. Nothing is remembered here: an app that was restarted in between does the same.
    """

    def __init__(self, workspace: Workspace, models: ModelService) -> None:
        self.workspace = workspace
        self.models = models
        self.store = RunStore(workspace.runs_db)
        self.queue = RunQueue(self.store)
        self._holds = False
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin, with the model loading at once where no run needs its place."""
        self.look()
        threading.Thread(target=self._go_on, name="runs-keeper", daemon=True).start()

    def stop(self) -> None:
        """Look no more; runs go on by themselves."""
        self._stopped.set()

    def _go_on(self) -> None:
        while not self._stopped.wait(_LOOK_SECONDS):
            self.look()

    def look(self) -> None:
        """One look: see to the queue, then to the model."""
        try:
            advance(self.workspace)
            if self.store.active() is not None or self.queue.may_start():
                self._lend()
            else:
                self._fetch()
        except BoxwrightError as error:  # a full disk or a busy database: the next look may fare better
            log.warning("The runs could not be looked after: %s", error)
        except Exception:
            log.exception("The runs could not be looked after")

    def _lend(self) -> None:
        if self.models.is_lent:
            return  # what this process does on the GPU meanwhile can't be broken off either
        phase = self.models.state.phase
        if phase is Phase.LOADING:
            return  # it can't be broken off; the worker waits
        if phase is Phase.READY and self._on_gpu():
            self.models.unload()
        elif phase is Phase.UNLOADED and not has_gpu():
            self.models.start()
        elif phase is Phase.UNLOADED:
            self.models.unload()  # it then says to whom its place is lent
        if self.models.companions_load and has_gpu():
            return  # likewise; the next look unloads it
        self._let_go()

    def _fetch(self) -> None:
        if self.models.is_lent:
            return
        phase = self.models.state.phase
        if phase is Phase.UNLOADED:
            # In this order: a run that begins in between either is seen here or waits for us.
            if hold(self.store, "the model of Compare"):
                self._holds = True
                self.models.start()
        elif phase is Phase.FAILED or (phase is Phase.READY and not self._on_gpu()):
            self._let_go()

    def _let_go(self) -> None:
        if self._holds:
            release(self.store)
            self._holds = False

    def _on_gpu(self) -> bool:
        try:
            return self.models.predictor(0.0).device != "cpu"
        except ModelError:
            return False


def has_gpu() -> bool:
    """Whether the machine may have a GPU that a model would be loaded to; asked without loading torch."""
    nvidia = Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists() or shutil.which("nvidia-smi") is not None
    amd = Path("/dev/kfd").exists()
    return nvidia or amd or sys.platform == "darwin"
