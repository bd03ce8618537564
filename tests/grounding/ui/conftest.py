"""A workspace with four pictures and a predictor that answers without a model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from grounding.adapters import AdapterInfo
from grounding.boxes import Box
from grounding.errors import Cancelled, StoreError
from grounding.heat import Band, BoxHeat, Heat
from grounding.prompts import PromptToken, ReadPrompt
from grounding.records import Prediction, Sample, Status
from grounding.ui.model_service import ModelService, Phase
from grounding.ui.sources import Parts
from grounding.workspace import Workspace

PLACEHOLDER = "describe this region"
BASE_BOX, ADAPTER_BOX = Box(0, 0, 20, 20), Box(0, 0, 40, 40)


class FakePredictor:
    """The base answers `BASE_BOX`, every adapter `ADAPTER_BOX`."""

    model_id = "demo"
    device = "cpu"
    weight_count = 10
    profile = SimpleNamespace(name="fake")
    load_notes = ("cpu: no GPU was found.", "float32: bfloat16 is slow here.")

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.error: Exception | None = None

    def predict_many(
        self,
        pairs: Sequence[tuple[object, str]],
        adapter: str | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[Prediction]:
        if self.error is not None:
            raise self.error
        answers = []
        for done, (_, phrase) in enumerate(pairs, start=1):
            if cancelled is not None and cancelled():
                raise Cancelled(f"Stopped after {done - 1} of {len(pairs)} phrases.")
            self.asked.append((phrase, adapter))
            box = ADAPTER_BOX if adapter else BASE_BOX
            answers.append(Prediction((box,), Status.OK, f"[{phrase}]", 0.75, 0.25, adapter))
            if progress is not None:
                progress(done, len(pairs))
        return answers

    def compare(self, image: object, phrase: str, adapters: Sequence[str | None]) -> list[Prediction]:
        return [self.predict_many([(image, phrase)], adapter)[0] for adapter in adapters]

    def compare_many(
        self,
        pairs: Sequence[tuple[object, str]],
        adapters: Sequence[str | None],
        *,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[list[Prediction]]:
        return [self.compare(image, phrase, adapters) for image, phrase in pairs]

    def heat(self, image: object, phrase: str, adapters: Sequence[str | None]) -> list[Heat]:
        if self.error is not None:
            raise self.error
        near, far = (Band(0, 0, 1.0),), (Band(10, 30, 1.0),)
        return [Heat((BoxHeat(BASE_BOX, (100, 80), near, near, far, far),)) for _ in adapters]

    def prompt(self, image: object, phrase: str) -> ReadPrompt:
        if self.error is not None:
            raise self.error
        words = [PromptToken(number, word) for number, word in enumerate(phrase.split())]
        return ReadPrompt(phrase, (PromptToken(99, "<|image_pad|>", 64, is_image=True), *words))


class ListSource:
    """Samples in a list, as the store gives them."""

    def __init__(self, samples: list[Sample]) -> None:
        self.samples = samples

    def splits(self) -> dict[str, int]:
        return {split: sum(s.split == split for s in self.samples) for split in ("train", "val", "test")}

    def page(self, split: str | None, offset: int, limit: int) -> tuple[list[Sample], int]:
        chosen = list(self.iterate(split))
        return chosen[offset : offset + limit], len(chosen)

    def get_sample(self, sample_id: str) -> Sample:
        for sample in self.samples:
            if sample.id == sample_id:
                return sample
        raise StoreError(f"There is no sample {sample_id!r}.")

    def samples_of_picture(self, picture_sha256: str) -> list[Sample]:
        return [sample for sample in self.samples if sample.image.stem == picture_sha256]

    def categories(self) -> list[str]:
        return sorted({s.category for s in self.samples})

    def iterate(self, split: str | None, *, with_source: bool = False) -> Iterator[Sample]:
        return (s for s in self.samples if split in (None, s.split))


@pytest.fixture
def workspace(own_workspace: Path) -> Workspace:
    return Workspace(own_workspace)


@pytest.fixture
def source(workspace: Workspace, tmp_path: Path) -> ListSource:
    samples = []
    for number, (split, phrase, boxes) in enumerate(
        [
            ("test", "the red mug", (ADAPTER_BOX,)),
            ("test", "the absent dog", ()),
            ("test", PLACEHOLDER, (ADAPTER_BOX,)),
            ("train", "left mug", (BASE_BOX,)),
        ]
    ):
        drawn = tmp_path / f"{number}.png"
        Image.new("RGB", (100, 80), (number * 60, 90, 120)).save(drawn)
        sha256, _ = workspace.pictures.add(drawn)
        alternatives = ("Red  Cup",) if number == 0 else ()
        path = workspace.pictures.path(sha256)
        samples.append(Sample(f"s{number}", path, phrase, boxes, split, alternatives=alternatives))
    return ListSource(samples)


@pytest.fixture
def predictor() -> FakePredictor:
    return FakePredictor()


@pytest.fixture
def models(workspace: Workspace, predictor: FakePredictor) -> ModelService:
    service = ModelService("demo", "none", workspace, load=lambda: predictor)  # type: ignore[arg-type,return-value]
    service.start()
    service.predictor(timeout_seconds=10)
    assert service.state.phase is Phase.READY
    return service


@pytest.fixture
def parts(workspace: Workspace, source: ListSource, models: ModelService) -> Parts:
    return Parts(workspace, source, models, lambda phrase: phrase == PLACEHOLDER)


@pytest.fixture
def add_adapter(workspace: Workspace) -> Callable[..., None]:
    def add(name: str, created_at: str = "2026-01-01T00:00:00+00:00", base: str = "demo", **more: Any) -> None:
        folder = workspace.adapters / name
        folder.mkdir(parents=True, exist_ok=True)
        AdapterInfo(name, folder, base, "fake", created_at, **more).save()

    return add


@pytest.fixture
def unknown_sha256() -> str:
    return hashlib.sha256(b"nobody kept this").hexdigest()
