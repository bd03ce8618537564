"""The steps of a pretraining: rate, loss, clipping, checkpoints, and going on from one."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import multiprocessing
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from grounding.demo.pretrain.answers import StepBatch, Writer
from grounding.demo.pretrain.dense import DenseHead
from grounding.demo.pretrain.passes import Reader, Tower, patches_of
from grounding.demo.pretrain.settings import PretrainSettings, Shape
from grounding.demo.pretrain.shape import build_model, build_processor
from grounding.demo.pretrain.teacher import Teacher
from grounding.demo.sprites import all_nouns
from grounding.errors import JobError, SettingsError
from grounding.training.checkpoint import Checkpoint, Checkpoints
from grounding.training.history import read_lines
from grounding.training.lanes import Lanes
from grounding.training.optimisers import warmed_cosine
from grounding.training.precision import choose_precision, computing_in
from grounding.training.steps import added

log = logging.getLogger(__name__)

BATCHES_AHEAD = 2
"""So many may each process that draws have ready."""
_PICTURES_IN_LANE = 8
_HISTORY = "history.jsonl"


@dataclass(frozen=True)
class PretrainStep:
    """What one step said. `answer` and `dense` are nats of cross-entropy (the latter with its box term), `apart` is
    `Teacher.apart`: of it and `answer` a step has one. `seconds` is the time since the step before, drawing included.
    """

    step: int
    answer: float | None
    apart: float | None
    dense: float
    learning_rate: float
    gradient_norm: float
    seconds: float


@dataclass(frozen=True)
class _Total:
    """By what the sums of a step are divided: the weight of its learned tokens, its pictures, their cells, and those
    with an object."""

    weight: float
    pictures: int
    cells: int
    covered_cells: int


class Pretraining:
    """A model that is trained from nothing, or from a `teacher`, in `folder`, which keeps its checkpoints and history.

    Raises `JobError` for a folder with checkpoints of other settings, and where a loss is not finite, `SettingsError`
    for steps with a teacher where there is none, `ModelError` for a teacher that won't do.
    """

    def __init__(
        self, settings: PretrainSettings, shape: Shape, folder: Path, device: str, teacher: Path | None = None
    ) -> None:
        if settings.teacher_steps and teacher is None:
            raise SettingsError(f"teacher_steps is {settings.teacher_steps}: expected 0, or a teacher (--teacher).")
        self.settings, self.shape, self.folder, self.device = settings, shape, folder, device
        folder.mkdir(parents=True, exist_ok=True)
        self.teacher = Teacher(teacher, device) if teacher is not None else None
        self.processor = build_processor(shape, tokenizer=self.teacher.tokenizer if self.teacher else None)
        self.model = build_model(shape, settings.seed).to(device)
        if self.teacher is not None:
            self.teacher.begin(self.model)
        self.dense = DenseHead(shape.text_width, len(all_nouns())).to(device)
        self.tower, self.reader = Tower(self.model.model.visual), Reader(self.model)
        self.optimiser = torch.optim.AdamW(
            list(self._weights().values()),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.step = 0
        self.on_cpu = device.startswith("cpu")
        self.dtype = choose_precision(device)[0] if self.on_cpu else torch.bfloat16
        if not self.on_cpu:  # cuDNN plans each new shape of attention anew, which takes longer than the attention
            torch.backends.cuda.enable_cudnn_sdp(False)
        self.lanes = Lanes(max(1, torch.get_num_threads()) if self.on_cpu else 1)
        of_teacher = self.teacher.sha256 if self.teacher else ""
        identity = _identity(settings, shape, self.processor.tokenizer, of_teacher)
        self.checkpoints = Checkpoints(folder / "checkpoints", identity)
        self._resume()

    def steps(self, workers: int = 0) -> Iterator[PretrainStep]:
        """Train to the end, telling of each step after it was made and, where one is due, kept.

        `workers` processes draw the pictures ahead; 0: this one draws them, which on a CPU is as quick.
        """
        before = time.perf_counter()
        self.model.train()
        for batch in _batches(self.processor, self.settings, self.step, workers):
            told = self._learn(batch)
            self.step += 1
            every = self.settings.checkpoint_every_steps
            if self.step == self.settings.steps or (every and self.step % every == 0):
                self.keep()
            now = time.perf_counter()
            event = PretrainStep(self.step, *told, seconds=now - before)
            with (self.folder / _HISTORY).open("a", encoding="utf-8") as history:
                history.write(json.dumps(asdict(event)) + "\n")
            yield event
            before = time.perf_counter()  # whoever listens may score

    @property
    def is_taught(self) -> bool:
        """Whether the next step learns from the teacher."""
        return self.step < self.settings.teacher_steps

    def _learn(self, batch: StepBatch) -> tuple[float | None, float | None, float, float, float]:
        settings = self.settings
        rate = learning_rate(settings, self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        losses = self._backward(batch)
        norm = float(torch.nn.utils.clip_grad_norm_(self._learning(), settings.max_gradient_norm))
        main, dense = losses.tolist()
        of = "teacher" if self.is_taught else "answers"
        if not all(map(math.isfinite, (main, dense, norm))):
            raise JobError(
                f"Step {self.step + 1} gave a loss of {main} ({of}) and {dense} (dense head), and a gradient "
                f"of length {norm}: expected finite numbers. Lower the learning rate ({settings.learning_rate:g})."
            )
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return (None, main, dense, rate, norm) if self.is_taught else (main, None, dense, rate, norm)

    def _backward(self, batch: StepBatch) -> torch.Tensor:
        """Gradients of the step, from its parts; returns [2]: the mean cross-entropy of what is learned, each token by
        its weight, or how far the tower is from the teacher's, and what `DenseHead.loss` says."""
        total = _Total(float(batch.weights.sum()), len(batch.ids), batch.cells.size, int((batch.cells > 0).sum()))
        weights = self._learning()
        for weight in weights:
            weight.grad = torch.zeros_like(weight)
        losses = torch.zeros(2, device=self.device)
        parts, side_by_side = batch.split(self._parts(len(batch.ids))), self.lanes.count
        for begin in range(0, len(parts), side_by_side):
            found = self.lanes.map(lambda part: self._part(part, total, weights), parts[begin : begin + side_by_side])
            for of_part, gradients in found:
                losses += of_part
                for weight, gradient in zip(weights, gradients, strict=True):
                    added(weight.grad, gradient)
        return losses

    def _part(
        self, part: StepBatch, total: _Total, weights: Sequence[torch.nn.Parameter]
    ) -> tuple[torch.Tensor, Sequence[torch.Tensor | None]]:
        """(losses [2], gradients of the weights): what these pictures add to the step's."""
        with computing_in(self.device, self.dtype):
            main, dense = self._losses(part, total)
        loss = main + dense_weight(self.settings, self.step) * dense
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        return torch.stack((main, dense)).detach(), gradients

    def _losses(self, part: StepBatch, total: _Total) -> tuple[torch.Tensor, torch.Tensor]:
        of_part = (part.pixels, part.targets, part.weights, part.cells, part.cell_boxes)
        pixels, targets, weights, cells, boxes = (torch.from_numpy(one).to(self.device) for one in of_part)
        seen = self.tower.see(patches_of(pixels, self.shape.patch_px, self.shape.merge), part.grid)
        taught = self.teacher if self.is_taught else None
        pooled = seen.pooled if taught is None else seen.pooled.detach()  # the head learns to read; the tower follows
        dense = self.dense.loss(
            pooled, cells, boxes, self.settings.dense_box_weight, (total.cells, total.covered_cells)
        )
        if taught is not None:
            return taught.apart(seen, pixels, part.grid, total.pictures), dense
        losses = functional.cross_entropy(self.reader.logits(seen, part).float(), targets, reduction="none")
        return (losses * weights).sum() / total.weight, dense

    def _parts(self, pictures: int) -> int:
        """Into how many parts a step goes: all in one, but on a CPU in as many for each lane, small enough for its
        caches (48 pictures: 10.9 a second in parts of 24, 14.1 in parts of 8)."""
        if not self.on_cpu:
            return 1
        return self.lanes.count * math.ceil(pictures / self.lanes.count / _PICTURES_IN_LANE)

    def _weights(self) -> dict[str, torch.nn.Parameter]:
        """Everything that learns, by name; what is tied stands in it once."""
        of_model = {f"model.{name}": weight for name, weight in self.model.named_parameters()}
        return of_model | {f"dense.{name}": weight for name, weight in self.dense.named_parameters()}

    def _learning(self) -> list[torch.nn.Parameter]:
        """What this step changes: with a teacher the tower and the throw-away head, else everything."""
        named = self._weights().items()
        return [
            weight for name, weight in named if not self.is_taught or ".visual." in name or name.startswith("dense.")
        ]

    def keep(self) -> None:
        """Write a checkpoint. Raises `JobError` when it can't be written."""
        weights = {name: weight.detach().cpu() for name, weight in self._weights().items()}
        self.checkpoints.save(Checkpoint(self.step, weights, None, self.optimiser.state_dict(), {}))

    def _resume(self) -> None:
        checkpoint, refused = self.checkpoints.newest()
        if checkpoint is None and refused:
            raise JobError(f"{self.folder} can't be gone on with. {refused[0]} Give another folder, or empty this one.")
        for sentence in refused:
            log.warning(sentence)
        if checkpoint is None:
            return
        with torch.no_grad():
            for name, weight in self._weights().items():
                weight.copy_(checkpoint.weights[name])
        self.optimiser.load_state_dict(dict(checkpoint.optimiser))
        self.step = checkpoint.step


def seconds_of_steps(folder: Path) -> dict[int, float]:
    """How long each step of the training in this folder took; of a step that was taken again, the last time."""
    return {step["step"]: step["seconds"] for step in read_lines(folder / _HISTORY)}


def learning_rate(settings: PretrainSettings, step: int) -> float:
    """The rate of a step: a line up to the warm-up's end, then half a cosine to 0; once for the steps with a teacher,
    once for the others."""
    taught = settings.teacher_steps
    step, steps = (step, taught) if step < taught else (step - taught, settings.steps - taught)
    return settings.learning_rate * warmed_cosine(step, steps, settings.warmup_steps)


def dense_weight(settings: PretrainSettings, step: int) -> float:
    """How much the dense head counts in a step."""
    first, last = settings.dense_weight
    return first + (last - first) * step / max(1, settings.steps - 1)


def _identity(settings: PretrainSettings, shape: Shape, tokenizer: Any, teacher_sha256: str) -> str:
    """What a checkpoint must be of: settings, shape, the tokens that were learned, and the teacher."""
    free = ("score_every_steps", "score_pictures", "checkpoint_every_steps")
    said = {name: value for name, value in settings.to_json().items() if name not in free}
    tokens = tokenizer.backend_tokenizer.to_str()
    told = [said, asdict(shape), tokens, teacher_sha256]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


_writers: dict[str, tuple[Writer, PretrainSettings]] = {}


def _batches(processor: Any, settings: PretrainSettings, first: int, workers: int) -> Iterator[StepBatch]:
    """What the steps from `first` on learn from, in their order."""
    if not workers:
        writer = Writer(processor, settings.digit_weights)
        for step in range(first, settings.steps):
            yield writer.batch(settings, step)
        return
    # Batches come through pipes: what they would take of shared memory is more than a container has.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin, (processor, settings)) as pool:
        waiting: deque[Future[StepBatch]] = deque()
        try:
            for step in range(first, settings.steps + workers * BATCHES_AHEAD):
                if step < settings.steps:
                    waiting.append(pool.submit(_draw, step))
                if waiting and (len(waiting) > workers * BATCHES_AHEAD or step >= settings.steps):
                    yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _begin(processor: Any, settings: PretrainSettings) -> None:
    torch.set_num_threads(1)
    _writers["one"] = Writer(processor, settings.digit_weights), settings


def _draw(step: int) -> StepBatch:
    writer, settings = _writers["one"]
    return writer.batch(settings, step)
