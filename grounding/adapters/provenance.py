"""What a run knows of where its adapter comes from, in the words of adapter.json."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from grounding.adapters.info import AdapterInfo
from grounding.errors import AdapterError
from grounding.hashing import sha256_once
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
    return _digests(folder)[0]


def check_base_files(info: AdapterInfo) -> None:
    """Raises `AdapterError` when the base of an adapter stands in a folder whose files are not those that it was
    trained on, or can't be read: beside others its weights mean nothing."""
    from grounding.models import folder_of

    folder = folder_of(info.base)
    if folder is None or not info.base_sha256:
        return
    try:
        known = _digests(folder)
    except OSError as error:
        raise AdapterError(f"The base of {info.name!r} in {folder} can't be read: {error}.") from error
    if info.base_sha256 not in known:
        raise AdapterError(
            f"The base of {info.name!r} in {folder} was changed since the adapter was trained: the adapter would "
            "answer at random beside it. Restore the base's files, or train the adapter again."
        )


def _digests(folder: Path) -> tuple[str, str]:
    """(`folder_sha256`, the same with Boxwright's own file: so adapters of before 2026-12 counted)."""
    paths = [path for path in sorted(folder.iterdir()) if path.is_file() and path.suffix in _WEIGHTS]
    lines = {path.name: f"{path.name}\0{sha256_once(path)}\n" for path in paths}
    every = "".join(lines.values())
    own = "".join(line for name, line in lines.items() if name != PROFILE_FILE)
    return hashlib.sha256(own.encode()).hexdigest(), hashlib.sha256(every.encode()).hexdigest()


def _counts(snapshot: Snapshot) -> Mapping[str, int]:
    by_split = {split: len(snapshot.split(split)) for split in ("train", "val", "test")}
    pictures = len({sample.image for sample in snapshot.split("train")})
    return MappingProxyType({**by_split, "pictures": pictures})


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
