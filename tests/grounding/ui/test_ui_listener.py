"""The app's model as a listener: whom it asks, and that it sends away instead of keeping anybody waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from grounding.adapters import AdapterInfo
from grounding.boxes import Box
from grounding.errors import BusyError, ModelError
from grounding.records import Prediction, Status
from grounding.ui.listener import AppListener
from grounding.ui.model_service import ModelService, Phase
from grounding.workspace import Workspace

PICTURE = Path("mug.png")


class ManyPredictor:
    """Counts the passes, and answers base and adapters side by side."""

    device = "cpu"
    load_notes = ("float32: bfloat16 is slow here.",)

    def __init__(self) -> None:
        self.passes: list[tuple[int, tuple[str | None, ...]]] = []
        self.error: Exception | None = None

    def compare_many(
        self, pairs: Sequence[tuple[object, str]], adapters: Sequence[str | None]
    ) -> list[list[Prediction]]:
        if self.error is not None:
            raise self.error
        self.passes.append((len(pairs), tuple(adapters)))
        return [
            [Prediction((Box(0, 0, 20, 20),), Status.OK, f"[{phrase}]", 0.75, 0.25, name) for name in adapters]
            for _, phrase in pairs
        ]


def service(workspace: Workspace, load: Callable[[], object]) -> ModelService:
    return ModelService("demo", "none", workspace, load=load)  # type: ignore[arg-type]


@pytest.fixture
def predictor() -> ManyPredictor:
    return ManyPredictor()


@pytest.fixture
def models(workspace: Workspace, predictor: ManyPredictor) -> ModelService:
    models = service(workspace, lambda: predictor)
    models.start()
    models.predictor(timeout_seconds=10)
    return models


def add_adapter(workspace: Workspace, name: str, base: str, created_at: str) -> None:
    folder = workspace.adapters / name
    folder.mkdir(parents=True)
    AdapterInfo(name, folder, base, "qwen3_vl", created_at).save()


def test_base_and_newest_fitting_adapter_answer_in_one_pass(
    models: ModelService, predictor: ManyPredictor, workspace: Workspace
) -> None:
    listener = AppListener(models)
    assert [one.adapter for one in listener(PICTURE, "left mug")] == [None]
    add_adapter(workspace, "older", "demo", "2026-01-01T00:00:00+00:00")
    add_adapter(workspace, "newer", "demo", "2026-02-01T00:00:00+00:00")
    add_adapter(workspace, "foreign", "Qwen/other", "2026-03-01T00:00:00+00:00")
    first, second = listener.many([(PICTURE, "left mug"), (PICTURE, "right mug")])
    assert [one.adapter for one in first] == [one.adapter for one in second] == [None, "newer"]
    assert second[0].raw_text == "[right mug]"
    assert predictor.passes == [(1, (None,)), (2, (None, "newer"))]


def test_somebody_else_on_the_model_means_later_and_afterwards_it_answers(models: ModelService) -> None:
    listener = AppListener(models, wait_seconds=0.01)
    has_it, done = threading.Event(), threading.Event()

    def compare() -> None:
        with models.use():
            has_it.set()
            assert done.wait(10)

    person = threading.Thread(target=compare)
    person.start()
    assert has_it.wait(10)
    with pytest.raises(BusyError, match="answering somebody else"):
        listener(PICTURE, "left mug")
    done.set()
    person.join(10)
    assert len(listener(PICTURE, "left mug")) == 1


def test_a_model_that_loads_means_later_at_once(workspace: Workspace, predictor: ManyPredictor) -> None:
    go_on = threading.Event()

    def load() -> object:
        assert go_on.wait(10)
        return predictor

    models = service(workspace, load)
    models.start()
    with pytest.raises(BusyError, match=r"Loading the demo model\. Ask again later"):
        AppListener(models)(PICTURE, "left mug")
    go_on.set()
    models.predictor(10)
    assert len(AppListener(models)(PICTURE, "left mug")) == 1


def test_a_model_lent_to_a_training_run_means_later(models: ModelService) -> None:
    models.unload()
    with pytest.raises(BusyError, match=r"lent to a training run\. It comes back by itself\. Ask again later"):
        AppListener(models)(PICTURE, "left mug")


def test_a_model_that_can_not_come_says_why(workspace: Workspace) -> None:
    def load() -> object:
        raise ModelError("There is no model 'demo'.")

    models = service(workspace, load)
    models.start()
    with pytest.raises(ModelError):
        models.predictor(10)
    assert models.state.phase is Phase.FAILED
    with pytest.raises(ModelError, match="There is no model") as caught:
        AppListener(models)(PICTURE, "left mug")
    assert not isinstance(caught.value, BusyError)


def test_an_error_of_the_model_frees_it_for_the_next(models: ModelService, predictor: ManyPredictor) -> None:
    listener = AppListener(models, wait_seconds=0.01)
    predictor.error = ModelError("out of memory")
    with pytest.raises(ModelError, match="out of memory"):
        listener(PICTURE, "left mug")
    predictor.error = None
    answers: list[int] = []
    other = threading.Thread(target=lambda: answers.append(len(listener(PICTURE, "left mug"))))
    other.start()
    other.join(10)
    assert answers == [1]
