"""How well an exported folder answers about scenes that no training shows: loaded and asked as any model is."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from grounding.demo.pretrain.scenes_feed import Shown, draw_shown
from grounding.demo.pretrain.settings import PretrainSettings, grids
from grounding.demo.questions import QuestionKind
from grounding.metrics import ScoredSample, summarise
from grounding.records import Sample

GROUPS = {QuestionKind.ONE: "one object", QuestionKind.CORNER: "one, by its corner", QuestionKind.SEVERAL: "several"}
_NOTHING = "nothing there"


@dataclass(frozen=True)
class Group:
    """Figures of one kind of question, as shares; those with a target have no `said_nothing`, the others only that."""

    samples: int
    accuracy_50: float | None
    accuracy_75: float | None
    said_nothing: float | None


@dataclass(frozen=True)
class Accuracy:
    """What a model answers: Acc@0.5 of all questions with a target (`accuracy_50`), and each kind's figures by name."""

    pictures: int
    accuracy_50: float
    groups: Mapping[str, Group]


def measure(model: Path, settings: PretrainSettings, *, device: str | None = None) -> Accuracy:
    """Ask the model in this folder about `score_pictures` scenes, half of them square, that follow from the seed.

    Raises `ModelError` for a folder that is no model.
    """
    from grounding.evaluation import evaluate
    from grounding.models import load_model
    from grounding.predict import Predictor

    with tempfile.TemporaryDirectory(prefix="boxwright-pretrain-") as folder:
        samples, kinds = held_out(settings, Path(folder))
        report = evaluate(samples, Predictor(load_model(str(model), device=device), Path(folder)))
    return summed_up(report.rows, kinds, settings.score_pictures)


def held_out(settings: PretrainSettings, folder: Path) -> tuple[list[Sample], list[QuestionKind]]:
    """The scenes to ask about, written to `folder`, with the kind of each question."""
    samples: list[Sample] = []
    kinds: list[QuestionKind] = []
    for number in range(settings.score_pictures):
        rng = random.Random(f"held out {settings.seed}/{number}")
        shown = draw_shown(rng, (8, 8) if number % 2 else rng.choice(grids()), settings)
        path = folder / f"{number:04d}.png"
        Image.fromarray(shown.pixels).save(path, compress_level=1)
        samples += _samples(shown, path)
        kinds += [question.kind for question in dict.fromkeys(shown.questions)]
    return samples, kinds


def summed_up(rows: Sequence[ScoredSample], kinds: Sequence[QuestionKind], pictures: int) -> Accuracy:
    """Figures by kind. `kinds` follows `rows`."""
    groups = {}
    for kind, name in GROUPS.items():
        own = [row for row, other in zip(rows, kinds, strict=True) if other is kind]
        if own:
            scores = summarise(own)
            groups[name] = Group(len(own), scores.accuracy[0.5], scores.accuracy[0.75], None)
    empty = [row for row, kind in zip(rows, kinds, strict=True) if kind is QuestionKind.NOTHING]
    if empty:
        groups[_NOTHING] = Group(len(empty), None, None, summarise(empty).no_target_accuracy)
    aimed = [row for row, kind in zip(rows, kinds, strict=True) if kind is not QuestionKind.NOTHING]
    return Accuracy(pictures, summarise(aimed).accuracy[0.5], groups)


def _samples(shown: Shown, path: Path) -> list[Sample]:
    return [
        Sample(f"{path.stem}-{number}", path, question.text, shown.boxes_of(question), "test", image_id=path.stem)
        for number, question in enumerate(dict.fromkeys(shown.questions))
    ]
