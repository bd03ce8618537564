"""Is the adapter better than its base? One sentence, from the same validation samples answered by both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from grounding.boxes import Box
from grounding.metrics import ScoredSample
from grounding.paired import Difference, compare_rows
from grounding.records import Prediction, Sample, Status
from grounding.training.history import SampleRow


@dataclass(frozen=True)
class Verdict:
    """`kind`: "better", "worse", "unclear" (chance could make the difference) or "unscored"."""

    kind: str
    sentence: str


def verdict(base: Sequence[SampleRow], kept: Sequence[SampleRow]) -> Verdict:
    """Compare the answers of base and adapter, both over the same samples."""
    targets = [row for row in base if row.truth]
    if len(base) != len(kept):
        return Verdict(
            "unscored",
            "Nobody knows whether it is better: not all answers of the scorings could be logged. Evaluate it in "
            "Compare.",
        )
    if not targets:
        return Verdict(
            "unscored",
            "Nobody knows whether it is better: there is no validation sample with a box. Put some samples into the "
            "val split.",
        )
    found = compare_rows([_scored(row) for row in base], [_scored(row) for row in kept])
    return _judge(found.mean_iou, found.count)


def _judge(mean_iou: Difference, count: int) -> Verdict:
    samples = f"{count:,} validation sample{'' if count == 1 else 's'}"
    figures = f"mean IoU {mean_iou.a:.3f} → {mean_iou.b:.3f} on {samples}"
    low, high = mean_iou.low, mean_iou.high
    if low is None or high is None:
        return Verdict("unclear", f"Whether it is better can't be told from one picture: {figures}.")
    change = f"a change of {low:+.3f} to {high:+.3f}".replace("-", "−")
    bounds = f"{figures}, {change} in 95 of 100 resamples"
    if mean_iou.verdict == "few":
        return Verdict("unclear", f"Too few pictures to tell whether it is better: {bounds}. Put more into val.")
    if low > 0:
        return Verdict("better", f"Better than the base: {bounds}.")
    if high < 0:
        return Verdict(
            "worse",
            f"Worse than the base: {bounds}. Lower the learning rate or the strength, or look in Annotate whether "
            "the phrases say which object is meant.",
        )
    return Verdict(
        "unclear",
        f"Not clearly better than the base: {bounds}. More phrases, more steps or more validation samples may show "
        "a difference; phrases that fit any picture teach nothing.",
    )


def _scored(row: SampleRow) -> ScoredSample:
    truth, boxes = (tuple(Box(*box) for box in some) for some in (row.truth, row.boxes))
    sample = Sample(row.id, Path(row.image), row.phrase, truth, "val")
    return ScoredSample(sample, Prediction(boxes, Status(row.status), "", None, 0.0), row.iou)
