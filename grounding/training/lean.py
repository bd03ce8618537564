"""A lean training pass through a language model with LoRA: the same weights and results, about half the time.

Four things make the stock forward slow on packed sequences. It attends over the whole square of a sequence, though a
branch sees only the prefix and itself: here the prefixes attend among themselves, and each branch to its picture's
prefix and itself. It computes padding: here only real tokens go through the layers. Under peft every linear layer is
three products and several casts: here q, k and v, and gate and up, are one product, with all their adapters beside it
(`LoraGroup`). And it computes every token of the last layer: here only those that predict.

`StepLogits` compares with the stock forward on the first batch of a run before it trusts this pass; whatever this
pass does not know (DoRA, dropout, quantised weights, other layers) goes module by module, or the stock way.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from grounding.decoding.lora import live_words
from grounding.decoding.text_model import TextModel, one_above_the_other
from grounding.engine import ImageFeatures, text_family
from grounding.models import LoadedModel
from grounding.training.batches import PackedBatch, packed_logits
from grounding.training.layout import Layout
from grounding.training.lean_functions import Gated, LoraGroup, RmsNorm, Rotate

log = logging.getLogger(__name__)

_GROUPS = (
    ("self_attn", ("q_proj", "k_proj", "v_proj")),
    ("self_attn", ("o_proj",)),
    ("mlp", ("gate_proj", "up_proj")),
    ("mlp", ("down_proj",)),
)
_AGREEMENT = {torch.float32: 2e-3, torch.float64: 1e-6}  # mean difference / mean size of the logits; others 5e-2


class StepLogits:
    """How the steps of a run compute their logits: leanly where that agrees with the stock forward on the first batch.

    `reason` says in a sentence what was chosen and why, once a batch was seen.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.reason = ""
        self._lean: LeanPass | None = None
        parts = text_family(loaded).text_parts(loaded)
        try:
            self._lean = LeanPass(*parts) if parts is not None else None
        except (ValueError, AttributeError) as error:
            self.reason = f"The steps use the stock forward: the language model has {error}."

    def __call__(self, batch: PackedBatch, features: Sequence[ImageFeatures]) -> torch.Tensor:
        """[n, vocabulary]: logits at the positions whose next token is supervised, as `packed_logits` gives them."""
        self.choose(batch, features)
        if self._lean is None:
            return packed_logits(self.loaded, batch, features)
        return self._lean.logits(batch, features)

    @property
    def is_lean(self) -> bool:
        """Whether the lean pass is what computes. False until a batch has decided."""
        return bool(self.reason) and self._lean is not None

    @torch.no_grad()
    def choose(self, batch: PackedBatch, features: Sequence[ImageFeatures]) -> None:
        """Decide by this batch, if none has decided before. Not for several threads at once."""
        lean = self._lean
        if self.reason or lean is None:
            return
        model = self.loaded.model
        training = model.training
        model.eval()  # with dropout no two passes are alike
        stock, ours = packed_logits(self.loaded, batch, features).float(), lean.logits(batch, features).float()
        model.train(training)
        difference = float((stock - ours).abs().mean() / stock.abs().mean().clamp_min(1e-6))
        if difference < _AGREEMENT.get(lean.compute_dtype(), 5e-2):
            self.reason = "The steps use a lean pass that agrees with the stock forward."
        else:
            self._lean = None
            self.reason = f"The steps use the stock forward: the lean pass differs from it by {difference:.2g}."
            log.warning(self.reason)


class LeanPass:
    """The decoder of a Llama-like language model, for packed training batches.

    Raises `ValueError` or `AttributeError` naming what it doesn't know. Make it after LoRA is attached.
    """

    def __init__(self, language_model: Any, lm_head: Any) -> None:
        if getattr(language_model.config, "attention_dropout", 0.0):
            raise ValueError("dropout in its attention")
        self.text = TextModel(language_model, lm_head)  # checks the layers, lays fused weights side by side
        self.stock = language_model
        self.lm_head = lm_head
        self.groups = [
            [Projection([getattr(getattr(layer, block), name) for name in names]) for block, names in _GROUPS]
            for layer in language_model.layers
        ]

    def compute_dtype(self) -> torch.dtype:
        """In what the products are computed: the type of the autocast around, else that of the weights."""
        kind = self.text.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.text.dtype

    def logits(self, batch: PackedBatch, features: Sequence[ImageFeatures]) -> torch.Tensor:
        """[n, vocabulary] at the positions whose next token is supervised."""
        dtype = self.compute_dtype()
        with torch.autocast(self.text.device.type, enabled=False):
            layout = Layout.of(
                batch.prefix_lengths, batch.branch_lengths, batch.input_ids.shape[1], batch.input_ids.device
            )
            hidden = self._hidden(batch, features, layout, dtype)
            normed = _norm(hidden, self.text.norm, dtype)
            head = self.text.head
            logits = F.linear(normed, head.weight.to(dtype), None if head.bias is None else head.bias.to(dtype))
            words = live_words(self.lm_head)  # where the output layer has the embeddings' weights
            if words is None:
                return logits
            return logits.index_copy(1, words.token_ids, F.linear(normed, words.rows.to(dtype)))

    def _embeddings(self, ids: torch.Tensor) -> torch.Tensor:
        """[tokens, hidden] in the type of the base's embeddings; gradients flow into the new words alone."""
        # With checkpointing, transformers has gradients flow into the embeddings: nobody needs them here.
        embeddings: torch.Tensor = self.text.embed(ids).detach()
        words = live_words(self.stock.get_input_embeddings())
        if words is None:
            return embeddings
        known, rows = words.find(ids)
        return embeddings.index_copy(0, known.nonzero()[:, 0], words.rows[rows[known]].to(embeddings.dtype))

    def _hidden(
        self, batch: PackedBatch, features: Sequence[ImageFeatures], layout: Layout, dtype: torch.dtype
    ) -> torch.Tensor:
        """[n, hidden] of the last layer, where the next token is supervised."""
        hidden = self._embeddings(batch.input_ids.flatten()[layout.real])  # [tokens, hidden]
        visual = batch.visual_mask.flatten()[layout.real].nonzero()[:, 0]
        pooled = torch.cat([feature.pooled for feature in features]).to(hidden.dtype)
        hidden = hidden.index_copy(0, visual, pooled)
        levels = [
            torch.cat([feature.deepstack[level] for feature in features]).to(hidden.dtype)
            for level in range(len(features[0].deepstack))
        ]
        rope = self._rope(hidden, batch.position_ids.flatten(1)[:, layout.real], dtype)
        wanted = torch.searchsorted(layout.real, batch.predicting)
        last = len(self.groups) - 1
        for index in range(len(self.groups)):
            given = (hidden, rope, layout, wanted if index == last else None, dtype)
            stock = self.stock.layers[index]
            if getattr(stock, "gradient_checkpointing", False) and stock.training:
                hidden = checkpoint(self._layer, index, *given, use_reentrant=False)
            else:
                hidden = self._layer(index, *given)
            if index < min(last, len(levels)):  # after the last layer no visual token is left
                hidden = hidden.index_add(0, visual, levels[index])
        return hidden

    def _layer(
        self,
        index: int,
        hidden: torch.Tensor,
        rope: tuple[torch.Tensor, torch.Tensor],
        layout: Layout,
        wanted: torch.Tensor | None,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        """One decoder layer [tokens, hidden]; of the last one only the rows `wanted` go on after the attention."""
        layer, (qkv, out, gate_up, down) = self.text.layers[index], self.groups[index]
        text = self.text
        normed = _norm(hidden, layer.input_norm, dtype)
        by_head = qkv(normed).unflatten(-1, (-1, text.head_size))
        states, values = by_head.split((text.heads + text.kv_heads, text.kv_heads), dim=1)
        if not normed.requires_grad and qkv.frozen_but_last:
            states = states.detach()  # in the first layer, nothing before them learns
        if layer.qk_norm is not None:
            states = _norm(states, layer.qk_norm, dtype)
        queries, keys = Rotate.apply(states, *rope).split((text.heads, text.kv_heads), dim=1)
        attended = layout.attend(queries, keys, values, wanted)  # [tokens, heads * head_size]
        if wanted is not None:
            hidden = hidden.index_select(0, wanted)
        hidden = hidden + out(attended)
        both = gate_up(_norm(hidden, layer.post_norm, dtype))
        return hidden + down(Gated.apply(both))

    def _rope(
        self, hidden: torch.Tensor, positions: torch.Tensor, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and signed sine [tokens, 1, head_size] of the stock model for positions [axes, tokens]."""
        rows = positions[:, None]
        cos, sin = self.stock.rotary_emb(hidden, rows if len(rows) > 1 else rows[0])
        half = sin.shape[-1] // 2
        signed = torch.cat((-sin[..., :half], sin[..., half:]), dim=-1)
        if cos.ndim != 3:
            raise ValueError("positions that are not yet one angle a token")
        return cos[0, :, None].to(dtype), signed[0, :, None].to(dtype)


class Projection:
    """Linear layers that share their input, with plain LoRA or none on each: one product for all of them.

    Where one is more than that (dropout, DoRA, quantised weights), each module computes its own.
    """

    def __init__(self, modules: Sequence[Any]) -> None:
        self.modules = modules
        self.bases = [getattr(module, "base_layer", module) for module in modules]
        self.factors = [_plain_factors(module) for module in modules]
        self.fused = all(factors is not None for factors in self.factors)
        self.frozen_but_last = all(factors == () for factors in self.factors[:-1])
        self._weights: dict[torch.dtype, tuple[torch.Tensor, torch.Tensor | None]] = {}

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """[tokens, sum of out] for [tokens, in]."""
        if not self.fused:
            weight, kind = self.bases[0].weight, inputs.device.type
            lower = weight.is_floating_point() and weight.dtype != inputs.dtype
            with torch.autocast(kind, dtype=inputs.dtype if lower else None, enabled=lower):
                outputs = [module(inputs).to(inputs.dtype) for module in self.modules]
            return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)
        weight, bias = self._base(inputs.dtype)
        spans, factors, begin = [], [], 0
        for base, pair in zip(self.bases, self.factors, strict=True):
            if pair:
                a, b, scaling = pair
                spans.append((begin, begin + base.out_features, scaling))
                factors += [a, b]
            begin += base.out_features
        output: torch.Tensor = LoraGroup.apply(inputs, weight, bias, tuple(spans), *factors)
        return output

    def _base(self, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The frozen weights [sum of out, in] and biases in this type; kept, for they never change."""
        if dtype not in self._weights:
            weight = one_above_the_other([base.weight.detach() for base in self.bases]).to(dtype)
            bias = None
            if any(base.bias is not None for base in self.bases):
                zeros = [base.weight.new_zeros(len(base.weight)) for base in self.bases]
                known = [zero if base.bias is None else base.bias for base, zero in zip(self.bases, zeros, strict=True)]
                bias = torch.cat(known).detach().to(dtype)
            self._weights[dtype] = weight, bias
        return self._weights[dtype]


def _plain_factors(module: Any) -> tuple[torch.Tensor, torch.Tensor, float] | tuple[()] | None:
    """A, B and the scaling of a linear layer with plain LoRA; () for one without; None for anything else."""
    base = getattr(module, "base_layer", module)
    if type(base) is not torch.nn.Linear or base.weight.requires_grad:
        return None
    if base is module:
        return ()
    names = [name for name in module.active_adapters if name in module.lora_A]
    if module.disable_adapters or module.merged or len(names) != 1 or getattr(module, "lora_variant", None):
        return None
    a, b = module.lora_A[names[0]], module.lora_B[names[0]]
    if type(module.lora_dropout[names[0]]) is not torch.nn.Identity or a.bias is not None or b.bias is not None:
        return None
    return a.weight, b.weight, float(module.scaling[names[0]])


def _norm(states: torch.Tensor, norm: tuple[torch.Tensor, float], dtype: torch.dtype) -> torch.Tensor:
    weight, eps = norm
    if weight.requires_grad:
        wide = states.float()
        return (F.rms_norm(wide, wide.shape[-1:], None, eps) * weight).to(dtype)
    return RmsNorm.apply(states, weight.to(torch.promote_types(weight.dtype, torch.float32)), eps, dtype)
