"""The optimiser steps of a run, each a function of the weights, the optimiser's state, the seed and its number."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from grounding.engine import ImageFeatures
from grounding.errors import JobError
from grounding.models import LoadedModel
from grounding.training.attach import Attached
from grounding.training.batches import BranchBuilder, PackedBatch, pack
from grounding.training.events import StepEvent
from grounding.training.feed import Drawn, Feed
from grounding.training.lanes import Lanes, lanes_for, split_evenly
from grounding.training.lean import StepLogits
from grounding.training.losses import LossParts, LossWeights, Whole, answer_loss, check_finite, joined
from grounding.training.optimisers import make_optimiser, optimiser_step, set_rate
from grounding.training.precision import computing_in
from grounding.training.settings import TrainSettings
from grounding.training.views import Views


@dataclass(frozen=True)
class Position:
    """How far the steps are: how many were taken, the phrases learned from, the seconds they took."""

    step: int = 0
    phrases: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class _Computed:
    """The loss of a step with its terms, and the number of phrases."""

    loss: float
    terms: Mapping[str, float]
    phrases: int


@dataclass(frozen=True)
class _Lane:
    """Some pictures of a step, packed; `words` says for each of their phrases what it is, for people."""

    batch: PackedBatch
    features: Sequence[ImageFeatures]
    words: tuple[str, ...]


class Learner:
    """Takes the steps. Holds the optimiser; `position` and `optimiser` are what a checkpoint keeps beside the
    weights. `note` says what optimiser it is where that needs saying."""

    def __init__(
        self,
        loaded: LoadedModel,
        settings: TrainSettings,
        attached: Attached,
        feed: Feed,
        views: Views,
        dtype: torch.dtype | None,
    ) -> None:
        self.loaded = loaded
        self.settings = settings
        self.weights = list(attached.weights.values())
        self.feed = feed
        self.views = views
        self.dtype = dtype
        self.optimiser, self.note = make_optimiser(attached.weights, settings, loaded.device)
        self.position = Position()
        self.terms = LossWeights(settings.smooth_l1_weight, settings.giou_weight)
        self.builder = BranchBuilder(
            loaded,
            settings.digit_weights,
            settings.corner_weights,
            settings.nothing_weight,
            geometric=self.terms.geometric,
            soft_labels=settings.soft_labels,
        )
        self.logits = StepLogits(loaded)
        self.lanes = Lanes(lanes_for(settings, loaded.device))

    def steps(self) -> Iterator[StepEvent]:
        """Take the steps that are left one by one, each told when it is done.

        A step of which no picture can be read is passed over without a word. Raises `JobError` when the loss is not
        finite.
        """
        settings, before = self.settings, self.position
        start = time.perf_counter() - before.seconds
        for step in range(before.step + 1, settings.steps + 1):
            # Dropout's random numbers hang on the seed and the step's number alone, as the data does: whatever ran
            # in between (a scoring, another process) can't change what a step learns.
            torch.manual_seed(hash_seed(settings.seed, step))
            self.loaded.model.train()
            computed = self._backward(step)
            if computed is None:
                continue
            norm = torch.nn.utils.clip_grad_norm_(self.weights, settings.max_gradient_norm)
            check_gradient(norm.item(), step)
            rate = set_rate(self.optimiser, step - 1, settings)
            optimiser_step(self.optimiser)
            self.optimiser.zero_grad(set_to_none=True)
            self.position = Position(step, self.position.phrases + computed.phrases, time.perf_counter() - start)
            at = self.position
            yield StepEvent(step, settings.steps, computed.loss, rate, at.phrases, at.seconds, dict(computed.terms))

    def _backward(self, step: int) -> _Computed | None:
        """Gradients of the mean loss over all pictures of the step, computed in parts. None: nothing could be read.

        A part counts by the weight of its tokens, so that the parts together have the loss and the gradients of one
        batch: only the rounding differs, and the geometric terms, which are means over the boxes of a part.
        """
        drawn = self.feed.step(step)
        parts = min(self.settings.accumulation, len(drawn))
        loss, weight, phrases = 0.0, 0.0, 0
        terms: dict[str, float] = {}
        for part in split_evenly(drawn, parts):
            lanes = self._prepare(part)
            if not lanes:
                continue
            whole = Whole.of([lane.batch for lane in lanes])
            part_loss, gradients = self._loss(lanes, whole, step)
            share = whole.token_weight if parts > 1 else 1.0
            for parameter, gradient in zip(self.weights, gradients, strict=True):
                if gradient is not None and parts > 1:
                    gradient.mul_(share)
                parameter.grad = added(parameter.grad, gradient)
            loss += part_loss.total.item() * share
            # Also of a part without a box, whose tokens are all that it has.
            for name, value in part_loss.values().items() if self.terms.geometric else ():
                terms[name] = terms.get(name, 0.0) + value * share
            weight += share
            phrases += sum(len(lane.words) for lane in lanes)
        if not phrases:
            return None
        weight = weight or 1.0
        if parts > 1:
            for parameter in self.weights:
                if parameter.grad is not None:
                    parameter.grad.div_(weight)
        return _Computed(loss / weight, {name: value / weight for name, value in terms.items()}, phrases)

    def _loss(self, lanes: Sequence[_Lane], whole: Whole, step: int) -> tuple[LossParts, list[torch.Tensor | None]]:
        """The loss of a part of the step and its gradients, those of the lanes added up in their order."""
        found = self.lanes.map(lambda lane: self._in_lane(lane, whole), lanes)
        together = joined([loss for loss, _ in found], [len(lane.words) for lane in lanes])
        check_finite(together, step, [word for lane in lanes for word in lane.words])
        (_, gradients), *others = found
        for _, more in others:
            gradients = [added(mine, other) for mine, other in zip(gradients, more, strict=True)]
        return together, gradients

    def _in_lane(self, lane: _Lane, whole: Whole) -> tuple[LossParts, list[torch.Tensor | None]]:
        with computing_in(self.loaded.device, self.dtype):
            logits = self.logits(lane.batch, lane.features)
        loss = answer_loss(logits, lane.batch, self.terms, whole)
        if loss.not_finite() is not None:  # whoever gets it says so; there is nothing to learn
            return loss, [None] * len(self.weights)
        return loss, list(torch.autograd.grad(loss.total, self.weights, allow_unused=True))

    def _prepare(self, drawn: Sequence[Drawn]) -> list[_Lane]:
        """The pictures that can be read, in lanes."""
        features, targets = self.views.show(drawn)
        if not features:
            return []
        branches = [
            [self.builder.branch(phrase, boxes, feature.frame) for phrase, boxes in phrases]
            for phrases, feature in zip(targets, features, strict=True)
        ]
        if not self.logits.reason:  # one picture decides, before several threads ask
            with computing_in(self.loaded.device, self.dtype):
                self.logits.choose(pack(self.loaded, self.builder, features[:1], branches[:1]), features[:1])
        lanes = []
        for places in split_evenly(range(len(features)), self._lane_count(len(features))):
            shown = [features[i] for i in places]
            words = tuple(repr(phrase) for i in places for phrase, _ in targets[i])
            lanes.append(_Lane(pack(self.loaded, self.builder, shown, [branches[i] for i in places]), shown, words))
        return lanes

    def _lane_count(self, pictures: int) -> int:
        """The stock forward of a model may keep things on itself: only the lean pass is for several threads."""
        return max(1, min(self.lanes.count, pictures)) if self.logits.is_lean else 1


def check_gradient(norm: float, step: int) -> None:
    """Raises `JobError` when the gradients are no finite numbers: a step with them would spoil the weights."""
    if not math.isfinite(norm):
        raise JobError(
            f"The gradients became {norm} at step {step}, though the loss was a number: nothing was learned from that "
            "step. Lower the learning rate or the weights of the geometric terms, and train again."
        )


def added(one: torch.Tensor | None, other: torch.Tensor | None) -> torch.Tensor | None:
    """Their sum, in the memory of the first; None stands for zeros."""
    if one is None or other is None:
        return other if one is None else one
    return one.add_(other)


def hash_seed(seed: int, step: int) -> int:
    """A seed of 63 bits for one step, of which neighbours have nothing in common (SplitMix64, Steele et al. 2014)."""
    mixed = (seed * 0x9E3779B97F4A7C15 + step * 0xD1342543DE82EF95 + 0x9E3779B97F4A7C15) % 2**64
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
    return (mixed ^ (mixed >> 31)) >> 1
