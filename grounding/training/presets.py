"""Named settings for each model profile, with the reason of every value.

The middle one, "balanced", is the profile's own preset: what `train` and the button use when nothing is said. The
others are derived from it, so that a profile has all three as soon as it has one.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from grounding.errors import BoxwrightError, SettingsError
from grounding.training.settings import TrainSettings

log = logging.getLogger(__name__)

PRESET = "preset.json"
QUICK, BALANCED, THOROUGH = "quick", "balanced", "thorough"
_FORMAT = "boxwright-preset/1"

NOTHING: Mapping[str, str] = MappingProxyType({})

# What each setting does when it is more or less; what it means stands in its definition.
EXPLANATIONS: Mapping[str, str] = MappingProxyType(
    {
        "steps": "More steps learn more and take longer in proportion; past a point they learn the train phrases by "
        "heart, which the validation curve shows.",
        "images_per_step": "More make each step steadier and need more memory.",
        "phrases_per_image": "They share one pass over their picture, so more cost little. Too many of one "
        "picture in a step make it less varied.",
        "use_alternatives": "More wordings of the same box for free. Off where the source's other phrases are poor.",
        "augment": "Keeps a small set from being learned by heart. Mirrored pictures cost little; where they are cut, "
        "smaller or in other colours, each is looked at anew each time, which takes about half as long again.",
        "learning_rate": "Higher learns faster and forgets more of what the base knew; too high and the loss jumps or "
        "becomes no number.",
        "warmup_share": "Keeps the first steps from spoiling the base while the optimiser knows nothing yet.",
        "weight_decay": "Pulls the change towards nothing. LoRA is small; it rarely needs it.",
        "max_gradient_norm": "One odd sample can't throw the weights far. Lower is more careful.",
        "negative_share": "The adapter learns to say that something is absent. Many cost what it knows to find.",
        "rehearsal_share": "More keeps more of what the base knew and leaves fewer places to what is new.",
        "lora_layers": "Without the MLPs it is quicker and forgets less. v and o alone, at a higher rate, are the "
        "quickest; on the embedded model all of attention learned more new nouns in about a third more time.",
        "lora_rank": "How much the adapter can hold. More is slower and larger; what a few hundred phrases teach fits "
        "into 8 to 32.",
        "lora_alpha": "Twice the rank is usual: it keeps the strength of a step the same when the rank changes.",
        "lora_dropout": "Against learning by heart, at the price of slower learning.",
        "learn_new_words": "To LoRA alone, all words that the base was never taught are the same word. Their own "
        "embeddings tell them apart and change nothing that the base knows. Nothing is found in most models.",
        "new_words_rate": "A new word starts from nothing and has far to go: several times LoRA's rate. Higher learns "
        "it sooner and less steadily.",
        "strength": "Scaled down at the end, the change forgets less of the base and loses little of the new.",
        "digit_weights": "A wrong hundred moves a box across the picture, a wrong one by a thousandth of it.",
        "corner_weights": "Raise two of them where boxes end wrong on one side.",
        "nothing_weight": 'An answer "nothing there" is a few tokens among the many of boxes. Raise it where the '
        "adapter points at something whatever it is asked; much higher, it finds new things no more.",
        "score_every_steps": "Each scoring costs time; it gives one point of the curve and one candidate for the best.",
        "score_samples": "More make the curve steadier and each scoring longer: 100 tell 5 points apart at best.",
        "seed": "The same seed, data and settings give the same adapter on the same machine.",
    }
)


@dataclass(frozen=True)
class Preset:
    """Settings under a name. `reasons` says, of the values that are not the profile's own, why they differ."""

    name: str
    title: str
    summary: str
    profile: str
    settings: TrainSettings
    reasons: Mapping[str, str]


@dataclass(frozen=True)
class Explained:
    """One value of a run: what it means, what more or less of it does, why the preset has it, and whether it differs
    from the preset's."""

    name: str
    value: Any
    preset_value: Any
    meaning: str
    explanation: str
    reason: str

    @property
    def differs(self) -> bool:
        return bool(self.value != self.preset_value)


def presets_for(model_id: str) -> tuple[Preset, ...]:
    """The presets of a model's profile, the quickest first. Reads a local model's config, not its weights.

    Raises `ModelError` for a model that can't be found.
    """
    from grounding.models import base_profile, training_settings

    own = training_settings(model_id, {})
    return presets_of(base_profile(model_id).name, own)


def presets_of(profile: str, own: TrainSettings) -> tuple[Preset, ...]:
    """The presets around a profile's own settings."""
    return (
        _derived(
            own,
            profile,
            (QUICK, "Quick", "A third of the steps: to see whether the data teaches anything before waiting for it."),
            {
                "steps": (lambda s: max(20, round(s.steps * 0.34)), "a third of the usual: enough to see a gain"),
                "score_every_steps": (lambda s: max(10, round(s.steps * 0.17)), "twice on the shorter way"),
                "score_samples": (lambda s: min(60, s.score_samples), "fewer, as scoring would take most of the time"),
            },
        ),
        Preset(
            BALANCED,
            "Balanced",
            "The profile's own settings: what is used when nothing is said.",
            profile,
            own,
            NOTHING,
        ),
        _derived(
            own,
            profile,
            (THOROUGH, "Thorough", "Two and a half times the steps with a wider adapter, for a few thousand phrases."),
            {
                "steps": (lambda s: round(s.steps * 2.5), "more phrases need more steps to be seen as often"),
                "learning_rate": (lambda s: round(s.learning_rate * 0.7, 10), "lower, as there is time"),
                "lora_rank": (lambda s: min(512, s.lora_rank * 2), "more to hold"),
                "lora_alpha": (lambda s: min(2048, s.lora_alpha * 2), "goes with the rank"),
                "score_every_steps": (lambda s: max(10, round(s.steps * 0.5)), "five times on the way"),
                "score_samples": (lambda s: max(200, s.score_samples), "a steadier curve to choose the best step by"),
            },
        ),
    )


def preset_named(presets: Sequence[Preset], name: str) -> Preset:
    """Raises `SettingsError` naming the presets there are."""
    found = next((preset for preset in presets if preset.name == name), None)
    if found is None:
        known = ", ".join(preset.name for preset in presets)
        raise SettingsError(f"There is no preset {name[:40]!r}. Presets of this model: {known}.")
    return found


def explained(preset: Preset, settings: TrainSettings) -> tuple[Explained, ...]:
    """Every value of these settings beside the preset's, in the order of their definition."""
    return tuple(
        Explained(
            name=spec.name,
            value=getattr(settings, spec.name),
            preset_value=getattr(preset.settings, spec.name),
            meaning=spec.metadata["meaning"],
            explanation=EXPLANATIONS.get(spec.name, ""),
            reason=preset.reasons.get(spec.name, ""),
        )
        for spec in dataclasses.fields(TrainSettings)
    )


def differences(preset: Preset, settings: TrainSettings) -> tuple[Explained, ...]:
    """The values that differ from the preset's; the seed is nobody's preset."""
    return tuple(value for value in explained(preset, settings) if value.differs and value.name != "seed")


def nearest(presets: Sequence[Preset], settings: TrainSettings) -> Preset:
    """The preset from which the fewest values differ, the first of those where several do."""
    return min(presets, key=lambda preset: len(differences(preset, settings)))


def save_choice(folder: Path, preset: Preset, settings: TrainSettings) -> None:
    """Write preset.json beside a run: the preset, and the values that differ from it. Raises `OSError`."""
    values = {
        "format": _FORMAT,
        "preset": preset.name,
        "profile": preset.profile,
        "differs": {
            value.name: {"preset": value.preset_value, "run": value.value} for value in differences(preset, settings)
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{PRESET}.partial"
    partial.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    partial.replace(folder / PRESET)


def keep_choice(folder: Path, model_id: str, settings: TrainSettings, name: str | None = None) -> None:
    """`save_choice` of the preset of this name (None: the nearest) beside a run. A run goes on without it: what can't
    be written or has no presets is logged only."""
    try:
        presets = presets_for(model_id)
        save_choice(folder, preset_named(presets, name) if name else nearest(presets, settings), settings)
    except (OSError, BoxwrightError) as error:
        log.warning("%s was not written: %s", PRESET, error)


def _derived(
    own: TrainSettings,
    profile: str,
    names: tuple[str, str, str],
    changes: Mapping[str, tuple[Callable[[TrainSettings], Any], str]],
) -> Preset:
    """A preset from the profile's own; a change that changes nothing is left out."""
    values = {name: new(own) for name, (new, _) in changes.items()}
    reasons = {name: why for name, (_, why) in changes.items() if values[name] != getattr(own, name)}
    name, title, summary = names
    return Preset(name, title, summary, profile, dataclasses.replace(own, **values), MappingProxyType(reasons))
