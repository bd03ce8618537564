"""Made-up evaluations: every kind of sample and answer, kept as `evaluate` keeps them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from grounding.boxes import Box
from grounding.evaluation import Report
from grounding.metrics import ScoredSample, score, summarise
from grounding.records import Prediction, Sample, Status
from grounding.reports import ReportStore

PHRASES = ("mug", "the left mug", "Red drum", "a small tent near the top", "one two three four five six seven eight")
CATEGORIES = ("", "mug", "drum", "dog")


def some_box(rng: random.Random) -> Box:
    x, y, side = rng.uniform(0, 200), rng.uniform(0, 150), rng.choice((9.0, 40.0, 120.0))
    return Box(x, y, x + side * rng.uniform(0.5, 1.5), y + side * rng.uniform(0.5, 1.5))


def some_samples(count: int, seed: int = 0, *, per_picture: int = 3) -> list[Sample]:
    rng = random.Random(f"samples {seed}")
    return [
        Sample(
            id=f"s{number}",
            image=Path(f"/pictures/{rng.randrange(max(1, count // per_picture))}.png"),
            phrase=rng.choice(PHRASES),
            boxes_xyxy_px=tuple(some_box(rng) for _ in range(rng.choice((0, 1, 1, 1, 2, 3)))),
            category=rng.choice(CATEGORIES),
            extra={"source": rng.choice(("coco", "mine"))} if number % 3 else {},
        )
        for number in range(count)
    ]


LEFT, RIGHT, BELOW = Box(0, 0, 40, 40), Box(100, 0, 140, 40), Box(50, 100, 90, 140)


def some_scenes(count: int, per_picture: int = 3) -> list[Sample]:
    """Pictures with a thing on the left, one on the right, one below, in any order."""
    rng, made = random.Random(0), []
    for number in range(count):
        for k, box in enumerate(rng.sample([LEFT, RIGHT, BELOW], per_picture)):
            made.append(Sample(f"s{number}-{k}", Path(f"/pictures/{number}.png"), f"thing {k}", (box,)))
    return made


def some_answer(sample: Sample, rng: random.Random) -> Prediction:
    kind = rng.choice((Status.OK, Status.OK, Status.OK, Status.OK, Status.NO_BOX, Status.UNREADABLE, Status.DEGENERATE))
    confidence = rng.choice((None, 0.0, 0.5, 1.0, rng.random()))
    if kind is not Status.OK:
        return Prediction((), kind, "[] « raw »", confidence, rng.random())
    near = [Box(*(value + rng.uniform(-2, 2) for value in box)) for box in sample.boxes_xyxy_px]
    boxes = tuple(rng.sample(near, rng.randint(0, len(near)))) + tuple(some_box(rng) for _ in range(rng.randint(0, 1)))
    boxes = boxes or (some_box(rng),)
    confidences = tuple(rng.random() for _ in boxes) if rng.random() < 0.5 else ()
    return Prediction(boxes, kind, "raw", confidence, rng.random(), box_confidences=confidences)


def some_rows(samples: Sequence[Sample], seed: int = 0) -> list[ScoredSample]:
    rng = random.Random(f"answers {seed}")
    return [score(sample, some_answer(sample, rng)) for sample in samples]


def keep(folder: Path, rows: Sequence[ScoredSample], adapter: str | None = None, model_id: str = "demo") -> Path:
    """Keep rows as the evaluation in `folder`; returns it."""
    report = Report(model_id, adapter, summarise(rows), tuple(rows))
    return ReportStore(folder.parent).keep(report, split="test", folder=folder).path


def keep_two(folder: Path, count: int = 60, seed: int = 0) -> tuple[Path, Path]:
    """The base and an adapter on the same samples, the second one's in another order."""
    samples = some_samples(count, seed)
    shuffled = random.Random(seed).sample(samples, len(samples))
    return keep(folder / "a", some_rows(samples, seed)), keep(folder / "b", some_rows(shuffled, seed + 1), "tools")


def answered(
    sample: Sample, boxes: Sequence[Box], status: Status = Status.OK, sure: float | None = 0.9
) -> ScoredSample:
    """A sample with this answer."""
    return score(sample, Prediction(tuple(boxes), status, "raw", sure, 0.1))


def on_pictures(samples: Sequence[Sample], images: Sequence[Path]) -> list[Sample]:
    """The samples on these pictures in turn."""
    return [replace(sample, image=images[k % len(images)]) for k, sample in enumerate(samples)]
