"""Put on PYTHONPATH, this makes the real worker train nothing: it scores as the settings say.

The mean IoU after all steps is 0.9 less what learning rate and rank are away from 1e-3 and 16, in powers of ten and of
two; on the way it rises in proportion. A stop is scored too, as it really is. It goes on from
the newest step in the run's folder. `lora_dropout` above 0 fails, `weight_decay` above 0 kills the worker once.
"""

import math
import os
import shutil
import sys
import time
import types
from dataclasses import replace
from typing import Any


def quality(settings: Any) -> float:
    away = abs(math.log10(settings.learning_rate / 1e-3)) + abs(math.log2(settings.lora_rank / 16))
    return max(0.05, 0.9 - 0.2 * away)


def train(plan: Any, listener: Any, should_stop: Any) -> Any:
    from grounding.adapters import AdapterInfo
    from grounding.errors import JobError
    from grounding.training.events import PhaseEvent, ScoreEvent, StepEvent

    settings, folder = plan.settings, plan.run_folder / "checkpoints"
    folder.mkdir(exist_ok=True)
    listener(PhaseEvent("Loading the model"))
    step = max((int(path.name.removeprefix("step-")) for path in folder.glob("step-*")), default=0)

    scored = None

    def score() -> None:
        nonlocal scored
        share = 0.1 if step == 0 else quality(settings) * step / settings.steps
        scored = {"mean_iou": share, "accuracy_50": share, "step": step}
        listener(ScoreEvent(step, 1, share, share, 0.0, 1.0, 0.1, best=step > 0))

    if step == 0:
        score()
    if settings.lora_dropout > 0:
        raise JobError("Lora dropout is what this one fails on.")
    while step < settings.steps:
        time.sleep(float(os.environ.get("STAND_IN_SECONDS", "0.02")))
        step += 1
        listener(StepEvent(step, settings.steps, 1.0, settings.learning_rate, step, step * 0.1))
        (folder / f"step-{step}").touch()
        if settings.weight_decay > 0 and not (plan.run_folder / "killed").exists():
            (plan.run_folder / "killed").touch()
            os.kill(os.getpid(), 9)
        if should_stop():
            break
        if step % settings.score_every_steps == 0 or step == settings.steps:
            score()
    if scored is None or scored["step"] != step:
        score()
    partial = plan.adapter_folder.with_name(f".partial-{plan.run_id}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / "adapter_model.safetensors").write_text(str(quality(settings)))
    info = AdapterInfo(plan.name, partial, "demo", "none", "2026-01-01T00:00:00+00:00", run_id=plan.run_id, steps=step)
    info = replace(info, scores=scored)
    info.save()
    partial.rename(plan.adapter_folder)
    return replace(info, path=plan.adapter_folder)


module = types.ModuleType("grounding.training.run")
module.TrainPlan, module.train = types.SimpleNamespace, train
sys.modules["grounding.training.run"] = module
