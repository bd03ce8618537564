"""Every value of a sweep, validated when built and saved beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from grounding.errors import SettingsError, StoreError
from grounding.sweeps.space import Space, Value, space_of
from grounding.training.settings import TrainSettings
from grounding.workspace import check_name

FILE = "sweep.json"
MOST_RUNS = 500
_FORMAT = "boxwright-sweep/1"
_LONGEST_NAME = 52  # "-run-500" comes behind it


@dataclass(frozen=True)
class SweepSettings:
    """What is searched and on what. `snapshot` is its folder, `base` the settings that are not searched.

    `prune`: runs that fall behind are ended early. Raises `SettingsError` naming the value and what was expected,
    `WorkspaceError` for a name unfit for a folder.
    """

    name: str
    snapshot: str
    model_id: str
    base: TrainSettings
    search: Mapping[str, Space]
    runs: int = 8
    seed: int = 0
    prune: bool = True
    quantize: str = "none"

    def __post_init__(self) -> None:
        check_name(self.name, "a sweep")
        if len(self.name) > _LONGEST_NAME:
            raise SettingsError(f"name={self.name!r} is too long for a sweep: at most {_LONGEST_NAME} characters.")
        if not self.search:
            raise SettingsError("Nothing is searched: name at least one setting with its values, such as 4,8,16.")
        whole = isinstance(self.runs, int) and not isinstance(self.runs, bool)
        if not whole or not 2 <= self.runs <= MOST_RUNS:
            raise SettingsError(f"runs={self.runs!r}: a sweep takes a whole number of runs, from 2 to {MOST_RUNS}.")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**31:
            raise SettingsError(f"seed={self.seed!r}: expected a whole number from 0 to {2**31 - 1}.")
        if self.combinations < self.runs:
            raise SettingsError(
                f"runs={self.runs}: there are only {self.combinations:.0f} different ways to try. "
                f"Ask for {self.combinations:.0f} runs, or give more values."
            )

    @property
    def combinations(self) -> float:
        """How many different runs there could be; infinite where a range is searched."""
        return math.prod(space.count for space in self.search.values())

    def of_trial(self, values: Mapping[str, Value]) -> TrainSettings:
        """The settings of a run with these values. LoRA's alpha keeps its proportion to the rank."""
        changed: dict[str, Any] = dict(values)
        if "lora_rank" in changed:
            alpha = round(self.base.lora_alpha * int(changed["lora_rank"]) / self.base.lora_rank)
            changed["lora_alpha"] = min(2048, max(1, alpha))
        return replace(self.base, **changed)

    def run_name(self, trial: int) -> str:
        """What the run of a trial, numbered from 0, is called: people count from 1."""
        return f"{self.name}-run-{trial + 1}"

    @property
    def own_values(self) -> dict[str, Value] | None:
        """The searched settings as `base` has them, when all of them lie within what is searched."""
        own = {name: getattr(self.base, name) for name in self.search}
        return own if all(space.holds(own[name]) for name, space in self.search.items()) else None

    def to_json(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "name": self.name,
            "snapshot": self.snapshot,
            "model_id": self.model_id,
            "quantize": self.quantize,
            "runs": self.runs,
            "seed": self.seed,
            "prune": self.prune,
            "search": {name: space.to_json() for name, space in self.search.items()},
            "base": self.base.to_json(),
        }

    def save(self, folder: Path) -> None:
        """Write sweep.json into the sweep's folder, whole or not at all. Raises `OSError`."""
        partial = folder / f".{FILE}"
        partial.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")
        partial.replace(folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> SweepSettings:
        """Raises `StoreError` when the file is gone or damaged."""
        path = folder / FILE
        try:
            values = dict(json.loads(path.read_text(encoding="utf-8")))
            values.pop("format")
            search = {name: space_of(name, space) for name, space in values.pop("search").items()}
            base = TrainSettings.from_mapping(values.pop("base"))
            return cls(base=base, search=MappingProxyType(search), **values)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{path} can't be read ({error}). Stop this sweep and start another.") from error
