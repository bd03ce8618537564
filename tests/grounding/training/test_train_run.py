"""What a run does with pictures it can't use, with several settings of its own, and with what LoRA reaches.

The run as a whole stands in test_training_run.
"""

from __future__ import annotations

import logging
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
from grounding.training import run, views
from grounding.training.attach import attach_lora
from grounding.training.data import PhraseTarget, PictureTargets
from grounding.training.events import NoteEvent, ScoreEvent, StepEvent, TrainEvent
from grounding.training.feed import Drawn, Feed
from grounding.training.optimisers import learning_rate_share
from grounding.training.settings import TrainSettings
from grounding.training.views import AugmentedViews, KeptViews

SETTINGS = TrainSettings(
    steps=2, images_per_step=2, phrases_per_image=2, score_samples=2, score_every_steps=1, augment=False
)


@pytest.fixture
def plan(tiny_samples: Sequence[Sample], tmp_path: Path, one_thread: None) -> run.TrainPlan:
    snapshot = Snapshot("tiny", tmp_path, "0" * 64, tuple(tiny_samples))
    return run.TrainPlan("mugs", snapshot, "demo", "none", SETTINGS, tmp_path / "adapters" / "mugs", run_id="run-1")


PLAIN = TrainSettings(augment=False)
MIRRORED = TrainSettings(mirrored_share=0.5, farther_share=0.0, colour_change=0.0)


def targets_on(*paths: Path) -> list[PictureTargets]:
    return [PictureTargets(path, (PhraseTarget("the dog", (Box(1, 1, 30, 30),)),)) for path in paths]


def chosen(pictures: Sequence[PictureTargets], step: int = 1) -> tuple[Drawn, ...]:
    """All pictures, in their order, as a step draws them."""
    drawn = Feed(pictures, TrainSettings(images_per_step=len(pictures))).step(step)
    return tuple(sorted(drawn, key=lambda one: pictures.index(one.picture)))


def test_pictures_that_cannot_be_used_are_left_out_with_a_line_in_the_log(
    loaded: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "good.png")
    Image.new("RGB", (500, 2), "red").save(tmp_path / "strip.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "good.png").read_bytes()[:60])
    pictures = targets_on(*(tmp_path / f"{name}.png" for name in ("torn", "strip", "good", "gone")))
    with caplog.at_level(logging.WARNING):
        shown = [AugmentedViews(loaded, TrainSettings(), dtype=None).show(chosen(pictures))]
        shown += [KeptViews(loaded, pictures, PLAIN, None, lambda event: None, lambda: False).show(chosen(pictures))]
    for features, targets in shown:
        assert len(features) == len(targets) == 1
        assert features[0].image_size_wh == (64, 64)
    assert [message.split(":")[1].strip() for message in caplog.messages] == ["torn.png", "strip.png", "gone.png"] * 2


def test_validation_pictures_that_cannot_be_read_are_left_out_and_told(plan: run.TrainPlan, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"nonsense")
    train, val = plan.snapshot.split("train"), plan.snapshot.split("val")
    val = [replace(val[0], image=tmp_path / "bad.png"), *val[1:]]
    train = [replace(train[0], id="torn", image=tmp_path / "bad.png"), *train]
    events: list[TrainEvent] = []
    snapshot = replace(plan.snapshot, samples=(*train, *val))
    info = run.train(replace(plan, snapshot=snapshot), events.append, lambda: False)
    assert info.steps == 2
    assert {event.count for event in events if isinstance(event, ScoreEvent)} == {len(val) - 1}
    told = [event.text for event in events if isinstance(event, NoteEvent)]
    assert any(text.startswith(f"The pictures of 1 of {len(val)} validation samples are left out") for text in told)
    assert any(text.startswith("1 of 3 train pictures are left out") for text in told)


def test_a_picture_that_goes_before_its_mirror_image_is_made_is_left_out(loaded: Any, tmp_path: Path) -> None:
    for name in ("one", "two"):
        Image.new("RGB", (64, 64), "red").save(tmp_path / f"{name}.png")
    pictures = targets_on(tmp_path / "one.png", tmp_path / "two.png")
    settings = replace(MIRRORED, mirrored_share=1.0)
    kept = KeptViews(loaded, pictures, settings, None, lambda event: None, lambda: False)
    (tmp_path / "one.png").unlink()
    features, targets = kept.show(chosen(pictures))
    assert len(features) == len(targets) == 1


def test_features_beyond_the_limit_are_computed_anew_and_are_the_same(
    loaded: Any, tiny_samples: Sequence[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "_IMAGES_PER_PASS", 1)
    pictures = targets_on(*dict.fromkeys(sample.image for sample in tiny_samples))
    kept = KeptViews(loaded, pictures, PLAIN, None, lambda event: None, lambda: False)
    bounded = KeptViews(loaded, pictures, PLAIN, None, lambda event: None, lambda: False, most_bytes=1)
    assert len(bounded.features) == 1 and len(kept.features) == len(pictures) > 1
    for one, other in zip(kept.show(chosen(pictures))[0], bounded.show(chosen(pictures))[0], strict=True):
        assert torch.equal(one.pooled, other.pooled)
    assert len(bounded.features) == 1


def test_a_run_too_short_to_show_every_picture_looks_at_those_that_it_shows(
    loaded: Any, tiny_samples: Sequence[Sample]
) -> None:
    pictures = targets_on(*dict.fromkeys(sample.image for sample in tiny_samples))
    told: list[Any] = []
    short, long = (
        run._views(loaded, pictures, replace(PLAIN, steps=steps, images_per_step=1), None, told.append, lambda: False)
        for steps in (len(pictures) - 1, len(pictures))
    )
    assert isinstance(short, AugmentedViews) and isinstance(long, KeptViews)
    for one, other in zip(short.show(chosen(pictures))[0], long.show(chosen(pictures))[0], strict=True):
        assert torch.allclose(one.pooled, other.pooled, atol=1e-4)


def test_kept_mirrored_views_are_those_of_a_fresh_look(loaded: Any, tiny_samples: Sequence[Sample]) -> None:
    pictures = targets_on(*dict.fromkeys(sample.image for sample in tiny_samples))
    kept = KeptViews(loaded, pictures, MIRRORED, None, lambda event: None, lambda: False)
    fresh = AugmentedViews(loaded, MIRRORED, dtype=None)
    for step in range(1, 7):
        drawn = chosen(pictures, step)
        (features, targets), (expected, expected_targets) = kept.show(drawn), fresh.show(drawn)
        assert [list(each) for each in targets] == [list(each) for each in expected_targets]
        for one, other in zip(features, expected, strict=True):
            assert torch.allclose(one.pooled, other.pooled, atol=1e-4)
    assert len(kept.features) == 2 * len(pictures)  # each of them was shown both ways, and computed once each way


def test_what_was_shown_before_changes_no_bit_of_a_mirrored_picture(
    loaded: Any, tiny_samples: Sequence[Sample]
) -> None:
    """A resumed run meets its pictures in another order than a whole one."""
    pictures = targets_on(*dict.fromkeys(sample.image for sample in tiny_samples))
    settings = replace(MIRRORED, mirrored_share=1.0)
    straight, backward = (KeptViews(loaded, pictures, settings, None, lambda event: None, lambda: False) for _ in "ab")
    features, _ = straight.show(chosen(pictures))
    again = [backward.show([one])[0][0] for one in reversed(chosen(pictures))]
    assert len(features) == len(pictures) > 1
    for one, other in zip(features, reversed(again), strict=True):
        assert torch.equal(one.pooled, other.pooled)


@pytest.mark.parametrize(
    ("values", "can"),
    [
        ({"augment": False}, True),
        ({"augment": False, "cropped_share": 0.5}, True),
        ({"farther_share": 0.0, "colour_change": 0.0}, True),
        ({"farther_share": 0.0, "colour_change": 0.0, "jittered_share": 0.5}, True),
        ({"farther_share": 0.0, "colour_change": 0.1}, False),
        ({"farther_share": 0.1, "colour_change": 0.0}, False),
        ({"farther_share": 0.0, "colour_change": 0.0, "cropped_share": 0.1}, False),
    ],
)
def test_features_are_kept_where_nothing_but_mirroring_changes_them(values: dict[str, Any], can: bool) -> None:
    assert views.can_keep(TrainSettings(**{"farther_share": 0.5, "colour_change": 0.15} | values)) is can


def test_views_can_take_part_in_training(loaded: Any, tiny_samples: Sequence[Sample]) -> None:
    pictures = targets_on(*dict.fromkeys(sample.image for sample in tiny_samples))
    for each in (
        KeptViews(loaded, pictures, PLAIN, None, lambda event: None, lambda: False),
        AugmentedViews(loaded, TrainSettings(), dtype=None),
    ):
        features, targets = each.show(chosen(pictures))
        assert len(features) == len(targets) == len(pictures)
        assert not any(f.pooled.is_inference() or f.deepstack[0].is_inference() for f in features)


def test_kept_views_never_change_and_augmented_ones_do(loaded: Any, tiny_samples: Sequence[Sample]) -> None:
    pictures = targets_on(tiny_samples[0].image)
    kept = KeptViews(loaded, pictures, PLAIN, None, lambda event: None, lambda: False)
    fresh = AugmentedViews(loaded, TrainSettings(colour_change=0.15), dtype=None)
    again = AugmentedViews(loaded, TrainSettings(colour_change=0.15), dtype=None)
    assert torch.equal(kept.show(chosen(pictures))[0][0].pooled, kept.show(chosen(pictures))[0][0].pooled)
    first, second = (fresh.show(chosen(pictures, step))[0][0].pooled for step in (1, 2))
    assert not torch.equal(first, second)
    assert torch.equal(first, again.show(chosen(pictures, 1))[0][0].pooled)  # the step alone decides


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


@pytest.mark.parametrize("steps", [1, 2, 7, 1000])
@pytest.mark.parametrize("warmup_share", [0.0, 0.05, 0.9])
def test_the_learning_rate_is_never_nothing_and_never_above_its_highest(steps: int, warmup_share: float) -> None:
    settings = replace(SETTINGS, steps=steps, warmup_share=warmup_share)
    shares = [learning_rate_share(step, settings) for step in range(steps)]
    assert all(0.0 < share <= 1.0 for share in shares)
    assert max(shares) == 1.0
