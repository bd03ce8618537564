"""Further models for Compare, beside the app's own: named, remembered in the workspace, loaded when they are chosen."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from grounding.errors import BusyError, ModelError, SettingsError, WorkspaceError
from grounding.models import QUANTIZATIONS, base_profile, full_model_id
from grounding.ui.chosen import further_key, title_of
from grounding.ui.keeper import has_gpu
from grounding.ui.model_service import ModelService, ModelState, Phase

log = logging.getLogger(__name__)

MOST_FURTHER = 8
"""So many are offered; each that was chosen keeps its memory until it is removed."""
_FORMAT = "boxwright-compare-models/1"
_MOST_CHARACTERS = 500
_BITS = {"4bit": "4-bit", "8bit": "8-bit"}


@dataclass(frozen=True)
class FurtherModel:
    """`model` is an id or a folder's absolute path, `quantize` one of `models.QUANTIZATIONS`, `name` what the page
    calls it: no other one has it."""

    name: str
    model: str
    quantize: str = "none"

    @property
    def key(self) -> str:
        """How it stands among the models chosen."""
        return further_key(self.name)

    def __post_init__(self) -> None:
        for value in (self.name, self.model):
            if not isinstance(value, str) or not 0 < len(value.strip()) <= _MOST_CHARACTERS:
                raise SettingsError(f"{str(value)[:80]!r} names no model: expected a folder or an id on the Hub.")
        if self.quantize not in QUANTIZATIONS:
            raise SettingsError(f"quantize={self.quantize!r} is unknown. Expected one of {', '.join(QUANTIZATIONS)}.")


def parse_also(text: str) -> tuple[str, str]:
    """(model, quantize) out of `MODEL` or `MODEL:4bit`. Raises `SettingsError` for an empty model."""
    head, colon, tail = text.rpartition(":")
    model, quantize = (head, tail) if colon and tail in QUANTIZATIONS else (text, "none")
    if not model.strip():
        raise SettingsError(f"--also {text!r} names no model: expected MODEL or MODEL:4bit.")
    return model.strip(), quantize


def state_of(service: ModelService) -> ModelState:
    """The state of a further model; its name, maybe a long path, stands beside it already."""
    state = service.state
    return replace(state, sentence="Loading") if state.phase is Phase.LOADING else state


class FurtherModels:
    """Which further models Compare offers, each with a service of its own that follows the app's.

    Nothing is loaded before somebody asks for it (`want`), and only while the app's own model is there: whoever gives
    the GPU to a training run so gives that of all. `load` makes a service's loader, for tests.
    """

    def __init__(
        self,
        models: ModelService,
        also: Sequence[tuple[str, str]] = (),
        *,
        load: Callable[[FurtherModel], Callable[[], Any]] | None = None,
    ) -> None:
        self.models = models
        self.problem = ""
        self._load = load
        self._file = models.workspace.compare_models
        self._lock = threading.Lock()
        self._services: dict[FurtherModel, ModelService] = {}
        self._remembered: list[FurtherModel] = []
        for one in self._read():
            self._remembered.append(one)
            self._offer(one)
        for model, quantize in also:
            with self._lock:
                if self._find(full_model_id(model), quantize) is None:
                    self._offer(self._named(model, quantize))

    def offered(self) -> tuple[FurtherModel, ...]:
        """In the order in which they were added."""
        with self._lock:
            return tuple(self._services)

    def keys(self) -> list[str]:
        return [one.key for one in self.offered()]

    def add(self, model: str, quantize: str = "none") -> FurtherModel:
        """Offer a model and remember it. Raises `ModelError` for a folder that holds none of a known family,
        `SettingsError` for one that is there already, `WorkspaceError` when it can't be remembered."""
        model = model.strip()
        FurtherModel("model", model, quantize)
        base_profile(model)  # what can be said before anything is fetched
        with self._lock:
            found = self._find(full_model_id(model), quantize)
            if found is not None:
                raise SettingsError(f"{found} stands in the list already: choose it there.")
            if len(self._services) >= MOST_FURTHER:
                raise SettingsError(f"{MOST_FURTHER} further models are offered, and no more fit: remove one first.")
            added = self._named(model, quantize)
            self._write([*self._remembered, added])
            self._remembered.append(added)
            self._offer(added)
        return added

    def remove(self, name: str) -> None:
        """Offer a model no longer, and free its memory once nobody uses it. Raises `BusyError` while it loads,
        `ModelError` for an unknown one."""
        key = further_key(name)
        service = self.service(key)
        if service.state.phase is Phase.LOADING:
            raise BusyError(f"{name} is loading, which can't be broken off. Remove it once it is there.")
        with self._lock:
            kept = [one for one in self._remembered if one.key != key]
            if len(kept) < len(self._remembered):
                self._write(kept)
                self._remembered = kept
            self._services = {one: own for one, own in self._services.items() if one.key != key}
        self.models.part_with(service)
        service.unload("nobody")

    def service(self, key: str) -> ModelService:
        """The service of a model. Raises `ModelError` for one that is not offered."""
        with self._lock:
            found = next((own for one, own in self._services.items() if one.key == key), None)
        if found is None:
            raise ModelError(f"The model {title_of(key)[:80]!r} is no longer offered. Choose one from the list.")
        return found

    def want(self, key: str) -> ModelState:
        """Begin loading a model unless it is there, on its way, or has failed; how it stands then. Raises as
        `service`."""
        service = self.service(key)
        if service.state.phase is not Phase.UNLOADED or self.models.start_beside(service):
            return state_of(service)
        own = self.models.state
        if own.phase is Phase.LOADING:
            return ModelState(Phase.LOADING, "Waits until the app's own model is there", own.seconds)
        if own.phase is not Phase.FAILED:
            return own
        if has_gpu():  # its memory is given to runs whenever the app's own model doesn't stand there
            return ModelState(Phase.FAILED, "Not loaded: the app's own model failed. Start the app with one.", 0.0)
        service.start()
        return state_of(service)

    def try_again(self, name: str) -> None:
        """Load a model that has failed. Raises as `service`."""
        service = self.service(further_key(name))
        if service.state.phase is Phase.FAILED and not self.models.start_beside(service) and not has_gpu():
            service.start()

    def _offer(self, one: FurtherModel) -> None:
        load = self._load(one) if self._load is not None else None
        service = ModelService(one.model, one.quantize, self.models.workspace, load=load)
        self._services[one] = service
        self.models.accompany(service)

    def _find(self, model: str, quantize: str) -> str | None:
        """What this model is called where it is there already."""
        if (model, quantize) == (self.models.model, self.models.quantize):
            return "The app's own model"
        return next((one.name for one in self._services if (one.model, one.quantize) == (model, quantize)), None)

    def _named(self, model: str, quantize: str) -> FurtherModel:
        """The model under the shortest name that no other one has: the end of its id or path, and its bits."""
        full = full_model_id(model)
        parts, taken = PurePath(full).parts, {one.name for one in self._services}
        bits = f" {_BITS[quantize]}" if quantize in _BITS else ""
        ends = ("/".join(parts[-count:]) + bits for count in range(1, len(parts) + 1))
        return FurtherModel(next((end for end in ends if end not in taken), full + bits), full, quantize)

    def _read(self) -> list[FurtherModel]:
        """What is remembered; `problem` says where it can't be read. Never in the way of the page."""
        try:
            if not self._file.is_file():
                return []
            held = json.loads(self._file.read_text(encoding="utf-8"))
            if held["format"] != _FORMAT:
                raise ValueError(f"format {held['format']!r}, expected {_FORMAT!r}")
            found = [FurtherModel(one["name"], one["model"], one["quantize"]) for one in held["models"]]
            if len({one.name for one in found}) < len(found) or len(found) > MOST_FURTHER:
                raise ValueError(f"two of the same name, or more than {MOST_FURTHER}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.problem = (
                f"{self._file} can't be read ({type(error).__name__}: {error}). What was added before is not offered; "
                "the file is put aside when a model is added."
            )
            log.warning("%s", self.problem)
            return []
        return found

    def _write(self, models: Sequence[FurtherModel]) -> None:
        told = [{"name": one.name, "model": one.model, "quantize": one.quantize} for one in models]
        partial = self._file.with_name(f".partial-{self._file.name}")
        try:
            if self.problem:
                self._file.replace(self._file.with_suffix(".damaged"))
                self.problem = ""
            partial.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps({"format": _FORMAT, "models": told}, indent=2) + "\n", encoding="utf-8")
            partial.replace(self._file)
        except OSError as error:
            raise WorkspaceError(
                f"{self._file} can't be written ({error.strerror or error}). Free space, or make the folder writable."
            ) from error
