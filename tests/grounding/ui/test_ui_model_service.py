"""The model comes in the background, is lent to one at a time, and can be handed back."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

from grounding.errors import ModelError
from grounding.ui.model_service import ModelService, Phase
from grounding.ui.shell import chip_state
from grounding.workspace import Workspace


class Gate:
    """A loader that waits until it is let through."""

    def __init__(self, outcome: Callable[[], object]) -> None:
        self.open = threading.Event()
        self.outcome = outcome
        self.calls = 0

    def __call__(self) -> object:
        self.calls += 1
        assert self.open.wait(10)
        return self.outcome()


def fail(error: Exception) -> object:
    raise error


def service_with(workspace: Workspace, gate: Gate) -> ModelService:
    return ModelService("demo", "none", workspace, load=gate)  # type: ignore[arg-type]


def test_it_loads_in_the_background_and_says_so(workspace: Workspace, predictor: object) -> None:
    gate = Gate(lambda: predictor)
    service = service_with(workspace, gate)
    assert service.state.phase is Phase.UNLOADED
    service.start()
    service.start()
    assert service.state.phase is Phase.LOADING
    assert "Loading the demo model" in chip_state(service)["text"]
    gate.open.set()
    assert service.predictor(timeout_seconds=10) is predictor
    assert gate.calls == 1
    assert service.state.sentence == "Ready on CPU, float32"
    assert "no GPU was found" in chip_state(service)["title"]


def test_waiting_has_an_end(workspace: Workspace, predictor: object) -> None:
    gate = Gate(lambda: predictor)
    service = service_with(workspace, gate)
    service.start()
    with pytest.raises(ModelError, match="still loading"):
        service.predictor(timeout_seconds=0.05)
    gate.open.set()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ModelError("There is no model folder /nope."), "There is no model folder /nope."),
        (RuntimeError("weights"), "the demo model can't be loaded (RuntimeError: weights)"),
    ],
)
def test_a_failure_is_a_sentence_and_start_tries_again(
    workspace: Workspace, error: Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate(lambda: fail(error))
    gate.open.set()
    service = service_with(workspace, gate)
    with caplog.at_level(logging.ERROR):
        service.start()
        with pytest.raises(ModelError) as told:
            service.predictor(timeout_seconds=10)
    assert said in str(told.value)
    assert service.state.phase is Phase.FAILED
    assert chip_state(service)["phase"] == "failed"
    assert ("Traceback" in caplog.text) == isinstance(error, RuntimeError)
    service.reload()
    assert gate.calls == 2 or service.state.phase is Phase.LOADING


def test_unloading_while_it_loads_drops_what_comes(workspace: Workspace, predictor: object) -> None:
    gate = Gate(lambda: predictor)
    service = service_with(workspace, gate)
    service.start()
    service.unload()
    gate.open.set()
    for thread in threading.enumerate():
        if thread.name == "model-loader":
            thread.join(10)
    assert service.state.phase is Phase.UNLOADED
    with pytest.raises(ModelError, match="unloaded"):
        service.predictor(timeout_seconds=1)


def test_unloading_waits_for_whoever_uses_the_model_and_reload_brings_it_back(models: ModelService) -> None:
    unloaded = threading.Thread(target=models.unload)
    with models.use() as predictor:
        unloaded.start()
        unloaded.join(0.2)
        assert unloaded.is_alive(), "the model must not go away under a caller"
        assert models.state.phase is Phase.READY
    unloaded.join(10)
    assert models.state.phase is Phase.UNLOADED
    models.reload()
    assert models.predictor(timeout_seconds=10) is predictor


def test_one_caller_at_a_time(models: ModelService) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with models.use():
                inside += 1
                most = max(most, inside)
                threading.Event().wait(0.001)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == 1
