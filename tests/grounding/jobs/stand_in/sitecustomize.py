"""Put on PYTHONPATH, this makes the real worker train nothing: steps take a moment, and leave what real ones leave.

It goes by the contract of `grounding.training.run.train`: it goes on from the newest checkpoint in the run's folder,
asks after each step whether to stop, and gives the adapter its place whole or not at all. What it would learn is the
sum of its steps, so that a run which was broken off can be seen to have done all of them once. Two trainers at a
time in one workspace leave a file `two-at-once`.
"""

import fcntl
import json
import os
import shutil
import sys
import time
import types
from dataclasses import replace
from pathlib import Path
from typing import Any


def train(plan: Any, listener: Any, should_stop: Any) -> Any:
    from grounding.adapters import AdapterInfo
    from grounding.errors import JobError
    from grounding.training.events import PhaseEvent, ScoreEvent, StepEvent

    workspace = plan.adapter_folder.parent.parent
    with (workspace / "trainer.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            (workspace / "two-at-once").touch()
        listener(PhaseEvent("Loading the model"))
        act(plan.model_id)
        checkpoints = plan.run_folder / "checkpoints"
        checkpoints.mkdir(exist_ok=True)
        step, total = newest(checkpoints)
        listener(ScoreEvent(step, 1, 0.1, 0.1, 0.1, 1.0, 0.1))
        while step < plan.settings.steps:
            time.sleep(float(os.environ.get("STAND_IN_SECONDS", "0.02")))
            step, total = step + 1, total + step + 1
            listener(StepEvent(step, plan.settings.steps, 1.0, 1e-3, step, step * 0.1))
            stopping = should_stop()
            if step % 4 == 0 or stopping or step == plan.settings.steps:
                keep(checkpoints, step, total)
            if stopping:
                break
        partial = plan.adapter_folder.with_name(f".partial-{plan.run_id}")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        (partial / "adapter_model.safetensors").write_text(str(total))
        time.sleep(0.05)
        info = AdapterInfo(
            plan.name, partial, "demo", "none", "2026-01-01T00:00:00+00:00", run_id=plan.run_id, steps=step
        )
        info.save()
        try:
            partial.rename(plan.adapter_folder)
        except OSError as error:
            raise JobError(f"The adapter can't be moved to {plan.adapter_folder} ({error}).") from error
        return replace(info, path=plan.adapter_folder)


def act(model_id: str) -> None:
    """What the model's name asks for."""
    if model_id == "out-of-memory":
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    if model_id == "disk-full":
        raise OSError(28, "No space left on device")
    if model_id == "kills-itself":
        os.kill(os.getpid(), 9)
    if model_id == "hangs":
        time.sleep(600)


def newest(checkpoints: Path) -> tuple[int, int]:
    found = sorted(checkpoints.glob("step-*.json"))
    return tuple(json.loads(found[-1].read_text())) if found else (0, 0)


def keep(checkpoints: Path, step: int, total: int) -> None:
    partial = checkpoints / ".partial"
    partial.write_text(json.dumps([step, total]))
    partial.replace(checkpoints / f"step-{step:06}.json")
    (checkpoints / f"step-{step - 8:06}.json").unlink(missing_ok=True)


module = types.ModuleType("grounding.training.run")
module.TrainPlan, module.train = types.SimpleNamespace, train
sys.modules["grounding.training.run"] = module
