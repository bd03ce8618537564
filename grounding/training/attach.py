"""LoRA on a loaded model, with the embeddings of words that are new to it: put on, taken out and put back by name, and
scaled back to a share of what was learned."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from grounding.errors import JobError
from grounding.models import LoadedModel
from grounding.profiles import ModelProfile
from grounding.training.new_words import new_token_ids
from grounding.training.settings import TrainSettings

# The linear layers of the Qwen towers and of the ViTs that others use; never the patch embedding or the merger.
VISION_LINEARS = (
    r".*\b(visual|vision_tower|vision_model)\..*\b(blocks|layers?|layer)\.\d+\..*"
    r"(qkv|proj|q_proj|k_proj|v_proj|o_proj|out_proj|projection_layer|"
    r"linear_fc1|linear_fc2|gate_proj|up_proj|down_proj|fc1|fc2)"
)
_ONLY = {
    "all": "",
    "attention": r"(?=.*\.(q_proj|k_proj|v_proj|o_proj)$)",
    "values": r"(?=.*\.(v_proj|o_proj)$)",
    "mlp": r"(?=.*\.(gate_proj|up_proj|down_proj)$)",
}


@dataclass(frozen=True)
class Attached:
    """LoRA in a model. `weights` are the trained ones by their names, `starts` the values of those that do not start
    at nothing, from which a share of the change is counted: the lengths of DoRA. `new_token_ids` are the tokens of
    words that are new to the base, whose embeddings are among the weights."""

    peft_model: Any
    weights: Mapping[str, torch.nn.Parameter]
    starts: Mapping[str, torch.Tensor]
    new_token_ids: tuple[int, ...] = ()

    def state(self) -> dict[str, torch.Tensor]:
        """Copies of the trained weights on the CPU."""
        return {name: weight.detach().to("cpu", copy=True) for name, weight in self.weights.items()}

    @torch.no_grad()
    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Put weights back. Raises `JobError` when they are not those of this LoRA."""
        shapes = {name: tuple(weight.shape) for name, weight in self.weights.items()}
        if shapes != {name: tuple(weight.shape) for name, weight in state.items()}:
            raise JobError(
                f"The checkpoint holds {len(state)} weights that are not the {len(shapes)} trained here: it is of "
                "another model or of other LoRA settings. Start a new run."
            )
        for name, weight in self.weights.items():
            weight.copy_(state[name])

    @torch.no_grad()
    def keep_share(self, strength: float) -> None:
        """Scale what was learned: the model becomes base + `strength` (0.0 to 1.0) x change.

        Going back part of the way loses little of the new and wins back much of the old. Source: Wortsman et al.,
        Robust fine-tuning of zero-shot models (WiSE-FT), CVPR 2022, which interpolates all weights this way. With
        LoRA, base + s B A is exactly that. With DoRA its direction B A and its lengths are interpolated each by
        itself, which is near it. New words keep all that was learned: the base has nothing there to go back to.
        """
        for name, weight in self.weights.items():
            if "lora_B" in name:
                weight.mul_(strength)
            elif name in self.starts:
                weight.lerp_(self.starts[name].to(weight), 1.0 - strength)

    @contextmanager
    def at_strength(self, strength: float) -> Iterator[None]:
        """The model as it would be kept, in eval mode; afterwards every weight is what it was, to the bit."""
        before = {
            name: weight.detach().clone()
            for name, weight in self.weights.items()
            if "lora_B" in name or name in self.starts
        }
        # peft keeps DoRA's norms from one eval pass to the next; entering train mode is what makes it forget them.
        self.peft_model.train()
        self.keep_share(strength)
        self.peft_model.eval()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weight in before.items():
                    self.weights[name].copy_(weight)
            self.peft_model.train()


def attach_lora(loaded: LoadedModel, settings: TrainSettings, phrases: Sequence[str] = ()) -> Attached:
    """LoRA on the profile's targets, as the settings narrow or widen them. `loaded` now uses it.

    Of the phrases that are learned from, the words that are new to the base are trained too, where the settings say so.
    Raises `JobError` when the targets do not fit the model, or when it can't be trained so.
    """
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if settings.lora_dora and loaded.quantize == "8bit":
        raise JobError("peft can't use DoRA on 8-bit weights. Load the base in 4 bits or in full, or turn DoRA off.")
    if getattr(loaded.model, "is_quantized", False):
        prepare_model_for_kbit_training(loaded.model, use_gradient_checkpointing=False)
    if settings.gradient_checkpointing:
        loaded.model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    new_tokens = new_token_ids(loaded, phrases) if settings.learn_new_words else ()
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        use_rslora=settings.lora_rslora,
        use_dora=settings.lora_dora,
        target_modules=lora_targets(loaded.profile, settings),
        trainable_token_indices=list(new_tokens) or None,
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5.23 for a property under its old name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        peft_model = get_peft_model(loaded.model, config)
    weights = {name: weight for name, weight in peft_model.named_parameters() if weight.requires_grad}
    _check_reach(loaded, settings, weights)
    lengths = {name: weight.detach().clone() for name, weight in weights.items() if "lora_magnitude_vector" in name}
    return Attached(peft_model, weights, lengths, new_tokens)


def lora_targets(profile: ModelProfile, settings: TrainSettings) -> str:
    """The regular expression over module names that the settings make of the profile's."""
    targets = f"{_ONLY[settings.lora_layers]}(?:{profile.lora_targets})"
    return f"(?:{targets})|(?:{VISION_LINEARS})" if settings.lora_vision else targets


def _check_reach(loaded: LoadedModel, settings: TrainSettings, weights: Mapping[str, Any]) -> None:
    strangers = [name for name in weights if "language_model" not in name]
    if settings.lora_vision and not strangers:
        raise JobError(
            f"LoRA found no layer in the vision tower of {loaded.model_id}: its layers have names that are not known "
            "here. Turn lora_vision off."
        )
    if (strangers and not settings.lora_vision) or not weights:
        raise JobError(
            f"LoRA reached {len(weights)} weights, {len(strangers)} outside the language model: "
            f"the targets of the profile {loaded.profile.name!r} do not fit this model."
        )
