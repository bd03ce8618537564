"""What a run knows of where its adapter comes from, in the words of adapter.json."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from grounding.adapters.info import AdapterInfo
from grounding.errors import AdapterError
from grounding.profiles import PROFILE_FILE
from grounding.snapshots import Snapshot

if TYPE_CHECKING:
    from grounding.models import LoadedModel

_WEIGHTS = (".safetensors", ".bin", ".json", ".jinja")
_PACKAGES = ("torch", "torchvision", "transformers", "peft", "accelerate", "safetensors")


def provenance(loaded: LoadedModel, snapshot: Snapshot) -> dict[str, Any]:
    """The fields of `AdapterInfo` that follow from the loaded base and the snapshot, by name.

    Reads every weight file of a local base once. Raises `OSError` when one can't be read.
    """
    from grounding.models import folder_of

    folder = folder_of(loaded.model_id)
    return {
        "base_revision": str(getattr(loaded.model.config, "_commit_hash", None) or ""),
        "base_sha256": folder_sha256(folder) if folder is not None else "",
        "quantize": loaded.quantize,
        "pixel_budget": loaded.profile.pixel_budget,
        "data": _counts(snapshot),
        "versions": versions(loaded.quantize),
    }


def versions(quantize: str) -> Mapping[str, str]:
    """The versions of what an adapter hangs on, by package."""
    import grounding

    packages = (*_PACKAGES, *(("bitsandbytes",) if quantize != "none" else ()))
    known = {name: found for name in packages if (found := _version(name))}
    return MappingProxyType({"boxwright": grounding.__version__, "python": platform.python_version(), **known})


def folder_sha256(folder: Path) -> str:
    """SHA-256 over the names and contents of a model's weights, configuration and tokenizer files, in order of name.

    The same wherever the folder stands and whenever it was copied there, unlike `feature_store.model_fingerprint`.
    Boxwright's own file, which may get a calibration later, doesn't count. Raises `OSError` for what can't be read.
    """
    return _digest({name: one for name, one in _files_sha256(folder).items() if name != PROFILE_FILE})


def check_base_files(info: AdapterInfo) -> None:
    """Raises `AdapterError` when the base of an adapter stands in a folder whose files are not those that it was
    trained on, or can't be read: beside others its weights mean nothing."""
    from grounding.models import folder_of

    folder = folder_of(info.base)
    if folder is None or not info.base_sha256:
        return
    try:  # the second: adapters of before 2026-12 counted every file
        known = folder_sha256(folder), _digest(_files_sha256(folder))
    except OSError as error:
        raise AdapterError(f"The base of {info.name!r} in {folder} can't be read: {error}.") from error
    if info.base_sha256 not in known:
        raise AdapterError(
            f"The base of {info.name!r} in {folder} was changed since the adapter was trained: the adapter would "
            "answer at random beside it. Restore the base's files, or train the adapter again."
        )


def _files_sha256(folder: Path) -> dict[str, str]:
    paths = [path for path in sorted(folder.iterdir()) if path.is_file() and path.suffix in _WEIGHTS]
    return {path.name: _file_sha256(path, path.stat().st_size, path.stat().st_mtime_ns) for path in paths}


@lru_cache(maxsize=256)
def _file_sha256(path: Path, size: int, modified_ns: int) -> str:
    """Read once for as long as the file stays as it is: a base is held against each of its adapters."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(sha256_by_name: Mapping[str, str]) -> str:
    lines = (f"{name}\0{sha256}\n" for name, sha256 in sha256_by_name.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _counts(snapshot: Snapshot) -> Mapping[str, int]:
    by_split = {split: len(snapshot.split(split)) for split in ("train", "val", "test")}
    pictures = len({sample.image for sample in snapshot.split("train")})
    return MappingProxyType({**by_split, "pictures": pictures})


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
