"""Samples -> predictions -> scored rows -> a report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from grounding.errors import Cancelled, PictureError, RecordError
from grounding.journal import EvaluationSettings, Journal, check_adapter, settings_of
from grounding.metrics import ScoredSample, Scores, score, summarise
from grounding.pictures import open_picture
from grounding.records import Prediction, Sample, check_phrase
from grounding.seen import SeenMarks, seen_by
from grounding.workspace import Workspace

if TYPE_CHECKING:
    from grounding.predict import Predictor

Progress = Callable[[int, int], None]
# What a crash loses at most: one of the predictor's batches.
SAMPLES_PER_CALL = 40
_SAMPLES_PER_CALL_OF_A_GPU = 128


@dataclass(frozen=True)
class Report:
    """What one model scored on a set of samples. `adapter` is None for the base; `rows` stand in sample order.

    `settings` says what the answers depend on; None where the evaluation kept no log. `seen` marks the rows that the
    adapter, or one merged into the model, saw in training, which `scores` leave out; None for a base that was not
    trained here, and where nobody looked.
    """

    model_id: str
    adapter: str | None
    scores: Scores
    rows: tuple[ScoredSample, ...]
    settings: EvaluationSettings | None = None
    seen: SeenMarks | None = None

    @property
    def counted(self) -> tuple[ScoredSample, ...]:
        """The rows that `scores` are over."""
        return _unseen(self.rows, self.seen)


def evaluate(
    samples: Iterable[Sample],
    predictor: Predictor,
    adapter: str | None = None,
    *,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    log: Path | None = None,
    conditions: Mapping[str, str] | None = None,
    workspace: Workspace | None = None,
) -> Report:
    """Answer every sample with the base or an adapter and score the answers, those left out that it saw in training.

    What an adapter saw is looked up in `workspace`, by default the one that the predictor has its adapters from.

    `progress` is called with (done, total). With `log`, a file, answers are kept there as they come, and those that
    it holds already are not asked again: a crash loses one batch at most (`SAMPLES_PER_CALL` on a CPU). `conditions`
    names what else the answers depend on, such as {"quantize": "4bit"}: a log of other settings is refused. A predictor
    may say itself how many it is to be asked at once (`samples_per_call`).

    Raises `Cancelled` when `cancelled` says so (the log then holds what was done), `RecordError` for a phrase and
    `PictureError` for a picture that can't be asked, `WorkspaceError` for a log that can't be used, `AdapterError` when
    another adapter takes the place of this one meanwhile, and the errors of `Predictor.predict_many`.
    """
    listed = list(samples)
    check_askable(listed, predictor, cancelled)
    if log is None:
        settings = None
        predictions = predictor.predict_many(_pairs(listed), adapter, progress=progress, cancelled=cancelled)
    else:
        settings = settings_of(listed, predictor, adapter, conditions)
        predictions = _logged(listed, predictor, Journal(log, settings), progress, cancelled)
    rows = tuple(score(sample, prediction) for sample, prediction in zip(listed, predictions, strict=True))
    place = workspace or _workspace_of(predictor)
    seen = seen_by(predictor.model_id, adapter, listed, place) if place is not None else None
    return Report(predictor.model_id, adapter, summarise(_unseen(rows, seen)), rows, settings, seen)


def check_askable(samples: Sequence[Sample], predictor: Predictor, cancelled: Callable[[], bool] | None = None) -> None:
    """Raises `RecordError` or `PictureError` naming a sample that can't be asked: before the first answer, not an
    hour in; `Cancelled` when `cancelled` says so.

    Pictures are decoded: one cut short shows that nowhere else. That takes a small part of what answering takes.
    """
    # Not every predictor opens pictures. Of a loaded model no more is held here than the family: it may have to go.
    family = getattr(getattr(predictor, "loaded", None), "family", None)
    seen: set[Path] = set()
    for sample in samples:
        if cancelled is not None and cancelled():
            raise Cancelled(f"Stopped while the pictures of {len(samples)} samples were checked.")
        try:
            check_phrase(sample.phrase)
            if family is not None and sample.image not in seen:
                family.check_picture(open_picture(sample.image))
                seen.add(sample.image)
        except (RecordError, PictureError) as error:
            raise type(error)(f"The sample {sample.id} can't be scored. {error}") from error


def _unseen(rows: Sequence[ScoredSample], seen: SeenMarks | None) -> tuple[ScoredSample, ...]:
    """Those that the adapter did not see in training; all where that isn't known."""
    return tuple(rows) if seen is None else tuple(row for row, mark in zip(rows, seen.marks, strict=True) if not mark)


def _workspace_of(predictor: Predictor) -> Workspace | None:
    registry = getattr(predictor, "registry", None)  # not every predictor has adapters of a workspace
    return Workspace(registry.folder.parent) if registry is not None else None


def _logged(
    samples: Sequence[Sample],
    predictor: Predictor,
    journal: Journal,
    progress: Progress | None,
    cancelled: Callable[[], bool] | None,
) -> list[Prediction]:
    """One answer a sample: from the journal where it has one, else asked and put there."""
    answers = journal.read()
    missing = [number for number in range(len(samples)) if number not in answers]
    if progress is not None and answers:
        progress(len(samples) - len(missing), len(samples))
    while missing:
        size = _samples_per_call(predictor)
        before = len(samples) - len(missing)
        asked, missing = missing[:size], missing[size:]

        def told(done: int, _: int, before: int = before) -> None:
            if progress is not None:
                progress(before + done, len(samples))

        try:
            given = predictor.predict_many(
                _pairs([samples[number] for number in asked]),
                journal.settings.adapter,
                progress=told,
                cancelled=cancelled,
            )
        except Cancelled as error:
            raise Cancelled(
                f"Stopped: {before} of {len(samples)} answers are kept in {journal.path}. Start again to go on."
            ) from error
        check_adapter(predictor, journal.settings)
        batch = dict(zip(asked, given, strict=True))
        journal.append(batch)
        answers |= batch
    return [answers[number] for number in range(len(samples))]


def _samples_per_call(predictor: Predictor) -> int:
    own: int | None = getattr(predictor, "samples_per_call", None)
    if own is not None:
        return own
    return SAMPLES_PER_CALL if getattr(predictor, "device", "cpu") == "cpu" else _SAMPLES_PER_CALL_OF_A_GPU


def _pairs(samples: Sequence[Sample]) -> list[tuple[Path, str]]:
    return [(sample.image, sample.phrase) for sample in samples]
