"""What a run knows of where its adapter comes from, in the words of adapter.json."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from grounding.snapshots import Snapshot

if TYPE_CHECKING:
    from grounding.models import LoadedModel

_WEIGHTS = (".safetensors", ".bin", ".json", ".jinja")
_PACKAGES = ("torch", "torchvision", "transformers", "peft", "accelerate", "safetensors")


def provenance(loaded: LoadedModel, snapshot: Snapshot) -> dict[str, Any]:
    """The fields of `AdapterInfo` that follow from the loaded base and the snapshot, by name.

    Reads every weight file of a local base once. Raises `OSError` when one can't be read.
    """
    from grounding.models import DEMO_MODEL_FOLDER, local_folder

    folder = DEMO_MODEL_FOLDER if loaded.model_id == "demo" else local_folder(loaded.model_id)
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
    """
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in _WEIGHTS:
            with path.open("rb") as file:
                digest.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _counts(snapshot: Snapshot) -> Mapping[str, int]:
    by_split = {split: len(snapshot.split(split)) for split in ("train", "val", "test")}
    pictures = len({sample.image for sample in snapshot.split("train")})
    return MappingProxyType({**by_split, "pictures": pictures})


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
