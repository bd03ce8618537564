"""The pass through a stock Qwen3-VL for training from nothing: pictures of one grid as one batch, many questions each.

The stock tower attends picture by picture in a loop, which was the slow part on a GPU; here attention runs over
[pictures, patches] at once. `tests/grounding/demo/test_pretrain_passes.py` holds both against the stock model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers.models.qwen3_vl.modeling_qwen3_vl import (
    apply_rotary_pos_emb_vision,
    get_vision_interpolation_indices_and_weights,
    get_vision_position_ids,
)

from grounding.demo.pretrain.settings import CELL_PX


@dataclass(frozen=True, eq=False)
class Seen:
    """What the tower makes of pictures: `pooled` and each of `deepstack` [pictures, cells, text width]."""

    pooled: torch.Tensor
    deepstack: tuple[torch.Tensor, ...]


def patches_of(pixels: torch.Tensor, patch_px: int, merge: int) -> torch.Tensor:
    """[pictures, height, width, 3] uint8 -> [pictures, patches, 3 * 2 * patch_px * patch_px] float, as the processor
    lays them out: cell by cell, the patches of a cell row by row, from -1.0 to 1.0, each twice (two frames)."""
    pictures, height, width, _ = pixels.shape
    rows, columns = height // CELL_PX, width // CELL_PX
    cut = pixels.permute(0, 3, 1, 2).reshape(pictures, 3, rows, merge, patch_px, columns, merge, patch_px)
    cut = cut.permute(0, 2, 5, 3, 6, 1, 4, 7)  # picture, row, column, row and column in the cell, colour, y, x
    flat = cut.reshape(pictures, rows * columns * merge * merge, 3, 1, patch_px * patch_px)
    return (flat.float() / 127.5 - 1.0).expand(-1, -1, -1, 2, -1).flatten(2)


def see(visual: Any, patches: torch.Tensor, grid: tuple[int, int]) -> Seen:
    """The tower's pass for pictures of one grid (rows, columns of cells), as the stock tower's forward."""
    pictures, count, _ = patches.shape
    merge = visual.spatial_merge_size
    thw = torch.tensor([[1, grid[0] * merge, grid[1] * merge]], device=patches.device)
    indices, weights = get_vision_interpolation_indices_and_weights(
        thw,
        num_grid_per_side=visual.num_grid_per_side,
        mode=visual.interpolation_mode,
        align_corners=visual.interpolation_align_corners,
        spatial_merge_size=merge,
    )
    places = (visual.pos_embed(indices) * weights[:, :, None]).sum(1)
    hidden = visual.patch_embed(patches.flatten(0, 1)).view(pictures, count, -1) + places
    rotary = visual.rotary_pos_emb(hidden, get_vision_position_ids(thw, merge))
    levels = []
    for index, block in enumerate(visual.blocks):
        hidden = hidden + _attend(block.attn, block.norm1(hidden), rotary)
        hidden = hidden + block.mlp(block.norm2(hidden))
        if index in visual.deepstack_visual_indexes:
            merger = visual.deepstack_merger_list[visual.deepstack_visual_indexes.index(index)]
            levels.append(merger(hidden.flatten(0, 1)).view(pictures, grid[0] * grid[1], -1))
    return Seen(visual.merger(hidden.flatten(0, 1)).view(pictures, grid[0] * grid[1], -1), tuple(levels))


def _attend(attention: Any, hidden: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    pictures, count, width = hidden.shape
    query, key, value = (
        attention.qkv(hidden).view(pictures, count, 3, attention.num_heads, -1).permute(2, 0, 1, 3, 4).unbind(0)
    )
    query, key = apply_rotary_pos_emb_vision(query, key, *rotary)
    mixed = functional.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), scale=attention.scaling
    )
    return attention.proj(mixed.transpose(1, 2).reshape(pictures, count, width))


class Reader:
    """The language model's pass over rows of questions, and the logits where something is learned."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._positions: dict[tuple[tuple[int, int], int], torch.Tensor] = {}

    def logits(
        self, seen: Seen, ids: torch.Tensor, learned: torch.Tensor, image_start: int, grid: tuple[int, int]
    ) -> torch.Tensor:
        """[learned tokens, vocabulary]: what the model says at the place before each token of `ids` [rows, length]
        that `learned` [rows, length] names. Rows of one picture follow each other."""
        text = self.model.model.language_model
        rows = ids.shape[0]
        each = rows // seen.pooled.shape[0]
        cells = seen.pooled.shape[1]
        words = text.embed_tokens(ids)
        shown = seen.pooled.to(words.dtype).repeat_interleave(each, 0)
        words = torch.cat([words[:, :image_start], shown, words[:, image_start + cells :]], 1)
        visual = torch.zeros_like(ids, dtype=torch.bool)
        visual[:, image_start : image_start + cells] = True
        hidden = text(
            inputs_embeds=words,
            position_ids=self._positions_of(grid, image_start, ids.shape[1]).to(ids.device).expand(-1, rows, -1),
            visual_pos_masks=visual,
            deepstack_visual_embeds=[
                level.to(words.dtype).repeat_interleave(each, 0).flatten(0, 1) for level in seen.deepstack
            ],
            use_cache=False,
        ).last_hidden_state
        scores: torch.Tensor = self.model.lm_head(hidden[:, :-1][learned[:, 1:]])
        return scores

    def _positions_of(self, grid: tuple[int, int], image_start: int, length: int) -> torch.Tensor:
        """[3, 1, length]: M-RoPE positions of a row with this grid at this place, as the stock model gives them."""
        key = (grid, length)
        if key not in self._positions:
            merge = self.model.config.vision_config.spatial_merge_size
            kinds = torch.zeros((1, length), dtype=torch.int32)
            kinds[:, image_start : image_start + grid[0] * grid[1]] = 1
            thw = torch.tensor([[1, grid[0] * merge, grid[1] * merge]])
            self._positions[key] = self.model.model.get_rope_index(
                torch.zeros((1, length), dtype=torch.int64), mm_token_type_ids=kinds, image_grid_thw=thw
            )[0]
        return self._positions[key]
