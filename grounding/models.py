"""Load a base model and attach adapters to it, saying why each automatic choice was made."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grounding.errors import ModelError
from grounding.profiles import ModelProfile, profile_for
from grounding.training.settings import TrainSettings

if TYPE_CHECKING:
    import torch

QUANTIZATIONS = ("none", "4bit", "8bit")
DEMO_MODEL_FOLDER = Path(__file__).resolve().parent.parent / "data" / "demo" / "base-model"


@dataclass(frozen=True)
class LoadedModel:
    """A base with its processor and everything needed to use it the way it was trained.

    `model_id` is the id asked for, a folder as its absolute path (see `full_model_id`). `model` is a stock
    transformers class, `processor` its AutoProcessor with left padding. `notes` says which device, number type and
    quantisation were chosen and why, one sentence each.
    """

    model_id: str
    model: Any
    processor: Any
    profile: ModelProfile
    device: str
    notes: tuple[str, ...]


def load_model(model_id: str = "demo", *, quantize: str = "none", device: str | None = None) -> LoadedModel:
    """Load `model_id`: "demo" (the embedded model), a local folder, or a Hub id.

    `quantize` is "none", "4bit" or "8bit". `device` overrides the automatic choice ("cpu", "cuda", "mps").
    Raises `ModelError` with a sentence when the model is missing, broken or of an unknown family.
    """
    if quantize not in QUANTIZATIONS:
        raise ModelError(f"quantize={quantize!r} is unknown. Expected one of {', '.join(QUANTIZATIONS)}.")
    source, folder = _resolve(model_id)
    import torch
    from transformers import AutoConfig
    from transformers.utils import logging as transformers_logging

    # An optional kernel that bitsandbytes can do without; peft imports it for every adapter.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    # What its load reports warn of is checked here and in `predict`, and said in a sentence.
    transformers_logging.set_verbosity_error()
    if folder is not None:
        # Transformers may not know the type either; this sentence names the types that would do.
        profile_for(_read_model_type(model_id, source), folder)
    with _loading(model_id):
        config = AutoConfig.from_pretrained(source)
    profile = profile_for(config.model_type, folder)
    chosen_device, dtype, notes = choose_device(torch, device)
    processor = _load_processor(model_id, source, profile)
    quantization, note = _quantization(quantize, dtype)
    if note:
        notes.append(note)
    model = _load_weights(model_id, source, chosen_device, dtype, quantization)
    return LoadedModel(full_model_id(model_id), model, processor, profile, chosen_device, tuple(notes))


def training_settings(model_id: str, overrides: Mapping[str, Any]) -> TrainSettings:
    """The profile's preset for this model with these values changed. Reads a local model's config, not its weights.

    A model on the Hub is taken for a Qwen3-VL here, so that nothing is fetched before it is needed. Raises
    `ModelError` for a model that can't be found, `SettingsError` for a value out of range.
    """
    source, folder = _resolve(model_id)
    model_type = _read_model_type(model_id, source)
    return TrainSettings.from_mapping({**profile_for(model_type, folder).training_preset, **overrides})


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


def local_folder(name: str) -> Path | None:
    """The folder of this name, or None when there is none."""
    try:
        folder = Path(name).expanduser()
        return folder if folder.is_dir() else None
    except (OSError, RuntimeError):  # too long for a path, or the home of somebody unknown
        return None


def choose_device(torch: Any, device: str | None = None) -> tuple[str, torch.dtype, list[str]]:
    """(device, dtype, reasons): CUDA before MPS before CPU; bfloat16 where it is fast, float32 elsewhere."""
    if device is None:
        if torch.cuda.is_available():
            device, why = "cuda", f"a GPU was found ({torch.cuda.get_device_name(0)})"
        elif torch.backends.mps.is_available():
            device, why = "mps", "an Apple GPU was found"
        else:
            device, why = "cpu", "no GPU was found"
    else:
        why = "it was asked for"
    bfloat16 = device.startswith("cuda") and torch.cuda.is_bf16_supported()
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    number_note = (
        "bfloat16: the GPU computes in it at full speed."
        if bfloat16
        else "float32: float16 overflows in training and bfloat16 is slow here."
    )
    return device, dtype, [f"{device}: {why}.", number_note]


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


class _loading:
    """Turns what a loader raises into a ModelError that names the model and the way out."""

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, ModelError) or not isinstance(error, Exception):
            return
        raise ModelError(
            f"The model {self.model_id!r} can't be loaded: {first_sentence(error)}. "
            "Check that its folder is complete, or that the Hub can be reached and the id is right."
        ) from error


def first_sentence(error: Exception) -> str:
    """What a loader of transformers complains of, in one line without its full stop."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if "ignore_mismatched_sizes" in text:  # it goes on to speak of a report in the log
        return "some of its weights have other shapes than its config says"
    return text.rstrip(". ")


def _load_processor(model_id: str, source: str, profile: ModelProfile) -> Any:
    from transformers import AutoProcessor

    with _loading(model_id):
        processor = AutoProcessor.from_pretrained(source)
        if not processor.chat_template:
            raise ModelError(f"The model {model_id!r} has no chat template. Restore chat_template.jinja in its folder.")
        processor.tokenizer.padding_side = "left"
        if profile.pixel_budget is not None:
            least, most = profile.pixel_budget
            processor.image_processor.size = {"shortest_edge": least, "longest_edge": most}
        return processor


def _quantization(quantize: str, dtype: torch.dtype) -> tuple[Any, str | None]:
    if quantize == "none":
        return None, None
    try:
        import bitsandbytes  # noqa: F401
    except (ImportError, RuntimeError, OSError) as error:
        return None, f"Full precision instead of {quantize}: bitsandbytes does not work on this machine ({error})."
    from transformers import BitsAndBytesConfig

    if quantize == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True), "8-bit weights (bitsandbytes)."
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    # A misspelt option is only logged by transformers, so what was accepted is read back.
    if config.bnb_4bit_compute_dtype != dtype or config.bnb_4bit_quant_type != "nf4":
        raise ModelError(f"bitsandbytes did not accept the 4-bit settings: {config.to_dict()}.")
    return config, "4-bit weights (bitsandbytes, nf4, double quantisation)."


def _load_weights(model_id: str, source: str, device: str, dtype: torch.dtype, quantization: Any) -> Any:
    from transformers import AutoModelForImageTextToText

    options: dict[str, Any] = {"dtype": dtype}
    if quantization is not None:
        options |= {"quantization_config": quantization, "device_map": device}
    with _loading(model_id), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"bitsandbytes.*")
        loaded: Any = AutoModelForImageTextToText.from_pretrained(source, output_loading_info=True, **options)
        model, report = loaded
        missing = sorted(report["missing_keys"])
        if missing:
            raise ModelError(
                f"The model {model_id!r} is incomplete: {len(missing)} weights are missing, {missing[0]} among them."
            )
        if quantization is None:
            model.to(device)
        model.requires_grad_(False)
        return model.eval()
