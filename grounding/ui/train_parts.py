"""What the Train tab is built on: the workspace, the models, and the curated set seen through a protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from grounding.records import Sample
from grounding.ui.model_service import ModelService
from grounding.workspace import Workspace


class Ready(Protocol):
    """How much of the data can be learned from now. Counts of samples; `val` those to score on, `val_boxed` those of
    them with a box: the figures of boxes are over these."""

    @property
    def train_ready(self) -> int: ...
    @property
    def train_total(self) -> int: ...
    @property
    def placeholders(self) -> int: ...
    @property
    def flagged(self) -> int: ...
    @property
    def val(self) -> int: ...
    @property
    def val_boxed(self) -> int: ...


class Curation(Protocol):
    """The curated set: how much of it is ready, and how it is frozen."""

    def ready(self) -> Ready:
        """Counts as they stand now."""

    def version(self) -> str:
        """Another text whenever a sample has changed."""

    def would_be_frozen(self) -> tuple[list[Sample], dict[str, int]]:
        """(samples that a snapshot made now would hold, train samples left out for each reason)."""

    def freeze(self, name: str, *, placeholders: bool = False) -> str:
        """Freeze the usable samples under a name like this one; returns the snapshot's name. `placeholders`: those
        too, for a run that is forced."""


@dataclass(frozen=True)
class TrainParts:
    """What the tab is built on."""

    workspace: Workspace
    models: ModelService
    curation: Curation
