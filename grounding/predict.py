"""The Predictor: boxes for phrases on pictures, from a base and any number of adapters on the same weights."""

from __future__ import annotations

import itertools
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors import SafetensorError

from grounding import engine
from grounding.adapters import AdapterInfo, AdapterRegistry
from grounding.errors import AdapterError, Cancelled
from grounding.models import LoadedModel, first_sentence
from grounding.pictures import open_picture
from grounding.records import Prediction, check_phrase

Picture = str | Path | Image.Image
# Of the whole program: two Predictors may share one model.
_NUMBERS = itertools.count()


class Predictor:
    """Answers phrases on pictures. Safe to use from several threads: one call at a time runs on the model."""

    def __init__(self, loaded: LoadedModel, adapters: Path) -> None:
        self.loaded = loaded
        self.registry = AdapterRegistry(adapters)
        self._lock = threading.RLock()
        self._attached: dict[tuple[Path, int], str] = {}

    @property
    def model_id(self) -> str:
        return self.loaded.model_id

    @property
    def profile(self) -> Any:
        return self.loaded.profile

    @property
    def device(self) -> str:
        return self.loaded.device

    @property
    def load_notes(self) -> tuple[str, ...]:
        return self.loaded.notes

    def predict(self, image: Picture, phrase: str, adapter: str | None = None) -> Prediction:
        """The box of one phrase. `adapter`: a name in the workspace, a folder, or None for the base."""
        return self.predict_many([(image, phrase)], adapter)[0]

    def compare(self, image: Picture, phrase: str, adapters: Sequence[str | None] = (None,)) -> list[Prediction]:
        """One answer per entry of `adapters` (None: the base), from a single image pass."""
        phrase = check_phrase(phrase)
        picture = open_picture(image)
        with self._lock:
            start = time.perf_counter()
            features = engine.encode_images(self.loaded, [picture])
            image_seconds = time.perf_counter() - start
            return [self._answer(features, [phrase], adapter, image_seconds)[0] for adapter in adapters]

    def predict_many(
        self,
        pairs: Sequence[tuple[Picture, str]],
        adapter: str | None = None,
        *,
        batch_size: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[Prediction]:
        """One answer per (picture, phrase), in order; neighbours with the same picture share its image pass.

        `progress` is called with (done, total) after every batch. Raises `Cancelled` when `cancelled` says so
        between two batches.
        """
        size = batch_size or (20 if self.device == "cpu" else 32)
        predictions: list[Prediction] = []
        for start in range(0, len(pairs), size):
            if cancelled is not None and cancelled():
                raise Cancelled(f"Stopped after {len(predictions)} of {len(pairs)} phrases.")
            predictions += self._predict_batch(pairs[start : start + size], adapter)
            if progress is not None:
                progress(len(predictions), len(pairs))
        return predictions

    def _predict_batch(self, pairs: Sequence[tuple[Picture, str]], adapter: str | None) -> list[Prediction]:
        phrases = [check_phrase(phrase) for _, phrase in pairs]
        keys = [id(image) if isinstance(image, Image.Image) else str(image) for image, _ in pairs]
        unique = {key: image for key, (image, _) in zip(keys, pairs, strict=True)}
        pictures = [open_picture(image) for image in unique.values()]
        with self._lock:
            start = time.perf_counter()
            features = dict(zip(unique, engine.encode_images(self.loaded, pictures), strict=True))
            image_seconds = (time.perf_counter() - start) / len(pairs)
            return self._answer([features[key] for key in keys], phrases, adapter, image_seconds)

    def _answer(
        self,
        features: Sequence[engine.ImageFeatures],
        phrases: Sequence[str],
        adapter: str | None,
        image_seconds: float = 0.0,
    ) -> list[Prediction]:
        start = time.perf_counter()
        with self._using(adapter):
            answers = engine.answer(self.loaded, features, phrases)
        seconds = image_seconds + (time.perf_counter() - start) / len(phrases)
        return [
            to_prediction(self.loaded, answer, feature, seconds, adapter)
            for answer, feature in zip(answers, features, strict=True)
        ]

    @contextmanager
    def _using(self, adapter: str | None) -> Iterator[None]:
        """The model with this adapter active, back to the base afterwards. The caller holds the lock."""
        if adapter is None:
            yield
            return
        key = self._attach(self.registry.find(adapter))
        try:
            self.loaded.model.enable_adapters()
            self.loaded.model.set_adapter(key)
            yield
        finally:
            self.loaded.model.disable_adapters()

    def _attach(self, info: AdapterInfo) -> str:
        """Load the adapter's weights beside those already there; returns its name inside the model."""
        if info.base != self.model_id or info.profile != self.loaded.profile.name:
            raise AdapterError(
                f"The adapter {info.name!r} was trained on {info.base} (profile {info.profile}); "
                f"the model here is {self.model_id} (profile {self.loaded.profile.name}). Load its own base."
            )
        # The time of writing is part of the key: an adapter trained anew under the same name is loaded anew.
        identity = (info.path, (info.path / "adapter.json").stat().st_mtime_ns)
        if identity not in self._attached:
            for replaced in [key for key in self._attached if key[0] == info.path]:
                self._drop_adapter(self._attached.pop(replaced))
            self._attached[identity] = self._load_adapter(info)
        return self._attached[identity]

    def _load_adapter(self, info: AdapterInfo) -> str:
        """Put the weights beside the base's, switched off. Raises `AdapterError`, the model left as it was."""
        model = self.loaded.model
        name = f"adapter{next(_NUMBERS)}"  # module names must not hold the dots that file names may
        with warnings.catch_warnings():
            # peft takes a second adapter on one model for a mistake; here it is the plan.
            warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)
            try:
                loading = model.load_adapter(str(info.path), adapter_name=name)
                # The report also lists the weights of adapters that were there before: those are not this file's.
                missing = [key for key in loading.missing_keys if f".{name}." in key]
                if missing or loading.unexpected_keys:
                    raise ValueError(
                        f"{len(missing)} weights missing, {len(loading.unexpected_keys)} not of this model"
                    )
            except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
                self._drop_adapter(name)
                raise AdapterError(
                    f"The adapter {info.name!r} at {info.path} can't be loaded: {first_sentence(error)}. "
                    "Its files are damaged or were made by other versions: train it again."
                ) from error
        model.disable_adapters()
        return name

    def _drop_adapter(self, name: str) -> None:
        """Remove the weights of an adapter, or what a failed load left behind."""
        model = self.loaded.model
        with warnings.catch_warnings():
            # peft then makes another adapter the active one; all are switched off below.
            warnings.filterwarnings("ignore", "Adapter .* was active", UserWarning)
            if model._hf_peft_config_loaded and name in model.peft_config:
                model.delete_adapter(name)
        if model._hf_peft_config_loaded:
            model.disable_adapters()


def to_prediction(
    loaded: LoadedModel,
    answer: engine.Answer,
    features: engine.ImageFeatures,
    seconds: float,
    adapter: str | None = None,
) -> Prediction:
    """The answer read as boxes on its picture."""
    decoded = loaded.profile.box_format.decode(answer.text, features.image_size_wh)
    return Prediction(decoded.boxes_xyxy_px, decoded.status, answer.text, answer.confidence, seconds, adapter)
