"""The same training steps by Boxwright and by TRL's `SFTTrainer`: one model, LoRA, data, order and precision.

What our steps are shown is written down and given to TRL as prompt/completion rows with a picture each, in the same
order, one row a phrase; both start from the same LoRA weights with the same AdamW, learning rates and clipping, and
both lower the plain mean cross-entropy of the answers' tokens, end token included. TRL gets the model with the same
faster patch embedding, without gradient checkpointing (its default would cost it a third), and no logging or saving.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from grounding import engine
from grounding.models import LoadedModel
from grounding.pictures import open_picture
from grounding.training.attach import Attached, attach_lora
from grounding.training.data import PictureTargets
from grounding.training.feed import Drawn, Feed
from grounding.training.looks import plain_targets
from grounding.training.optimisers import learning_rate_share, make_optimiser
from grounding.training.precision import computing_in
from grounding.training.settings import TrainSettings
from grounding.training.steps import Learner
from grounding.training.views import KeptViews, View, Views, trainable

PLAIN = {"digit_weights": (1.0, 1.0, 1.0), "corner_weights": (1.0, 1.0, 1.0, 1.0), "nothing_weight": 1.0}


@dataclass(frozen=True)
class Ran:
    """One run: the loss of each step in nats, seconds of the steps by the clock and of the processors, peak GPU memory
    in GiB (0.0 without a GPU)."""

    losses: list[float]
    seconds: float
    cpu_seconds: float
    gib: float


@dataclass(frozen=True)
class Row:
    """One phrase as TRL takes it."""

    image: Path
    prompt: str
    completion: str


class FreshViews:
    """Every picture through the vision tower at every step, as augmentation needs it, though nothing is changed."""

    def __init__(self, loaded: LoadedModel, dtype: torch.dtype | None) -> None:
        self.loaded = loaded
        self.dtype = dtype

    def show(self, drawn: Sequence[Drawn]) -> View:
        """The features and phrases of the pictures drawn."""
        with computing_in(self.loaded.device, self.dtype):
            features = engine.encode_images(self.loaded, [open_picture(one.picture.image) for one in drawn])
        return trainable(features), [plain_targets(one) for one in drawn]


class WrittenDown:
    """Views that write down what they show, one list of rows a step."""

    def __init__(self, loaded: LoadedModel, views: Views) -> None:
        self.loaded = loaded
        self.views = views
        self.steps: list[list[Row]] = []

    def show(self, drawn: Sequence[Drawn]) -> View:
        """What the views behind it show."""
        features, targets = self.views.show(drawn)
        rows = []
        for one, feature, phrases in zip(drawn, features, targets, strict=True):
            for phrase, boxes in phrases:
                answer = self.loaded.profile.text_format.encode(boxes, feature.frame, phrase)
                prompt = engine.chat_text(self.loaded, phrase, 1)
                rows.append(Row(one.picture.image, prompt, answer + self.loaded.processor.tokenizer.eos_token))
        self.steps.append(rows)
        return features, targets


class Bench:
    """Runs the steps of one setting in all ways. `ours` and `theirs` are two loads of the same model."""

    def __init__(
        self,
        ours: LoadedModel,
        theirs: LoadedModel,
        pictures: Sequence[PictureTargets],
        settings: TrainSettings,
        dtype: torch.dtype | None,
    ) -> None:
        self.ours, self.theirs = ours, theirs
        self.pictures = pictures
        self.settings = settings
        self.dtype = dtype
        self.attached = attach_lora(ours, settings)
        self.attached_to_theirs = attach_lora(theirs, settings)
        self.start = self.attached.state()

    def rows(self) -> list[list[Row]]:
        """What each step is shown, found by taking the steps."""
        views = WrittenDown(self.ours, FreshViews(self.ours, self.dtype))
        self._learn(views)
        return views.steps

    def kept(self) -> Ran:
        """Boxwright without augmentation: every picture once through the tower, its time counted."""
        begin, cpu_begin = time.perf_counter(), time.process_time()
        views = KeptViews(
            self.ours,
            self.pictures,
            replace(self.settings, augment=False),
            self.dtype,
            lambda event: None,
            lambda: False,
        )
        before, cpu_before = time.perf_counter() - begin, time.process_time() - cpu_begin
        ran = self._learn(views)
        return replace(ran, seconds=ran.seconds + before, cpu_seconds=ran.cpu_seconds + cpu_before)

    def fresh(self) -> Ran:
        """Boxwright as with augmentation: every picture through the tower at every step."""
        return self._learn(FreshViews(self.ours, self.dtype))

    def _learn(self, views: Views) -> Ran:
        self.attached.load(self.start)
        learner = Learner(
            self.ours, self.settings, self.attached, Feed(self.pictures, self.settings), views, self.dtype
        )
        return _clocked(lambda: [event.loss for event in learner.steps()])

    def trl(self, steps: Sequence[Sequence[Row]]) -> Ran:
        """TRL's trainer on these rows, from the first step's beginning to the last one's end."""
        self.attached_to_theirs.load(self.start)
        with tempfile.TemporaryDirectory() as folder:
            trainer = sft_trainer(self.theirs, self.attached_to_theirs, steps, self.settings, self.dtype, Path(folder))

            def run() -> list[float]:
                trainer.train()
                losses: list[float] = trainer.losses
                return losses

            return _clocked(run)


def _clocked(run: Callable[[], list[float]]) -> Ran:
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    begin, cpu_begin = time.perf_counter(), time.process_time()
    losses = run()
    if cuda:
        torch.cuda.synchronize()
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu_begin
    return Ran(losses, seconds, cpu_seconds, torch.cuda.max_memory_allocated() / 2**30 if cuda else 0.0)


def sft_trainer(
    loaded: LoadedModel,
    attached: Attached,
    steps: Sequence[Sequence[Row]],
    settings: TrainSettings,
    dtype: torch.dtype | None,
    folder: Path,
) -> Any:
    """TRL's trainer, ready to take these steps; it notes the loss of each in `losses`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from datasets import Dataset, Image
        from datasets import Sequence as ListOf
        from transformers import PrinterCallback
        from trl import SFTConfig, SFTTrainer

    class Noting(SFTTrainer):
        losses: list[float]

        def training_step(self, *arguments: Any, **named: Any) -> torch.Tensor:
            loss: torch.Tensor = super().training_step(*arguments, **named)
            self.losses.append(loss.item())
            return loss

    sizes = {len(rows) for rows in steps}
    if len(sizes) != 1:
        raise RuntimeError(f"The steps have {sorted(sizes)} rows: TRL's batches would be others than ours.")
    rows = [row for step in steps for row in step]
    data = Dataset.from_dict(
        {
            "prompt": [row.prompt for row in rows],
            "completion": [row.completion for row in rows],
            "images": [[str(row.image)] for row in rows],
        }
    ).cast_column("images", ListOf(Image()))
    cuda = loaded.device.startswith("cuda")
    config = SFTConfig(
        output_dir=str(folder),
        max_steps=len(steps),
        per_device_train_batch_size=len(steps[0]),
        train_sampling_strategy="sequential",
        max_grad_norm=settings.max_gradient_norm,
        gradient_checkpointing=False,
        max_length=None,
        bf16=dtype is not None or cuda,
        use_cpu=not cuda,
        seed=settings.seed,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=cuda,
    )
    optimiser, _ = make_optimiser(attached.weights, settings, loaded.device)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: learning_rate_share(step, settings))
    loaded.model.train()
    trainer = Noting(
        model=attached.peft_model,
        args=config,
        train_dataset=data,
        processing_class=loaded.processor,
        optimizers=(optimiser, schedule),
    )
    trainer.losses = []
    trainer.remove_callback(PrinterCallback)
    return trainer


def ratios(ours: Sequence[Ran], theirs: Sequence[Ran]) -> dict[str, float]:
    """How many times as fast ours is: medians over the rounds of each round's own ratio, by the clock and by the
    processors' time, which other work on the machine disturbs less."""
    pairs = list(zip(ours, theirs, strict=True))
    return {
        "clock": round(statistics.median(b.seconds / a.seconds for a, b in pairs), 2),
        "processor": round(statistics.median(b.cpu_seconds / a.cpu_seconds for a, b in pairs), 2),
    }


def curve_difference(first: Sequence[float], second: Sequence[float]) -> float:
    """The largest difference of two loss curves at any step, in nats."""
    return max(abs(a - b) for a, b in zip(first, second, strict=True))
