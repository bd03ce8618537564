"""How the models of kept evaluations were asked: only answers to equal questions say which model is better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from grounding.decoding.settings import Decoding
from grounding.reports import KeptReport, weights_of

if TYPE_CHECKING:
    from grounding.compared.comparison import Comparison

_NAMES = {
    "weights": "the weights",
    "mode": "the mode of decoding",
    "coordinates": "the kind of coordinates",
    "samples": "the number of votes",
    "temperature": "the temperature",
    "seed": "the seed of the draws",
    "choose": "the way to choose",
    "max_boxes": "the most boxes",
    "rerank": "the model that chooses",
    "profile": "the profile",
    "model_files": "the content of the model",
}
_UNTOLD = ("model_files",)  # a digest says nothing to people


def conditions_of(kept: KeptReport) -> Mapping[str, Any]:
    """How the model was asked, by the keys of its settings; "" where that isn't known.

    Reports without settings were made by the page of an earlier version, which asked in the default way.
    """
    asked = kept.settings.get("conditions") or {}
    return {
        "weights": weights_of(kept),
        **(Decoding().to_json() | dict(kept.settings.get("decoding") or {})),
        "rerank": asked.get("rerank", "none"),
        "profile": asked.get("profile") or kept.settings.get("profile") or "",
        "model_files": asked.get("model_files", ""),
    }


def differing_conditions(one: KeptReport, other: KeptReport) -> list[str]:
    """In what the two were asked otherwise, such as "the weights ('none', '4bit')"; nothing that one doesn't know."""
    first, second = conditions_of(one), conditions_of(other)
    found = []
    for key in dict.fromkeys((*first, *second)):
        values = first.get(key, ""), second.get(key, "")
        if values[0] != values[1] and "" not in values:
            told = "" if key in _UNTOLD else f" ({values[0]!r}, {values[1]!r})"
            found.append(f"{_NAMES.get(key, key)}{told}")
    # The files of two different models differ of course.
    return found if one.model_id == other.model_id else [told for told in found if told != _NAMES["model_files"]]


def asked_alike(one: KeptReport, other: KeptReport) -> bool:
    """Whether both were asked in the same way, as far as that is known."""
    return not differing_conditions(one, other)


def condition_words(kept: KeptReport) -> tuple[str, ...]:
    """What is not the default in how the model was asked, such as ("4-bit", "free mode")."""
    asked, usual = conditions_of(kept), Decoding().to_json()
    found = [] if asked["weights"] == "none" else [f"{asked['weights'].removesuffix('bit')}-bit"]
    if asked["mode"] != usual["mode"]:
        found.append(f"{asked['mode']} mode")
    if asked["coordinates"] != usual["coordinates"]:
        found.append(f"{asked['coordinates']} coordinates")
    if asked["samples"] != usual["samples"]:
        found.append(f"{asked['samples']} votes")
    if asked["rerank"] != "none":
        found.append("reranked")
    if named := (kept.settings.get("conditions") or {}).get("profile"):
        found.append(f"profile {named}")
    return tuple(found)


def conditions_notes(comparison: Comparison) -> tuple[str, ...]:
    """A sentence for each side that was asked otherwise than the first; nothing where a side has no report."""
    first, *others = comparison.sides
    found = []
    for side in others:
        if first.kept is None or side.kept is None:
            continue
        if differences := differing_conditions(first.kept, side.kept):
            found.append(
                f"{first.name} and {side.name} were not asked in the same way: {'; '.join(differences)}. What differs "
                "between them may come from that. Evaluate both alike."
            )
    return tuple(found)
