"""Scoring by generated boxes while a model learns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from grounding.answering import Answerer
from grounding.metrics import Scores, score, summarise
from grounding.models import LoadedModel
from grounding.predict import to_prediction
from grounding.records import Sample
from grounding.training.events import Listener, ScoreEvent
from grounding.training.views import encode_paths


class Scorer:
    """Generates boxes for the validation samples and reports how good they are."""

    def __init__(
        self, loaded: LoadedModel, samples: Sequence[Sample], listener: Listener, should_stop: Callable[[], bool]
    ) -> None:
        self.loaded = loaded
        self.samples = samples
        self.listener = listener
        self.answerer = Answerer(loaded)
        paths = list(dict.fromkeys(sample.image for sample in samples))
        encoded = encode_paths(loaded, paths, "Looking at the validation pictures", listener, should_stop)
        self.features = dict(zip(paths, encoded, strict=True))
        self.start = time.perf_counter()
        self.last: Scores | None = None

    def score(self, step: int) -> None:
        if not self.samples:
            return
        self.loaded.model.eval()
        rows = []
        for start in range(0, len(self.samples), 25):
            batch = self.samples[start : start + 25]
            features = [self.features[sample.image] for sample in batch]
            answers = self.answerer.answer_as_it_is(features, [sample.phrase for sample in batch])
            rows += [score(sample, to_prediction(answer, 0.0)) for sample, answer in zip(batch, answers, strict=True)]
        self.last = scores = summarise(rows)
        self.listener(
            ScoreEvent(
                step=step,
                count=scores.count,
                mean_iou=scores.mean_iou,
                accuracy_50=scores.accuracy[0.5],
                accuracy_75=scores.accuracy[0.75],
                detection_rate=scores.detection_rate,
                seconds=time.perf_counter() - self.start,
            )
        )


def score_values(scores: Scores | None) -> dict[str, float]:
    if scores is None:
        return {}
    return {
        "mean_iou": scores.mean_iou,
        "accuracy_50": scores.accuracy[0.5],
        "accuracy_75": scores.accuracy[0.75],
        "detection_rate": scores.detection_rate,
        "count": scores.count,
    }
