"""The model's part of pre-flight: what it sees, whether a step fits, and what the run will cost."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from grounding.models import LoadedModel
from grounding.snapshots import Snapshot
from grounding.training.events import Listener, PhaseEvent
from grounding.training.precision import choose_precision
from grounding.training.preflight.check import check_snapshot
from grounding.training.preflight.headers import read_headers
from grounding.training.preflight.lengths import too_long
from grounding.training.preflight.memory import largest, probe_until_it_fits
from grounding.training.preflight.memory_words import in_gib
from grounding.training.preflight.records import HOPELESS, Cost, Preflight
from grounding.training.preflight.sight import look
from grounding.training.scoring import scorings
from grounding.training.settings import TrainSettings
from grounding.training.views import usable_picture
from grounding.workspace import Workspace

_ANSWERED = 4
"""Samples answered to learn how long scoring will take."""
_BYTES_A_WEIGHT = 4  # peft saves LoRA as it is trained, in float32


def check_with_model(
    loaded: LoadedModel,
    snapshot: Snapshot,
    settings: TrainSettings,
    checked: Preflight,
    dtype: torch.dtype | None,
    *,
    headers_cache: Path | None = None,
) -> Preflight:
    """`checked` with what only the model can tell. LoRA must be attached; the model is afterwards what it was."""
    start = time.perf_counter()
    seen, found = look(loaded, snapshot.samples, settings)
    headers = read_headers((s.image for s in snapshot.samples if s.split == "train"), headers_cache)
    found += too_long(loaded, snapshot.samples, headers, settings)
    loads = largest(snapshot.samples, headers, settings)
    probes, too_large = probe_until_it_fits(loaded, settings, loads, dtype, quantize=loaded.quantize)
    trained = sum(weight.numel() for weight in loaded.model.parameters() if weight.requires_grad)
    step_seconds = probes[0].seconds if probes else None
    cost = checked.cost or Cost(0, 0.0)
    if step_seconds is not None:
        cost = replace(cost, seconds=settings.steps * step_seconds + _scoring_seconds(loaded, snapshot, settings))
    return replace(
        checked.with_findings([*found, *too_large]),
        seen=tuple(seen),
        probes=tuple(probes),
        busy=_machine_is_busy(),
        cost=replace(cost, adapter_bytes=trained * _BYTES_A_WEIGHT),
        seconds=checked.seconds + time.perf_counter() - start,
    )


def _machine_is_busy() -> bool:
    """Whether more wanted to compute in the last minute than there are cores for."""
    cores = os.cpu_count() or 1
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > 1.5 * cores


def _scoring_seconds(loaded: LoadedModel, snapshot: Snapshot, settings: TrainSettings) -> float:
    """How long all scorings of the run will take, from a few answers."""
    from grounding import engine
    from grounding.answering import Answerer

    held_out = snapshot.split("val")[: settings.score_samples]
    some, pictures = [], []
    for sample in held_out:
        picture = usable_picture(loaded, sample.image)
        if picture is not None:
            some.append(sample)
            pictures.append(picture)
        if len(some) == _ANSWERED:
            break
    if not some:
        return 0.0
    training = loaded.model.training
    loaded.model.eval()
    try:
        features = engine.encode_images(loaded, pictures)
        answerer = Answerer(loaded)
        start = time.perf_counter()
        answerer.answer_as_it_is(features, [sample.phrase for sample in some])
        each = (time.perf_counter() - start) / len(some)
    finally:
        loaded.model.train(training)
    train_pictures = max(1, len({sample.image for sample in snapshot.split("train")}))
    return scorings(settings, train_pictures) * each * len(held_out)


def before_first_step(
    loaded: LoadedModel,
    snapshot: Snapshot,
    settings: TrainSettings,
    dtype: torch.dtype | None,
    run_folder: Path | None,
    listener: Listener,
) -> Preflight:
    """In the worker, LoRA attached: look and probe, keep what was found in the run's folder.

    Raises `PreflightError` when something blocks, unless the run was forced (`preflight.json` says so).
    """
    listener(PhaseEvent("Checking what the model sees, and whether the largest step fits"))
    kept = Preflight.load(run_folder) if run_folder is not None else None
    checked = kept or Preflight(snapshot.name, snapshot.samples_sha256, {}, (), cost=Cost(0, 0.0))
    whole = check_with_model(loaded, snapshot, settings, checked, dtype)
    if run_folder is not None:
        whole.save(run_folder)
    whole.check()
    listener(PhaseEvent(in_words(whole)))
    return whole


def in_words(checked: Preflight) -> str:
    """The model's part in one line, for the log and the page."""
    parts = []
    if checked.seen:
        tokens = checked.seen[0]
        parts.append(f"{tokens.supervised_tokens} of {_tokens(checked)} tokens of a phrase are learned from")
    if checked.probes:
        first = checked.probes[0]
        parts.append(f"the largest step takes {in_gib(first.peak_bytes)}")
    return "; ".join(parts).capitalize() if parts else "Nothing to look at"


def _tokens(checked: Preflight) -> int:
    first = checked.seen[0]
    return first.image_tokens + first.prompt_tokens + first.supervised_tokens


def check_fully(
    workspace: Workspace,
    snapshot: Snapshot,
    model_id: str,
    quantize: str,
    settings: TrainSettings,
    tell: Callable[[str], None] = lambda _: None,
) -> Preflight:
    """Both parts, the model loaded for it as a run loads it. Raises `ModelError` when that fails."""
    from grounding.models import base_profile, load_model
    from grounding.training.attach import attach_lora
    from grounding.training.new_words import phrases_of

    tell("Checking the samples")
    checked = check_snapshot(workspace, snapshot, base_profile(model_id), settings)
    if any(finding.kind in HOPELESS for finding in checked.findings):
        return checked
    tell("Loading the model")
    loaded = load_model(model_id, quantize=quantize, trainable=True)
    attach_lora(loaded, settings, phrases_of(snapshot))
    dtype, reason = choose_precision(loaded.device)
    tell("Looking at what the model sees, and trying the largest step")
    whole = check_with_model(loaded, snapshot, settings, checked, dtype)
    return replace(whole, notes=(*loaded.notes, reason))
