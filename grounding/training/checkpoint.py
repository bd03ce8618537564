"""Checkpoints: everything a run needs to go on as if it had never stopped, written whole or not at all.

A checkpoint is a folder `step-00000100` with the trained weights, those of the best step so far, the optimiser's
state, the position, and a manifest with the size and SHA-256 of each file. The random numbers of a step (pictures,
views, dropout) and its learning rate are functions of the seed and the step's number, so the position stands for
their states too. The folder is written under another name, every file is synced to the disk, and a rename makes it a
checkpoint; a manifest that doesn't fit its files is no checkpoint.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from grounding.errors import JobError
from grounding.training.settings import TrainSettings

log = logging.getLogger(__name__)

_FORMAT = "boxwright-checkpoint/1"
_MANIFEST = "manifest.json"
# What may change between the two halves of a run: it moves no weight.
_FREE = frozenset(
    ("accumulation", "gradient_checkpointing", "checkpoint_every_steps", "checkpoints_kept", "tensorboard", "trackio")
)


@dataclass(frozen=True)
class Checkpoint:
    """A run after `step` steps. `weights` and `best` are tensors by name (`best` None: the run has not been scored
    yet), `optimiser` its state_dict, `state` plain JSON: the position and what the scorings said."""

    step: int
    weights: Mapping[str, torch.Tensor]
    best: Mapping[str, torch.Tensor] | None
    optimiser: Mapping[str, Any]
    state: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one run, in a folder of their own. `identity` is what a checkpoint must be of."""

    def __init__(self, folder: Path, identity: str, kept: int = 2) -> None:
        self.folder = folder
        self.identity = identity
        self.kept = kept

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint and remove those that are older than the newest `kept`.

        Those of later steps go, too: the run has passed them over and begun before them.

        Raises `JobError` with the reason when it can't be written, for a full disk after older ones have made room;
        the newest of those before is still there then.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._clear_partial()
            try:
                self._write(checkpoint)
            except OSError:
                self._clear_partial()
                self._prune(1, checkpoint.step)
                self._write(checkpoint)
            self._prune(self.kept, checkpoint.step)
        except OSError as error:
            self._clear_partial()
            kept = self._standing()
            raise JobError(
                f"The checkpoint of step {checkpoint.step} could not be written ({error.strerror or error}). "
                f"{_of_step(kept[0]) if kept else 'There is none yet'}; the run goes on. Free some space."
            ) from error

    def newest(self) -> tuple[Checkpoint | None, tuple[str, ...]]:
        """(the newest checkpoint that is whole and of this run, a sentence for each newer one that is not)."""
        refused: list[str] = []
        for folder in self._standing():
            try:
                return self._read(folder), tuple(refused)
            except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
                refused.append(f"The checkpoint {folder.name} is passed over: {error}.")
        return None, tuple(refused)

    def remove(self) -> None:
        """Remove all of them, for a run that has ended well."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _standing(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"), reverse=True)

    def _prune(self, kept: int, step: int) -> None:
        """Leave the newest `kept` of those up to `step`."""
        passed_over = [folder for folder in self._standing() if _step_of(folder) > step]
        for folder in [*passed_over, *self._standing()[len(passed_over) + kept :]]:
            shutil.rmtree(_set_aside(folder), ignore_errors=True)

    def _clear_partial(self) -> None:
        for folder in [*self.folder.glob(".partial-*"), *self.folder.glob(".gone-*")]:
            shutil.rmtree(folder, ignore_errors=True)

    def _write(self, checkpoint: Checkpoint) -> None:
        name = f"step-{checkpoint.step:08d}"
        partial, place = self.folder / f".partial-{name}", self.folder / name
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        files = {}
        for file_name, content in _contents(checkpoint).items():
            write_synced(partial / file_name, content)
            files[file_name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        manifest = {"format": _FORMAT, "step": checkpoint.step, "identity": self.identity, "files": files}
        write_synced(partial / _MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
        sync_folder(partial)
        # The same step again, after a scoring or a checkpoint that was passed over.
        gone = _set_aside(place) if place.exists() else None
        partial.rename(place)
        sync_folder(self.folder)
        if gone is not None:
            shutil.rmtree(gone, ignore_errors=True)

    def _read(self, folder: Path) -> Checkpoint:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != _FORMAT:
            raise ValueError(f"its format is {manifest['format']!r}, expected {_FORMAT!r}")
        if manifest["identity"] != self.identity:
            raise ValueError("it is of other settings, another base or another snapshot")
        contents = {}
        for name, known in manifest["files"].items():
            content = (folder / Path(name).name).read_bytes()
            if len(content) != known["bytes"] or hashlib.sha256(content).hexdigest() != known["sha256"]:
                raise ValueError(f"{name} is not as it was written")
            contents[name] = content
        best = contents.get("best.safetensors")
        return Checkpoint(
            step=int(manifest["step"]),
            weights=load_tensors(contents["weights.safetensors"]),
            best=None if best is None else load_tensors(best),
            optimiser=torch.load(io.BytesIO(contents["optimiser.pt"]), map_location="cpu", weights_only=True),
            state=json.loads(contents["state.json"]),
        )


def identity_of(model_id: str, quantize: str, samples_sha256: str, settings: TrainSettings) -> str:
    """What a checkpoint is of, as a SHA-256: base, quantisation, snapshot, and every setting that moves a weight."""
    moving = {name: value for name, value in settings.to_json().items() if name not in _FREE}
    text = json.dumps([model_id, quantize, samples_sha256, moving], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_files(folder: Path) -> None:
    """Wait until the disk has the files of a folder, and their names."""
    for path in folder.iterdir():
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the names in a folder. Does nothing where folders can't be opened (Windows)."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _contents(checkpoint: Checkpoint) -> dict[str, bytes]:
    optimiser = io.BytesIO()
    torch.save(dict(checkpoint.optimiser), optimiser)
    contents = {
        "weights.safetensors": save_tensors(_contiguous(checkpoint.weights)),
        "optimiser.pt": optimiser.getvalue(),
        "state.json": (json.dumps(dict(checkpoint.state)) + "\n").encode(),
    }
    if checkpoint.best is not None:
        contents["best.safetensors"] = save_tensors(_contiguous(checkpoint.best))
    return contents


def _contiguous(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}


def _set_aside(folder: Path) -> Path:
    """Under another name: what is half removed must not look like a checkpoint that is damaged."""
    gone = folder.with_name(f".gone-{folder.name}")
    shutil.rmtree(gone, ignore_errors=True)
    return folder.rename(gone)


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _of_step(folder: Path) -> str:
    return f"That of step {_step_of(folder)} still stands"
