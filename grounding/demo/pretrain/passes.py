"""The pass through a stock Qwen3-VL for training from nothing: pictures of one grid as one batch, many questions each.

The stock tower attends picture by picture in a loop, which was the slow part on a GPU; here attention runs over
[pictures, patches] at once. The questions of a picture share its tokens, and padding isn't computed, which leaves
about a third of what a row for each question would be. `tests/grounding/demo/test_pretrain.py` holds both against the
stock model.
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

from grounding.demo.pretrain.answers import StepBatch
from grounding.demo.pretrain.settings import CELL_PX
from grounding.training.layout import Layout
from grounding.training.lean_functions import Gated, Rotate


@dataclass(frozen=True, eq=False)
class Seen:
    """What the tower makes of pictures: `pooled` and each of `deepstack` [pictures, cells, text width]."""

    pooled: torch.Tensor
    deepstack: tuple[torch.Tensor, ...]


def patches_of(pixels: torch.Tensor, patch_px: int, merge: int) -> torch.Tensor:
    """[pictures, height, width, 3] uint8 -> [pictures, patches, 3 * patch_px * patch_px] float, as the processor lays
    them out but once instead of for two frames: cell by cell, the patches of a cell row by row, from -1.0 to 1.0."""
    pictures, height, width, _ = pixels.shape
    rows, columns = height // CELL_PX, width // CELL_PX
    cut = pixels.permute(0, 3, 1, 2).reshape(pictures, 3, rows, merge, patch_px, columns, merge, patch_px)
    cut = cut.permute(0, 2, 5, 3, 6, 1, 4, 7)  # picture, row, column, row and column in the cell, colour, y, x
    flat = cut.reshape(pictures, rows * columns * merge * merge, 3 * patch_px * patch_px)
    return flat.float() / 127.5 - 1.0


class Tower:
    """The vision tower over pictures of one grid at a time, as the stock tower's forward."""

    def __init__(self, visual: Any) -> None:
        self.visual = visual
        self._grids: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]] = {}

    def see(self, patches: torch.Tensor, grid: tuple[int, int]) -> Seen:
        """What it makes of `patches` [pictures, patches, ...], as `patches_of` gives them, of a grid (rows, columns) of
        cells."""
        visual, pictures = self.visual, len(patches)
        indices, weights, rotary = self._of_grid(grid, patches)
        places = (visual.pos_embed(indices) * weights).sum(1)
        # The stock convolution over patches that don't overlap is a product; its gradient is ten times as quick as one,
        # and both frames are the same picture.
        embed = visual.patch_embed.proj
        first, second = embed.weight.unbind(2)
        hidden = functional.linear(patches, (first + second).flatten(1), embed.bias) + places
        levels = []
        for index, block in enumerate(visual.blocks):
            hidden = hidden + _attend(block.attn, block.norm1(hidden), rotary)
            hidden = hidden + block.mlp(block.norm2(hidden))
            if index in visual.deepstack_visual_indexes:
                merger = visual.deepstack_merger_list[visual.deepstack_visual_indexes.index(index)]
                levels.append(merger(hidden.flatten(0, 1)).view(pictures, grid[0] * grid[1], -1))
        return Seen(visual.merger(hidden.flatten(0, 1)).view(pictures, grid[0] * grid[1], -1), tuple(levels))

    @torch.no_grad()
    def _of_grid(
        self, grid: tuple[int, int], like: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Of a grid: which learned positions count how much for each patch, and its angles."""
        if grid not in self._grids:
            visual, merge = self.visual, self.visual.spatial_merge_size
            thw = torch.tensor([[1, grid[0] * merge, grid[1] * merge]], device=like.device)
            indices, weights = get_vision_interpolation_indices_and_weights(
                thw,
                num_grid_per_side=visual.num_grid_per_side,
                mode=visual.interpolation_mode,
                align_corners=visual.interpolation_align_corners,
                spatial_merge_size=merge,
            )
            rotary = visual.rotary_pos_emb(like, get_vision_position_ids(thw, merge))
            self._grids[grid] = indices, weights[:, :, None], rotary
        return self._grids[grid]


def _attend(attention: Any, hidden: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    pictures, count, width = hidden.shape
    query, key, value = (
        attention.qkv(hidden).view(pictures, count, 3, attention.num_heads, -1).permute(2, 0, 1, 3, 4).unbind(0)
    )
    query, key = apply_rotary_pos_emb_vision(query, key, *rotary)
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    if query.device.type == "cpu":
        # In bfloat16 PyTorch's fused attention takes twice as long on a CPU, forward and backward.
        scores = torch.matmul(query, key.transpose(-1, -2)) * attention.scaling
        mixed = torch.matmul(scores.softmax(-1), value)
    else:
        mixed = functional.scaled_dot_product_attention(query, key, value, scale=attention.scaling)
    return attention.proj(mixed.transpose(1, 2).reshape(pictures, count, width))


class Reader:
    """The language model's pass over packed rows, a picture and all of its questions each, and the logits where
    something is learned."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._positions: dict[tuple[tuple[int, int], int], torch.Tensor] = {}

    def logits(self, seen: Seen, batch: StepBatch) -> torch.Tensor:
        """[learned tokens, vocabulary]: what the model says at the places `batch.predicting`."""
        text, device = self.model.model.language_model, seen.pooled.device
        cells = seen.pooled.shape[1]
        ids, places = (torch.from_numpy(one).to(device) for one in (batch.ids, batch.places))
        layout = Layout.of([batch.prefix] * len(ids), batch.branch_lengths, ids.shape[1], device)
        wanted = torch.searchsorted(layout.real, torch.from_numpy(batch.predicting).to(device))
        # Tokens that aren't padding, one after the other; a picture's stand together, its cells after its beginning.
        per_row = torch.tensor([batch.prefix + sum(sizes) for sizes in batch.branch_lengths], device=device)
        first_cell = per_row.cumsum(0) - per_row + batch.image_start
        visual = (first_cell[:, None] + torch.arange(cells, device=device)).flatten()
        hidden = text.embed_tokens(ids.flatten()[layout.real])
        hidden = hidden.index_copy(0, visual, seen.pooled.flatten(0, 1).to(hidden.dtype))
        angles = self._positions_of(batch).to(device)[:, :, places.flatten()[layout.real]]
        cos, sin = (one[0, :, None] for one in text.rotary_emb(hidden, angles))
        half = sin.shape[-1] // 2
        signed = torch.cat((-sin[..., :half], sin[..., half:]), dim=-1)
        last = len(text.layers) - 1
        for index, layer in enumerate(text.layers):
            hidden = _layer(layer, hidden, (cos, signed), layout, wanted if index == last else None)
            if index < min(last, len(seen.deepstack)):  # after the last layer no visual token is left
                level = seen.deepstack[index].flatten(0, 1)
                hidden = hidden.index_add(0, visual, level.to(hidden.dtype))
        scores: torch.Tensor = self.model.lm_head(_norm(hidden, text.norm))
        return scores

    def _positions_of(self, batch: StepBatch) -> torch.Tensor:
        """[3, 1, length]: M-RoPE positions of a question alone with its picture, as the stock model gives them."""
        grid, length = batch.grid, int(batch.places.max()) + 1
        if (grid, length) not in self._positions:
            merge = self.model.config.vision_config.spatial_merge_size
            kinds = torch.zeros((1, length), dtype=torch.int32)
            kinds[:, batch.image_start : batch.image_start + grid[0] * grid[1]] = 1
            thw = torch.tensor([[1, grid[0] * merge, grid[1] * merge]])
            self._positions[grid, length] = self.model.model.get_rope_index(
                torch.zeros((1, length), dtype=torch.int64), mm_token_type_ids=kinds, image_grid_thw=thw
            )[0]
        return self._positions[grid, length]


def _layer(
    layer: Any,
    hidden: torch.Tensor,
    rope: tuple[torch.Tensor, torch.Tensor],
    layout: Layout,
    wanted: torch.Tensor | None,
) -> torch.Tensor:
    """One decoder layer [tokens, width]; of the last one only the rows `wanted` go on after the attention."""
    attention, mlp = layer.self_attn, layer.mlp
    weights = [attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]
    sizes = [len(weight) for weight in weights]
    together = functional.linear(_norm(hidden, layer.input_layernorm), torch.cat(weights))
    query, key, value = (part.unflatten(-1, (-1, attention.head_dim)) for part in together.split(sizes, dim=-1))
    query, key = (
        Rotate.apply(_norm(states, norm), *rope).to(together.dtype)
        for states, norm in ((query, attention.q_norm), (key, attention.k_norm))
    )
    attended = layout.attend(query, key, value, wanted)
    hidden = (hidden if wanted is None else hidden[wanted]) + attention.o_proj(attended)
    both = functional.linear(
        _norm(hidden, layer.post_attention_layernorm), torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])
    )
    return hidden + mlp.down_proj(Gated.apply(both))


def _norm(states: torch.Tensor, norm: Any) -> torch.Tensor:
    wide = states.float()
    return functional.rms_norm(wide, wide.shape[-1:], norm.weight, norm.variance_epsilon)
