"""Samples -> predictions -> scored rows -> a report."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grounding.errors import RecordError
from grounding.metrics import ScoredSample, Scores, score, summarise
from grounding.records import Sample, check_phrase

if TYPE_CHECKING:
    from grounding.predict import Predictor


@dataclass(frozen=True)
class Report:
    """What one model scored on a set of samples. `adapter` is None for the base; `rows` stand in sample order."""

    model_id: str
    adapter: str | None
    scores: Scores
    rows: tuple[ScoredSample, ...]


def evaluate(
    samples: Iterable[Sample],
    predictor: Predictor,
    adapter: str | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Report:
    """Answer every sample with the base or an adapter and score the answers.

    `progress` is called with (done, total). Raises `Cancelled` when `cancelled` says so, and the errors of
    `Predictor.predict_many`.
    """
    listed = list(samples)
    for sample in listed:  # before the first answer, not an hour in
        try:
            check_phrase(sample.phrase)
        except RecordError as error:
            raise RecordError(f"The sample {sample.id} can't be scored. {error}") from error
    pairs = [(sample.image, sample.phrase) for sample in listed]
    predictions = predictor.predict_many(pairs, adapter, progress=progress, cancelled=cancelled)
    rows = tuple(score(sample, prediction) for sample, prediction in zip(listed, predictions, strict=True))
    return Report(predictor.model_id, adapter, summarise(rows), rows)
