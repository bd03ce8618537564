"""The finished adapter, written whole or not at all."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from grounding.adapters import AdapterInfo
from grounding.adapters.provenance import provenance
from grounding.errors import JobError
from grounding.models import LoadedModel
from grounding.training.plan import TrainPlan


def save_adapter(plan: TrainPlan, loaded: LoadedModel, peft_model: Any, steps: int) -> AdapterInfo:
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
        **provenance(loaded, plan.snapshot),
    )
    info.save()
    try:
        folder.rename(plan.adapter_folder)
    except OSError as error:
        raise JobError(
            f"The adapter can't be moved to {plan.adapter_folder} ({error}). It stands in {folder}."
        ) from error
    return replace(info, path=plan.adapter_folder)
