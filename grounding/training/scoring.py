"""Scoring while a model learns: boxes generated for validation samples, and the loss of their true answers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from grounding.answering import Answerer
from grounding.features import ImageFeatures
from grounding.metrics import ScoredSample, score, summarise
from grounding.models import LoadedModel
from grounding.predict import to_prediction
from grounding.records import Prediction, Sample
from grounding.training.batches import BranchBuilder
from grounding.training.events import Listener, ScoreEvent
from grounding.training.history import SampleRow, sample_row
from grounding.training.rehearsal import pictures_per_step
from grounding.training.settings import TrainSettings
from grounding.training.validation_loss import validation_losses
from grounding.training.views import encode_paths

_SAMPLES_AT_ONCE = 25


class Scorer:
    """Scores the model as it stands on the same samples each time: those whose picture can be read; `left_out` counts
    the others.

    With `encode_anew`, for a run that changes the vision tower, the pictures are looked at again at each scoring.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        samples: Sequence[Sample],
        listener: Listener,
        should_stop: Callable[[], bool],
        *,
        dtype: torch.dtype | None = None,
        encode_anew: bool = False,
    ) -> None:
        self.loaded = loaded
        self.listener = listener
        self.dtype = dtype
        self.encode_anew = encode_anew
        self.answerer = Answerer(loaded)
        self.builder = BranchBuilder(loaded)
        self.paths = list(dict.fromkeys(sample.image for sample in samples))
        self.features = self._encode(should_stop)
        self.samples = [sample for sample in samples if sample.image in self.features]
        self.left_out = len(samples) - len(self.samples)
        self.start = time.perf_counter()

    def score(self, step: int) -> tuple[ScoreEvent, list[SampleRow]] | None:
        """The figures after `step` steps and every answer; None when there is no validation sample."""
        if not self.samples:
            return None
        if self.encode_anew and step:
            # A file that has gone since is seen as it was: the samples stay the same.
            self.features = {**self.features, **self._encode(lambda: False)}
        self.loaded.model.eval()
        scored = [row for start in range(0, len(self.samples), _SAMPLES_AT_ONCE) for row in self._answers(start)]
        losses = validation_losses(self.loaded, self.builder, self.samples, self.features, self.dtype)
        rows = [sample_row(step, one, total / count) for one, (total, count) in zip(scored, losses, strict=True)]
        scores = summarise(scored)
        event = ScoreEvent(
            step=step,
            count=scores.count,
            mean_iou=scores.mean_iou,
            accuracy_50=scores.accuracy[0.5],
            accuracy_75=scores.accuracy[0.75],
            detection_rate=scores.detection_rate,
            seconds=time.perf_counter() - self.start,
            loss=sum(total for total, _ in losses) / sum(count for _, count in losses),
            no_target_accuracy=scores.no_target_accuracy,
        )
        return event, rows

    def boxes(self, features: Sequence[ImageFeatures], phrases: Sequence[str]) -> list[Prediction]:
        """The model's answers, as they are scored."""
        return [to_prediction(answer, 0.0) for answer in self.answerer.answer_as_it_is(features, phrases)]

    def _answers(self, start: int) -> list[ScoredSample]:
        batch = self.samples[start : start + _SAMPLES_AT_ONCE]
        features = [self.features[sample.image] for sample in batch]
        answers = self.boxes(features, [sample.phrase for sample in batch])
        return [score(sample, answer) for sample, answer in zip(batch, answers, strict=True)]

    def _encode(self, should_stop: Callable[[], bool]) -> dict[Path, ImageFeatures]:
        text = "Looking at the validation pictures"
        return encode_paths(self.loaded, self.paths, text, self.listener, should_stop)


def scoring_interval(settings: TrainSettings, pictures: int) -> int:
    """Steps between two scorings: as set, or as many as show each of the run's own `pictures` once. What is rehearsed
    takes its share of the places beside them and has no rounds of its own: the last of it may never be shown."""
    if settings.score_each_epoch:
        share = settings.rehearsal_share
        places = math.floor((pictures - 1) / (1 - share)) + 1  # as `rehearsed_at` gives them out
        return math.ceil(places / pictures_per_step(settings, pictures))
    return settings.score_every_steps


def scorings(settings: TrainSettings, pictures: int) -> int:
    """How often a run scores that takes all of its steps: at step 0, at every interval, and at the end."""
    return 2 + (settings.steps - 1) // scoring_interval(settings, pictures)
