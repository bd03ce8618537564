"""One training run, from snapshot to adapter, top to bottom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType

import torch

from grounding.adapters import AdapterInfo
from grounding.errors import Cancelled, JobError
from grounding.models import load_model
from grounding.training.attach import attach_lora, keep_share
from grounding.training.data import group_by_picture
from grounding.training.events import Listener, PhaseEvent
from grounding.training.plan import TrainPlan
from grounding.training.precision import choose_precision
from grounding.training.saving import save_adapter
from grounding.training.scoring import Scorer, score_values
from grounding.training.steps import optimise
from grounding.training.views import AugmentedViews, KeptViews

__all__ = ["TrainPlan", "train"]


def train(plan: TrainPlan, listener: Listener, should_stop: Callable[[], bool]) -> AdapterInfo:
    """Run the plan and return the finished adapter.

    `listener` hears every event; `should_stop` is asked between steps: the adapter trained so far is then saved
    and returned. Raises `Cancelled` when it says so before the first step, `SnapshotError` when there is nothing
    to learn, `JobError` when the loss is not finite, and `ModelError` from loading.
    """
    settings = plan.settings
    torch.manual_seed(settings.seed)
    pictures = group_by_picture(plan.snapshot.split("train"), use_alternatives=settings.use_alternatives)
    listener(PhaseEvent("Loading the model"))
    loaded = load_model(plan.model_id, quantize=plan.quantize, trainable=True)
    if not loaded.profile.lora_targets:
        raise JobError(f"{plan.model_id} can't be trained here: its profile {loaded.profile.name!r} names no layers.")
    dtype, reason = choose_precision(loaded.device)
    listener(PhaseEvent(reason))
    views: KeptViews | AugmentedViews
    if settings.augment:
        views = AugmentedViews(loaded, pictures, settings.seed, dtype)
    else:
        views = KeptViews(loaded, pictures, listener, should_stop)
    scorer = Scorer(loaded, plan.snapshot.split("val")[: settings.score_samples], listener, should_stop)
    scorer.score(step=0)
    base_scores = score_values(scorer.last)
    if should_stop():
        raise Cancelled("Stopped before the first step: there is nothing to keep.")
    peft_model = attach_lora(loaded, settings)
    steps_done = 0
    for event in optimise(loaded, settings, pictures, views, dtype):
        steps_done = event.step
        listener(event)
        if should_stop():
            break
        # The last scoring is of the adapter as it is saved, so it comes after the steps.
        if event.step % settings.score_every_steps == 0 and event.step < settings.steps:
            scorer.score(event.step)
    if steps_done == 0:
        raise JobError("None of the train pictures could be read; the log names them. Import them again.")
    keep_share(loaded.model, settings.strength)
    # Saved before it is scored: whatever happens to the scoring, nothing that was learned is lost.
    info = save_adapter(plan, loaded, peft_model, steps_done)
    scorer.score(steps_done)
    info = replace(info, scores=MappingProxyType(score_values(scorer.last)), base_scores=MappingProxyType(base_scores))
    info.save()
    return info
