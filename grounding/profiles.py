"""One profile per way of asking a model: prompt, box format, pixel budget, LoRA targets.

Training, evaluation and Compare all read the same profile, so they can't disagree about any of it. The profiles
themselves stand with their families, in `grounding.families`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from grounding.calibration import Calibration
from grounding.errors import ModelError
from grounding.formats import BoxFormat
from grounding.snapshots import BASE_SCENES

PROFILE_FILE = "boxwright.json"
LANGUAGE_MODEL_LINEARS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


LARGE_MODEL_PRESET: Mapping[str, Any] = MappingProxyType(
    {
        "learning_rate": 1e-4,
        "images_per_step": 4,
        "steps": 600,
        # Photographs vary more than the drawings that the defaults were measured on.
        "negative_share": 0.05,
        "farther_share": 0.5,
        "colour_change": 0.15,
        "strength": 0.85,
    }
)

# Chosen on drawn scenes of their own, neither the demo's validation nor its test split, to fit into three minutes on
# two cores: there all of attention takes too long. Known nouns stay because new ones are learned as words of their
# own; rehearsal costs new ones some points, and is kept as a loss of known ones without it was not ruled out
# (docs/ablations.md). A mirrored picture costs a second look and taught nothing measurable.
EMBEDDED_MODEL_PRESET: Mapping[str, Any] = MappingProxyType(
    {
        "steps": 240,
        "images_per_step": 8,
        "phrases_per_image": 2,
        "learning_rate": 4e-3,
        "lora_layers": "values",
        "new_words_rate": 6.0,
        "augment": False,
        "rehearsal_share": 0.4,
        "rehearse_snapshot": BASE_SCENES,
        "negative_share": 0.06,
        "strength": 0.85,
        "score_every_steps": 120,
    }
)


@dataclass(frozen=True)
class ModelProfile:
    """What must stay the same between training and use of one model family.

    `prompt` holds `{phrase}` once. `box_format` is how boxes are written in text; None for a detector, which writes
    none (`text_format` is the same for those who need one). `pixel_budget` is the (least, most) area in pixels that
    the picture is resized to, or None for the processor's own. `lora_targets` is a regular expression over module
    names, scoped to the language model, so that base and adapters share the image features; "" for a family that is
    not trained here. `max_new_tokens` bounds a freely generated answer. `training_preset` overrides the defaults of
    `grounding.training.settings`. `min_score` is the least score, 0.0 to 1.0, at which a detector's box counts.
    """

    name: str
    family: str
    prompt: str
    box_format: BoxFormat | None
    pixel_budget: tuple[int, int] | None = None
    lora_targets: str = ""
    max_new_tokens: int = 96
    training_preset: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    min_score: float = 0.25

    @property
    def text_format(self) -> BoxFormat:
        """The box format of a model that answers in words. Raises `ModelError` for a detector's profile."""
        if self.box_format is None:
            raise ModelError(
                f"The profile {self.name!r} is for detectors: they write no boxes as text. Take a model that does."
            )
        return self.box_format

    def prompt_for(self, phrase: str) -> str:
        """The instruction for a phrase, its words parted by single blanks as `check_phrase` has them.

        Chat markup inside a phrase (`<|im_end|>`) is broken up: a phrase is words and can't end the turn.
        """
        return self.prompt.replace("{phrase}", " ".join(phrase.replace("<|", "< |").split()))


def profile_for(model_type: str, folder: Path | None = None, name: str | None = None) -> ModelProfile:
    """The profile of a model with this `model_type` in its config.

    `name` asks for one of the family's others; else a `boxwright.json` in the model's folder may name it; else it
    is the family's default. Raises `ModelError` naming what is known.
    """
    from grounding.families import all_profiles, family_of_type

    asked = name or _folder_settings(folder).get("profile")
    if asked is None:
        return family_of_type(model_type).profiles[0]
    profiles = all_profiles()
    if asked not in profiles:
        where = "asked for" if name else f"named by {PROFILE_FILE}"
        raise ModelError(f"There is no profile {asked!r} ({where}). Known profiles: {', '.join(sorted(profiles))}.")
    profile = profiles[asked]
    if profile.family != family_of_type(model_type).name:
        raise ModelError(f"The profile {asked!r} is for {profile.family} models, but this model is a {model_type!r}.")
    return profile


def calibration_for(profile: ModelProfile, folder: Path | None) -> Calibration | None:
    """What `boxwright.json` in the model's folder says about confidences under this profile; None: nothing.

    Raises `ModelError` when it is damaged.
    """
    kept = _folder_settings(folder).get("calibration", {})
    if not isinstance(kept, dict) or profile.name not in kept:
        return None
    return Calibration.from_json(kept[profile.name])


def _folder_settings(folder: Path | None) -> dict[str, Any]:
    path = folder / PROFILE_FILE if folder else None
    if path is None or not path.is_file():
        return {}
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(settings["profile"], str):
            raise TypeError(f"the profile is {settings['profile']!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f'{path} is damaged: expected {{"profile": "NAME"}} ({error}).') from error
    return dict(settings)
