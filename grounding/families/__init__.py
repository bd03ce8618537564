"""The model families that Boxwright knows: one module each, found by itself. See docs/add-a-family.md."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cache

from grounding.errors import ModelError
from grounding.families.base import DetectorFamily, Family, TextFamily
from grounding.profiles import ModelProfile

__all__ = ["DetectorFamily", "Family", "TextFamily", "all_profiles", "family_named", "family_of_type", "register"]

_REGISTERED: dict[str, Family] = {}


def register(family: Family) -> Family:
    """Make a family known, from this package or from anywhere else. Raises `ModelError` when its name, a model type
    or a profile's name is taken by another."""
    for known in _families().values():
        if known.name == family.name and type(known) is not type(family):
            raise ModelError(f"There is a family {family.name!r} already. Give the new one another name.")
        taken = set(known.model_types) & set(family.model_types)
        if known.name != family.name and taken:
            raise ModelError(f"Models of type {sorted(taken)[0]!r} belong to the family {known.name!r} already.")
        names = {profile.name for profile in known.profiles} & {profile.name for profile in family.profiles}
        if known.name != family.name and names:
            raise ModelError(f"There is a profile {sorted(names)[0]!r} already, of the family {known.name!r}.")
    _REGISTERED[family.name] = family
    return family


def family_named(name: str) -> Family:
    """Raises `ModelError` naming the known families."""
    families = _families()
    if name not in families:
        raise ModelError(f"There is no model family {name!r}. Known families: {', '.join(sorted(families))}.")
    return families[name]


def family_of_type(model_type: str) -> Family:
    """The family of a configuration's `model_type`. Raises `ModelError` naming the known types."""
    families = _families().values()
    for family in families:
        if model_type in family.model_types:
            return family
    known = ", ".join(sorted(name for family in families for name in family.model_types))
    raise ModelError(f"Boxwright does not know models of type {model_type!r}. Known types: {known}.")


def all_profiles() -> dict[str, ModelProfile]:
    """Every profile by its name."""
    return {profile.name: profile for family in _families().values() for profile in family.profiles}


def _families() -> dict[str, Family]:
    return {**_discovered(), **_REGISTERED}


@cache
def _discovered() -> dict[str, Family]:
    found: dict[str, Family] = {}
    for module_info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if kind.__module__ == module.__name__ and issubclass(kind, Family) and hasattr(kind, "profiles"):
                family = kind()
                found[family.name] = family
    return found
