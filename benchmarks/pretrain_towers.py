"""What a candidate for a quicker tower sees, early in its training: towers alone, with the throw-away head alone.

Every shape learns from the very same pictures, in turn within each step; what it tells about pictures that no training
shows is measured as it goes: the share of the cells with an object whose noun it names, and the mean IoU of the boxes
that it tells from there. This says how quickly a tower learns to see for its price, not what it ends with after a whole
training (`python -m grounding.demo.pretrain`).

    python benchmarks/pretrain_towers.py    # a quarter of an hour on two cores; writes results/pretrain_towers.json
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import torch  # noqa: E402

from grounding.demo.pretrain.answers import StepBatch, Writer  # noqa: E402
from grounding.demo.pretrain.dense import DenseHead  # noqa: E402
from grounding.demo.pretrain.loop import learning_rate  # noqa: E402
from grounding.demo.pretrain.passes import Tower, patches_of  # noqa: E402
from grounding.demo.pretrain.scenes_feed import draw_shown, grid_of_step, shown_in_step  # noqa: E402
from grounding.demo.pretrain.settings import SHAPES, PretrainSettings, Shape, grids  # noqa: E402
from grounding.demo.pretrain.shape import build_model, build_processor  # noqa: E402
from grounding.demo.sprites import all_nouns  # noqa: E402
from grounding.measures import ious  # noqa: E402
from grounding.training.precision import choose_precision, computing_in  # noqa: E402
from measuring import write_result  # noqa: E402

TIMES_TOLD = 8


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=480)
    parser.add_argument("--pictures", type=int, default=32, help="in a step")
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    options = parser.parse_args(arguments)
    settings = PretrainSettings(steps=options.steps, pictures_per_step=options.pictures, warmup_steps=50)
    writer = Writer(build_processor(SHAPES["today"]), settings.digit_weights)
    asked = [held_out(writer, settings, number) for number in range(8)]
    learners = {name: Learner(SHAPES[name], settings) for name in options.shapes}
    for step in range(options.steps):
        batch = writer.pack(list(shown_in_step(settings, step)), grid_of_step(settings, step))
        for tower in learners.values():
            tower.learn(batch, step)
        if (step + 1) % max(1, options.steps // TIMES_TOLD) == 0:
            for name, tower in learners.items():
                tower.tell(step + 1, asked)
                print(name, tower.curve[-1], flush=True)
    reference = statistics.median(next(iter(learners.values())).seconds)
    found = {
        name: {
            "parameters": tower.parameters,
            "seconds_of_a_step": statistics.median(tower.seconds),
            "share_of_the_first": statistics.median(tower.seconds) / reference,
            "curve": tower.curve,
        }
        for name, tower in learners.items()
    }
    write_result("pretrain_towers", {"pictures_per_step": options.pictures, "shapes": found}, ("torch", "transformers"))
    return 0


def held_out(writer: Writer, settings: PretrainSettings, number: int) -> StepBatch:
    """Sixteen pictures of one grid, every other time square."""
    rng = random.Random(f"towers {number}")
    grid = (8, 8) if number % 2 else rng.choice(grids())
    return writer.pack([draw_shown(rng, grid, settings) for _ in range(16)], grid)


class Learner:
    """One shape's tower with its head, and how far it is."""

    def __init__(self, shape: Shape, settings: PretrainSettings) -> None:
        self.shape, self.settings = shape, settings
        self.visual = build_model(shape, settings.seed).model.visual
        torch.manual_seed(settings.seed)
        self.head = DenseHead(shape.text_width, len(all_nouns()))
        self.tower = Tower(self.visual)
        self.weights = [*self.visual.parameters(), *self.head.parameters()]
        self.parameters = sum(weight.numel() for weight in self.visual.parameters())
        self.optimiser = torch.optim.AdamW(
            self.weights, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self.dtype = choose_precision("cpu")[0]
        self.seconds: list[float] = []
        self.curve: list[dict[str, float]] = []

    def learn(self, batch: StepBatch, step: int) -> None:
        begin = time.perf_counter()
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.settings, step)
        for part in batch.split(4):  # small parts stay in the processor's caches
            with computing_in("cpu", self.dtype):
                pooled = self.pooled(part)
                of_all = batch.cells.size, int((batch.cells > 0).sum())
                cells, boxes = torch.from_numpy(part.cells), torch.from_numpy(part.cell_boxes)
                loss = self.head.loss(pooled, cells, boxes, self.settings.dense_box_weight, of_all)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, self.settings.max_gradient_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.seconds.append(time.perf_counter() - begin)

    def pooled(self, batch: StepBatch) -> Any:
        patches = patches_of(torch.from_numpy(batch.pixels), self.shape.patch_px, self.shape.merge)
        return self.tower.see(patches, batch.grid).pooled

    @torch.no_grad()
    def tell(self, step: int, asked: Sequence[StepBatch]) -> None:
        """Add to the curve: how many nouns are named, and how well the boxes lie, over all cells with an object."""
        named, overlaps = [], []
        for batch in asked:
            told = self.head.linear(self.pooled(batch))
            covered = torch.from_numpy(batch.cells) > 0
            nouns = told[..., : self.head.nouns + 1].argmax(-1)
            named.append((nouns == torch.from_numpy(batch.cells))[covered].float())
            boxes = told[..., self.head.nouns + 1 :][covered].double().numpy()
            overlaps.append(torch.from_numpy(ious(boxes, batch.cell_boxes[covered.numpy()].astype(float))))
        self.curve.append(
            {
                "steps": step,
                "seconds": sum(self.seconds),
                "nouns_named": float(torch.cat(named).mean()),
                "mean_iou": float(torch.cat(overlaps).mean()),
            }
        )


if __name__ == "__main__":
    raise SystemExit(main())
