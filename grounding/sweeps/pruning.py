"""What a sweep adds to its run, inside the worker: scorings go into the study, and a run that falls behind ends."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable

from grounding.errors import Cancelled, StoreError
from grounding.jobs.store import RunRecord, RunStore
from grounding.sweeps.report import sweep_folder
from grounding.sweeps.settings import SweepSettings
from grounding.sweeps.study import Study
from grounding.training.events import Listener, NoteEvent, ScoreEvent, TrainEvent, kept_score
from grounding.training.settings import TrainSettings
from grounding.workspace import Workspace

log = logging.getLogger("boxwright.worker")


class Pruned(Cancelled):
    """The run has fallen behind the others of its sweep: it ends without saving."""


def watched(
    workspace: Workspace, run: RunRecord, settings: TrainSettings, tell: Listener, should_stop: Callable[[], bool]
) -> tuple[Listener, Callable[[], bool]]:
    """(listener, should_stop) of a run of a sweep; the second raises `Pruned` once it has fallen behind."""
    watch = _Watch(workspace, run, settings, tell)

    def stop_or_prune() -> bool:
        watch.check()
        return should_stop()

    return watch.hear, stop_or_prune


class _Watch:
    """Hears the scorings of one run."""

    def __init__(self, workspace: Workspace, run: RunRecord, settings: TrainSettings, tell: Listener) -> None:
        self.workspace = workspace
        self.folder = sweep_folder(workspace, run.sweep)
        self.run = run
        self.steps = settings.steps
        self.tell = tell
        self.behind: tuple[int, float] | None = None

    def hear(self, event: TrainEvent) -> None:
        """Hand the event on; a scoring on the way goes into the study. A study that can't be used is told of, and the
        run goes on."""
        self.tell(event)
        if not isinstance(event, ScoreEvent) or not 0 < event.step < self.steps or self.run.trial is None:
            return
        try:
            with Study(self.folder, SweepSettings.load(self.folder)) as study:
                median = study.report(self.run.trial, event.step, event.mean_iou)
                if median is not None:
                    study.mark_pruned(self.run.trial, event.step)
                    self.behind = event.step, median
        except StoreError as error:
            log.warning("run %s can't be compared with the others of its sweep: %s", self.run.id, error)
            self.tell(NoteEvent(f"This run can't be compared with the others of its sweep. {error}", event.step))

    def check(self) -> None:
        """Raises `Pruned` when the run has fallen behind; its checkpoints go, as nobody goes on from them."""
        if self.behind is None:
            return
        step, median = self.behind
        shutil.rmtree(self.workspace.runs / self.run.id / "checkpoints", ignore_errors=True)
        scores = RunStore(self.workspace.runs_db).progress(self.run.id, most_steps=1).scores
        kept = kept_score(scores, keep_best=True)
        best = kept.mean_iou if kept else 0.0
        raise Pruned(
            f"Stopped early: pruned after step {step:,}. Its best mean IoU so far, {best:.3f}, is below "
            f"{median:.3f}, the median of the sweep's finished runs at that step."
        )
