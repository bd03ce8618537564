"""Did the phrases teach anything? Own phrases against other phrases of the same pictures, after training.

A model that was trained on placeholders answers just as well, or as badly, whatever it is asked: the boxes it learned
come from the pictures alone. Two measures, each paired and with an interval over whole pictures:

- on validation samples: Acc@0.5 of the boxes generated for the own phrase and for another one of the picture;
- on train samples: the loss of the answer's tokens behind the own phrase and behind another one, in nats a token.

Placeholders in several wordings can be learned by heart, and then the second measure finds a gain where there is
nothing to hear: where every train phrase is one, that decides.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from grounding import engine
from grounding.boxes import set_iou
from grounding.engine import ImageFeatures
from grounding.errors import PictureError
from grounding.metrics import MATCH_MIN_IOU
from grounding.models import LoadedModel
from grounding.pictures import open_picture
from grounding.placeholders import is_placeholder
from grounding.records import Sample
from grounding.training.batches import BranchBuilder, pack, packed_logits

MOST_SAMPLES = 64
LEAST_NATS = 0.02
"""A phrase that makes the answer's tokens less than this likelier on the train samples carried nothing."""
LEAST_ACCURACY = 0.03
LEAST_PICTURES = 5
"""An interval over fewer pictures says nothing."""
_RESAMPLES = 1000
_BATCH = 8

Answered = Callable[[Sequence[ImageFeatures], Sequence[str]], Sequence[Any]]


@dataclass(frozen=True)
class Paired:
    """A mean under the own and under another phrase over `count` samples; `low` and `high` bound `own - other` (for
    losses `other - own`: above 0 where the phrase helps) in 95 of 100 resamples of the pictures."""

    own: float
    other: float
    gain: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class PhraseSignal:
    """What the phrases told. `verdict`: "carried", "train_only" (learned by heart: on the validation samples another
    phrase does as well), "none", or "unknown" where nothing could be measured."""

    verdict: str
    sentence: str
    accuracy: Paired | None
    nats: Paired | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def other_phrases(samples: Sequence[Sample]) -> list[tuple[Sample, str]]:
    """Each sample that has boxes, with the phrase of another: on the same picture with other boxes where there is
    one, else of the next picture. Whether the words differ does not matter: that is what is measured."""
    boxed = [sample for sample in samples if sample.boxes_xyxy_px]
    on: dict[Path, list[Sample]] = {}
    for sample in boxed:
        on.setdefault(sample.image, []).append(sample)
    pictures = list(on)
    pairs = []
    for sample in boxed:
        siblings = [other for other in on[sample.image] if other.boxes_xyxy_px != sample.boxes_xyxy_px]
        if not siblings and len(pictures) > 1:
            siblings = on[pictures[(pictures.index(sample.image) + 1) % len(pictures)]]
        if siblings:
            pairs.append((sample, siblings[boxed.index(sample) % len(siblings)].phrase))
    return pairs


def measure_signal(
    loaded: LoadedModel, train: Sequence[Sample], val: Sequence[Sample], answer: Answered, seed: int = 0
) -> PhraseSignal:
    """Both measures on the model as it is now, on up to `MOST_SAMPLES` samples each. `answer` generates: (features,
    phrases) to objects with `boxes_xyxy_px`. The model's mode is put back. Pictures that can't be read are left out."""
    # Where all phrases are the same, nothing is left to chance.
    fewest = LEAST_PICTURES if len({sample.phrase for sample in train if sample.boxes_xyxy_px}) > 1 else 1
    training = loaded.model.training
    loaded.model.eval()
    try:
        accuracy = _accuracy(loaded, other_phrases(_some(val, seed)), answer, fewest)
        nats = _nats(loaded, other_phrases(_some(train, seed)), fewest)
    finally:
        loaded.model.train(training)
    learned = {phrase for sample in train for phrase in (sample.phrase, *sample.alternatives)}
    placeholders = len(train) if all(map(is_placeholder, learned)) else 0
    return judge(accuracy, nats, placeholders)


def judge(accuracy: Paired | None, nats: Paired | None, placeholders: int = 0) -> PhraseSignal:
    """The verdict and its sentence. `placeholders`: how many train phrases there are where every one is a placeholder,
    else 0."""
    if accuracy is None and nats is None and not placeholders:
        sentence = "Whether the phrases carried signal is not known: there were too few pictures to compare on."
        return PhraseSignal("unknown", sentence, None, None)
    on_train = nats is None or (nats.gain >= LEAST_NATS and nats.low > 0)
    on_val = accuracy is None or (accuracy.gain >= LEAST_ACCURACY and accuracy.low > 0)
    verdict = "none" if placeholders or not on_train else "carried" if on_val else "train_only"
    told = []
    if accuracy is not None:
        told.append(
            f"Acc@0.5 {accuracy.own:.0%} with the own phrase and {accuracy.other:.0%} with another one of the same "
            f"picture, on {accuracy.count} validation samples"
        )
    if nats is not None:
        told.append(
            f"the right box is {nats.gain:.2f} nats a token likelier with its own phrase, on {nats.count} train samples"
        )
    meaning = {
        "none": f"The phrases carried no signal: {_why_none(placeholders)}, and what the model learned it learned from "
        "the pictures alone",
        "train_only": "The phrases carried no signal beyond the train samples, which were learned by heart",
        "carried": "The phrases carried signal",
    }[verdict]
    figures = f" ({'; '.join(told)})" if told else ""
    return PhraseSignal(verdict, f"{meaning}{figures}.", accuracy, nats)


def _why_none(placeholders: int) -> str:
    if placeholders:
        which = f"every one of the {placeholders:,} train phrases" if placeholders > 1 else "the only train phrase"
        return f"{which} is a placeholder"
    return "the train phrases don't tell which box is meant"


def _some(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """Whole pictures at random, until there are enough samples."""
    on: dict[Path, list[Sample]] = {}
    for sample in samples:
        if sample.boxes_xyxy_px:
            on.setdefault(sample.image, []).append(sample)
    pictures = list(on)
    random.Random(seed).shuffle(pictures)
    some: list[Sample] = []
    for picture in pictures:
        some += on[picture]
        if len(some) >= MOST_SAMPLES:
            break
    return some[:MOST_SAMPLES]


def _features(loaded: LoadedModel, pairs: Sequence[tuple[Sample, str]]) -> dict[Path, ImageFeatures]:
    features: dict[Path, ImageFeatures] = {}
    for path in dict.fromkeys(sample.image for sample, _ in pairs):
        try:
            picture = open_picture(path)
            features[path] = engine.encode_images(loaded, [picture])[0]
        except PictureError:
            continue
    return features


def _accuracy(loaded: LoadedModel, pairs: Sequence[tuple[Sample, str]], answer: Answered, fewest: int) -> Paired | None:
    features = _features(loaded, pairs)
    pairs = [(sample, other) for sample, other in pairs if sample.image in features]
    if len({sample.image for sample, _ in pairs}) < fewest:
        return None
    # Most other phrases are some sample's own: each question is asked once.
    questions = dict.fromkeys((sample.image, phrase) for sample, other in pairs for phrase in (sample.phrase, other))
    asked = list(questions)
    answers: dict[tuple[Path, str], Any] = {}
    for start in range(0, len(asked), 25):
        batch = asked[start : start + 25]
        told = answer([features[image] for image, _ in batch], [phrase for _, phrase in batch])
        answers.update(zip(batch, told, strict=True))

    def hit(sample: Sample, phrase: str) -> float:
        boxes = answers[sample.image, phrase].boxes_xyxy_px
        return float(set_iou(boxes, sample.boxes_xyxy_px) >= MATCH_MIN_IOU)

    own = [hit(sample, sample.phrase) for sample, _ in pairs]
    others = [hit(sample, other) for sample, other in pairs]
    gains = [mine - theirs for mine, theirs in zip(own, others, strict=True)]
    return _paired(pairs, own, others, gains)


@torch.no_grad()
def _nats(loaded: LoadedModel, pairs: Sequence[tuple[Sample, str]], fewest: int) -> Paired | None:
    features = _features(loaded, pairs)
    pairs = [(sample, other) for sample, other in pairs if sample.image in features]
    if len({sample.image for sample, _ in pairs}) < fewest:
        return None
    builder = BranchBuilder(loaded)
    # Of the coordinates alone: Qwen3-VL's own form repeats the phrase behind the box, which would tell by itself.
    own, others = [], []
    for start in range(0, len(pairs), _BATCH):
        batch = pairs[start : start + _BATCH]
        seen = [features[sample.image] for sample, _ in batch]
        own += _losses(loaded, builder, seen, [(s, s.phrase) for s, _ in batch])
        others += _losses(loaded, builder, seen, batch)
    gains = [theirs - mine for mine, theirs in zip(own, others, strict=True)]
    return _paired(pairs, own, others, gains)


def _losses(
    loaded: LoadedModel,
    builder: BranchBuilder,
    features: Sequence[ImageFeatures],
    asked: Sequence[tuple[Sample, str]],
) -> list[float]:
    """Mean loss of the digits of each answer's boxes, in nats a token, behind these phrases."""
    branches = [
        [builder.branch(phrase, sample.boxes_xyxy_px, feature.frame)]
        for (sample, phrase), feature in zip(asked, features, strict=True)
    ]
    batch = pack(loaded, builder, features, branches)
    logits = packed_logits(loaded, batch, features)
    losses = functional.cross_entropy(logits.float(), batch.target_ids, reduction="none")
    tokenizer, means, start = loaded.processor.tokenizer, [], 0
    for (branch,) in branches:
        ids = branch.token_ids[-branch.supervised :]
        digits = [i for i in branch.coordinates if any(c.isdigit() for c in tokenizer.decode([ids[i]]))]
        own = losses[start : start + branch.supervised]
        means.append(float(own[digits].mean() if digits else own.mean()))
        start += branch.supervised
    return means


def _paired(
    pairs: Sequence[tuple[Sample, str]], own: Sequence[float], others: Sequence[float], gains: Sequence[float]
) -> Paired:
    by_picture: dict[Path, list[float]] = {}
    for (sample, _), gain in zip(pairs, gains, strict=True):
        by_picture.setdefault(sample.image, []).append(gain)
    groups = list(by_picture.values())
    rng = random.Random(0)
    means = []
    for _ in range(_RESAMPLES):
        drawn = [gain for group in rng.choices(groups, k=len(groups)) for gain in group]
        means.append(sum(drawn) / len(drawn))
    means.sort()
    low, high = means[int(0.025 * len(means))], means[int(0.975 * len(means)) - 1]
    count = len(pairs)
    return Paired(sum(own) / count, sum(others) / count, sum(gains) / count, low, high, count)
