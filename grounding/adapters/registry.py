"""The adapters of a workspace, by name."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from grounding.adapters.info import MANIFEST, AdapterInfo
from grounding.errors import AdapterError


class AdapterRegistry:
    """The adapters of a workspace, newest first. Here an adapter is called what its folder is called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fitting(self, base: str) -> list[AdapterInfo]:
        """Those of `list` that were trained on this base, by its model id."""
        return [info for info in self.list() if info.base == base]

    def list(self) -> list[AdapterInfo]:
        """Every complete adapter, newest first; half-written and damaged ones are left out."""
        found = []
        for manifest in self.folder.glob(f"[!.]*/{MANIFEST}"):
            try:
                found.append(_load_named(manifest.parent))
            except AdapterError:
                continue
        return sorted(found, key=lambda info: (info.created_at, info.name), reverse=True)

    def of_run(self, run_id: str, first_name: str = "") -> AdapterInfo | None:
        """The adapter that a run made, whatever it is called by now; None when it is gone. `first_name`, what the run
        called it, is looked at before all others are read."""
        if first_name:
            with suppress(AdapterError):
                named = _load_named(self.folder / first_name)
                if named.run_id == run_id:
                    return named
        return next((info for info in self.list() if info.run_id == run_id), None)

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
