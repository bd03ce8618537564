"""Adapters beside a base: as plain LoRA factors for the fast pass, or attached by peft for everything else."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from grounding.adapters import AdapterInfo
from grounding.adapters.info import MANIFEST
from grounding.adapters.provenance import check_base_files
from grounding.decoding.lora import (
    NOT_FINITE,
    LoraWeights,
    NewWords,
    check_base_is_unchanged,
    check_files,
    plain_layer,
    read_lora,
    take_words,
)
from grounding.engine import text_family
from grounding.errors import AdapterError, first_sentence
from grounding.models import LoadedModel

_MOST_KEPT = 16  # adapters; each takes memory beside the base
# Of the whole program: two Predictors may share one model.
_NUMBERS = itertools.count()
Identity = tuple[Path, int]


class AttachedAdapters:
    """The adapters of one loaded model, read once each. An adapter trained anew under the same name is read anew."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self._factors: dict[Identity, LoraWeights | None] = {}
        self._attached: dict[Identity, str] = {}
        self._words: dict[str, NewWords] = {}  # by the names inside the model

    def factors(self, info: AdapterInfo) -> LoraWeights | None:
        """The adapter as plain LoRA on the language model; None when it is more than that. Raises `AdapterError`."""
        self._check_base(info)
        identity = identity_of(info)
        if identity not in self._factors:
            check_base_files(info)
            self._factors = {key: value for key, value in self._factors.items() if key[0] != info.path}
            parts = text_family(self.loaded).text_parts(self.loaded)
            weights = None if parts is None else read_lora(info.name, info.path, parts[0])
            self._factors[identity] = weights and self._cast(info, weights)
            for oldest in list(self._factors)[:-_MOST_KEPT]:
                del self._factors[oldest]
        return self._factors[identity]

    def _cast(self, info: AdapterInfo, weights: LoraWeights) -> LoraWeights:
        """The factors in the number type of the base, on its device. Raises `AdapterError` where they overflow."""
        parameter = next(self.loaded.model.parameters())
        dtype = parameter.dtype if parameter.is_floating_point() else self.loaded.model.dtype
        cast = weights.to(self.loaded.device, dtype)
        if not cast.is_finite:
            raise AdapterError(f"The adapter {info.name!r} has weights too large for {dtype}. Train it again.")
        return cast

    def changes_pictures(self, info: AdapterInfo) -> bool:
        """Whether the adapter reaches beyond the language model, so that pictures must be looked at with it.

        Raises `AdapterError`. The caller holds the lock.
        """
        if self.factors(info) is not None:
            return False
        key = self._attach(info)
        own = [name for name, _ in self.loaded.model.named_parameters() if f".{key}." in f"{name}."]
        return not all("language_model." in name or "lm_head." in name for name in own)

    @contextmanager
    def using(self, info: AdapterInfo | None) -> Iterator[None]:
        """The model with this adapter active through peft, back to the base afterwards. The caller holds the lock."""
        if info is None:
            yield
            return
        key = self._attach(info)
        try:
            self.loaded.model.enable_adapters()
            self.loaded.model.set_adapter(key)
            with self._knowing(self._words.get(key)):
                yield
        finally:
            self.loaded.model.disable_adapters()

    @contextmanager
    def _knowing(self, words: NewWords | None) -> Iterator[None]:
        """The base's embeddings with these in their place, and afterwards as they were, to the bit.

        Not by peft: with the words of one adapter in the model, peft 0.21 can't compute another that has none.
        """
        if words is None:
            yield
            return
        weight = plain_layer(self.loaded.model.get_input_embeddings()).weight.data
        before = weight[words.token_ids]
        weight[words.token_ids] = words.rows.to(weight)
        try:
            yield
        finally:
            weight[words.token_ids] = before

    def _check_base(self, info: AdapterInfo) -> None:
        if info.base != self.loaded.model_id or info.profile != self.loaded.profile.name:
            raise AdapterError(
                f"The adapter {info.name!r} was trained on {info.base} (profile {info.profile}); the model here is "
                f"{self.loaded.model_id} (profile {self.loaded.profile.name}). Load its own base."
            )

    def _attach(self, info: AdapterInfo) -> str:
        """Load the adapter's weights beside those already there; returns its name inside the model."""
        self._check_base(info)
        identity = identity_of(info)
        if identity not in self._attached:
            check_base_files(info)
            for replaced in [key for key in self._attached if key[0] == info.path]:
                self._drop(self._attached.pop(replaced))
            self._attached[identity] = self._load(info)
            for oldest in list(self._attached)[:-_MOST_KEPT]:
                self._drop(self._attached.pop(oldest))
        return self._attached[identity]

    def _load(self, info: AdapterInfo) -> str:
        """Put the weights beside the base's, switched off. Raises `AdapterError`, the model left as it was."""
        from peft import PeftConfig, inject_adapter_in_model, load_peft_weights, set_peft_model_state_dict

        check_files(info.name, info.path)
        model = self.loaded.model
        name = f"adapter{next(_NUMBERS)}"  # module names must not hold the dots that file names may
        with warnings.catch_warnings():
            # peft takes a second adapter on one model for a mistake; here it is the plan.
            warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)
            try:
                config = PeftConfig.from_pretrained(str(info.path))
                check_base_is_unchanged(info.name, config)
                if getattr(config, "use_dora", False) and self.loaded.quantize == "8bit":
                    raise ValueError("peft can't use DoRA on 8-bit weights; load the base in 4 bits or in full")
                config.inference_mode = True
                weights = load_peft_weights(str(info.path), device="cpu")
                if not all(bool(weight.isfinite().all()) for weight in weights.values()):
                    raise ValueError(NOT_FINITE)
                words = take_words(config, weights, model)
                config.trainable_token_indices = None
                # Not `load_adapter` of transformers 5.23: it doesn't know the names under which DoRA is saved.
                inject_adapter_in_model(config, model, adapter_name=name)
                model._hf_peft_config_loaded = True
                loading: Any = set_peft_model_state_dict(model, weights, adapter_name=name)
                missing = [key for key in loading.missing_keys if f".{name}." in f"{key}."]
                if missing or loading.unexpected_keys:
                    raise ValueError(
                        f"{len(missing)} weights missing, {len(loading.unexpected_keys)} not of this model"
                    )
            except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
                self._drop(name)
                raise AdapterError(
                    f"The adapter {info.name!r} at {info.path} can't be loaded: {first_sentence(error)}. "
                    "Its files are damaged or were made by other versions: train it again."
                ) from error
        model.disable_adapters()
        if words is not None:
            self._words[name] = words.to(self.loaded.device, words.rows.dtype)
        return name

    def _drop(self, name: str) -> None:
        """Remove the weights of an adapter, or what a failed load left behind."""
        model = self.loaded.model
        self._words.pop(name, None)
        with warnings.catch_warnings():
            # peft then makes another adapter the active one; all are switched off below.
            warnings.filterwarnings("ignore", "Adapter .* was active", UserWarning)
            if model._hf_peft_config_loaded and name in model.peft_config:
                model.delete_adapter(name)
        if model._hf_peft_config_loaded:
            model.disable_adapters()


def identity_of(info: AdapterInfo) -> Identity:
    """What tells an adapter from another that takes its place. Raises `AdapterError` when it is gone."""
    # The time of writing is part of it: an adapter trained anew under the same name is loaded anew.
    try:
        return info.path, (info.path / MANIFEST).stat().st_mtime_ns
    except OSError as error:
        raise AdapterError(
            f"The adapter {info.name!r} is not at {info.path} any more ({error.strerror or error}): it was renamed or "
            "deleted meanwhile. Look again at what stands."
        ) from error
