"""Questions as rows of tokens: the whole conversation, and the weight of each token in the loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from grounding.boxes import Box
from grounding.demo.pretrain.scenes_feed import grid_of_step, shown_in_step
from grounding.demo.pretrain.settings import PretrainSettings
from grounding.demo.pretrain.shape import EOS, IMAGE, PAD, profile
from grounding.formats import Frame
from grounding.training.losses import digit_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HERE = "\0"
_SAME_CORNERS = (1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class StepBatch:
    """What a step learns from, on the CPU. `pixels` [pictures, height, width, 3] uint8; `ids` and `weights`
    [pictures * questions, length], padded on the right, a weight of 0.0 where nothing is learned; the visual tokens
    stand at `image_start` in every row; `cells` and `cell_boxes` as in `Shown`, one row a picture."""

    grid: tuple[int, int]
    pixels: NDArray[np.uint8]
    ids: NDArray[np.int64]
    weights: NDArray[np.float32]
    image_start: int
    cells: NDArray[np.int64]
    cell_boxes: NDArray[np.float32]


class Writer:
    """Writes questions and answers as the finished model is asked and answers. Pure: safe to use in any process."""

    def __init__(self, processor: Any, digit_weights_by_place: Sequence[float]) -> None:
        self.tokenizer = processor.tokenizer
        self.digit_weights = tuple(digit_weights_by_place)
        self.profile = profile()
        box_format = self.profile.box_format
        assert box_format is not None
        self.box_format = box_format
        content = [{"type": "image"}, {"type": "text", "text": self.profile.prompt_for(_HERE)}]
        self._around = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        self._image = self.tokenizer.convert_ids_to_tokens(IMAGE)
        self._end = self.tokenizer.convert_ids_to_tokens(EOS)

    def row(
        self, phrase: str, boxes_xyxy_px: Sequence[Box], size_wh: tuple[int, int], visual_tokens: int
    ) -> tuple[list[int], list[float]]:
        """The ids of one conversation and their weights in the loss: those of the answer and of its end count.

        The prompt and the answer are tokenised as one text, and what is learned is found by where the answer begins in
        it: tokenised apart, a prompt can end in other tokens.
        """
        answer = self.box_format.encode(boxes_xyxy_px, Frame(size_wh), phrase)
        prompt = self._around.replace(_HERE, phrase).replace(self._image, self._image * visual_tokens)
        whole = self.tokenizer(prompt + answer + self._end, return_offsets_mapping=True, add_special_tokens=False)
        ids: list[int] = whole["input_ids"]
        first = next(i for i, (start, _) in enumerate(whole["offset_mapping"]) if start >= len(prompt))
        tokens = [self.tokenizer.decode([token]) for token in ids[first:-1]]
        told = digit_weights(tokens, self.digit_weights, _SAME_CORNERS)
        return ids, [0.0] * first + told + [1.0]

    def batch(self, settings: PretrainSettings, step: int) -> StepBatch:
        """What step `step` learns from."""
        rows, columns = grid = grid_of_step(settings, step)
        shown = list(shown_in_step(settings, step))
        written = [
            self.row(question.text, one.boxes_of(question), one.size_wh, rows * columns)
            for one in shown
            for question in one.questions
        ]
        length = max(len(ids) for ids, _ in written)
        padded_ids = np.full((len(written), length), PAD, dtype=np.int64)
        padded_weights = np.zeros((len(written), length), dtype=np.float32)
        for i, (ids, weights) in enumerate(written):
            padded_ids[i, : len(ids)] = ids
            padded_weights[i, : len(weights)] = weights
        return StepBatch(
            grid=grid,
            pixels=np.stack([one.pixels for one in shown]),
            ids=padded_ids,
            weights=padded_weights,
            image_start=written[0][0].index(IMAGE),
            cells=np.stack([one.cells for one in shown]),
            cell_boxes=np.stack([one.cell_boxes for one in shown]),
        )
