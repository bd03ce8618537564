"""Plain LoRA adapters in the form that lets base and several adapters share one pass.

The low-rank matrices of all adapters of a call stand side by side, and a row's mask lets through only its own:
y = W x + B (A x where it is the row's own, else 0), A stacked by rank, B with the scaling folded in. A row of the base
owns nothing. What is not a row's own is replaced, not multiplied by 0: 0 times an overflow is no number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from grounding.errors import AdapterError, first_sentence

# Modules of one layer in the order in which the text model fuses them.
PARTS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_WORDS_KEY = re.compile(r"language_model\.(?:model\.)?embed_tokens\.token_adapter\.trainable_tokens_delta$")
_KEY = re.compile(r"language_model\.layers\.(\d+)\.(?:self_attn|mlp)\.(\w+)\.lora_([AB])\.(?:\w+\.)?weight$")

# Settings of a LoraConfig under which more is computed than B A x, or with more than these matrices.
_UNUSUAL = (
    *("use_dora", "alora_invocation_tokens", "lora_bias"),
    *("use_qalora", "use_bdlora", "target_parameters", "layer_replication"),
    *("arrow_config", "kasa_config", "monteclora_config"),
)
_IN_THE_BASE = (
    "it changes weights of the base itself, and base and adapters could not stand side by side. "
    "Train it without, or merge it into a model of its own."
)
NOT_FINITE = "some of its weights are no finite numbers"
_BASE_STAYS = ("gaussian", "eva", "orthogonal")  # ways to begin that touch no weight of the base


@dataclass(frozen=True)
class NewWords:
    """Embeddings `rows` [tokens, hidden] that an adapter has for tokens `token_ids` [tokens], rising, that its base was
    never taught."""

    token_ids: torch.Tensor
    rows: torch.Tensor

    @classmethod
    def of(cls, token_ids: Sequence[int], rows: torch.Tensor) -> NewWords:
        """From tokens in any order."""
        ids, order = torch.tensor(token_ids, device=rows.device).sort()
        return cls(ids, rows[order])

    def to(self, device: str | torch.device, dtype: torch.dtype) -> NewWords:
        return NewWords(self.token_ids.to(device), self.rows.to(device, dtype))

    def find(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(which of the tokens, of any shape, are among these, bool; the row of each that is)."""
        places = torch.searchsorted(self.token_ids, ids).clamp_(max=len(self.token_ids) - 1)
        return self.token_ids[places] == ids, places


@dataclass(frozen=True)
class LoraWeights:
    """One adapter: `factors[layer, part]` = (A [rank, in], B [out, rank] times its scaling), and `words` of its own."""

    factors: Mapping[tuple[int, str], tuple[torch.Tensor, torch.Tensor]]
    words: NewWords | None = None

    def to(self, device: str | torch.device, dtype: torch.dtype) -> LoraWeights:
        moved = {key: (a.to(device, dtype), b.to(device, dtype)) for key, (a, b) in self.factors.items()}
        return LoraWeights(moved, self.words and self.words.to(device, dtype))

    @property
    def is_finite(self) -> bool:
        """Whether all weights are finite numbers: others would spoil every answer of the batch they are in."""
        halves = [half for pair in self.factors.values() for half in pair]
        return all(bool(part.isfinite().all()) for part in (*halves, *([self.words.rows] if self.words else [])))


def read_lora(name: str, folder: Path, language_model: Any) -> LoraWeights | None:
    """A PEFT folder as `LoraWeights` for this language model; None when it is more than plain LoRA on its linear
    layers and embeddings of single tokens (DoRA, the vision tower): such an adapter needs PEFT itself.

    Raises `AdapterError` when it changes the base itself (`check_base_is_unchanged`), and when the folder is damaged:
    a file can't be read, weights are missing, of other shapes, or no finite numbers.
    """
    from peft import LoraConfig, PeftConfig, load_peft_weights

    check_files(name, folder)
    try:
        config = PeftConfig.from_pretrained(str(folder))
        check_base_is_unchanged(name, config)
        if not isinstance(config, LoraConfig) or not _is_plain(config):
            return None
        weights = load_peft_weights(str(folder), device="cpu")
        words = take_words(config, weights, language_model)
        halves = _halves(weights)
        return None if halves is None else _assembled(halves, words, config, language_model)
    except AdapterError:
        raise
    except Exception as error:  # every loader of peft and safetensors has its own tree of errors
        raise AdapterError(
            f"The adapter {name!r} at {folder} can't be loaded: {first_sentence(error)}. "
            "Its files are damaged or were made by other versions: train it again."
        ) from error


def check_files(name: str, folder: Path) -> None:
    """Raises `AdapterError` where a file is missing: peft would take the folder for a repository of the Hub."""
    for wanted in (("adapter_config.json",), ("adapter_model.safetensors", "adapter_model.bin")):
        if not any((folder / file).is_file() for file in wanted):
            raise AdapterError(
                f"The adapter {name!r} is incomplete: there is no {wanted[0]} in {folder}. "
                "Copy its whole folder again, or train it again."
            )


def check_base_is_unchanged(name: str, config: object) -> None:
    """Raises `AdapterError` for an adapter that is not beside the base but in it: peft would put its biases, modules
    or tokens into the base itself, or take a part of the base's weights out of it, and not undo it for the base or
    for other adapters."""
    begun = getattr(config, "init_lora_weights", True)
    if isinstance(begun, str) and begun.lower() not in _BASE_STAYS:
        raise AdapterError(
            f"The adapter {name!r} has init_lora_weights={begun!r}: it fits only a base changed along with it. Save it "
            "again with path_initial_model_for_weight_conversion, which makes plain LoRA of it (see the docs of peft)."
        )
    if (bias := getattr(config, "bias", "none")) != "none":
        raise AdapterError(f"The adapter {name!r} has bias={bias!r}: {_IN_THE_BASE}")
    if saved := getattr(config, "modules_to_save", None):
        raise AdapterError(f"The adapter {name!r} has modules_to_save={saved!r}: {_IN_THE_BASE}")


def plain_layer(module: Any) -> Any:
    """The embedding or the output layer itself, where peft has put embeddings of single tokens around it."""
    adapter = getattr(module, "token_adapter", None)
    return module if adapter is None else adapter.get_base_layer()


def live_words(module: Any) -> NewWords | None:
    """The words that peft has active in an embedding or an output layer; gradients flow into what it trains."""
    adapter = getattr(module, "token_adapter", None)
    if adapter is None or adapter.disable_adapters:
        return None
    name = next((name for name in adapter.active_adapters if name in adapter.trainable_tokens_delta), None)
    return None if name is None else NewWords.of(adapter.token_indices[name], adapter.trainable_tokens_delta[name])


def live_lora(language_model: Any) -> LoraWeights | None:
    """The weights of the adapter that peft has active in a language model right now, as in training; None without."""
    factors = {}
    for index, layer in enumerate(language_model.layers):
        for part in PARTS:
            module = getattr(getattr(layer, _block(part)), part)
            for name in getattr(module, "active_adapters", ()):
                if name in module.lora_A and not module.disable_adapters:
                    a, b = module.lora_A[name].weight.detach(), module.lora_B[name].weight.detach()
                    factors[index, part] = (a, b * module.scaling[name])
    words = live_words(language_model.get_input_embeddings())
    learned = None if words is None else NewWords(words.token_ids, words.rows.detach())
    return LoraWeights(factors, learned) if factors or learned else None


def is_plain_live(language_model: Any) -> bool:
    """Whether what peft has active in a language model is plain LoRA, whose factors alone say what it does."""
    return not any(
        name in module.lora_variant
        for module in language_model.modules()
        if hasattr(module, "lora_variant")
        for name in module.active_adapters
    )


def _block(part: str) -> str:
    return "self_attn" if part in PARTS[:4] else "mlp"


def _is_plain(config: object) -> bool:
    return not any(getattr(config, name, None) for name in _UNUSUAL)


_Halves = dict[tuple[int, str], dict[str, torch.Tensor]]


def _halves(weights: Mapping[str, torch.Tensor]) -> _Halves | None:
    """The matrices A and B by layer and part; None when there are others too."""
    halves: _Halves = {}
    for key, tensor in weights.items():
        match = _KEY.search(key)
        if match is None or match[2] not in PARTS:
            return None
        halves.setdefault((int(match[1]), match[2]), {})[match[3]] = tensor
    return halves


def take_words(config: Any, weights: dict[str, torch.Tensor], model: Any) -> NewWords | None:
    """The words of its own that an adapter has, taken out of its weights as peft loads them; None without.

    Raises `ValueError` unless they are what the config speaks of, in this model's shape.
    """
    rows = [weights.pop(key) for key in list(weights) if _WORDS_KEY.search(key)]
    told: Any = getattr(config, "trainable_token_indices", None) or ()
    if isinstance(told, dict):
        told = next(iter(told.values())) if len(told) == 1 else ()
    if not told and not rows:
        return None
    vocabulary, width = plain_layer(model.get_input_embeddings()).weight.shape
    if len(rows) != 1 or rows[0].shape != (len(told), width) or not all(0 <= at < vocabulary for at in told):
        raise ValueError("the embeddings of its words are missing or of another model")
    return NewWords.of(told, rows[0])


def _assembled(halves: _Halves, words: NewWords | None, config: Any, language_model: Any) -> LoraWeights:
    """The factors, scaled. Raises `ValueError` unless they are what the config speaks of, in this model's shapes."""
    from peft.tuners.tuners_utils import check_target_module_exists

    factors = {}
    for index, layer in enumerate(language_model.layers):
        for part in PARTS:
            place = f"language_model.layers.{index}.{_block(part)}.{part}"
            if not check_target_module_exists(config, f"model.{place}"):
                continue
            pair = halves.get((index, part), {})
            if set(pair) != {"A", "B"}:
                raise ValueError(f"weights are missing, those of {place} among them")
            linear, rank = getattr(getattr(layer, _block(part)), part), _rank(config, place)
            if pair["A"].shape != (rank, linear.in_features) or pair["B"].shape != (linear.out_features, rank):
                raise ValueError(f"the weights of {place} have the shapes of another model or rank")
            factors[index, part] = (pair["A"], pair["B"] * _scaling(config, place, rank))
    if len(factors) < len(halves):
        raise ValueError(f"{len(halves) - len(factors)} of its weights are not of this model")
    weights = LoraWeights(factors, words)
    if not weights.is_finite:
        raise ValueError(NOT_FINITE)
    return weights


def _rank(config: Any, place: str) -> int:
    return int(_by_pattern(config.rank_pattern, place, config.r))


def _scaling(config: Any, place: str, rank: int) -> float:
    alpha = _by_pattern(config.alpha_pattern, place, config.lora_alpha)
    return float(alpha / rank**0.5 if config.use_rslora else alpha / rank)


def _by_pattern(patterns: Mapping[str, float] | None, place: str, default: float) -> float:
    """The value that a LoraConfig gives a module, as peft itself looks it up."""
    from peft.utils.other import get_pattern_key

    patterns = patterns or {}
    return patterns.get(get_pattern_key(list(patterns), f"model.{place}"), default)


@dataclass(frozen=True)
class FusedLora:
    """The adapters of one call on one fused linear layer. `owner` says which adapter each rank belongs to."""

    a: torch.Tensor  # [in, rank]
    b: torch.Tensor  # [rank, out]
    owner: tuple[int, ...]


def fuse(
    adapters: list[LoraWeights], layer: int, parts: tuple[str, ...], out_sizes: Mapping[str, int]
) -> FusedLora | None:
    """The factors of `parts`, which share their input and whose outputs stand one after the other."""
    ups, downs, owners = [], [], []
    begin = 0
    for part in parts:
        for index, adapter in enumerate(adapters):
            if (layer, part) in adapter.factors:
                a, b = adapter.factors[layer, part]
                tall = b.new_zeros(sum(out_sizes[name] for name in parts), b.shape[1])
                tall[begin : begin + out_sizes[part]] = b
                ups.append(a)
                downs.append(tall)
                owners += [index] * a.shape[0]
        begin += out_sizes[part]
    if not ups:
        return None
    return FusedLora(torch.cat(ups).t().contiguous(), torch.cat(downs, dim=1).t().contiguous(), tuple(owners))
