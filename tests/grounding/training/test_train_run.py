"""What a run does with pictures it can't use, with several settings of its own, and with what LoRA reaches.

The run as a whole stands in test_training_run.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from grounding.boxes import Box
from grounding.errors import JobError
from grounding.families import all_profiles
from grounding.models import load_model
from grounding.records import Sample
from grounding.snapshots import Snapshot
from grounding.training import run
from grounding.training.attach import attach_lora
from grounding.training.data import PhraseTarget, PictureTargets
from grounding.training.events import ScoreEvent, StepEvent, TrainEvent
from grounding.training.settings import TrainSettings
from grounding.training.views import AugmentedViews, KeptViews

SETTINGS = TrainSettings(
    steps=2, images_per_step=2, phrases_per_image=2, score_samples=2, score_every_steps=1, augment=False
)


@pytest.fixture
def plan(tiny_samples: Sequence[Sample], tmp_path: Path, one_thread: None) -> run.TrainPlan:
    snapshot = Snapshot("tiny", tmp_path, "0" * 64, tuple(tiny_samples))
    return run.TrainPlan("mugs", snapshot, "demo", "none", SETTINGS, tmp_path / "adapters" / "mugs", run_id="run-1")


def targets_on(*paths: Path) -> list[PictureTargets]:
    return [PictureTargets(path, (PhraseTarget("the dog", (Box(1, 1, 30, 30),)),)) for path in paths]


def chosen(pictures: Sequence[PictureTargets]) -> list[Any]:
    return [(i, [(t.phrase, t.boxes_xyxy_px) for t in picture.targets]) for i, picture in enumerate(pictures)]


def test_pictures_that_cannot_be_used_are_left_out_with_a_line_in_the_log(
    loaded: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "good.png")
    Image.new("RGB", (500, 2), "red").save(tmp_path / "strip.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "good.png").read_bytes()[:60])
    pictures = targets_on(*(tmp_path / f"{name}.png" for name in ("torn", "strip", "good", "gone")))
    with caplog.at_level(logging.WARNING):
        features, targets = AugmentedViews(loaded, pictures, seed=0, dtype=None).show(chosen(pictures))
    assert len(features) == len(targets) == 1
    assert features[0].image_size_wh == (64, 64)
    assert [message.split(":")[1].strip() for message in caplog.messages] == ["torn.png", "strip.png", "gone.png"]


def test_views_can_take_part_in_training(loaded: Any, tiny_samples: Sequence[Sample]) -> None:
    pictures = targets_on(*dict.fromkeys(sample.image for sample in tiny_samples))
    for views in (
        KeptViews(loaded, pictures, lambda event: None, lambda: False),
        AugmentedViews(loaded, pictures, seed=0, dtype=None),
    ):
        features, targets = views.show(chosen(pictures))
        assert len(features) == len(targets) == len(pictures)
        assert not any(f.pooled.is_inference() or f.deepstack[0].is_inference() for f in features)


def test_kept_views_never_change_and_augmented_ones_do(loaded: Any, tiny_samples: Sequence[Sample]) -> None:
    pictures = targets_on(tiny_samples[0].image)
    kept = KeptViews(loaded, pictures, lambda event: None, lambda: False)
    fresh = AugmentedViews(loaded, pictures, seed=0, dtype=None)
    again = AugmentedViews(loaded, pictures, seed=0, dtype=None)
    assert torch.equal(kept.show(chosen(pictures))[0][0].pooled, kept.show(chosen(pictures))[0][0].pooled)
    first, second = (fresh.show(chosen(pictures))[0][0].pooled for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first, again.show(chosen(pictures))[0][0].pooled)  # the seed alone decides


@pytest.mark.slow
def test_strength_scales_what_is_saved_and_nothing_before(plan: run.TrainPlan) -> None:
    """Half the strength: the same losses, the same A, half of B."""
    told: dict[float, list[TrainEvent]] = {1.0: [], 0.5: []}
    weights = {}
    for strength, events in told.items():
        folder = plan.adapter_folder.with_name(f"at-{strength}")
        settings = replace(SETTINGS, strength=strength, score_every_steps=10)
        info = run.train(replace(plan, settings=settings, adapter_folder=folder), events.append, lambda: False)
        weights[strength] = load_file(info.path / "adapter_model.safetensors")
    losses = [[event.loss for event in events if isinstance(event, StepEvent)] for events in told.values()]
    assert losses[0] == losses[1]
    assert all("language_model" in name for name in weights[1.0])
    for name, whole in weights[1.0].items():
        expected = whole * 0.5 if "lora_B" in name else whole
        assert torch.allclose(weights[0.5][name], expected), name
    assert any(weight.abs().max() > 0 for name, weight in weights[1.0].items() if "lora_B" in name)


@pytest.mark.slow
def test_boxes_are_generated_on_the_way_and_training_goes_on(plan: run.TrainPlan) -> None:
    events: list[TrainEvent] = []
    info = run.train(plan, events.append, lambda: False)
    order = [(type(event).__name__, event.step) for event in events if isinstance(event, StepEvent | ScoreEvent)]
    assert order == [
        ("ScoreEvent", 0),
        ("StepEvent", 1),
        ("ScoreEvent", 1),
        ("StepEvent", 2),
        ("ScoreEvent", 2),
    ]
    assert {event.count for event in events if isinstance(event, ScoreEvent)} == {info.scores["count"]}
    last = [event for event in events if isinstance(event, ScoreEvent)][-1]
    assert info.scores["mean_iou"] == last.mean_iou


def test_targets_that_reach_the_vision_tower_are_refused(one_thread: None) -> None:
    fresh = load_model("demo")
    everywhere = replace(all_profiles()["qwen3-vl-demo"], lora_targets=r".*(q_proj|qkv)")
    with pytest.raises(JobError, match=r"LoRA reached \d+ weights, \d+ outside the language model"):
        attach_lora(replace(fresh, profile=everywhere), SETTINGS)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_names_step_and_phrases(value: float) -> None:
    phrases = [f"phrase {i}" for i in range(6)]
    with pytest.raises(JobError, match=r"at step 7 on the phrases 'phrase 0', .*'phrase 3'\. Lower") as caught:
        run._check_finite(torch.tensor(value), 7, phrases)
    assert "phrase 4" not in str(caught.value)
    run._check_finite(torch.tensor(2.5), 7, phrases)


@pytest.mark.parametrize("steps", [1, 2, 7, 1000])
@pytest.mark.parametrize("warmup_share", [0.0, 0.05, 0.9])
def test_the_learning_rate_is_never_nothing_and_never_above_its_highest(steps: int, warmup_share: float) -> None:
    settings = replace(SETTINGS, steps=steps, warmup_share=warmup_share)
    shares = [run.learning_rate_share(step, settings) for step in range(steps)]
    assert all(0.0 < share <= 1.0 for share in shares)
    assert max(shares) == 1.0
