"""Load a base model and attach adapters to it, saying why each automatic choice was made."""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grounding.calibration import Calibration
from grounding.devices import choose_device, stored_numbers
from grounding.errors import ModelError, first_sentence
from grounding.families import Family, family_named, family_of_type
from grounding.feature_store import model_fingerprint
from grounding.profiles import ModelProfile, calibration_for, profile_for
from grounding.training.settings import TrainSettings
from grounding.turns import Turns

if TYPE_CHECKING:
    import torch

QUANTIZATIONS = ("none", "4bit", "8bit")
DEMO_MODEL_FOLDER = Path(__file__).resolve().parent.parent / "data" / "demo" / "base-model"


@dataclass(frozen=True)
class LoadedModel:
    """A base with its processor and everything needed to use it the way it was trained.

    `model_id` is the id asked for, a folder as its absolute path (see `full_model_id`). `model` is a stock
    transformers class, `processor` its AutoProcessor, set up by the family. `notes` says which device, number type and
    quantisation were chosen and why, one sentence each. `quantize` is what the weights are, "none" where what was
    asked for does not work. `fingerprint` changes with the files that were loaded ("" for a model made by hand).
    Whoever runs the model, or changes which adapter is active in it, holds `lock`.
    """

    model_id: str
    model: Any
    processor: Any
    profile: ModelProfile
    device: str
    notes: tuple[str, ...]
    quantize: str = "none"
    calibration: Calibration | None = None
    fingerprint: str = ""
    lock: Turns = field(default_factory=Turns, compare=False, repr=False)

    @property
    def family(self) -> Family:
        """What is known about models of this kind."""
        return family_named(self.profile.family)


def load_model(
    model_id: str = "demo",
    *,
    quantize: str = "none",
    device: str | None = None,
    profile: str | None = None,
    trainable: bool = False,
) -> LoadedModel:
    """Load `model_id`: "demo" (the embedded model), a local folder, or a Hub id.

    `quantize` is "none", "4bit" or "8bit"; where that doesn't work the weights are loaded in full precision and
    `notes` says why. `device` overrides the automatic choice ("cpu", "cuda", "mps"), `profile`
    the model's own way of being asked (`grounding.families.all_profiles` names them). `trainable` keeps quantised
    weights in the form through which gradients pass; answering is slower with it on some processors.
    Raises `ModelError` with a sentence when the model is missing, broken or of an unknown family.
    """
    if quantize not in QUANTIZATIONS:
        raise ModelError(f"quantize={quantize!r} is unknown. Expected one of {', '.join(QUANTIZATIONS)}.")
    source, folder = _resolve(model_id)
    import torch
    from transformers import AutoConfig
    from transformers.utils import logging as transformers_logging

    # It tells of an optional kernel that it can do without, and of a cast at each product; peft imports it always.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    # What its load reports warn of is checked here and in `predict`, and said in a sentence.
    transformers_logging.set_verbosity_error()
    if folder is not None:
        # Transformers may not know the type either; this sentence names the types that would do.
        profile_for(_read_model_type(model_id, source), folder, profile)
    with _loading(model_id):
        config = AutoConfig.from_pretrained(source)
    chosen = profile_for(config.model_type, folder, profile)
    family = family_named(chosen.family)
    chosen_device, dtype, notes = choose_device(torch, device, stored_numbers(config))
    if dtype != torch.float32 and not family.reduced_precision:
        dtype = torch.float32
        notes[-1] = "float32: this detector's boxes are numbers that bfloat16 would round to 1/256 of the picture."
    processor = _load_processor(model_id, source, family, chosen)
    where = _Placement(family, chosen_device, dtype)
    # Before the weights are read: files that are replaced meanwhile must not pass for those that were loaded.
    commit = getattr(config, "_commit_hash", None)
    fingerprints = {each: model_fingerprint(model_id, folder, commit, str(dtype), each) for each in (quantize, "none")}
    model, quantized, note = _load_quantized(model_id, source, where, quantize, trainable)
    if note:
        notes.append(note)
    if model is None:
        model = _load_weights(model_id, source, where)
    family.prepare_model(model)
    return LoadedModel(
        model_id=full_model_id(model_id),
        model=model,
        processor=processor,
        profile=chosen,
        device=chosen_device,
        notes=tuple(notes),
        quantize=quantized,
        calibration=calibration_for(chosen, folder),
        # Of the weights as they are: what was asked for may work another time.
        fingerprint=fingerprints[quantized],
    )


def training_settings(model_id: str, overrides: Mapping[str, Any]) -> TrainSettings:
    """The profile's preset for this model with these values changed. Reads a local model's config, not its weights.

    A model on the Hub is taken for a Qwen3-VL here, so that nothing is fetched before it is needed. Raises
    `ModelError` for a model that can't be found, `SettingsError` for a value out of range.
    """
    return TrainSettings.from_mapping({**base_profile(model_id).training_preset, **overrides})


def base_profile(model_id: str) -> ModelProfile:
    """How this model is asked by default, from its config alone; a model on the Hub is taken for a Qwen3-VL.

    Raises `ModelError` for a model that can't be found.
    """
    source, folder = _resolve(model_id)
    return profile_for(_read_model_type(model_id, source), folder)


def _read_model_type(model_id: str, source: str) -> str:
    config = Path(source) / "config.json"
    if not config.is_file():
        return "qwen3_vl"
    try:
        return str(json.loads(config.read_text(encoding="utf-8"))["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{config} is damaged ({error}). Restore the folder of the model {model_id!r}.") from error


def full_model_id(model_id: str) -> str:
    """The id, a local folder as its absolute path: the same base from wherever it is named."""
    folder = local_folder(model_id)
    return str(folder.resolve()) if model_id != "demo" and folder is not None else model_id


def folder_of(model_id: str) -> Path | None:
    """Where the model's files stand; None for one of the Hub."""
    return DEMO_MODEL_FOLDER if model_id == "demo" else local_folder(model_id)


def local_folder(name: str) -> Path | None:
    """The folder of this name, or None when there is none."""
    try:
        folder = Path(name).expanduser()
        return folder if folder.is_dir() else None
    except (OSError, RuntimeError):  # too long for a path, or the home of somebody unknown
        return None


def _resolve(model_id: str) -> tuple[str, Path | None]:
    """What transformers should load, and its folder when it is local."""
    if model_id == "demo":
        return str(DEMO_MODEL_FOLDER), DEMO_MODEL_FOLDER
    folder = local_folder(model_id)
    if folder is not None:
        if not (folder / "config.json").is_file():
            raise ModelError(
                f"The folder {folder} holds no config.json, so it is no model. Give the folder that does, "
                'a Hub id such as "Qwen/Qwen3-VL-2B-Instruct", or "demo".'
            )
        return str(folder), folder
    if model_id.startswith(("/", ".", "~")) or model_id.count("/") != 1:
        raise ModelError(
            f"There is no model folder {model_id[:200]}. Give a folder that exists, "
            'a Hub id such as "Qwen/Qwen3-VL-2B-Instruct", or "demo".'
        )
    return model_id, None


# What transformers says of a type that it has no class for.
_UNKNOWN_TYPE = re.compile(r"model type [`']([^`']{1,80})[`'] but Transformers does not recognize")


class _loading:
    """Turns what a loader raises into a ModelError that names the model and the way out."""

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, ModelError) or not isinstance(error, Exception):
            return
        unknown = _UNKNOWN_TYPE.search(str(error))
        if unknown:
            family_of_type(unknown[1])  # raises, and names the types that would do
        raise ModelError(
            f"The model {self.model_id!r} can't be loaded: {first_sentence(error)}. "
            "Check that its folder is complete, or that the Hub can be reached and the id is right."
        ) from error


def _load_processor(model_id: str, source: str, family: Family, profile: ModelProfile) -> Any:
    from transformers import AutoProcessor

    with _loading(model_id):
        processor = AutoProcessor.from_pretrained(source)
        family.prepare_processor(processor, profile)
        return processor


@dataclass(frozen=True)
class _Placement:
    """How weights are loaded: by whose class of transformers, onto which device, in which number type."""

    family: Family
    device: str
    dtype: torch.dtype


def _load_quantized(
    model_id: str, source: str, where: _Placement, quantize: str, trainable: bool
) -> tuple[Any, str, str | None]:
    """(model, quantisation, note). No model where full precision is wanted, or needed, as the note then says."""
    if quantize == "none":
        return None, "none", None
    try:
        if not where.family.reduced_precision:
            raise ModelError("a detector is small, and what rounding does to its boxes is not known")
        config, note = _quantization(quantize, where)
        model = _load_weights(model_id, source, where, config)
        return model, quantize, f"{note} {_check_quantized(model, trainable)}"
    except ModelError as error:
        reason = first_sentence(error)
    return None, "none", f"Full precision instead of {quantize}: {reason}."


def _quantization(quantize: str, where: _Placement) -> tuple[Any, str]:
    """The settings for bitsandbytes and what they mean. Raises `ModelError` with the reason where it can't be used."""
    try:
        import bitsandbytes
    except (ImportError, RuntimeError, OSError) as error:
        raise ModelError(f"bitsandbytes does not work on this machine ({first_sentence(error)})") from error
    kind = where.device.split(":")[0]
    if kind not in bitsandbytes.supported_torch_devices:
        raise ModelError(f"bitsandbytes does not know the device {kind!r}")
    from transformers import BitsAndBytesConfig

    if quantize == "8bit":
        slow = " On an Apple GPU this is slower than full precision." if kind == "mps" else ""
        return BitsAndBytesConfig(load_in_8bit=True), f"8-bit weights (bitsandbytes).{slow}"
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=where.dtype
    )
    # A misspelt option is only logged by transformers, so what was accepted is read back.
    accepted = (config.bnb_4bit_compute_dtype, config.bnb_4bit_quant_type, config.bnb_4bit_use_double_quant)
    if accepted != (where.dtype, "nf4", True):
        raise ModelError(f"bitsandbytes did not accept the settings, it took {config.to_diff_dict()}")
    return config, "4-bit weights (bitsandbytes, nf4, double quantisation)."


def _check_quantized(model: Any, trainable: bool) -> str:
    """Compute one product in a layer of each shape; returns how many layers are quantised, and what that costs.

    Raises `ModelError` when there are none, or when this machine can't compute with one: kernels fail at use only.
    """
    import torch
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    layers = [module for module in model.modules() if isinstance(module, Linear4bit | Linear8bitLt)]
    if not layers:
        raise ModelError("the model has no layer that bitsandbytes could quantise")
    packed = [layer for layer in layers if getattr(layer, "support_avx512bf16_for_cpu", False)]
    if trainable:
        # On these processors bitsandbytes 0.50 repacks 4-bit weights at first use, and no gradient passes from then on.
        for layer in packed:
            layer.support_avx512bf16_for_cpu = False
    for layer in {(layer.in_features, layer.out_features): layer for layer in layers}.values():
        shape = f"{layer.in_features} x {layer.out_features}"
        try:
            with torch.inference_mode():
                product = layer(torch.ones(2, layer.in_features, device=model.device, dtype=model.dtype))
        except Exception as error:  # each backend fails in its own way
            raise ModelError(f"bitsandbytes can't compute a layer of {shape} here ({first_sentence(error)})") from error
        if not torch.isfinite(product).all():
            raise ModelError(f"bitsandbytes computes no finite numbers in a layer of {shape} here")
    slow = isinstance(layers[0], Linear4bit) and model.device.type == "cpu" and (trainable or not packed)
    return f"{len(layers)} layers are quantised" + ("; they save memory here, not time." if slow else ".")


def _load_weights(model_id: str, source: str, where: _Placement, quantization: Any = None) -> Any:
    import transformers

    options: dict[str, Any] = {"dtype": where.dtype}
    if quantization is not None:
        options |= {"quantization_config": quantization, "device_map": where.device}
    with _loading(model_id), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"bitsandbytes.*")
        loader = getattr(transformers, where.family.auto_class)
        loaded: Any = loader.from_pretrained(source, output_loading_info=True, **options)
        model, report = loaded
        missing = sorted(report["missing_keys"])
        if missing:
            raise ModelError(
                f"The model {model_id!r} is incomplete: {len(missing)} weights are missing, {missing[0]} among them."
            )
        if quantization is None:
            model.to(where.device)
        model.requires_grad_(False)
        return model.eval()
