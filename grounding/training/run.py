"""One training run, from snapshot to adapter, top to bottom."""

from __future__ import annotations

import math
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from grounding.adapters import AdapterInfo
from grounding.answering import Answerer
from grounding.errors import Cancelled, JobError
from grounding.metrics import Scores, score, summarise
from grounding.models import LoadedModel, load_model
from grounding.predict import to_prediction
from grounding.records import Sample
from grounding.snapshots import Snapshot
from grounding.training.batches import BranchBuilder, pack, packed_logits
from grounding.training.events import Listener, PhaseEvent, ScoreEvent, StepEvent
from grounding.training.feed import Feed
from grounding.training.feeding import feed_of
from grounding.training.losses import answer_loss
from grounding.training.precision import choose_precision, computing_in
from grounding.training.settings import TrainSettings
from grounding.training.views import AugmentedViews, KeptViews, Views, encode_paths


@dataclass(frozen=True)
class TrainPlan:
    """What to train: a snapshot on a base, with these settings, into this folder under this name."""

    name: str
    snapshot: Snapshot
    model_id: str
    quantize: str
    settings: TrainSettings
    adapter_folder: Path
    run_id: str = ""


def train(plan: TrainPlan, listener: Listener, should_stop: Callable[[], bool]) -> AdapterInfo:
    """Run the plan and return the finished adapter.

    `listener` hears every event; `should_stop` is asked between steps: the adapter trained so far is then saved
    and returned. Raises `Cancelled` when it says so before the first step, `SnapshotError` when there is nothing
    to learn, `JobError` when the loss is not finite, and `ModelError` from loading.
    """
    settings = plan.settings
    torch.manual_seed(settings.seed)
    feed = feed_of(plan.snapshot, settings)
    listener(PhaseEvent("Loading the model"))
    loaded = load_model(plan.model_id, quantize=plan.quantize, trainable=True)
    if not loaded.profile.lora_targets:
        raise JobError(f"{plan.model_id} can't be trained here: its profile {loaded.profile.name!r} names no layers.")
    dtype, reason = choose_precision(loaded.device)
    listener(PhaseEvent(reason))
    views: Views = (
        AugmentedViews(loaded, settings, dtype)
        if settings.augment
        else KeptViews(loaded, feed.pictures, listener, should_stop)
    )
    scorer = _Scorer(loaded, plan.snapshot.split("val")[: settings.score_samples], listener, should_stop)
    scorer.score(step=0)
    if should_stop():
        raise Cancelled("Stopped before the first step: there is nothing to keep.")
    peft_model = _attach_lora(loaded, settings)
    steps_done = 0
    for event in optimise(loaded, settings, feed, views, dtype):
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
    info = _save(plan, loaded, peft_model, steps_done)
    scorer.score(steps_done)
    info = replace(info, scores=MappingProxyType(_score_values(scorer.last)))
    info.save()
    return info


class _Scorer:
    """Generates boxes for the validation samples and reports how good they are."""

    def __init__(
        self, loaded: LoadedModel, samples: Sequence[Sample], listener: Listener, should_stop: Callable[[], bool]
    ) -> None:
        self.loaded = loaded
        self.samples = samples
        self.listener = listener
        self.answerer = Answerer(loaded)
        paths = list(dict.fromkeys(sample.image for sample in samples))
        encoded = encode_paths(loaded, paths, "Looking at the validation pictures", listener, should_stop)
        self.features = dict(zip(paths, encoded, strict=True))
        self.start = time.perf_counter()
        self.last: Scores | None = None

    def score(self, step: int) -> None:
        if not self.samples:
            return
        self.loaded.model.eval()
        rows = []
        for start in range(0, len(self.samples), 25):
            batch = self.samples[start : start + 25]
            features = [self.features[sample.image] for sample in batch]
            answers = self.answerer.answer_as_it_is(features, [sample.phrase for sample in batch])
            rows += [score(sample, to_prediction(answer, 0.0)) for sample, answer in zip(batch, answers, strict=True)]
        self.last = scores = summarise(rows)
        self.listener(
            ScoreEvent(
                step=step,
                count=scores.count,
                mean_iou=scores.mean_iou,
                accuracy_50=scores.accuracy[0.5],
                accuracy_75=scores.accuracy[0.75],
                detection_rate=scores.detection_rate,
                seconds=time.perf_counter() - self.start,
            )
        )


def _attach_lora(loaded: LoadedModel, settings: TrainSettings) -> Any:
    """LoRA on the profile's targets; returns the PeftModel whose weights are trained. `loaded` now uses it."""
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if getattr(loaded.model, "is_quantized", False):
        prepare_model_for_kbit_training(loaded.model, use_gradient_checkpointing=False)
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=loaded.profile.lora_targets,
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5.23 for a property under its old name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        peft_model = get_peft_model(loaded.model, config)
    reached = [name for name, weight in peft_model.named_parameters() if weight.requires_grad]
    strangers = [name for name in reached if "language_model" not in name]
    if strangers or not reached:
        raise JobError(
            f"LoRA reached {len(reached)} weights, {len(strangers)} outside the language model: "
            f"the targets of the profile {loaded.profile.name!r} do not fit this model."
        )
    return peft_model


def optimise(
    loaded: LoadedModel,
    settings: TrainSettings,
    feed: Feed,
    views: Views,
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
    phrases_done, start = 0, time.perf_counter()
    for step in range(1, settings.steps + 1):
        loaded.model.train()
        features, targets = views.show(feed.step(step))
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
        _check_finite(loss, step, [phrase for phrases in targets for phrase, _ in phrases])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, settings.max_gradient_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        rate = float(schedule.get_last_lr()[0])
        schedule.step()
        phrases_done += sum(len(row) for row in branches)
        yield StepEvent(step, settings.steps, loss.item(), rate, phrases_done, time.perf_counter() - start)


@torch.no_grad()
def keep_share(model: Any, strength: float) -> None:
    """Scale what LoRA has learned: the weights become base + strength x change.

    Going back part of the way loses little of the new and wins back much of the old. Source: Wortsman et al.,
    Robust fine-tuning of zero-shot models (WiSE-FT), CVPR 2022, which interpolates all weights this way.
    """
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.mul_(strength)


def learning_rate_share(step: int, settings: TrainSettings) -> float:
    """The share, 0.0 to 1.0, of the highest learning rate at this step: linear rise, then a cosine to zero."""
    warmup = max(1, round(settings.steps * settings.warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, settings.steps - warmup)))


def _check_finite(loss: torch.Tensor, step: int, phrases: Sequence[str]) -> None:
    if not torch.isfinite(loss):
        raise JobError(
            f"The loss became {loss.item()} at step {step} on the phrases {', '.join(map(repr, phrases[:4]))}. "
            "Lower the learning rate and train again."
        )


def _save(plan: TrainPlan, loaded: LoadedModel, peft_model: Any, steps: int) -> AdapterInfo:
    """Write the adapter beside its place and move it there whole. Raises `JobError` when the place is taken."""
    folder = plan.adapter_folder.with_name(f".partial-{plan.run_id or plan.name}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    peft_model.peft_config["default"].base_model_name_or_path = plan.model_id
    # Without this, PEFT asks the Hub whether the vocabulary was resized; LoRA here never touches it.
    peft_model.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty template; adapter.json says what is known
    info = AdapterInfo(
        name=plan.name,
        path=folder,
        base=plan.model_id,
        profile=loaded.profile.name,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        snapshot=plan.snapshot.name,
        snapshot_sha256=plan.snapshot.samples_sha256,
        run_id=plan.run_id,
        steps=steps,
        settings=MappingProxyType(plan.settings.to_json()),
        versions=MappingProxyType({name: version(name) for name in ("torch", "transformers", "peft")}),
    )
    info.save()
    try:
        folder.rename(plan.adapter_folder)
    except OSError as error:
        raise JobError(
            f"The adapter can't be moved to {plan.adapter_folder} ({error}). It stands in {folder}."
        ) from error
    return replace(info, path=plan.adapter_folder)


def _score_values(scores: Scores | None) -> dict[str, float]:
    if scores is None:
        return {}
    return {
        "mean_iou": scores.mean_iou,
        "accuracy_50": scores.accuracy[0.5],
        "accuracy_75": scores.accuracy[0.75],
        "detection_rate": scores.detection_rate,
        "count": scores.count,
    }
