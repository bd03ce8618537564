"""A whole run on two pictures: it learns, it repeats itself exactly, it stops cleanly, and what it saves works."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from grounding.adapters import AdapterInfo
from grounding.errors import Cancelled, JobError, SnapshotError
from grounding.predict import Predictor
from grounding.records import Sample
from grounding.snapshots import Snapshot
from grounding.training import steps
from grounding.training.attach import Attached
from grounding.training.events import ScoreEvent, StepEvent, TrainEvent
from grounding.training.optimisers import learning_rate_share
from grounding.training.run import TrainPlan, train
from grounding.training.settings import TrainSettings

pytestmark = pytest.mark.slow

QUICK = TrainSettings(
    steps=3, images_per_step=2, phrases_per_image=2, score_samples=2, score_every_steps=100, augment=False
)


@pytest.fixture
def plan(tiny_samples: Sequence[Sample], tmp_path: Path, one_thread: None) -> TrainPlan:
    snapshot = Snapshot("tiny", tmp_path, "0" * 64, tuple(tiny_samples))
    return TrainPlan("mugs", snapshot, "demo", "none", QUICK, tmp_path / "adapters" / "mugs", run_id="run-1")


def never() -> bool:
    return False


def listen(plan: TrainPlan, should_stop: Callable[[], bool] = never) -> tuple[AdapterInfo, list[TrainEvent]]:
    events: list[TrainEvent] = []
    return train(plan, events.append, should_stop), events


def losses(events: Sequence[TrainEvent]) -> list[float]:
    return [event.loss for event in events if isinstance(event, StepEvent)]


def test_it_learns_and_what_it_saves_answers(plan: TrainPlan, tiny_samples: Sequence[Sample]) -> None:
    settings = replace(QUICK, steps=30, learning_rate=5e-3, strength=1.0, warmup_share=0.1)
    info, events = listen(replace(plan, settings=settings))
    told = losses(events)
    assert sum(told[-3:]) < 0.5 * sum(told[:3])
    assert [event.step for event in events if isinstance(event, ScoreEvent)] == [0, 30]
    assert {path.name for path in info.path.iterdir()} == {
        "adapter.json",
        "adapter_config.json",
        "adapter_model.safetensors",
        "training_history.json",
        "training_samples.jsonl",
    }
    kept = AdapterInfo.load(info.path)
    assert (kept.base, kept.profile, kept.snapshot, kept.run_id, kept.steps) == (
        "demo",
        "qwen3-vl-demo",
        "tiny",
        "run-1",
        30,
    )
    assert kept.settings["learning_rate"] == 5e-3
    # The adapter as a Predictor uses it gives the boxes that were learned: same prompt, format and pixels.
    from grounding.models import load_model

    predictor = Predictor(load_model("demo"), plan.adapter_folder.parent)
    sample = next(sample for sample in tiny_samples if sample.split == "train")
    from grounding.boxes import iou

    prediction = predictor.predict(sample.image, sample.phrase, "mugs")
    assert iou(prediction.boxes[0], sample.boxes_xyxy_px[0]) > 0.5


@pytest.mark.parametrize("augment", [False, True])
def test_the_same_seed_gives_the_same_losses(plan: TrainPlan, augment: bool) -> None:
    settings = replace(QUICK, augment=augment)
    place = plan.adapter_folder.parent
    _, first = listen(replace(plan, settings=settings))
    _, second = listen(replace(plan, settings=settings, adapter_folder=place / "second"))
    _, other = listen(replace(plan, settings=replace(settings, seed=1), adapter_folder=place / "other"))
    assert losses(first) == losses(second)
    assert losses(first) != losses(other)


def test_a_stop_keeps_what_is_learned(plan: TrainPlan) -> None:
    asked = iter([False] * 3 + [True] * 100)
    seen: list[TrainEvent] = []
    many = replace(plan, settings=replace(QUICK, steps=50))
    info = train(many, seen.append, lambda: bool(losses(seen)) and next(asked))
    assert 0 < info.steps < 50
    assert AdapterInfo.load(info.path).steps == info.steps == len(losses(seen))


def test_a_stop_before_the_first_step_keeps_nothing(plan: TrainPlan) -> None:
    with pytest.raises(Cancelled, match="nothing to keep"):
        listen(plan, lambda: True)
    assert not plan.adapter_folder.exists()


def test_nothing_to_learn_is_said_before_the_model_is_loaded(plan: TrainPlan) -> None:
    only_val = tuple(sample for sample in plan.snapshot.samples if sample.split == "val")
    with pytest.raises(SnapshotError, match="Annotate"):
        listen(replace(plan, snapshot=replace(plan.snapshot, samples=only_val)))


def test_gradients_that_are_no_number_stop_the_run_before_they_spoil_a_weight(
    plan: TrainPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(weights: Any, most: float) -> torch.Tensor:
        return torch.tensor(float("inf"))

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", spoiled)
    with pytest.raises(JobError, match=r"gradients became inf at step 1.*Lower the learning rate"):
        listen(plan)


def test_a_part_of_a_step_in_which_nothing_counts_adds_nothing(plan: TrainPlan, tiny_samples: Sequence[Sample]) -> None:
    first = tiny_samples[0].image
    emptied = tuple(s if s.image == first or s.split == "val" else replace(s, boxes_xyxy_px=()) for s in tiny_samples)
    plan = replace(plan, snapshot=replace(plan.snapshot, samples=emptied))
    settings = replace(QUICK, nothing_weight=0.0, negative_share=0.0, steps=1)
    (whole,) = losses(listen(replace(plan, settings=settings))[1])
    plan = replace(plan, adapter_folder=plan.adapter_folder.with_name("parts"))
    (parts,) = losses(listen(replace(plan, settings=replace(settings, accumulation=2)))[1])
    assert 0 < whole == pytest.approx(parts, rel=1e-3)


def test_the_terms_add_up_to_the_loss_where_a_part_of_a_step_has_no_box(
    plan: TrainPlan, tiny_samples: Sequence[Sample]
) -> None:
    first = tiny_samples[0].image
    emptied = tuple(s if s.image == first or s.split == "val" else replace(s, boxes_xyxy_px=()) for s in tiny_samples)
    settings = replace(QUICK, giou_weight=2.0, accumulation=2, steps=1)
    plan = replace(plan, settings=settings, snapshot=replace(plan.snapshot, samples=emptied))
    (step,) = [event for event in listen(plan)[1] if isinstance(event, StepEvent)]
    assert step.terms["tokens"] + 2.0 * step.terms["giou"] == pytest.approx(step.loss)


def test_a_loss_that_is_no_number_stops_the_run(plan: TrainPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    real = steps.answer_loss
    monkeypatch.setattr(steps, "answer_loss", lambda logits, *given: real(logits * float("nan"), *given))
    with pytest.raises(JobError, match=r"term 'tokens' became nan at step 1 on every sample of the step"):
        listen(plan)
    assert not (plan.adapter_folder / "adapter.json").exists()


def two_matrices() -> Attached:
    model = torch.nn.Module()
    model.lora_A = torch.nn.Parameter(torch.ones(2, 3))
    model.lora_B = torch.nn.Parameter(torch.ones(3, 2))
    model.lora_magnitude_vector = torch.nn.Parameter(torch.full((3,), 5.0))
    return Attached(model, dict(model.named_parameters()), {"lora_magnitude_vector": torch.ones(3)})


def test_only_the_change_is_scaled() -> None:
    attached = two_matrices()
    attached.keep_share(0.25)
    values = {name: weight.mean().item() for name, weight in attached.weights.items()}
    assert values == {"lora_A": 1.0, "lora_B": 0.25, "lora_magnitude_vector": 2.0}


def test_the_share_is_taken_back_to_the_bit() -> None:
    attached = two_matrices()
    with torch.no_grad():
        attached.weights["lora_B"].copy_(torch.rand(3, 2))
    before = attached.state()
    with attached.at_strength(0.3):
        assert not attached.peft_model.training
        assert torch.equal(attached.weights["lora_B"], before["lora_B"] * 0.3)
    assert attached.peft_model.training
    assert all(torch.equal(attached.weights[name], weight) for name, weight in before.items())


def test_the_rate_rises_then_falls_to_nothing() -> None:
    settings = TrainSettings(steps=100, warmup_share=0.1)
    shares = [learning_rate_share(step, settings) for step in range(100)]
    assert shares[9] == 1.0 == max(shares)
    assert shares[:10] == sorted(shares[:10])
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert 0 <= shares[-1] < 0.01


def test_lora_reaches_the_language_model_alone(lora_model: Any) -> None:
    reached = {name for name, weight in lora_model.named_parameters() if weight.requires_grad}
    assert reached
    assert all("language_model" in name and "lora_" in name for name in reached)
