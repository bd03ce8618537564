"""Who answers the evaluations of a workspace: one thread in the app's process, with the app's model."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from grounding.errors import BoxwrightError, BusyError, Cancelled, WorkspaceError
from grounding.evaluating.borrowed import BorrowedPredictor, Lender
from grounding.evaluating.queue import CLOSED, Evaluation, EvaluationQueue, EvaluationState
from grounding.evaluating.selection import Picked, Source
from grounding.evaluation import evaluate
from grounding.journal import JOURNAL, EvaluationSettings, Journal, answer_count, settings_of
from grounding.records import Sample, read_samples, write_samples
from grounding.reports import KeptReport, ReportStore, finished_report
from grounding.workspace import Workspace

if TYPE_CHECKING:
    from grounding.predict import Predictor

log = logging.getLogger(__name__)

# What is asked stands beside the answers, so that edits made since don't part the one from the other.
SAMPLES = "asked.jsonl"
STANDS = "Nothing has changed since it was last evaluated: that report stands."
_ANEW = "Begun anew, as something that its earlier answers depend on has changed."
_LOOK_SECONDS = 1.0
_TELL_SECONDS = 0.3


@dataclass(frozen=True)
class Work:
    """What evaluations are made of. `is_placeholder` tells a generic wording from a phrase."""

    workspace: Workspace
    source: Source
    models: Lender
    is_placeholder: Callable[[str], bool]


class Evaluator:
    """Answers what waits for the app's model, one evaluation after another, in a thread of its own.

    Nothing is remembered here: what the app was closed in the midst of goes on with its next start. While the model is
    away, as it is lent to a training run, everything waits.
    """

    def __init__(self, work: Work) -> None:
        self.work = work
        self.queue = EvaluationQueue(work.workspace.runs_db)
        self.reports = ReportStore(work.workspace.evaluations)
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin. What an earlier process left behind as running waits again when this returns."""
        self._tidy()
        threading.Thread(target=self._go_on, name="evaluations", daemon=True).start()

    def stop(self) -> None:
        """Answer no more; what goes on waits for the next start."""
        self._stopped.set()

    def _go_on(self) -> None:
        while not self._stopped.is_set():
            if not self.look():
                self._stopped.wait(_LOOK_SECONDS)

    def look(self) -> bool:
        """Answer the next evaluation to its end; False when there is none, or the model is away."""
        self._tidy()
        models = self.work.models
        try:
            if models.away():
                return False
            evaluation = self.queue.take_next(models.model, models.quantize)
            if evaluation is None:
                return False
            _Answering(self, evaluation).to_its_end()
        except BoxwrightError as error:  # a full disk or a busy database: the next look may fare better
            log.warning("The evaluations could not be looked after: %s", error)
            return False
        except Exception:
            log.exception("The evaluations could not be looked after")
            return False
        return True

    @property
    def is_stopped(self) -> bool:
        return self._stopped.is_set()

    def _tidy(self) -> None:
        try:
            self.queue.put_back_lost(idle=True)
        except BoxwrightError as error:
            log.warning("Interrupted evaluations could not be looked for: %s", error)


class _Answering:
    """One evaluation while it is worked on."""

    def __init__(self, evaluator: Evaluator, evaluation: Evaluation) -> None:
        self.evaluator = evaluator
        self.evaluation = evaluation
        self.queue, self.reports = evaluator.queue, evaluator.reports
        name = evaluation.folder
        self._folder = self.reports.folder / name if name else self.reports.new_folder()
        self._began = time.monotonic()
        self._done = answer_count(self._folder / JOURNAL)
        self._told_at = 0.0
        self._stop = False

    def to_its_end(self) -> None:
        """Answer, and write down how it ended."""
        evaluation_id = self.evaluation.id
        try:
            kept, sentence = self._kept()
        except BusyError:
            self._tell_kept()
            self.queue.put_back(evaluation_id, self.evaluator.work.models.away())
        except Cancelled:
            self._tell_kept()
            if self.evaluator.is_stopped:
                self.queue.put_back(evaluation_id, CLOSED)
            else:
                self.queue.end(evaluation_id, EvaluationState.STOPPED, self._stopped_says())
        except BoxwrightError as error:
            self._tell_kept()
            self.queue.end(evaluation_id, EvaluationState.FAILED, str(error))
        except Exception as error:  # the thread's edge: logged here and shown on the page
            log.exception("The evaluation %s failed", evaluation_id)
            self._tell_kept()
            sentence = f"It failed on something Boxwright did not foresee ({type(error).__name__}: {error})."
            self.queue.end(evaluation_id, EvaluationState.FAILED, f"{sentence} The terminal has the details.")
        else:
            self._tell(at_once=True)
            self.queue.end(evaluation_id, EvaluationState.DONE, sentence, folder=kept.path.name)

    def _stopped_says(self) -> str:
        done = self._done
        return f"Stopped: {done:,} answers are kept." if done else "Stopped before the first answer."

    def _kept(self) -> tuple[KeptReport, str]:
        """The report, from answers given now or standing, and what is to be said of it."""
        work, adapter = self.evaluator.work, self.evaluation.adapter
        folder = self._folder
        picked = self._asked(folder)
        total, left_out = len(picked.samples), picked.left_out
        self.queue.begin(self.evaluation.id, folder.name, total=total, left_out=left_out, done=self._done)
        predictor = cast("Predictor", BorrowedPredictor(work.models))
        conditions = {"quantize": self.evaluation.quantize}
        settings = settings_of(picked.samples, predictor, adapter, conditions)
        standing = self._standing(folder, settings)
        if standing is not None:
            return standing, STANDS
        with Journal(folder / JOURNAL, settings).held():
            sentence = ""
            if not _fits(folder, settings):
                throw_away(folder)
                picked, sentence, self._done = self._asked(folder), _ANEW, 0
                self.queue.begin(
                    self.evaluation.id, folder.name, total=len(picked.samples), left_out=picked.left_out, sentence=_ANEW
                )
            report = evaluate(
                picked.samples,
                predictor,
                adapter,
                progress=self._progress,
                cancelled=self._cancelled,
                log=folder / JOURNAL,
                conditions=conditions,
                workspace=work.workspace,
            )
            kept = self.reports.keep(report, split=self.evaluation.selection.title, folder=folder)
        (folder / SAMPLES).unlink(missing_ok=True)
        return kept, sentence

    def _asked(self, folder: Path) -> Picked:
        """What is asked: as it stood when the evaluation began, else as it stands now."""
        if (folder / SAMPLES).exists():
            return Picked(tuple(read_samples(folder / SAMPLES)), self.evaluation.left_out)
        work = self.evaluator.work
        picked = self.evaluation.selection.pick(work.source, work.is_placeholder)
        _write(folder, picked.samples)
        # As they will be read when it goes on.
        return Picked(tuple(read_samples(folder / SAMPLES)), picked.left_out)

    def _standing(self, folder: Path, settings: EvaluationSettings) -> KeptReport | None:
        """A report of exactly these answers: in the folder, where another program has finished it, else elsewhere."""
        own = finished_report(folder, settings)
        if own is not None:
            (folder / SAMPLES).unlink(missing_ok=True)
            return own
        for kept in self.reports.list():
            if kept.settings and not settings.differences(kept.settings):
                throw_away(folder)
                return kept
        return None

    def _progress(self, done: int, _: int) -> None:
        self._done = done
        self._tell()

    def _cancelled(self) -> bool:
        self._tell()
        return self._stop or self.evaluator.is_stopped

    def _tell_kept(self) -> None:
        """Tell what is kept: of a batch that was broken off, answers were told of that are not."""
        self._done = answer_count(self._folder / JOURNAL)
        self._tell(at_once=True)

    def _tell(self, *, at_once: bool = False) -> None:
        moment = time.monotonic()
        if at_once or moment - self._told_at >= _TELL_SECONDS:
            self._told_at = moment
            seconds = self.evaluation.seconds + moment - self._began
            self._stop = self.queue.tell(self.evaluation.id, self._done, seconds) or self._stop


def remove(queue: EvaluationQueue, reports: ReportStore, evaluation_id: str) -> None:
    """Take an evaluation off the list, with the answers of an unfinished one. A report stays.

    Raises `JobError` for one that goes on.
    """
    evaluation = queue.remove(evaluation_id)
    if evaluation.folder and evaluation.state is not EvaluationState.DONE:
        throw_away(reports.folder / evaluation.folder)


def throw_away(folder: Path) -> None:
    """Delete what an unfinished evaluation left; a folder with a report is left alone."""
    for name in (JOURNAL, SAMPLES):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # something else stands there
        folder.rmdir()


def _fits(folder: Path, settings: EvaluationSettings) -> bool:
    """Whether the answers so far, if any, were given under these settings, and can be read."""
    try:
        Journal(folder / JOURNAL, settings).read()
    except WorkspaceError:
        return False
    return True


def _write(folder: Path, samples: tuple[Sample, ...]) -> None:
    """Whole or not at all. Raises `WorkspaceError`."""
    partial = folder / f"{SAMPLES}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_samples(partial, samples)
        partial.replace(folder / SAMPLES)
    except OSError as error:
        raise WorkspaceError(
            f"The evaluation can't be kept in {folder}: {error}. Free space or rights there, and press Go on."
        ) from error
