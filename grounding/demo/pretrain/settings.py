"""Every value of a pretraining, validated when built and saved beside its result."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from grounding.demo.questions import Mix
from grounding.errors import SettingsError

CELL_PX = 32
"""Side of a visual token, in pixels of the picture: a patch of 16 merged two by two, or a patch of 32."""
MOST_CELLS = 64
"""Most visual tokens of a picture. The processor scales larger pictures down to it."""


def _expect(holds: bool, name: str, value: object, expected: str) -> None:
    if not holds:
        raise SettingsError(f"{name} is {value}: expected {expected}.")


@dataclass(frozen=True)
class Shape:
    """The sizes of the model. `patch_px` times `merge` must be `CELL_PX`.

    The vision tower works on patches, and hands on one token for `merge` x `merge` of them: with 32 and 1 it works on a
    quarter of what it works on with 16 and 2.
    """

    patch_px: int = 16
    merge: int = 2
    vision_width: int = 192
    vision_depth: int = 6
    vision_heads: int = 6
    deepstack_after: tuple[int, ...] = (1, 3)
    text_width: int = 256
    text_depth: int = 6
    text_heads: int = 8
    text_inner: int = 768
    vocabulary: int = 776

    def __post_init__(self) -> None:
        _expect(self.patch_px * self.merge == CELL_PX, "patch_px", self.patch_px, f"{CELL_PX} / merge ({self.merge})")
        _expect(self.vision_width % (4 * self.vision_heads) == 0, "vision_width", self.vision_width, "4 x vision_heads")
        _expect(self.text_width == 32 * self.text_heads, "text_width", self.text_width, "32 x text_heads")
        after = self.deepstack_after
        _expect(all(0 <= i < self.vision_depth for i in after), "deepstack_after", after, "layers of the tower")
        _expect(len(after) <= self.text_depth, "deepstack_after", after, "no more than text_depth")
        _expect(self.vocabulary > 264, "vocabulary", self.vocabulary, "more than 256 bytes and 8 special tokens")


SHAPES: Mapping[str, Shape] = {
    "today": Shape(),
    # Candidates for a quicker image pass: benchmarks/pretrain_speed.py times them, only a training can judge them.
    "coarse": Shape(patch_px=32, merge=1, vision_width=256, vision_heads=8),
    "shallow": Shape(vision_depth=3, deepstack_after=(0, 1)),
}


@dataclass(frozen=True)
class PretrainSettings:
    """Settings of one pretraining. Raises `SettingsError` naming the setting, its value and what is expected.

    The defaults follow the recipe of the model in `data/demo/base-model`: 2,389 steps of 192 pictures with 5 questions
    each, 6.6 minutes of an H100. `digit_weights` are those of hundreds, tens and ones; `dense_weight` falls from its
    first to its second value. In the first `teacher_steps` of the steps the tower only learns to see as a teacher does.
    """

    steps: int = 2400
    teacher_steps: int = 0
    pictures_per_step: int = 192
    questions_per_picture: int = 5
    learning_rate: float = 1e-3
    warmup_steps: int = 300
    weight_decay: float = 0.01
    max_gradient_norm: float = 1.0
    digit_weights: tuple[float, float, float] = (3.0, 2.0, 0.4)
    dense_weight: tuple[float, float] = (1.0, 0.3)
    dense_box_weight: float = 5.0
    recoloured_share: float = 0.3
    blurred_share: float = 0.2
    square_share: float = 0.4
    nothing_share: float = 0.08
    several_share: float = 0.1
    corner_share: float = 0.06
    reworded_share: float = 0.3
    score_every_steps: int = 400
    score_pictures: int = 200
    checkpoint_every_steps: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "pictures_per_step", "questions_per_picture", "score_pictures"):
            _expect(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        for name in ("score_every_steps", "checkpoint_every_steps", "warmup_steps"):
            _expect(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        _expect(0 <= self.teacher_steps <= self.steps, "teacher_steps", self.teacher_steps, f"0 to {self.steps}, steps")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_share"):
                _expect(0 <= value <= 1, field.name, value, "0.0 to 1.0")
        _expect(0 < self.learning_rate <= 0.1, "learning_rate", self.learning_rate, "above 0, at most 0.1")
        weights = (*self.digit_weights, *self.dense_weight, self.dense_box_weight, self.weight_decay)
        _expect(all(0 <= weight < math.inf for weight in weights), "a weight of the loss", weights, "0 or more")
        _expect(self.max_gradient_norm > 0, "max_gradient_norm", self.max_gradient_norm, "above 0")
        asked = self.nothing_share + self.several_share + self.corner_share
        _expect(asked <= 1, "nothing_share + several_share + corner_share", asked, "at most 1.0")

    @property
    def mix(self) -> Mix:
        """Shares of the kinds of questions."""
        return Mix(self.nothing_share, self.several_share, self.corner_share, self.reworded_share)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain


def grids() -> tuple[tuple[int, int], ...]:
    """(rows, columns) of cells of the pictures shown: 4 to 10 a side, 40 to `MOST_CELLS` in all, in a fixed order."""
    sides = range(4, 11)
    return tuple((rows, columns) for rows in sides for columns in sides if 40 <= rows * columns <= MOST_CELLS)
