"""Questions as tokens: whole conversations with the weight of each token in the loss, packed by picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from grounding.boxes import Box
from grounding.demo.pretrain.scenes_feed import Shown, grid_of_step, shown_in_step
from grounding.demo.pretrain.settings import PretrainSettings
from grounding.demo.pretrain.shape import EOS, IMAGE, PAD, profile
from grounding.formats import Frame
from grounding.training.lanes import split_evenly
from grounding.training.losses import digit_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HERE = "\0"
_SAME_CORNERS = (1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class StepBatch:
    """What a step learns from, on the CPU: packed rows, one a picture, each the picture's `prefix` tokens, then one
    branch a question.

    `pixels` [pictures, height, width, 3] uint8; `ids` [pictures, length], padded on the right; `places`
    [pictures, length] where each token would stand in a row of its question alone; `branch_lengths` tokens of each
    branch; the visual tokens begin at `image_start` in every row. `predicting` [n] flat indices into `ids`, rising, of
    what stands before a learned token; `targets` [n] those tokens, `weights` [n] theirs in the loss. `cells` and
    `cell_boxes` as in `Shown`, one row a picture.
    """

    grid: tuple[int, int]
    pixels: NDArray[np.uint8]
    ids: NDArray[np.int64]
    places: NDArray[np.int64]
    branch_lengths: tuple[tuple[int, ...], ...]
    prefix: int
    image_start: int
    predicting: NDArray[np.int64]
    targets: NDArray[np.int64]
    weights: NDArray[np.float32]
    cells: NDArray[np.int64]
    cell_boxes: NDArray[np.float32]

    def split(self, parts: int) -> list[StepBatch]:
        """The same in `parts` batches (fewer for fewer pictures), in order, whose pictures differ by at most one."""
        length = self.ids.shape[1]
        found = []
        for run in split_evenly(range(len(self.ids)), min(parts, len(self.ids))):
            rows = slice(run[0], run[-1] + 1)
            learned = slice(*np.searchsorted(self.predicting, (rows.start * length, rows.stop * length)))
            found.append(
                replace(
                    self,
                    pixels=self.pixels[rows],
                    ids=self.ids[rows],
                    places=self.places[rows],
                    branch_lengths=self.branch_lengths[rows],
                    predicting=self.predicting[learned] - rows.start * length,
                    targets=self.targets[learned],
                    weights=self.weights[learned],
                    cells=self.cells[rows],
                    cell_boxes=self.cell_boxes[rows],
                )
            )
        return found


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
        return self.pack(list(shown_in_step(settings, step)), grid_of_step(settings, step))

    def pack(self, shown: Sequence[Shown], grid: tuple[int, int]) -> StepBatch:
        """Pictures of this grid, with all of their questions."""
        cells = grid[0] * grid[1]
        written = [[self.row(q.text, one.boxes_of(q), one.size_wh, cells) for q in one.questions] for one in shown]
        image_start = written[0][0][0].index(IMAGE)
        prefix = image_start + cells + 1  # the mark that closes the picture stands before every question
        branch_lengths = tuple(tuple(len(ids) - prefix for ids, _ in rows) for rows in written)
        length = prefix + max(map(sum, branch_lengths))
        padded_ids = np.full((len(shown), length), PAD, dtype=np.int64)
        places = np.zeros((len(shown), length), dtype=np.int64)
        predicting: list[int] = []
        targets: list[int] = []
        learned: list[float] = []
        for i, rows in enumerate(written):
            padded_ids[i, :prefix] = rows[0][0][:prefix]
            places[i, :prefix] = range(prefix)
            start = prefix
            for ids, weights in rows:
                stop = start + len(ids) - prefix
                padded_ids[i, start:stop] = ids[prefix:]
                places[i, start:stop] = range(prefix, len(ids))
                answer = [place for place, weight in enumerate(weights) if weight > 0]
                predicting += [i * length + start + place - prefix - 1 for place in answer]
                targets += [ids[place] for place in answer]
                learned += [weights[place] for place in answer]
                start = stop
        return StepBatch(
            grid=grid,
            pixels=np.stack([one.pixels for one in shown]),
            ids=padded_ids,
            places=places,
            branch_lengths=branch_lengths,
            prefix=prefix,
            image_start=image_start,
            predicting=np.array(predicting),
            targets=np.array(targets),
            weights=np.array(learned, dtype=np.float32),
            cells=np.stack([one.cells for one in shown]),
            cell_boxes=np.stack([one.cell_boxes for one in shown]),
        )
