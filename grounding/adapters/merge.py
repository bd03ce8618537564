"""An adapter merged into its full-precision base: a model of its own, held against the adapter before it counts."""

from __future__ import annotations

import gc
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grounding.adapters.card import CARD, model_card
from grounding.adapters.export import written_whole
from grounding.adapters.info import AdapterInfo
from grounding.adapters.provenance import check_base_files
from grounding.adapters.usage import Source, check_profile
from grounding.boxes import set_iou
from grounding.devices import stored_numbers
from grounding.errors import AdapterError, SnapshotError, first_sentence
from grounding.profiles import PROFILE_FILE
from grounding.records import Prediction, Sample
from grounding.snapshots import read_snapshot
from grounding.workspace import Workspace

if TYPE_CHECKING:
    from grounding.models import LoadedModel

MERGED = "merged_from.json"
NUMBERS = ("float32", "bfloat16", "float16")
SAMPLES = 20
SAME_IOU = 0.95
_LEAST_AGREEING = 0.9
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Agreement:
    """The merged model against base and adapter on the same questions. `identical`: answers equal to the letter;
    `agreeing`: the same status, and boxes of IoU >= `SAME_IOU`; `mean_iou`, `lowest_iou` (0.0 to 1.0) over all."""

    count: int
    identical: int
    agreeing: int
    mean_iou: float
    lowest_iou: float
    numbers: str

    @property
    def sentence(self) -> str:
        return (
            f"Merged in {self.numbers}. On {self.count} samples the merged model and base with adapter agree on "
            f"{self.agreeing} (boxes of IoU {SAME_IOU} and more; {self.identical} answers are equal to the letter); "
            f"mean IoU between them {self.mean_iou:.4f}, lowest {self.lowest_iou:.4f}."
        )


def merge(
    workspace: Workspace,
    info: AdapterInfo,
    target: Path,
    *,
    samples: Sequence[Sample] | None = None,
    numbers: str | None = None,
    license: str = "",
    tell: Tell = lambda text: None,
) -> Agreement:
    """Write the merged model into the new folder `target`: weights, processor, tokenizer, chat template, profile, card
    and what it was made of. Whole, and only when it answers as base and adapter do.

    `samples` are what it is held against (None: the first `SAMPLES` of the adapter's own snapshot); `numbers` is the
    number type that is written (None: that of the base's files). An adapter trained on quantised weights is merged
    into the full-precision ones. The product is computed in float32 on the CPU: 4 bytes of memory a parameter.
    Raises `AdapterError` when the base isn't the one it was trained on, there are no samples, or fewer than 9 in 10
    agree; `ModelError` from loading.
    """
    if numbers is not None and numbers not in NUMBERS:
        raise AdapterError(f"{numbers!r} is no number type to merge in: expected one of {', '.join(NUMBERS)}.")
    check_profile(info)
    asked = list(own_samples(workspace, info) if samples is None else samples)
    if not asked:
        raise AdapterError("There is no sample to hold the merged model against. Give some (--samples FILE.jsonl).")
    check_base_files(info)
    with written_whole(target) as partial:
        tell("Asking the base with the adapter")
        before = _answers(workspace, info.base, asked, info)
        tell("Merging")
        written = _write(info, partial, numbers)
        tell("Asking the merged model")
        after = _answers(workspace, str(partial), asked, None, profile=info.profile)
        agreement = held_against(before, after, written)
        if agreement.agreeing < _LEAST_AGREEING * agreement.count:
            raise AdapterError(
                f"The merged model answers otherwise than base and adapter. {agreement.sentence} Nothing was written. "
                "Merge in float32 (--numbers float32); if that is no better, use the adapter beside its base."
            )
        made_of = {"adapter": info.to_json(), "agreement": vars(agreement), "sentence": agreement.sentence}
        (partial / MERGED).write_text(json.dumps(made_of, indent=1) + "\n", encoding="utf-8")
        source = Source(target.name, merged=True)
        card = model_card(workspace, info, source, license=license, agreement=agreement.sentence)
        (partial / CARD).write_text(card, encoding="utf-8")
    return agreement


def own_samples(workspace: Workspace, info: AdapterInfo, count: int = SAMPLES) -> list[Sample]:
    """The first samples of the adapter's snapshot: of its val split, then test, then train. Empty where it is gone."""
    try:
        snapshot = read_snapshot(workspace.snapshots, info.snapshot or "none")
    except SnapshotError:
        return []
    return [sample for split in ("val", "test", "train") for sample in snapshot.split(split)][:count]


def held_against(before: Sequence[Prediction], after: Sequence[Prediction], numbers: str) -> Agreement:
    """How far two models' answers to the same questions agree. Two answers without a box overlap fully."""
    ious = [
        set_iou(b.boxes_xyxy_px, a.boxes_xyxy_px) if a.boxes_xyxy_px or b.boxes_xyxy_px else 1.0
        for a, b in zip(before, after, strict=True)
    ]
    same = [a.status is b.status for a, b in zip(before, after, strict=True)]
    return Agreement(
        count=len(ious),
        identical=sum(a.raw_text == b.raw_text for a, b in zip(before, after, strict=True)),
        agreeing=sum(equal and iou >= SAME_IOU for equal, iou in zip(same, ious, strict=True)),
        mean_iou=sum(ious) / len(ious),
        lowest_iou=min(ious),
        numbers=numbers,
    )


def _answers(
    workspace: Workspace, model_id: str, samples: Sequence[Sample], info: AdapterInfo | None, profile: str | None = None
) -> list[Prediction]:
    """One answer a sample, by a model loaded for it alone and freed afterwards."""
    from grounding.models import load_model
    from grounding.predict import Predictor

    loaded = load_model(model_id, profile=profile or (info.profile if info else None))
    pairs: list[tuple[Any, str]] = [(sample.image, sample.phrase) for sample in samples]
    try:
        return Predictor(loaded, workspace.adapters).predict_many(pairs, str(info.path) if info else None)
    finally:
        del loaded
        _free()


def _write(info: AdapterInfo, folder: Path, numbers: str | None) -> str:
    """Merge and save; returns the number type. Raises `AdapterError` when the weights don't fit it."""
    import torch
    from transformers import AutoConfig

    from grounding.models import folder_of, load_model

    loaded = load_model(info.base, device="cpu", profile=info.profile)
    source = str(folder_of(info.base) or info.base)
    stored = stored_numbers(AutoConfig.from_pretrained(source))
    chosen = numbers or (stored if stored in NUMBERS else "float32")
    merged = _merged(info, loaded).to(getattr(torch, chosen))
    if not all(bool(weight.isfinite().all()) for weight in merged.state_dict().values() if weight.is_floating_point()):
        raise AdapterError(f"Merged, {info.name!r} has weights too large for {chosen}. Merge in float32 (--numbers).")
    folder.mkdir(parents=True)
    merged.save_pretrained(str(folder))
    loaded.processor.save_pretrained(str(folder))
    _write_profile(info, loaded, folder)
    del merged, loaded
    _free()
    return chosen


def _merged(info: AdapterInfo, loaded: LoadedModel) -> Any:
    """The base with the adapter's change added to its weights, for every kind of adapter that peft can merge."""
    from peft import PeftModel

    loaded.model.float()  # files in bfloat16 may have stayed so, and the sum would be rounded twice
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5.23 for a property under its old name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        try:
            model = PeftModel.from_pretrained(loaded.model, str(info.path))
            return model.merge_and_unload(safe_merge=True)
        except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            raise AdapterError(f"The adapter {info.name!r} can't be merged: {first_sentence(error)}.") from error


def _write_profile(info: AdapterInfo, loaded: LoadedModel, folder: Path) -> None:
    """So that the merged model is asked as the adapter was trained, with the base's calibration."""
    settings: dict[str, Any] = {"profile": info.profile}
    if loaded.calibration is not None:
        settings["calibration"] = {info.profile: loaded.calibration.to_json()}
    (folder / PROFILE_FILE).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _free() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
