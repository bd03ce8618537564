"""One finished adapter and where it comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from grounding.errors import AdapterError

MANIFEST = "adapter.json"
_FORMAT = "boxwright-adapter/1"
_MAPPINGS = ("settings", "scores", "base_scores", "versions", "data", "phrase_signal", "sweep")


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


WITHOUT_SIGNAL = ("none", "train_only")
"""Verdicts of `grounding.training.signal` by which the phrases taught nothing that holds beyond their own samples."""


@dataclass(frozen=True)
class AdapterInfo:
    """Where an adapter stands and where it comes from.

    `base` is the model's id, `base_revision` its commit on the Hub, `base_sha256` the content of a local one (see
    `provenance.folder_sha256`); "" where it is not known. `quantize` is what the base's weights were while it learned,
    `pixel_budget` the (least, most) area in pixels that pictures were resized to, None for the processor's own.
    `data` counts what it learned from: samples by split ("train", "val", "test") and train "pictures".
    `scores` are those on the snapshot's validation split, `base_scores` the base's on the same samples.
    `phrase_signal` is what `grounding.training.signal` measured of the phrases it learned from.
    `sweep` says of which sweep it is a run, and which (`grounding.sweeps.winner.origin`); empty for none.
    """

    name: str
    path: Path
    base: str
    profile: str
    created_at: str
    snapshot: str = ""
    snapshot_sha256: str = ""
    run_id: str = ""
    steps: int = 0
    settings: Mapping[str, Any] = field(default_factory=_nothing)
    scores: Mapping[str, Any] = field(default_factory=_nothing)
    versions: Mapping[str, str] = field(default_factory=_nothing)
    base_revision: str = ""
    base_sha256: str = ""
    quantize: str = "none"
    pixel_budget: tuple[int, int] | None = None
    data: Mapping[str, int] = field(default_factory=_nothing)
    base_scores: Mapping[str, Any] = field(default_factory=_nothing)
    phrase_signal: Mapping[str, Any] = field(default_factory=_nothing)
    sweep: Mapping[str, Any] = field(default_factory=_nothing)

    @property
    def is_without_signal(self) -> bool:
        """Whether its phrases were measured to have taught it nothing."""
        return self.phrase_signal.get("verdict") in WITHOUT_SIGNAL

    def to_json(self) -> dict[str, Any]:
        """The content of adapter.json. The folder is not part of it: it may move."""
        emptied: dict[str, Any] = {key: {} for key in _MAPPINGS}  # `asdict` can't copy read-only mappings
        plain = asdict(replace(self, **emptied))
        plain |= {key: dict(getattr(self, key)) for key in _MAPPINGS}
        return {"format": _FORMAT, **{key: value for key, value in plain.items() if key != "path"}}

    def save(self) -> None:
        """Write adapter.json. Written last: its presence says that the adapter is complete."""
        partial = self.path / f"{MANIFEST}.partial"
        partial.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")
        partial.replace(self.path / MANIFEST)

    @classmethod
    def load(cls, folder: Path) -> AdapterInfo:
        """Raises `AdapterError` when the folder is missing, incomplete or damaged."""
        manifest = folder / MANIFEST
        if not manifest.is_file():
            raise AdapterError(
                f"There is no finished adapter at {folder}: expected a folder with {MANIFEST}. "
                "Train one, or give the name or folder of one that stands."
            )
        try:
            return cls.from_json(json.loads(manifest.read_text(encoding="utf-8")), folder)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise AdapterError(f"{manifest} is damaged ({error}). Train the adapter again.") from error

    @classmethod
    def at(cls, folder: Path, run_id: str | None = None) -> AdapterInfo | None:
        """The adapter in a folder, if a whole one stands there; with `run_id`, only if that very run made it."""
        try:
            info = cls.load(folder)
        except AdapterError:
            return None
        return info if run_id is None or (run_id and info.run_id == run_id) else None

    @classmethod
    def from_json(cls, document: Mapping[str, Any], folder: Path) -> AdapterInfo:
        """The content of an adapter.json. Raises `ValueError`, `KeyError`, `TypeError` or `AttributeError` when it is
        none."""
        values = dict(document)
        values.pop("format")
        datetime.fromisoformat(values["created_at"])  # raises for what can't be put in order
        if (budget := values.get("pixel_budget")) is not None:
            least, most = budget
            values["pixel_budget"] = (int(least), int(most))
        if not all(isinstance(values.get(key, {}), dict) for key in _MAPPINGS):
            raise TypeError(f"one of {', '.join(_MAPPINGS)} is no object")
        return cls(path=folder, **values)
