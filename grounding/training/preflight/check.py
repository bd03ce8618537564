"""The cheap part of pre-flight: a snapshot, or the samples that one would hold, checked without a model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from grounding.profiles import ModelProfile
from grounding.records import Sample
from grounding.snapshots import Snapshot
from grounding.training.preflight.headers import CACHE_NAME, read_headers
from grounding.training.preflight.records import Cost, Finding, Preflight
from grounding.training.preflight.rounding import round_trip
from grounding.training.preflight.rows import Rows, check_rows, read_leaks
from grounding.training.rehearsal import pictures_per_step
from grounding.training.settings import TrainSettings
from grounding.workspace import Workspace


def check_snapshot(
    workspace: Workspace, snapshot: Snapshot, profile: ModelProfile, settings: TrainSettings
) -> Preflight:
    """Every finding that needs no model: in seconds for 100,000 rows. Raises nothing for what it finds."""
    checked = check_samples(
        snapshot.samples, profile, settings, cache=workspace.root / CACHE_NAME, leaks_of=snapshot.path
    )
    return replace(checked, snapshot=snapshot.name, snapshot_sha256=snapshot.samples_sha256)


def check_samples(
    samples: Sequence[Sample],
    profile: ModelProfile,
    settings: TrainSettings,
    *,
    cache: Path | None = None,
    leaks_of: Path | None = None,
) -> Preflight:
    """As `check_snapshot`, of samples that are not frozen. `cache` remembers the pictures' sizes, `leaks_of` is a
    snapshot's folder with its list of leaks."""
    start = time.perf_counter()
    headers = read_headers((sample.image for sample in samples), cache)
    leaks = read_leaks(leaks_of) if leaks_of is not None else []
    findings = [*_untrainable(profile), *check_rows(Rows(samples, headers, leaks, settings.use_alternatives))]
    rounding = None
    train = [sample for sample in samples if sample.split == "train"]
    if profile.box_format is not None:
        rounding, found = round_trip(train, headers, profile.box_format)
        findings += found
    pictures = {sample.image for sample in train}
    counts = {
        "train": len(train),
        "val": sum(sample.split == "val" for sample in samples),
        "train_pictures": len(pictures),
    }
    return Preflight(
        snapshot="",
        snapshot_sha256="",
        counts=counts,
        findings=tuple(sorted(findings, key=lambda finding: not finding.blocking)),
        rounding=rounding,
        cost=_cost(train, len(pictures), settings),
        seconds=time.perf_counter() - start,
    )


def _untrainable(profile: ModelProfile) -> list[Finding]:
    if profile.lora_targets and profile.box_format is not None:
        return []
    sentence = (
        f"Models of the profile {profile.name!r} aren't trained here: it names no layers for LoRA. "
        "Choose a model that answers in words, such as a Qwen3-VL."
    )
    return [Finding("untrainable", True, sentence)]


def _cost(train: Sequence[Sample], pictures: int, settings: TrainSettings) -> Cost:
    """How many phrases the steps show: at most `phrases_per_image` of each picture's."""
    if not pictures:
        return Cost(0, 0.0)
    on: dict[Path, int] = {}
    for sample in train:
        others = sum(a != sample.phrase for a in set(sample.alternatives)) if settings.use_alternatives else 0
        on[sample.image] = on.get(sample.image, 0) + 1 + others
    mean = sum(min(count, settings.phrases_per_image) for count in on.values()) / pictures
    own = own_pictures_shown(settings, pictures) * mean
    # A rehearsed picture is taken to have as many phrases.
    return Cost(round(own / (1 - settings.rehearsal_share)), own / len(train))


def own_pictures_shown(settings: TrainSettings, pictures: int) -> float:
    """How many pictures the steps of a run show of its own `pictures`, each as often as it comes; those that are
    rehearsed take their share of the places."""
    return settings.steps * pictures_per_step(settings, pictures) * (1 - settings.rehearsal_share)
