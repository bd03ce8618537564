"""The preview shows what training is given, to the pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import ImageChops

from grounding import engine
from grounding.records import Sample
from grounding.snapshots import read_snapshot
from grounding.training import views
from grounding.training.feeding import feed_of
from grounding.training.preview import preview_step
from grounding.training.settings import TrainSettings

EVERYTHING = TrainSettings(
    images_per_step=3,
    cropped_share=0.5,
    farther_share=0.5,
    colour_change=0.15,
    jittered_share=0.5,
    template_share=0.5,
    negative_share=0.3,
    rehearsal_share=0.25,
    rehearse_snapshot="old",
    curriculum_share=0.5,
    steps=12,
)


@pytest.fixture
def snapshot(make_snapshot: Any, demo_samples: dict[str, list[Sample]]) -> Any:
    named = [
        replace(sample, phrase=f"the {sample.category}", alternatives=(f"left {sample.category}",))
        for sample in demo_samples["train"]
        if sample.boxes_xyxy_px
    ]
    make_snapshot(named[8:], "old")
    return read_snapshot(make_snapshot(named[:8], "new").parent, "new")


@pytest.mark.parametrize("settings", [EVERYTHING, replace(EVERYTHING, augment=False)])
def test_the_preview_of_a_step_is_what_training_is_given(
    snapshot: Any, settings: TrainSettings, loaded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pictures that reach the vision tower, and the phrases and boxes beside them, in every step of a run."""
    seen: list[Any] = []
    monkeypatch.setattr(engine, "encode_images", lambda _, images: seen.append(list(images)) or [])
    monkeypatch.setattr(views, "trainable", lambda features: [None] * len(seen[-1]))
    trained = views.AugmentedViews(loaded, settings, None)
    for step in range(1, settings.steps + 1):
        _, targets = trained.show(feed_of(snapshot, settings).step(step))
        previewed = preview_step(feed_of(snapshot, settings), step)
        assert [[(each.phrase, each.boxes_xyxy_px) for each in one.phrases] for one in previewed] == [
            list(each) for each in targets
        ]
        for one, image in zip(previewed, seen[-1], strict=True):
            assert one.image is not None
            assert ImageChops.difference(one.image, image).getbbox() is None


def test_marks_tell_all_that_was_done(snapshot: Any) -> None:
    feed = feed_of(snapshot, EVERYTHING)
    pictures = [one for step in range(1, 13) for one in preview_step(feed, step)]
    assert {mark for one in pictures for mark in one.marks} == {"mirrored", "cropped", "farther away", "other colours"}
    assert {one.rehearsed for one in pictures} == {True, False}
    phrases = [phrase for one in pictures for phrase in one.phrases]
    assert any(phrase.jittered for phrase in phrases) and any(phrase.reworded for phrase in phrases)
    assert any(phrase.negative for phrase in phrases)
    assert {p.written.startswith("left ") for p in phrases if p.alternative} == {True}
    assert all(not phrase.boxes_xyxy_px for phrase in phrases if phrase.negative)
    swapped = [p for one in pictures if "mirrored" in one.marks for p in one.phrases if p.written.startswith("left ")]
    assert swapped and all("left" not in phrase.phrase and phrase.changed for phrase in swapped)


def test_a_picture_that_cannot_be_read_says_so(snapshot: Any, tmp_path: Path) -> None:
    feed = feed_of(snapshot, replace(EVERYTHING, rehearsal_share=0.0))
    gone = replace(feed.new.pictures[0], image=tmp_path / "gone.png")
    feed.new.pictures = (gone,)
    (one, *_) = preview_step(feed, 1)
    assert one.image is None and "gone.png" in one.problem and one.phrases


def test_no_more_pictures_are_drawn_than_asked_for(snapshot: Any) -> None:
    feed = feed_of(snapshot, EVERYTHING)
    few: Sequence[Any] = preview_step(feed, 2, most=1)
    assert len(few) == 1 and few[0].phrases == preview_step(feed, 2)[0].phrases
