"""Whether a packed batch teaches exactly the answers: read back from its tensors, against tokens made anew.

The bug that this guards against took a model from 95% to 15% of boxes found: the label mask's length came from the
prompt without its image tokens. Nothing of what made the batch is believed here: each phrase's tokens are made again
from the whole text with every image token in place, and compared with what the batch supervises and lets be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from grounding.boxes import Box
from grounding.engine import ImageFeatures, chat_text, text_family
from grounding.errors import BoxwrightError
from grounding.models import LoadedModel
from grounding.training.batches import PackedBatch

Question = tuple[str, tuple[Box, ...]]


@dataclass(frozen=True)
class Supervised:
    """The supervised tokens of one phrase as the batch has them: `row` in the batch, `positions` of the tokens
    themselves (not of those that predict them), `token_ids` as targets, `weights` of the loss."""

    row: int
    positions: tuple[int, ...]
    token_ids: tuple[int, ...]
    weights: tuple[float, ...]


def supervised_runs(batch: PackedBatch) -> list[Supervised]:
    """The supervised tokens of the batch, cut where they do not follow each other, in order."""
    length = batch.input_ids.shape[1]
    flat = batch.predicting.tolist()
    targets, weights = batch.target_ids.tolist(), batch.token_weights.tolist()
    runs: list[list[int]] = []
    for i, place in enumerate(flat):
        goes_on = runs and place == flat[i - 1] + 1 and place // length == flat[i - 1] // length
        if goes_on:
            runs[-1].append(i)
        else:
            runs.append([i])
    return [
        Supervised(
            row=flat[run[0]] // length,
            positions=tuple(flat[i] % length + 1 for i in run),
            token_ids=tuple(targets[i] for i in run if i < len(targets)),
            weights=tuple(weights[i] for i in run if i < len(weights)),
        )
        for run in runs
    ]


def visible_positions(batch: PackedBatch, row: int, position: int) -> list[int]:
    """Which tokens of its row the token at this position may look at, itself included, in order."""
    seen = batch.attention_mask[row, 0, position]
    allowed = seen if seen.dtype == torch.bool else seen >= 0  # an additive mask holds minus infinity elsewhere
    positions: list[int] = torch.nonzero(allowed).flatten().tolist()
    return positions


def mask_faults(
    loaded: LoadedModel, batch: PackedBatch, features: Sequence[ImageFeatures], asked: Sequence[Sequence[Question]]
) -> list[str]:
    """What is wrong with a batch of these phrases and boxes, a sentence each; none when it teaches just the answers.

    `asked` holds the phrases of each picture in the order in which they were packed.
    """
    faults = _shapes(loaded, batch, features)
    if faults:
        return faults
    runs = supervised_runs(batch)
    questions = [(row, question) for row, of_picture in enumerate(asked) for question in of_picture]
    if len(runs) != len(questions):
        return [
            f"{len(questions)} answers should be supervised, but the batch supervises {len(runs)} stretches of tokens: "
            "prompts are learned too, or answers are left out"
        ]
    return [
        fault
        for run, (row, question) in zip(runs, questions, strict=True)
        for fault in _faults_of(loaded, batch, features[row], run, row, question)[:1]
    ]


def _shapes(loaded: LoadedModel, batch: PackedBatch, features: Sequence[ImageFeatures]) -> list[str]:
    count = len(batch.predicting)
    if not count:
        return ["nothing is supervised: the loss would be of no token at all"]
    if not len(batch.target_ids) == len(batch.token_weights) == count:
        return [f"{count} positions predict {len(batch.target_ids)} tokens with {len(batch.token_weights)} weights"]
    weights = batch.token_weights
    if not bool(torch.isfinite(weights).all()) or float(weights.min()) < 0 or float(weights.sum()) <= 0:
        return ["the loss weights are not finite, are negative, or are all zero"]
    wanted, places = [f.visual_tokens for f in features], batch.visual_mask.sum(dim=1).tolist()
    if places != wanted:
        return [f"{places} places take image features, but the pictures have {wanted}"]
    image_token = text_family(loaded).image_token_id(loaded)
    if not bool((batch.input_ids[batch.visual_mask] == image_token).all()):
        return ["image features are put in other places than those of the image tokens"]
    return []


def _faults_of(
    loaded: LoadedModel, batch: PackedBatch, feature: ImageFeatures, run: Supervised, row: int, question: Question
) -> list[str]:
    phrase, boxes = question
    try:
        prompt_ids, answer_ids, answer = expected_ids(loaded, feature, phrase, boxes)
    except BoxwrightError as error:
        return [str(error)]
    read = loaded.processor.tokenizer.decode(run.token_ids)
    if run.row != row:
        return [f"the answer of {phrase!r} stands with another picture"]
    if list(run.token_ids) != answer_ids:
        return [f"of {phrase!r}, {_difference(read, answer, answer_ids, run.token_ids)}"]
    fed = batch.input_ids[row].tolist()
    if run.positions[-1] >= len(fed) or [fed[p] for p in run.positions] != answer_ids:
        return [f"the targets of {phrase!r} are not the tokens that follow the places which predict them (off by some)"]
    last = run.positions[-1] - 1
    seen = visible_positions(batch, row, last)
    whole = prompt_ids + answer_ids[:-1]
    if [fed[p] for p in seen] != whole:
        return [f"what the answer of {phrase!r} may look at is not its picture, its prompt and itself"]
    if visible_positions(batch, row, run.positions[0] - 1) != seen[: len(prompt_ids)]:
        return [f"the first token of the answer to {phrase!r} is predicted with a look at what comes later"]
    alone = text_family(loaded).prefix_positions(loaded, whole, feature)  # [axes, tokens]
    if not torch.equal(batch.position_ids[:, row, seen].cpu(), alone.cpu()):
        return [f"the positions of {phrase!r} are not those it would have alone"]
    return []


def expected_ids(
    loaded: LoadedModel, feature: ImageFeatures, phrase: str, boxes: Sequence[Box]
) -> tuple[list[int], list[int], str]:
    """(prompt tokens with the image's, answer tokens with the end, answer text with the end) of a phrase alone."""
    tokenizer = loaded.processor.tokenizer
    prompt = chat_text(loaded, phrase, feature.visual_tokens)
    answer = loaded.profile.text_format.encode(boxes, feature.frame, phrase) + text_family(loaded).end_token(loaded)
    prompt_ids = list(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    whole = list(tokenizer(prompt + answer, add_special_tokens=False)["input_ids"])
    return prompt_ids, whole[len(prompt_ids) :], answer


def _difference(read: str, answer: str, answer_ids: Sequence[int], found: Sequence[int]) -> str:
    """What is supervised instead of the answer, in the most telling words."""
    if list(found) == list(answer_ids[: len(found)]):
        missing = "the end token is missing, so the model would never learn to stop"
        cut = "the end of the answer is missing"
        what = missing if len(found) == len(answer_ids) - 1 else cut
    elif read.endswith(answer):
        what = "a part of the prompt is supervised too"
    else:
        what = "it is shifted or of another text"
    return f"{_short(read)} is supervised, not {_short(answer)}: {what}"


def _short(text: str) -> str:
    return repr(text if len(text) <= 90 else f"{text[:60]}…{text[-25:]}")
