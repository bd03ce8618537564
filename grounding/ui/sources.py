"""What the tabs need from elsewhere: samples to browse, and places to keep evaluations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from grounding.records import Sample
from grounding.ui.model_service import ModelService
from grounding.workspace import Workspace


class SampleSource(Protocol):
    """Where samples come from; `annotate.store.Store` is one. Every image is `<its SHA-256>.<suffix>`."""

    def splits(self) -> dict[str, int]:
        """How many samples each split has."""

    def page(self, split: str | None, offset: int, limit: int) -> tuple[list[Sample], int]:
        """`limit` samples from `offset` on, and how many there are in all; None: every split."""

    def get_sample(self, sample_id: str) -> Sample:
        """One sample. Raises `StoreError` for an unknown id."""

    def samples_of_picture(self, picture_sha256: str) -> list[Sample]:
        """The samples of a picture that stand, of a great many the first; none of one that nobody imported."""

    def categories(self) -> list[str]:
        """The categories that samples have, by name."""

    def iterate(self, split: str | None, *, with_source: bool = False) -> Iterator[Sample]:
        """Every sample of a split, or of all of them; `with_source`: with what it was imported from in `extra`."""


@dataclass(frozen=True)
class Parts:
    """What a tab is built on. `is_placeholder` tells a generic wording from a phrase."""

    workspace: Workspace
    source: SampleSource
    models: ModelService
    is_placeholder: Callable[[str], bool]


def picture_id(sample: Sample) -> str:
    """The opaque id of a sample's picture: the SHA-256 in its file name."""
    return sample.image.stem
