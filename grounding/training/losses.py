"""The loss of a step: the answer's tokens, and as options terms on the boxes they spell."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from grounding.errors import JobError
from grounding.training.geometry import NumberTable, expected_shares, giou_loss, smooth_l1

if TYPE_CHECKING:
    from grounding.training.batches import PackedBatch


def digit_weights(
    tokens: Sequence[str],
    place_weights: Sequence[float],
    corner_weights: Sequence[float],
    numbers: Sequence[Sequence[int]] | None = None,
) -> list[float]:
    """The loss weight of each token of an answer: place times corner for a coordinate's digit, 1.0 for all others.

    `tokens` are the answer's tokens as text, one digit a token (true of the Qwen tokenizers). `place_weights` are
    those of the hundreds, tens and ones (a fourth digit, only in 1000, counts as hundreds): an error of one in the
    hundreds moves a side by a tenth of the picture, in the ones by a thousandth. `corner_weights` are those of x1,
    y1, x2, y2: once the first numbers are known, the object is chosen, and what is left is to trace its outline.
    `numbers` are the tokens of each coordinate in that order; without, in JSON that holds nothing but boxes, they are
    what follows a bracket or a comma: the digit in the key `bbox_2d` is no coordinate.
    """
    weights = [1.0] * len(tokens)
    for corner, number in enumerate(numbers_in(tokens) if numbers is None else numbers):
        digits = [at for at in number if tokens[at].strip().isdigit()]
        for place, at in enumerate(reversed(digits)):
            weights[at] = place_weights[max(0, 2 - place)] * corner_weights[corner % 4]
    return weights


def numbers_in(tokens: Sequence[str]) -> list[list[int]]:
    """The places of each number that follows a bracket or a comma, one digit a token."""
    numbers: list[list[int]] = []
    before = ""
    run: list[int] = []
    for i, token in enumerate([*tokens, ""]):
        if token.strip().isdigit() and (run or before[-1:] in ("[", ",")):
            run.append(i)
            continue
        numbers += [run] if run else []
        run, before = [], (before + token).rstrip()
    return numbers


@dataclass(frozen=True)
class LossWeights:
    """How much each term counts in the total: the tokens always 1.0, the geometric ones as set (0.0: not computed)."""

    smooth_l1: float = 0.0
    giou: float = 0.0

    @property
    def geometric(self) -> bool:
        return self.smooth_l1 > 0 or self.giou > 0


@dataclass(frozen=True)
class Whole:
    """What the means of a loss are over: the weight of all supervised tokens and the number of all boxes."""

    token_weight: float
    boxes: int

    @classmethod
    def of(cls, batches: Sequence[PackedBatch]) -> Whole:
        """Of batches that are parts of one."""
        weight = sum(float(batch.token_weights.sum()) for batch in batches)
        return cls(weight, sum(len(batch.numbers.owner) for batch in batches if batch.numbers is not None))


@dataclass(frozen=True)
class LossParts:
    """The loss of one batch: `total` = sum of weight x term; `terms` by name, unweighted, with no gradient.

    "tokens" is in nats (weighted mean over the supervised tokens; with soft labels less the labels' own entropy, so 0.0
    is the least); "smooth_l1" (shares of a side) and "giou" (0.0 to 2.0) are means over the boxes of the batch.
    """

    total: torch.Tensor
    terms: Mapping[str, torch.Tensor]
    _by_item: Mapping[str, tuple[torch.Tensor, torch.Tensor]]

    def values(self) -> dict[str, float]:
        """The terms as plain numbers, for an event."""
        return {name: value.item() for name, value in self.terms.items()}

    def not_finite(self) -> tuple[str, list[int]] | None:
        """The first term that is no finite number and the branches whose own part of it isn't; None where all are."""
        for name, (values, owner) in self._by_item.items():
            bad = ~torch.isfinite(values)
            if bad.any():
                return name, sorted(set(owner[bad].tolist()))
        return None if torch.isfinite(self.total) else ("total", [])


def joined(parts: Sequence[LossParts], branches: Sequence[int]) -> LossParts:
    """The loss of a batch from those of its parts, each computed as part of the same `Whole`. `branches` counts the
    branches of each part. Without gradient."""
    if len(parts) == 1:
        return parts[0]
    begins = itertools.accumulate(branches, initial=0)
    terms: dict[str, torch.Tensor] = {}
    items: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    for part, begin in zip(parts, begins, strict=False):
        for name, value in part.terms.items():
            terms[name] = terms[name] + value if name in terms else value
            values, owner = part._by_item[name]
            items.setdefault(name, []).append((values, owner + begin))
    by_item = {name: (torch.cat([v for v, _ in each]), torch.cat([o for _, o in each])) for name, each in items.items()}
    return LossParts(torch.stack([part.total.detach() for part in parts]).sum(), terms, by_item)


def answer_loss(
    logits: torch.Tensor, batch: PackedBatch, weights: LossWeights | None = None, whole: Whole | None = None
) -> LossParts:
    """The loss of a packed batch from its logits [tokens, vocabulary] where the next token is supervised.

    `whole`: of what the batch is a part; the losses of all parts add up to that of the whole. By default the batch.
    """
    weights, whole = weights or LossWeights(), whole or Whole.of([batch])
    logits = logits.float()
    losses = functional.cross_entropy(logits, batch.target_ids, reduction="none")  # [tokens]
    if batch.numbers is not None and batch.soft_labels:
        losses = with_soft_labels(losses, logits, batch.numbers)
    # Where nothing counts (answers "nothing there" alone, with a nothing_weight of 0) the loss is 0, not 0/0.
    weighted = losses * (batch.token_weights / (whole.token_weight or 1.0))
    total = weighted.sum()
    terms, by_item = {"tokens": total.detach()}, {"tokens": (weighted.detach(), batch.owner)}
    if batch.numbers is not None and weights.geometric:
        boxes = expected_shares(logits, batch.numbers).view(-1, 4)
        truth = batch.numbers.share.view(-1, 4)
        for name, weight, term in (("smooth_l1", weights.smooth_l1, smooth_l1), ("giou", weights.giou, giou_loss)):
            if weight > 0:
                each = term(boxes, truth)
                mean = each.sum() / whole.boxes
                total = total + weight * mean
                terms[name], by_item[name] = mean.detach(), (each.detach(), batch.numbers.owner)
    return LossParts(total, terms, by_item)


def with_soft_labels(losses: torch.Tensor, logits: torch.Tensor, table: NumberTable) -> torch.Tensor:
    """The losses [tokens] with KL(labels, model) in nats where a number is decided, over the whole vocabulary.

    The gradient is that of cross-entropy with these labels; less their entropy, the least is 0.0.
    """
    is_decision = table.real.any(-1)
    at = table.at[is_decision]  # [decisions]
    chosen = logits[at].log_softmax(-1).gather(1, table.tokens[is_decision])  # [decisions, options]
    labels = table.labels[is_decision]
    # 0 log 0 is 0: an option without a label takes no part, whatever the model thinks of it.
    divergence = torch.where(labels > 0, labels * (labels.clamp_min(1e-30).log() - chosen), 0.0).sum(-1)
    return losses.index_copy(0, at, divergence)


def check_finite(parts: LossParts, step: int, samples: Sequence[str]) -> None:
    """Raises `JobError` naming the term and the samples when the loss is no finite number. `samples` says for each
    branch of the batch in order what it is, for people."""
    found = parts.not_finite()
    if found is None:
        return
    term, bad = found
    value = parts.terms.get(term, parts.total).item()
    named = [samples[i] for i in bad]
    if len(named) in (0, len(samples)):
        where = "on every sample of the step, so the weights are spoiled: lower the learning rate"
    else:
        more = f" and {len(named) - 4} more" if len(named) > 4 else ""
        where = f"on {', '.join(named[:4])}{more}: look at this sample, or lower the learning rate"
    raise JobError(f"The loss of the term {term!r} became {value} at step {step} {where}, and train again.")
