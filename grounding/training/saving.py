"""The finished adapter, written whole or not at all."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from grounding.adapters import AdapterInfo
from grounding.adapters.labels import keep_label
from grounding.adapters.provenance import provenance
from grounding.errors import JobError
from grounding.models import LoadedModel
from grounding.training.checkpoint import sync_files, sync_folder
from grounding.training.events import ScoreEvent
from grounding.training.history import History
from grounding.training.plan import TrainPlan
from grounding.training.signal import PhraseSignal

VERSIONED = ("torch", "transformers", "peft")


@dataclass(frozen=True)
class Outcome:
    """How a run ended: after so many steps, with the weights of `kept_step`. `score` is their scoring and `base` that
    before the first step; None: not scored. `signal` is what the phrases were worth."""

    steps: int
    kept_step: int
    score: ScoreEvent | None
    base: ScoreEvent | None
    signal: PhraseSignal


def save_adapter(
    plan: TrainPlan, loaded: LoadedModel, peft_model: Any, outcome: Outcome, history: History
) -> AdapterInfo:
    """Write the adapter beside its place, with its history, and move it there whole.

    What the same run put there before, when it was stopped, gives way. Raises `JobError` when the place is taken by
    anything else.
    """
    folder = plan.adapter_folder.with_name(f".partial-{plan.run_id or plan.name}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    peft_model.peft_config["default"].base_model_name_or_path = plan.model_id
    # Without this, PEFT asks the Hub whether the vocabulary was resized; LoRA here never touches it.
    peft_model.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty template; adapter.json says what is known
    history.copy_to(folder)
    info = AdapterInfo(
        name=plan.name,
        path=folder,
        base=plan.model_id,
        profile=loaded.profile.name,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        snapshot=plan.snapshot.name,
        snapshot_sha256=plan.snapshot.samples_sha256,
        run_id=plan.run_id,
        steps=outcome.steps,
        settings=MappingProxyType(plan.settings.to_json()),
        scores=score_values(outcome.score),
        base_scores=score_values(outcome.base),
        phrase_signal=MappingProxyType(outcome.signal.to_json()),
        **provenance(loaded, plan.snapshot),
    )
    info.save()
    sync_files(folder)  # the checkpoints go next
    old = plan.adapter_folder.with_name(f".replaced-{plan.run_id or plan.name}")
    shutil.rmtree(old, ignore_errors=True)
    try:
        if AdapterInfo.at(plan.adapter_folder, plan.run_id) is not None:
            keep_label(plan.adapter_folder, folder)
            plan.adapter_folder.rename(old)
        folder.rename(plan.adapter_folder)
        sync_folder(plan.adapter_folder.parent)
    except OSError as error:
        raise JobError(
            f"The adapter can't be moved to {plan.adapter_folder} ({error}). Free that place and resume the run: its "
            "last checkpoint stays."
        ) from error
    shutil.rmtree(old, ignore_errors=True)
    return replace(info, path=plan.adapter_folder)


def score_values(event: ScoreEvent | None) -> MappingProxyType[str, float]:
    """The figures of a scoring, by name; none when there was none."""
    if event is None:
        return MappingProxyType({})
    values = {
        "mean_iou": event.mean_iou,
        "accuracy_50": event.accuracy_50,
        "accuracy_75": event.accuracy_75,
        "detection_rate": event.detection_rate,
        "count": event.count,
        "step": event.step,
    }
    return MappingProxyType(values | ({"loss": event.loss} if event.loss is not None else {}))
