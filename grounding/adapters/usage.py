"""How to use an adapter or a merged model, as code that runs: what stands in its model card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grounding.adapters.info import AdapterInfo
from grounding.errors import ModelError
from grounding.formats import FloatJson, QwenBoxTokens, QwenJson1000, QwenJsonPixels
from grounding.formats.base import BoxFormat
from grounding.profiles import ModelProfile

_FOLDER_SETTINGS = ("rehearse_snapshot",)  # a name, or a folder
DEMO_BASE = "data/demo/base-model"  # in Boxwright's own folder


@dataclass(frozen=True)
class Source:
    """Where a reader of the card finds what it is about: a repository of the Hub (`on_hub`) or a folder. `merged`:
    it is a whole model, else an adapter."""

    place: str
    on_hub: bool = False
    merged: bool = False


def public_base(info: AdapterInfo) -> str:
    """The base as others may know it: a Hub id as it is, of a folder its name only."""
    return Path(info.base).name if Path(info.base).is_absolute() else info.base


def cut_folders(document: Mapping[str, Any]) -> dict[str, Any]:
    """The content of an adapter.json, or its `settings` and `sweep` alone, with the names only of snapshots that were
    named by their folder on this machine."""
    sweep = dict(document.get("sweep") or {})
    sweep |= {key: _cut(sweep[key]) for key in ("values", "searched") if key in sweep}
    return {**document, "settings": _cut(document.get("settings") or {}), "sweep": sweep}


def _cut(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings, or what a sweep searched of them: several values in one text."""
    names = {
        key: ", ".join(Path(one.strip()).name for one in str(settings[key]).split(","))
        for key in _FOLDER_SETTINGS
        if key in settings
    }
    return {**settings, **names}


def _base_for(info: AdapterInfo, source: Source) -> str:
    """The base as the reader of a card must name it: on the Hub, folders of this machine mean nothing."""
    local = Path(info.base).is_absolute()
    return f"path/to/{public_base(info)}" if source.on_hub and local else info.base


def profile_of(info: AdapterInfo) -> ModelProfile | None:
    """The profile it was trained under; None when no family here has it."""
    from grounding.families import all_profiles

    return all_profiles().get(info.profile)


def coordinates_in_words(profile: ModelProfile) -> str:
    """What the numbers of an answer mean."""
    form = profile.box_format
    if isinstance(form, QwenJson1000 | QwenBoxTokens):
        return "x1, y1, x2, y2 as whole numbers from 0 to 1000 of the picture's width and height"
    if isinstance(form, QwenJsonPixels):
        return "x1, y1, x2, y2 in whole pixels of the picture as the model sees it, after resizing"
    if isinstance(form, FloatJson):
        return "x_min, y_min, x_max, y_max as fractions, 0 to 1, of the picture's width and height"
    return f"as the format {getattr(form, 'name', 'of its family')} of Boxwright writes them"


def with_boxwright(info: AdapterInfo, source: Source) -> str:
    """Python that asks for a box through Boxwright, for any family."""
    fetch = f"snapshot_download({_quoted(source.place)})" if source.on_hub else _quoted(source.place)
    lines = ["from huggingface_hub import snapshot_download", ""] if source.on_hub else []
    lines = ["import grounding", *lines] if lines else ["import grounding", ""]
    if source.merged:
        lines += [
            f"predictor = grounding.load({fetch})",
            'prediction = predictor.predict("picture.png", "the left mug")',
        ]
    else:
        lines += [
            f"predictor = grounding.load({_quoted(_base_for(info, source))})",
            f'prediction = predictor.predict("picture.png", "the left mug", adapter={fetch})',
        ]
    return "\n".join([*lines, "print(prediction.status, prediction.boxes_xyxy_px)  # pixels of the picture"])


def without_boxwright(info: AdapterInfo, source: Source) -> str | None:
    """Python that asks for a box with transformers and peft alone; None for formats that it can't read."""
    profile = profile_of(info)
    if profile is None or profile.box_format is None:
        return None
    reading = _reading(profile.box_format)
    if reading is None:
        return None
    pattern, scaled, end = reading
    base = DEMO_BASE if info.base == "demo" else _base_for(info, source)
    lines = ["import re", "", "import torch", *([] if source.merged else ["from peft import PeftModel"])]
    lines += ["from PIL import Image", "from transformers import AutoModelForImageTextToText, AutoProcessor", ""]
    if source.merged:
        lines += [
            f"MODEL = {_quoted(source.place)}",
            "processor = AutoProcessor.from_pretrained(MODEL)",
            'model = AutoModelForImageTextToText.from_pretrained(MODEL, dtype="auto")',
        ]
    else:
        lines += [
            f"BASE, ADAPTER = {_quoted(base)}, {_quoted(source.place)}",
            "processor = AutoProcessor.from_pretrained(BASE)",
            "model = AutoModelForImageTextToText.from_pretrained(BASE, dtype=torch.float32)",
            "model = PeftModel.from_pretrained(model, ADAPTER)",
        ]
    if profile.pixel_budget is not None:
        least, most = profile.pixel_budget
        lines.append(f'processor.image_processor.size = {{"shortest_edge": {least}, "longest_edge": {most}}}')
    prompt = profile.prompt.replace("{phrase}", "the left mug")
    return "\n".join(
        [
            *lines,
            "",
            'image = Image.open("picture.png").convert("RGB")',
            f"prompt = {prompt!r}",
            'content = [{"type": "image", "image": image}, {"type": "text", "text": prompt}]',
            "inputs = processor.apply_chat_template(",
            '    [{"role": "user", "content": content}],',
            '    add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",',
            ")",
            "with torch.inference_mode():",
            f"    tokens = model.eval().generate(**inputs, max_new_tokens={profile.max_new_tokens}, do_sample=False)",
            f"answer = processor.decode(tokens[0, inputs['input_ids'].shape[1] :], skip_special_tokens={end})",
            "boxes_xyxy_px = [",
            f"    ({scaled})",
            f"    for x1, y1, x2, y2 in (map(float, found) for found in re.findall(r'{pattern}', answer))",
            "]",
            "print(answer, boxes_xyxy_px)",
        ]
    )


def _reading(form: BoxFormat) -> tuple[str, str, bool] | None:
    """(pattern of the four numbers, the box in pixels, whether special tokens are skipped)."""
    whole = r"(\d+)"
    thousandths = "x1 / 1000 * image.width, y1 / 1000 * image.height, x2 / 1000 * image.width, y2 / 1000 * image.height"
    if isinstance(form, QwenJson1000):
        return rf'"bbox_2d": \[{whole}, {whole}, {whole}, {whole}\]', thousandths, True
    if isinstance(form, QwenBoxTokens):
        return rf"\({whole},{whole}\),\({whole},{whole}\)", thousandths, False
    if isinstance(form, FloatJson):
        number = r"([\d.]+)"
        shares = "x1 * image.width, y1 * image.height, x2 * image.width, y2 * image.height"
        keys = ", ".join(f'"{key}": {number}' for key in ("x_min", "y_min", "x_max", "y_max"))
        return keys, shares, True
    return None


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def check_profile(info: AdapterInfo) -> ModelProfile:
    """The profile of an adapter. Raises `ModelError` when it is not known here."""
    profile = profile_of(info)
    if profile is None:
        raise ModelError(f"The adapter {info.name!r} was trained under the profile {info.profile!r}, unknown here.")
    return profile
