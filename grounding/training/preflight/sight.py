"""What the model sees: samples packed as a step packs them, and everything read back from the tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from grounding import engine
from grounding.boxes import Box, set_iou
from grounding.engine import ImageFeatures
from grounding.errors import ModelError, PictureError
from grounding.models import LoadedModel
from grounding.pictures import open_picture
from grounding.records import Sample
from grounding.training import batches
from grounding.training.batches import Branch, BranchBuilder, PackedBatch
from grounding.training.preflight.masks import Question, Supervised, mask_faults, supervised_runs, visible_positions
from grounding.training.preflight.processed import data_address, processed_picture
from grounding.training.preflight.records import Finding, Numbers, Piece, Seen
from grounding.training.settings import TrainSettings
from grounding.training.views import trainable

MOST_SHOWN = 6


@dataclass(frozen=True)
class Chosen:
    """A sample to be shown, why, and the phrases that share its picture's pass, its own first."""

    sample: Sample
    why: str
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Packed:
    """A batch made as a step makes it, with what it was made of."""

    features: list[ImageFeatures]
    branches: list[list[Branch]]
    batch: PackedBatch


def choose(samples: Sequence[Sample], settings: TrainSettings, most: int = MOST_SHOWN) -> list[Chosen]:
    """Train samples that show most: an ordinary one, the smallest box, the longest phrase, several boxes, none."""
    train = [sample for sample in samples if sample.split == "train"]
    if not train:
        return []
    boxed = [sample for sample in train if sample.boxes_xyxy_px]
    wanted: list[tuple[str, Callable[[], Sample | None]]] = [
        ("the first sample", lambda: train[0]),
        ("the smallest box", lambda: min(boxed, key=_smallest, default=None)),
        ("the longest phrase", lambda: max(train, key=lambda sample: len(sample.phrase))),
        ("the most boxes", lambda: max((s for s in train if len(s.boxes_xyxy_px) > 1), key=_boxes, default=None)),
        ("nothing there", lambda: next((sample for sample in train if not sample.boxes_xyxy_px), None)),
        ("from the middle", lambda: (boxed or train)[len(boxed or train) // 2]),
    ]
    siblings: dict[object, list[Sample]] = {}
    for sample in train:
        siblings.setdefault(sample.image, []).append(sample)
    chosen: list[Chosen] = []
    for why, find in wanted:
        found = find()
        if found is None:
            continue
        sample = found
        if any(sample is one.sample for one in chosen) or len(chosen) >= most:
            continue
        others = [other for other in siblings[sample.image] if other is not sample]
        together = [sample, *others][: settings.phrases_per_image]
        chosen.append(Chosen(sample, why, tuple((s.phrase, s.boxes_xyxy_px) for s in together)))
    return chosen


def _smallest(sample: Sample) -> float:
    return min(box.area_px for box in sample.boxes_xyxy_px)


def _boxes(sample: Sample) -> int:
    return len(sample.boxes_xyxy_px)


def look(
    loaded: LoadedModel, samples: Sequence[Sample], settings: TrainSettings, *, most: int = MOST_SHOWN
) -> tuple[list[Seen], list[Finding]]:
    """Pack some samples as a step does and read back what the model is fed. Blocks when the mask is wrong.

    Pictures that can't be read are passed over: the row checks name them.
    """
    chosen, pictures = [], []
    for one in choose(samples, settings, most):
        try:
            picture = open_picture(one.sample.image)
            loaded.family.check_picture(picture)
        except PictureError:
            continue
        chosen.append(one)
        pictures.append(picture)
    if not chosen:
        return [], []
    builder = BranchBuilder(loaded, settings.digit_weights, settings.corner_weights, settings.nothing_weight)
    try:
        packed = pack_questions(loaded, builder, trainable(engine.encode_images(loaded, pictures)), _asked(chosen))
    except ModelError as error:
        return [], [_blocked([str(error)], chosen)]
    faults = mask_faults(loaded, packed.batch, packed.features, _asked(chosen))
    runs = supervised_runs(packed.batch)
    seen = [
        _read_back(loaded, packed, row, runs, one, data_address(processed_picture(loaded, picture)))
        for row, (one, picture) in enumerate(zip(chosen, pictures, strict=True))
    ]
    found = [_blocked(faults, chosen)] if faults else _boxes_moved(seen)
    return seen, found


def _asked(chosen: Sequence[Chosen]) -> list[tuple[Question, ...]]:
    return [one.questions for one in chosen]


def pack_questions(
    loaded: LoadedModel,
    builder: BranchBuilder,
    features: list[ImageFeatures],
    asked: Sequence[Sequence[Question]],
) -> Packed:
    """The batch of these phrases through the trainer's own collator. Raises `ModelError` as it does."""
    branches = [
        [builder.branch(phrase, boxes, feature.frame) for phrase, boxes in questions]
        for questions, feature in zip(asked, features, strict=True)
    ]
    return Packed(features, branches, batches.pack(loaded, builder, features, branches))


def _blocked(faults: Sequence[str], chosen: Sequence[Chosen]) -> Finding:
    sentence = (
        f"The batches don't teach the answers alone: {faults[0]}. A run would unlearn how to answer. This is a "
        "fault of the collator or the tokenizer, not of your data; please report it."
    )
    return Finding.of("masking", sentence, [one.sample.id for one in chosen], blocking=True)


def _read_back(
    loaded: LoadedModel, packed: Packed, row: int, runs: Sequence[Supervised], one: Chosen, picture: str
) -> Seen:
    """The first phrase of the picture in this row. Where the mask is broken, what can be read is shown as it is."""
    batch, feature = packed.batch, packed.features[row]
    tokenizer, text_format = loaded.processor.tokenizer, loaded.profile.text_format
    run = next((r for r in runs if r.row == row), Supervised(row, (), (), ()))
    answer = tokenizer.decode(run.token_ids)
    end = engine.text_family(loaded).end_token(loaded)
    decoded = text_format.decode(answer.removesuffix(end), feature.frame)
    positions = visible_positions(batch, row, run.positions[-1] - 1) if run.positions else []
    if run.positions and run.positions[-1] not in positions and run.positions[-1] < batch.input_ids.shape[1]:
        positions = [*positions, run.positions[-1]]
    pieces = _pieces(loaded, batch, row, positions, run)
    counts = {part: sum(p.count for p in pieces if p.part == part) for part in ("image", "prompt", "answer")}
    return Seen(
        sample=one.sample.id,
        phrase=one.sample.phrase,
        why=one.why,
        picture=picture,
        seen_size_wh=feature.frame.seen_size_wh,
        image_size_wh=feature.image_size_wh,
        answer=answer,
        boxes_xyxy_px=_numbers(decoded.boxes_xyxy_px),
        true_boxes_xyxy_px=_numbers(one.sample.boxes_xyxy_px),
        iou=round(set_iou(decoded.boxes_xyxy_px, one.sample.boxes_xyxy_px), 4),
        pieces=tuple(pieces),
        image_tokens=counts["image"],
        prompt_tokens=counts["prompt"],
        supervised_tokens=counts["answer"],
        shared_by=len(one.questions),
    )


def _pieces(
    loaded: LoadedModel, batch: PackedBatch, row: int, positions: Sequence[int], run: Supervised
) -> list[Piece]:
    """The tokens at these positions, neighbours of one part and one weight put together."""
    tokenizer = loaded.processor.tokenizer
    visual = set(batch.visual_mask[row].nonzero().flatten().tolist())
    weight_at = dict(zip(run.positions, run.weights, strict=False))
    ids = batch.input_ids[row].tolist()
    pieces: list[Piece] = []
    group: list[int] = []

    def put(part: str, weight: float) -> None:
        if group:
            text = tokenizer.decode(group[:1] if part == "image" else group)
            pieces.append(Piece(text, part, len(group), weight))
            group.clear()

    before: tuple[str, float] = ("prompt", 0.0)
    for position in positions:
        part = "image" if position in visual else "answer" if position in weight_at else "prompt"
        now = (part, round(weight_at.get(position, 0.0), 4))
        if now != before:
            put(*before)
            before = now
        group.append(ids[position])
    put(*before)
    return pieces


def _numbers(boxes: Sequence[Box]) -> tuple[Numbers, ...]:
    return tuple(box.rounded() for box in boxes)


def _boxes_moved(seen: Sequence[Seen]) -> list[Finding]:
    """The round trip with the frames that the processor really made: nothing of a box may be lost but rounding."""
    lost = [one.sample for one in seen if len(one.boxes_xyxy_px) == 0 < len(one.true_boxes_xyxy_px)]
    if not lost:
        return []
    sentence = "The supervised text holds no box that can be read where the sample has one. Please report this."
    return [Finding.of("round_trip", sentence, lost, blocking=True)]
