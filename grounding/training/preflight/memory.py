"""The memory probe: one whole step over the largest pictures and longest phrases there are, before the first step."""

from __future__ import annotations

import gc
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from PIL import Image
from torch.nn import functional

from grounding import engine
from grounding.errors import is_out_of_memory
from grounding.models import LoadedModel
from grounding.records import Sample
from grounding.training.batches import BranchBuilder
from grounding.training.lanes import split_evenly
from grounding.training.lean import StepLogits
from grounding.training.precision import computing_in
from grounding.training.preflight.headers import Header
from grounding.training.preflight.memory_words import in_gib
from grounding.training.preflight.records import Finding, Probe
from grounding.training.preflight.sight import pack_questions
from grounding.training.settings import TrainSettings
from grounding.training.views import trainable, usable_picture

HEADROOM = 0.95
"""Share of the memory that a step may fill: allocators need some room."""
_OPTIMISER_BYTES = 8  # AdamW keeps two float32 numbers a trained weight
_WATCH_SECONDS = 0.004
_TIMED, _TIMED_SECONDS = 3, 2.0

Step = Callable[[LoadedModel, TrainSettings, Sequence["Load"]], int]


@dataclass(frozen=True)
class Load:
    """A picture and those of its phrases that make the longest sequence: `own` of its own, then of other pictures, to
    be answered "nothing there"."""

    image: Path
    samples: tuple[Sample, ...]
    own: int


def largest(samples: Sequence[Sample], headers: Mapping[Path, Header], settings: TrainSettings) -> list[Load]:
    """The pictures of the largest step: by pixels and by the text on them, `images_per_step` of them."""
    on: dict[Path, list[Sample]] = {}
    for sample in samples:
        if sample.split == "train":
            others = sample.alternatives if settings.use_alternatives else ()
            phrases = dict.fromkeys((sample.phrase, *(other for other in others if other.strip())))
            on.setdefault(sample.image, []).extend(replace(sample, phrase=phrase) for phrase in phrases)
    every = itertools.chain.from_iterable(on.values()) if settings.negative_share else ()
    absent = sorted((replace(sample, boxes_xyxy_px=()) for sample in every), key=_text_length, reverse=True)
    loads = []
    for image, of_picture in on.items():
        header = headers.get(image)
        if header is None or header.size_wh is None:
            continue
        longest = sorted(of_picture, key=_text_length, reverse=True)[: settings.phrases_per_image]
        # About 1,000 pixels a visual token and 3 characters a token of text: a guess that only sets the order.
        size = header.size_wh[0] * header.size_wh[1] / 1000 + sum(map(_text_length, longest)) / 3
        loads.append((size, str(image), longest))
    loads.sort(key=lambda load: (-load[0], load[1]))
    return [_load(own, absent, settings) for _, _, own in loads[: settings.images_per_step]]


def _load(own: Sequence[Sample], absent: Iterable[Sample], settings: TrainSettings) -> Load:
    """With as many of `absent` from other pictures as a step may ask."""
    image, share = own[0].image, settings.negative_share
    count = math.ceil(len(own) * share / (1 - share))
    others = itertools.islice((sample for sample in absent if sample.image != image), count)
    return Load(image, (*own, *others), len(own))


def _text_length(sample: Sample) -> int:
    return len(sample.phrase) + 60 * max(1, len(sample.boxes_xyxy_px))


def probe(
    loaded: LoadedModel,
    settings: TrainSettings,
    loads: Sequence[Load],
    dtype: torch.dtype | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    step: Step | None = None,
) -> Probe:
    """Forward and backward over this load: the first pass warms up, the quickest of the next ones is told.

    LoRA must be attached. Weights, gradients, random state and mode are afterwards what they were. `changes` are
    told in the result; `step` stands in for the pass in tests.
    """
    run = step or _step_of(loaded, dtype)
    names = tuple(load.samples[0].id for load in loads)
    trained = sum(weight.numel() for weight in loaded.model.parameters() if weight.requires_grad)
    tokens, seconds, fits = 0, None, True
    with _as_it_was(loaded), _checkpointing(loaded, settings), _Peak(loaded.device) as peak:
        try:
            tokens = run(loaded, settings, loads)
            seconds = _pace(lambda: run(loaded, settings, loads), loaded.device)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            fits = False
    needed, limit = peak.bytes + trained * _OPTIMISER_BYTES, peak.limit_bytes
    if fits and limit is not None and needed > HEADROOM * limit:
        fits = False
    return Probe(fits, dict(changes or {}), needed, limit, seconds if fits else None, tokens, names)


def _step_of(loaded: LoadedModel, dtype: torch.dtype | None) -> Step:
    """Steps that share one choice between the lean and the stock pass, as those of a run do."""
    logits_of = StepLogits(loaded)
    return lambda model, settings, loads: one_step(model, settings, loads, logits_of, dtype)


def one_step(
    loaded: LoadedModel,
    settings: TrainSettings,
    loads: Sequence[Load],
    logits_of: StepLogits,
    dtype: torch.dtype | None = None,
) -> int:
    """The passes of a step over this load, in as many parts as the settings say, through the trainer's own collator
    and the trainer's own pass; returns the longest sequence."""
    shown = [(load, picture) for load in loads if (picture := usable_picture(loaded, load.image)) is not None]
    if not shown:
        return 0
    weights = (settings.digit_weights, settings.corner_weights, settings.nothing_weight)
    builder = BranchBuilder(loaded, *weights)
    # With the vision tower trained, gradients go back through it: as `live_views` does.
    encode = loaded.family.encode_images if settings.lora_vision else _encode_once
    loaded.model.train()
    longest = 0
    for part in split_evenly(shown, min(settings.accumulation, len(shown))):
        asked = [[(sample.phrase, sample.boxes_xyxy_px) for sample in load.samples] for load, _ in part]
        with computing_in(loaded.device, dtype):
            features = encode(loaded, [picture for _, picture in part])
            if not logits_of.reason:  # one picture decides, as in a run
                logits_of.choose(pack_questions(loaded, builder, features[:1], asked[:1]).batch, features[:1])
            packed = pack_questions(loaded, builder, features, asked)
            logits = logits_of(packed.batch, features)
        functional.cross_entropy(logits.float(), packed.batch.target_ids).backward()
        longest = max(longest, int(packed.batch.input_ids.shape[1]))
    loaded.model.zero_grad(set_to_none=True)
    return longest


def _encode_once(loaded: LoadedModel, pictures: Sequence[Image.Image]) -> list[engine.ImageFeatures]:
    return trainable(engine.encode_images(loaded, pictures))


def next_settings(settings: TrainSettings, quantize: str = "none") -> Iterator[tuple[dict[str, Any], str]]:
    """What to try when a step doesn't fit, the mildest first: (changed values, what they are in words).

    More parts a step, which changes nothing of what is learned; then gradient checkpointing, which only takes longer;
    then fewer phrases; 4-bit weights last.
    """
    changes: dict[str, Any] = {}
    parts = settings.accumulation
    while parts < settings.images_per_step:
        parts = min(2 * parts, settings.images_per_step)
        changes["accumulation"] = parts
        yield dict(changes), f"each step computed in {parts} parts, which learns the same"
    if not settings.gradient_checkpointing:
        changes["gradient_checkpointing"] = True
        yield dict(changes), "gradient checkpointing as well, which computes some things twice"
    if settings.phrases_per_image > 1:
        changes["phrases_per_image"] = max(1, settings.phrases_per_image // 4)
        yield dict(changes), f"{changes['phrases_per_image']} phrases a picture as well"
    if quantize == "none":
        yield {**changes, "quantize": "4bit"}, "4-bit weights as well (--quantize 4bit)"


def probe_until_it_fits(
    loaded: LoadedModel,
    settings: TrainSettings,
    loads: Sequence[Load],
    dtype: torch.dtype | None = None,
    *,
    quantize: str = "none",
    step: Step | None = None,
) -> tuple[tuple[Probe, ...], list[Finding]]:
    """Probe the settings as they are; where they don't fit, the milder ones in turn until some do. Blocks then."""
    if not loads:
        return (), []
    probes = [probe(loaded, settings, loads, dtype, step=step)]
    if probes[0].fits:
        return tuple(probes), []
    words = ""
    for changes, words in next_settings(settings, quantize):
        own = {key: value for key, value in changes.items() if key != "quantize"}
        if "quantize" in changes:
            break  # other weights would have to be loaded to try it
        less = replace(settings, **own)
        tried = probe(loaded, less, largest_of(loads, less), dtype, changes=changes, step=step)
        probes.append(tried)
        if tried.fits:
            sentence = f"{_too_large(probes[0])} It fits with {words}: {_as_flags(changes)}."
            return tuple(probes), [Finding.of("memory", sentence, probes[0].samples, blocking=True)]
    way_out = f"Try {words}." if words else "Take a smaller model."
    sentence = f"{_too_large(probes[0])} Nothing milder fits either. {way_out} Or scale the largest pictures down."
    return tuple(probes), [Finding.of("memory", sentence, probes[0].samples, blocking=True)]


def largest_of(loads: Sequence[Load], settings: TrainSettings) -> list[Load]:
    """The same load under milder settings."""
    cut = [
        _load(load.samples[: min(load.own, settings.phrases_per_image)], load.samples[load.own :], settings)
        for load in loads
    ]
    return cut[: settings.images_per_step]


def _too_large(first: Probe) -> str:
    if first.limit_bytes is None or first.peak_bytes <= HEADROOM * first.limit_bytes:
        return "The largest step does not fit into memory."
    needed, there = in_gib(first.peak_bytes), in_gib(first.limit_bytes)
    return f"The largest step needs {needed} of memory, and {there} can be had."


def _as_flags(changes: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in changes.items())


def _pace(take_step: Callable[[], int], device: str) -> float:
    """Seconds of a step: the quickest of three, or of as many as fit into two seconds, as other work may disturb."""
    quickest, begun = math.inf, time.perf_counter()
    for _ in range(_TIMED):
        start = time.perf_counter()
        take_step()
        _finish(device)
        now = time.perf_counter()
        quickest = min(quickest, now - start)
        if now - begun > _TIMED_SECONDS:
            break
    return quickest


def _finish(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


@contextmanager
def _as_it_was(loaded: LoadedModel) -> Iterator[None]:
    """The model's mode, its gradients and the random state are put back."""
    training = loaded.model.training
    devices = [torch.cuda.current_device()] if loaded.device.startswith("cuda") else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        loaded.model.zero_grad(set_to_none=True)
        loaded.model.train(training)
        gc.collect()
        if devices:
            torch.cuda.empty_cache()


@contextmanager
def _checkpointing(loaded: LoadedModel, settings: TrainSettings) -> Iterator[None]:
    """Gradient checkpointing as the settings ask for it, where the model has been given others."""
    model = loaded.model
    wanted = settings.gradient_checkpointing and not model.is_activation_checkpointing
    if wanted:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    try:
        yield
    finally:
        if wanted:
            model.activation_checkpointing_disable()


class _Peak:
    """The most memory that was taken inside the block, in bytes; the process's whole use on a CPU."""

    def __init__(self, device: str) -> None:
        self.on_gpu = device.startswith("cuda")
        self.bytes = 0
        self.limit_bytes: int | None = None
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None

    def __enter__(self) -> _Peak:
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
            free, _ = torch.cuda.mem_get_info()
            self.limit_bytes = free + torch.cuda.memory_reserved()
            return self
        own = psutil.Process().memory_info().rss
        self.limit_bytes = own + free_memory_bytes()
        self._watcher = threading.Thread(target=self._watch, name="memory-probe", daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.on_gpu:
            self.bytes = int(torch.cuda.max_memory_allocated())
            return
        self._stop.set()
        if self._watcher is not None:
            self._watcher.join()

    def _watch(self) -> None:
        process = psutil.Process()
        while True:
            self.bytes = max(self.bytes, process.memory_info().rss)
            if self._stop.wait(_WATCH_SECONDS):
                return


def free_memory_bytes() -> int:
    """Memory that the process may still take: of the machine, or of its container where that is less."""
    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    try:
        most = (group / "memory.max").read_text().strip()
        if most != "max":
            used = int((group / "memory.current").read_text())
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            # What only caches files is given up when it is needed.
            free = min(free, int(most) - used + int(stat.get("inactive_file", 0)))
    except (OSError, ValueError):
        pass
    return max(0, free)
