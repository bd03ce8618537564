"""The optimiser steps of a run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import torch

from grounding.errors import JobError
from grounding.models import LoadedModel
from grounding.training.batches import BranchBuilder, pack, packed_logits
from grounding.training.data import PictureTargets, draw_order
from grounding.training.events import StepEvent
from grounding.training.losses import answer_loss
from grounding.training.optimisers import learning_rate_share
from grounding.training.precision import computing_in
from grounding.training.settings import TrainSettings
from grounding.training.views import AugmentedViews, KeptViews


def optimise(
    loaded: LoadedModel,
    settings: TrainSettings,
    pictures: Sequence[PictureTargets],
    views: KeptViews | AugmentedViews,
    dtype: torch.dtype | None,
) -> Iterator[StepEvent]:
    """Take the steps one by one, each told when it is done. Raises `JobError` when the loss is not finite."""
    weights = [weight for weight in loaded.model.parameters() if weight.requires_grad]
    # The usual memory of squared gradients, 1,000 steps, is longer than a short run; 50 is not.
    optimizer = torch.optim.AdamW(
        weights, lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_share(step, settings))
    builder = BranchBuilder(loaded, settings.digit_weights, settings.corner_weights, settings.nothing_weight)
    order = draw_order(
        pictures,
        images_per_step=settings.images_per_step,
        phrases_per_image=settings.phrases_per_image,
        seed=settings.seed,
    )
    phrases_done, start = 0, time.perf_counter()
    for step in range(1, settings.steps + 1):
        loaded.model.train()
        features, targets = views.show(next(order))
        if not features:
            continue
        branches = [
            [builder.branch(phrase, boxes, feature.frame) for phrase, boxes in phrases]
            for phrases, feature in zip(targets, features, strict=True)
        ]
        batch = pack(loaded, builder, features, branches)
        with computing_in(loaded.device, dtype):
            logits = packed_logits(loaded, batch, features)
        loss = answer_loss(logits, batch.target_ids, batch.token_weights)
        check_finite(loss, step, [phrase for phrases in targets for phrase, _ in phrases])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, settings.max_gradient_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        rate = float(schedule.get_last_lr()[0])
        schedule.step()
        phrases_done += sum(len(row) for row in branches)
        yield StepEvent(step, settings.steps, loss.item(), rate, phrases_done, time.perf_counter() - start)


def check_finite(loss: torch.Tensor, step: int, phrases: Sequence[str]) -> None:
    if not torch.isfinite(loss):
        raise JobError(
            f"The loss became {loss.item()} at step {step} on the phrases {', '.join(map(repr, phrases[:4]))}. "
            "Lower the learning rate and train again."
        )
