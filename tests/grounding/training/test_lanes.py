"""Parts of a step side by side: the same loss and gradients as one after the other, and the same at every run."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from grounding.errors import JobError
from grounding.models import load_model
from grounding.records import Sample
from grounding.snapshots import Snapshot
from grounding.training import lean
from grounding.training.attach import attach_lora
from grounding.training.events import StepEvent
from grounding.training.feeding import feed_of
from grounding.training.lanes import Lanes, lanes_for
from grounding.training.plan import TrainPlan
from grounding.training.run import train
from grounding.training.settings import TrainSettings
from grounding.training.steps import Learner
from grounding.training.views import KeptViews

SETTINGS = TrainSettings(
    steps=3,
    images_per_step=4,
    phrases_per_image=2,
    negative_share=0.4,
    mirrored_share=0.0,
    smooth_l1_weight=1.0,
    giou_weight=1.0,
    soft_labels=5.0,
    score_samples=2,
)


@pytest.fixture
def two_threads(one_thread: None) -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.fixture
def snapshot(tiny_samples: Sequence[Sample], tmp_path: Path) -> Snapshot:
    return Snapshot("tiny", tmp_path, "0" * 64, tuple(tiny_samples))


def learner(snapshot: Snapshot, lanes: int, settings: TrainSettings = SETTINGS) -> Learner:
    """Float32, so that the difference between the lanes is rounding alone."""
    loaded = load_model("demo", trainable=True)
    feed = feed_of(snapshot, settings)
    views = KeptViews(loaded, feed.pictures, settings, None, lambda event: None, lambda: False)
    torch.manual_seed(0)
    attached = attach_lora(loaded, settings)
    for name, weight in attached.weights.items():  # B starts as zeros, where A has no gradient
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    made = Learner(loaded, settings, attached, feed, views, None)
    made.lanes = Lanes(lanes)
    return made


def gradients(made: Learner) -> tuple[Any, list[torch.Tensor]]:
    made.loaded.model.train()
    computed = made._backward(1)
    return computed, [weight.grad for weight in made.weights if weight.grad is not None]


@pytest.mark.parametrize("accumulation", [1, 2])
def test_lanes_have_the_loss_and_the_gradients_of_one_batch(
    snapshot: Snapshot, two_threads: None, accumulation: int
) -> None:
    """Also of terms that are means over boxes, with lanes that have fewer boxes than others."""
    settings = replace(SETTINGS, accumulation=accumulation)
    one, ones_gradients = gradients(learner(snapshot, 1, settings))
    two, twos_gradients = gradients(learner(snapshot, 2, settings))
    assert set(one.terms) == {"tokens", "smooth_l1", "giou"}
    assert two.phrases == one.phrases
    assert two.loss == pytest.approx(one.loss, rel=1e-5)
    assert two.terms == pytest.approx(one.terms, rel=1e-5)
    assert len(ones_gradients) == len(twos_gradients) > 0
    for a, b in zip(ones_gradients, twos_gradients, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-3 * float(a.abs().max()))


def test_each_lane_is_a_thread_with_its_share_of_pytorchs(two_threads: None) -> None:
    barrier = threading.Barrier(2, timeout=20)  # passed by two threads at once, or by nobody

    def seen(part: str) -> tuple[str, int, str]:
        barrier.wait()
        return part, torch.get_num_threads(), threading.current_thread().name

    found = Lanes(2).map(seen, ["a", "b"])
    assert [part for part, _, _ in found] == ["a", "b"]
    assert [threads for _, threads, _ in found] == [1, 1]
    assert len({name for _, _, name in found}) == 2
    assert torch.get_num_threads() == 2


def test_an_error_in_a_lane_is_raised_when_all_have_ended(two_threads: None) -> None:
    ended = []

    def work(part: int) -> None:
        if part == 0:
            raise JobError("this one")
        threading.Event().wait(0.05)
        ended.append(part)

    with pytest.raises(JobError, match="this one"):
        Lanes(2).map(work, [0, 1])
    assert ended == [1]
    assert torch.get_num_threads() == 2


def test_one_lane_where_several_would_change_what_is_learned(two_threads: None) -> None:
    assert lanes_for(SETTINGS, "cpu") == 2
    assert lanes_for(replace(SETTINGS, images_per_step=1), "cpu") == 1
    assert lanes_for(replace(SETTINGS, lora_dropout=0.1), "cpu") == 1
    assert lanes_for(replace(SETTINGS, lora_vision=True), "cpu") == 1
    assert lanes_for(SETTINGS, "cuda:0") == 1
    assert lanes_for(SETTINGS, "mps") == 1


def test_one_lane_for_the_stock_forward(snapshot: Snapshot, two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean, "_AGREEMENT", {torch.float32: 0.0})
    made = learner(snapshot, 2)
    used: list[str] = []
    monkeypatch.setattr(made, "logits", Watched(made.logits, used))
    made._backward(1)
    assert used == [threading.current_thread().name]


class Watched:
    """The logits of a step, with the threads that asked for them written down."""

    def __init__(self, logits: Any, used: list[str]) -> None:
        self._logits = logits
        self._used = used

    def __call__(self, *given: Any) -> Any:
        self._used.append(threading.current_thread().name)
        return self._logits(*given)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logits, name)


def test_the_lean_pass_is_used_in_lanes(snapshot: Snapshot, two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    made = learner(snapshot, 2)
    used: list[str] = []
    monkeypatch.setattr(made, "logits", Watched(made.logits, used))
    made._backward(1)
    assert len(used) == 2
    assert all(name.startswith("lane") for name in used)


@pytest.mark.parametrize("broken_lane", [0, 1])
def test_a_loss_that_is_not_finite_names_the_sample_of_its_lane(
    snapshot: Snapshot, two_threads: None, monkeypatch: pytest.MonkeyPatch, broken_lane: int
) -> None:
    made = learner(snapshot, 2)
    lanes = made._prepare(made.feed.step(1))
    words = [word for lane in lanes for word in lane.words]
    broken = lanes[broken_lane]
    place, wanted = next((i, word) for i, word in enumerate(broken.words) if words.count(word) == 1)
    plain = made.logits

    def spoiled(batch: Any, features: Any) -> torch.Tensor:
        logits = plain(batch, features)
        if not batch.input_ids.equal(broken.batch.input_ids):
            return logits
        return torch.where((batch.owner == place)[:, None], torch.nan, logits)

    spoiled.is_lean, spoiled.reason = True, "in the test"  # type: ignore[attr-defined]
    monkeypatch.setattr(made, "logits", spoiled)
    with pytest.raises(JobError, match="at step 1 on ") as caught:
        made._backward(1)
    assert wanted in str(caught.value)
    assert sum(word in str(caught.value) for word in words) == 1


@pytest.mark.slow
def test_two_runs_in_lanes_have_the_same_losses(snapshot: Snapshot, two_threads: None, tmp_path: Path) -> None:
    def losses(name: str) -> list[float]:
        plan = TrainPlan(name, snapshot, "demo", "none", SETTINGS, tmp_path / name, name, tmp_path / "runs" / name)
        events: list[Any] = []
        train(plan, events.append, lambda: False)
        return [event.loss for event in events if isinstance(event, StepEvent)]

    first = losses("first")
    assert len(first) == 3
    assert losses("second") == first


def test_pictures_are_looked_at_side_by_side_and_look_the_same(snapshot: Snapshot, one_thread: None) -> None:
    loaded, pictures = load_model("demo", trainable=True), feed_of(snapshot, SETTINGS).pictures
    assert len(pictures) > 1

    def kept(threads: int) -> KeptViews:
        torch.set_num_threads(threads)
        try:
            views = KeptViews(loaded, pictures, SETTINGS, None, lambda event: None, lambda: False)
            assert views.lanes.count == threads
            views._of(pictures[-1].image, mirrored=True)
            return views
        finally:
            torch.set_num_threads(1)

    alone, beside, again = kept(1), kept(2), kept(2)
    assert alone.features.keys() == beside.features.keys() and len(alone.features) == 2 * len(pictures)
    for key, features in alone.features.items():
        assert torch.allclose(features.pooled, beside.features[key].pooled, atol=1e-4)
        assert torch.equal(beside.features[key].pooled, again.features[key].pooled), "to the last bit"
