"""A lean pass through the language model of a vision-language model, for decoding only.

The stock forward of transformers spends most of a decoding step outside of arithmetic: mask building, cache objects
and dozens of small operations a layer. Here the same weights are used with fused projections, a preallocated cache
and one explicit mask, and base and adapters share a batch (`grounding.decoding.lora`). `TextModel.agrees` compares
with the stock forward before anything is trusted to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from grounding.decoding.lora import FusedLora, LoraWeights, NewWords, fuse, plain_layer

_GROUPS = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))
_PROBE_TOKENS = 9
_KEPT_FUSIONS = 2
_WORTH_PACKING = 0.8  # more real columns than this share aren't packed
_FEW_QUERIES = 8  # below this plain products are faster on a CPU than the fused attention


class KeyValues:
    """Keys and values of a batch, written column by column; `visible` [rows, columns] says which count."""

    def __init__(self, layers: int, rows: int, heads: int, head_size: int, like: torch.Tensor, capacity: int) -> None:
        shape = (layers, rows, heads, capacity, head_size)
        self.keys = like.new_empty(shape)
        self.values = like.new_empty(shape)
        self.visible = torch.zeros(rows, capacity, dtype=torch.bool, device=like.device)
        self.length = 0

    def reserve(self, columns: int) -> None:
        """Make room for this many further columns."""
        missing = self.length + columns - self.keys.shape[3]
        if missing > 0:
            grow = max(missing, self.keys.shape[3] // 2)
            self.keys = F.pad(self.keys, (0, 0, 0, grow))
            self.values = F.pad(self.values, (0, 0, 0, grow))
            self.visible = F.pad(self.visible, (0, grow))

    def pick(self, rows: Sequence[int], capacity: int) -> KeyValues:
        """These rows (repeats allowed) with room for `capacity` columns in all."""
        layers, _, heads, _, head_size = self.keys.shape
        picked = KeyValues(layers, len(rows), heads, head_size, self.keys, capacity)
        for to, row in enumerate(rows):  # block by block: an indexed copy would need its own memory first
            picked.keys[:, to, :, : self.length] = self.keys[:, row, :, : self.length]
            picked.values[:, to, :, : self.length] = self.values[:, row, :, : self.length]
        picked.visible[:, : self.length] = self.visible[list(rows), : self.length]
        picked.length = self.length
        return picked


@dataclass(frozen=True)
class RowAdapters:
    """Which adapter each row uses: `fused[layer][group]` for all adapters of the call, `adapter_of_row` [rows]
    with -1 for the base, and the words that each adapter has of its own."""

    fused: list[list[FusedLora | None]]
    adapter_of_row: torch.Tensor
    words: tuple[NewWords | None, ...]

    def pick(self, rows: Sequence[int]) -> RowAdapters:
        return RowAdapters(self.fused, self.adapter_of_row[list(rows)], self.words)


@dataclass(frozen=True)
class _Layer:
    input_norm: tuple[torch.Tensor, float]
    post_norm: tuple[torch.Tensor, float]
    qk_norm: tuple[torch.Tensor, float] | None  # [heads + kv_heads, head_size], the same for all heads of a kind
    linears: tuple[Any, ...]  # one for each of _GROUPS


class TextModel:
    """The decoder layers of a Llama-like language model (Qwen2, Qwen3 and their vision-language kin).

    Raises `ValueError` naming what it doesn't know; the caller then decodes with the stock classes.
    """

    def __init__(self, language_model: Any, lm_head: Any) -> None:
        config = language_model.config
        if set(getattr(config, "layer_types", None) or ["full_attention"]) != {"full_attention"}:
            raise ValueError(f"layers of the types {sorted(set(config.layer_types))}")
        if getattr(config, "hidden_act", "silu") != "silu":
            raise ValueError(f"the activation {config.hidden_act}")
        lm_head = plain_layer(lm_head)
        head = getattr(lm_head, "weight", None)
        if head is None or head.ndim != 2 or not head.is_floating_point():
            raise ValueError("an output layer whose weights are packed")
        self.stock = language_model
        self.head = lm_head
        self.embed = plain_layer(language_model.get_input_embeddings())
        self.heads: int = config.num_attention_heads
        self.kv_heads: int = config.num_key_value_heads
        self.head_size: int = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.intermediate: int = config.intermediate_size
        self.norm = _norm(language_model.norm)
        self._fused_before: list[tuple[tuple[LoraWeights, ...], list[list[FusedLora | None]]]] = []
        self.layers = [_read_layer(layer, self.heads, self.kv_heads) for layer in language_model.layers]
        self.out_sizes = {
            "q_proj": self.heads * self.head_size,
            "k_proj": self.kv_heads * self.head_size,
            "v_proj": self.kv_heads * self.head_size,
            "o_proj": config.hidden_size,
            "gate_proj": self.intermediate,
            "up_proj": self.intermediate,
            "down_proj": config.hidden_size,
        }

    @property
    def device(self) -> torch.device:
        return self.embed.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embed.weight.dtype

    def new_cache(self, rows: int, capacity: int) -> KeyValues:
        like = self.embed.weight[:0]
        return KeyValues(len(self.layers), rows, self.kv_heads, self.head_size, like, capacity)

    def adapters(self, weights: Sequence[LoraWeights], adapter_of_row: Sequence[int]) -> RowAdapters | None:
        """The adapters of a call; None when every row uses the base."""
        if not weights or all(index < 0 for index in adapter_of_row):
            return None
        rows, words = torch.tensor(adapter_of_row, device=self.device), tuple(adapter.words for adapter in weights)
        return RowAdapters(self._fused(tuple(weights)), rows, words)

    def embeddings(self, ids: torch.Tensor, adapters: RowAdapters | None) -> torch.Tensor:
        """[rows, new, hidden] of the tokens [rows, new], each row with the words of its adapter."""
        found: torch.Tensor = self.embed(ids)
        if adapters is None:
            return found
        for index, words in enumerate(adapters.words):
            if words is not None:
                known, rows = words.find(ids)
                own = known & (adapters.adapter_of_row == index)[:, None]
                found = torch.where(own[..., None], words.rows[rows].to(found.dtype), found)
        return found

    def _fused(self, weights: tuple[LoraWeights, ...]) -> list[list[FusedLora | None]]:
        """The factors side by side; those of the last few calls are kept, told apart by identity."""
        for known, fused in self._fused_before:
            if len(known) == len(weights) and all(a is b for a, b in zip(known, weights, strict=True)):
                return fused
        layers = range(len(self.layers))
        fused = [[fuse(list(weights), layer, parts, self.out_sizes) for parts in _GROUPS] for layer in layers]
        self._fused_before = [(weights, fused), *self._fused_before[: _KEPT_FUSIONS - 1]]
        return fused

    def extend(
        self,
        embeddings: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor,
        cache: KeyValues,
        adapters: RowAdapters | None = None,
        deepstack: tuple[torch.Tensor, Sequence[torch.Tensor]] | None = None,
        real: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Hidden states [rows, new, hidden] of `new` further columns, written into the cache.

        `embeddings` [rows, new, hidden]; `positions` [axes, rows, new] with one axis or three; `mask` [rows, new,
        columns + new] bool, True where a new column looks. `deepstack`: flat places [n] of the visual columns in
        [rows * new], and for each of the first layers what is added there [n, hidden]. `real` [rows, new] bool says
        which new columns are more than padding; the states of the others are of no meaning.
        """
        rows, new, width = embeddings.shape
        cache.reserve(new)
        begin, end = cache.length, cache.length + new
        rope = self._rope(embeddings, positions)
        groups = self.heads // self.kv_heads
        # Query heads that share a key head stand as further queries, so keys are never copied for them.
        folded = mask[:, None, :, None].expand(rows, 1, new, groups, end).reshape(rows, 1, new * groups, end)
        folded = torch.zeros_like(folded, dtype=embeddings.dtype).masked_fill_(~folded, -math.inf)
        packing = _Packing(rows * new, real)
        loras = _RowLoras(adapters, new, packing)
        hidden = packing.pack(embeddings.reshape(rows * new, width))
        if deepstack is not None:
            deepstack = packing.places(deepstack[0]), deepstack[1]
        for index, layer in enumerate(self.layers):
            normed = _rms_norm(hidden, layer.input_norm)
            qkv = loras.add(layer.linears[0](normed), normed, index, 0)
            keys, values = cache.keys[index, :, :, :end], cache.values[index, :, :, :end]
            by_row = packing.spread(qkv).view(rows, new, -1)
            query = self._write_keys(by_row, layer, rope, keys[:, :, begin:], values[:, :, begin:])
            attended = packing.pack(self._unfold(_attend(query, keys, values, folded), rows, new))
            hidden = hidden + loras.add(layer.linears[1](attended), attended, index, 1)
            normed = _rms_norm(hidden, layer.post_norm)
            both = loras.add(layer.linears[2](normed), normed, index, 2)
            inner = F.silu(both[:, : self.intermediate]).mul_(both[:, self.intermediate :])
            hidden = hidden + loras.add(layer.linears[3](inner), inner, index, 3)
            if deepstack is not None and index < len(deepstack[1]):
                hidden = hidden.index_add(0, deepstack[0], deepstack[1][index])
        cache.length = end
        return packing.spread(hidden).view(rows, new, width)

    def _rope(self, embeddings: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and signed sine [rows, new, 1, head_size] of the stock model."""
        cos, sin = self.stock.rotary_emb(embeddings, positions if len(positions) > 1 else positions[0])
        half = sin.shape[-1] // 2
        signed = torch.cat((-sin[..., :half], sin[..., half:]), dim=-1)
        return cos[:, :, None], signed[:, :, None]

    def _write_keys(
        self,
        qkv: torch.Tensor,
        layer: _Layer,
        rope: tuple[torch.Tensor, torch.Tensor],
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> torch.Tensor:
        """Rotated keys and values go to their place; returns the queries [rows, kv_heads, new * groups, head_size]."""
        rows, new, _ = qkv.shape
        size = self.head_size
        by_head = qkv.view(rows, new, self.heads + 2 * self.kv_heads, size)
        states, value = by_head.split((self.heads + self.kv_heads, self.kv_heads), dim=2)
        if layer.qk_norm is not None:
            states = _rms_norm(states, layer.qk_norm)
        query, key = _rotate(states, rope).split((self.heads, self.kv_heads), dim=2)
        keys.copy_(key.transpose(1, 2))
        values.copy_(value.transpose(1, 2))
        query = query.view(rows, new, self.kv_heads, -1, size).permute(0, 2, 1, 3, 4)
        return query.reshape(rows, self.kv_heads, -1, size)

    def _unfold(self, attended: torch.Tensor, rows: int, new: int) -> torch.Tensor:
        """[rows * new, heads * head_size]."""
        by_head = attended.view(rows, self.kv_heads, new, -1, self.head_size)
        return by_head.transpose(1, 2).reshape(rows * new, -1)

    def logits(self, hidden: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
        """[n, tokens] for hidden states [n, hidden], over the tokens of `head_of`."""
        return F.linear(_rms_norm(hidden, self.norm), head).float()

    def head_of(self, tokens: Sequence[int]) -> torch.Tensor:
        """The rows of the output layer for these tokens: nothing else has to be computed."""
        weight = self.head.weight
        return weight[torch.tensor(tokens, device=weight.device)]

    @torch.inference_mode()
    def agrees(self) -> bool:
        """Whether this pass computes what the stock forward does, on a few tokens in two chunks."""
        vocabulary = self.embed.weight.shape[0]
        ids = torch.arange(1, _PROBE_TOKENS + 1, device=self.device)[None] * 7919 % vocabulary
        positions = torch.arange(_PROBE_TOKENS, device=self.device)
        stock = self.stock(input_ids=ids, use_cache=False).last_hidden_state[0]
        cache = self.new_cache(1, 4)  # too small on purpose: growing is part of what is checked
        axes = positions.expand(3, 1, -1) if _takes_axes(self.stock) else positions.expand(1, 1, -1)
        causal = torch.ones(_PROBE_TOKENS, _PROBE_TOKENS, dtype=torch.bool, device=self.device).tril()[None]
        parts = []
        for chunk in (slice(0, 5), slice(5, _PROBE_TOKENS)):
            embeddings = self.embed(ids[:, chunk])
            parts.append(self.extend(embeddings, axes[:, :, chunk], causal[:, chunk, : chunk.stop], cache)[0])
        lean = _rms_norm(torch.cat(parts), self.norm)
        scale = stock.float().abs().mean().clamp_min(1e-6)
        tolerance = 1e-3 if self.dtype == torch.float32 else 5e-2
        return bool((lean.float() - stock.float()).abs().mean() / scale < tolerance)


class _Packing:
    """Rows wait for each other, so many columns of a batch are padding: only real tokens go through the products.

    Where little would be won, everything stays as it is.
    """

    def __init__(self, columns: int, real: torch.Tensor | None) -> None:
        self.columns = columns
        self.kept = None if real is None else real.flatten().nonzero()[:, 0]
        if self.kept is not None and len(self.kept) > _WORTH_PACKING * columns:
            self.kept = None

    def pack(self, states: torch.Tensor) -> torch.Tensor:
        """[columns, size] -> [tokens, size]."""
        return states if self.kept is None else states[self.kept]

    def spread(self, states: torch.Tensor) -> torch.Tensor:
        """[tokens, size] -> [columns, size], zeros where there was padding."""
        if self.kept is None:
            return states
        return states.new_zeros(self.columns, states.shape[-1]).index_copy_(0, self.kept, states)

    def places(self, columns: torch.Tensor) -> torch.Tensor:
        """Places among the columns as places among the tokens."""
        return columns if self.kept is None else torch.searchsorted(self.kept, columns)


class _RowLoras:
    """Adds each row's adapter to the fused layers, remembering the masks: nearly all layers share their ranks."""

    def __init__(self, adapters: RowAdapters | None, new: int, packing: _Packing) -> None:
        self.adapters = adapters
        self.new = new
        self.packing = packing
        self._masks: dict[tuple[int, ...], torch.Tensor] = {}

    def add(self, output: torch.Tensor, inputs: torch.Tensor, layer: int, group: int) -> torch.Tensor:
        """`output` [tokens, out], changed in place, with what the adapters make of `inputs` [tokens, in]."""
        lora = None if self.adapters is None else self.adapters.fused[layer][group]
        if lora is None:
            return output
        low = torch.mm(inputs, lora.a).masked_fill_(self._others(lora), 0.0)  # [tokens, rank]
        return output.addmm_(low, lora.b)

    def _others(self, lora: FusedLora) -> torch.Tensor:
        """[tokens, rank] bool: which ranks are not the token's own."""
        assert self.adapters is not None
        if lora.owner not in self._masks:
            owner = torch.tensor(lora.owner, device=self.adapters.adapter_of_row.device)
            others = self.adapters.adapter_of_row[:, None] != owner
            self._masks[lora.owner] = self.packing.pack(others.repeat_interleave(self.new, dim=0))
        return self._masks[lora.owner]


def _takes_axes(language_model: Any) -> bool:
    return "mrope_section" in (getattr(language_model.config, "rope_parameters", None) or {}) or hasattr(
        language_model.rotary_emb, "mrope_section"
    )


def _rotate(states: torch.Tensor, rope: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Rotary embedding: each half of the last axis with the other one, by cosine and signed sine."""
    cos, signed_sin = rope
    return torch.addcmul(states * cos, states.roll(states.shape[-1] // 2, -1), signed_sin)


def _rms_norm(states: torch.Tensor, norm: tuple[torch.Tensor, float]) -> torch.Tensor:
    """RMS norm over the last axis. The weight may have one row a head."""
    weight, eps = norm
    if states.device.type == "cpu" and states.dtype == torch.float32:
        # Four small operations: PyTorch's own takes three times as long on a few rows.
        return states * torch.rsqrt(states.square().mean(-1, keepdim=True) + eps) * weight
    if weight.ndim == 1:
        return F.rms_norm(states, states.shape[-1:], weight, eps)
    return F.rms_norm(states, states.shape[-1:], None, eps) * weight


def _attend(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Attention [rows, heads, queries, head_size]; `mask` [rows, 1, queries, columns] is added to the scores."""
    if query.device.type == "cpu" and query.shape[2] < _FEW_QUERIES:
        scores = torch.add(mask, torch.matmul(query, keys.transpose(-1, -2)), alpha=query.shape[-1] ** -0.5)
        return torch.matmul(scores.softmax(-1), values)
    return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)


def _norm(module: Any) -> tuple[torch.Tensor, float]:
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if eps is None or not hasattr(module, "weight"):
        raise ValueError(f"the norm {type(module).__name__}")
    return module.weight, float(eps)


def _qk_norm(attention: Any, heads: int, kv_heads: int) -> tuple[torch.Tensor, float] | None:
    query, key = getattr(attention, "q_norm", None), getattr(attention, "k_norm", None)
    if query is None or key is None:
        return None
    (query_weight, eps), (key_weight, key_eps) = _norm(query), _norm(key)
    if eps != key_eps or query_weight.ndim != 1 or query_weight.shape != key_weight.shape:
        raise ValueError("query and key norms that differ")
    return torch.cat([query_weight.expand(heads, -1), key_weight.expand(kv_heads, -1)]), eps


def _read_layer(layer: Any, heads: int, kv_heads: int) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    if getattr(attention, "sliding_window", None) is not None:
        raise ValueError("sliding windows")
    modules = {name: getattr(attention, name) for name in ("q_proj", "k_proj", "v_proj", "o_proj")}
    modules |= {name: getattr(mlp, name) for name in ("gate_proj", "up_proj", "down_proj")}
    return _Layer(
        input_norm=_norm(layer.input_layernorm),
        post_norm=_norm(layer.post_attention_layernorm),
        qk_norm=_qk_norm(attention, heads, kv_heads),
        linears=tuple(_fused_linear([modules[name] for name in group]) for group in _GROUPS),
    )


def _fused_linear(modules: Sequence[Any]) -> Any:
    """The outputs of these layers one after the other: a single product where their weights are plain tensors.

    The stock layers go on with views of the same memory. On a CPU it is laid out the other way round, [in, out],
    which takes half the time for a few rows.
    """
    modules = [getattr(module, "base_layer", module) for module in modules]  # under a LoRA layer of peft
    if not all(type(module) is torch.nn.Linear for module in modules):
        if len(modules) == 1:
            return modules[0]
        return lambda inputs: torch.cat([module(inputs) for module in modules], dim=-1)
    weight = one_above_the_other([module.weight.detach() for module in modules])  # [out, in]
    if weight.device.type == "cpu":
        weight = weight.t().contiguous().t()  # as it is where an earlier pass laid it out so
    begin = 0
    for module in modules:
        module.weight.data = weight[begin : begin + len(module.weight)]
        begin += len(module.weight)
    turned = weight.t()
    if all(module.bias is None for module in modules):
        return lambda inputs: torch.mm(inputs, turned)
    bias = torch.cat([_bias(module) for module in modules])
    return lambda inputs: torch.addmm(bias, inputs, turned)


def one_above_the_other(weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """[sum of out, in]: the weights [out, in] as one tensor. No copy where an earlier pass made them views of one, so
    that several passes on a model share its memory."""
    first, begin = weights[0], weights[0].storage_offset()
    for weight in weights:
        same = weight.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if not (same and weight.stride() == first.stride() and weight.storage_offset() == begin):
            return torch.cat(list(weights))
        begin += len(weight) * weight.stride(0)
    return first.as_strided((sum(len(weight) for weight in weights), first.shape[1]), first.stride())


def _bias(linear: torch.nn.Linear) -> torch.Tensor:
    return linear.weight.new_zeros(len(linear.weight)) if linear.bias is None else linear.bias.detach()
