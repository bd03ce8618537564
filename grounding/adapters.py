"""The registry of finished adapters: plain PEFT folders, each with its provenance in adapter.json."""

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


@dataclass(frozen=True)
class AdapterInfo:
    """Where an adapter stands and where it comes from. `scores` are those on the snapshot's validation split,
    `phrase_signal` what `grounding.training.signal` measured of the phrases it was trained on."""

    name: str
    path: Path
    base: str
    profile: str
    created_at: str
    snapshot: str = ""
    snapshot_sha256: str = ""
    run_id: str = ""
    steps: int = 0
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    scores: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    versions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    phrase_signal: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def save(self) -> None:
        """Write adapter.json. Written last: its presence says that the adapter is complete."""
        values = {key: value for key, value in _plain(self).items() if key != "path"}
        partial = self.path / f"{MANIFEST}.partial"
        partial.write_text(json.dumps({"format": _FORMAT, **values}, indent=1) + "\n", encoding="utf-8")
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
            values = json.loads(manifest.read_text(encoding="utf-8"))
            values.pop("format")
            datetime.fromisoformat(values["created_at"])  # raises for what can't be put in order
            return cls(path=folder, **values)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise AdapterError(f"{manifest} is damaged ({error}). Train the adapter again.") from error


def _plain(info: AdapterInfo) -> dict[str, Any]:
    fields = {**info.__dict__, "settings": {}, "scores": {}, "versions": {}, "phrase_signal": {}}
    plain = asdict(AdapterInfo(**fields))
    return plain | {key: dict(getattr(info, key)) for key in ("settings", "scores", "versions", "phrase_signal")}


class AdapterRegistry:
    """The adapters of a workspace, newest first. Here an adapter is called what its folder is called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def list(self) -> list[AdapterInfo]:
        """Every complete adapter, newest first; half-written and damaged ones are left out."""
        found = []
        for manifest in self.folder.glob(f"[!.]*/{MANIFEST}"):
            try:
                found.append(_load_named(manifest.parent))
            except AdapterError:
                continue
        return sorted(found, key=lambda info: (info.created_at, info.name), reverse=True)

    def find(self, name_or_folder: str | Path) -> AdapterInfo:
        """An adapter by its name in the workspace or by a folder. Raises `AdapterError` naming those that stand."""
        if not isinstance(name_or_folder, str | Path):
            raise AdapterError(f"{name_or_folder!r:.80} names no adapter: expected its name, its folder, or None.")
        name_or_folder = str(name_or_folder)
        try:
            named, folder = self.folder / name_or_folder, Path(name_or_folder).expanduser()
            if named.parent == self.folder and (named / MANIFEST).is_file():
                return _load_named(named)
            if (folder / MANIFEST).is_file():
                return AdapterInfo.load(folder.resolve())
        except (OSError, RuntimeError) as error:  # too long for a path, or the home of somebody unknown
            raise AdapterError(f"There is no adapter {name_or_folder[:80]!r}: {error}.") from error
        names = ", ".join(info.name for info in self.list()) or "none yet"
        raise AdapterError(f"There is no adapter {name_or_folder!r}. Adapters here: {names}.")


def _load_named(folder: Path) -> AdapterInfo:
    return replace(AdapterInfo.load(folder), name=folder.name)
