"""Old pictures take their share of the places, evenly and by the place alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from grounding.boxes import Box
from grounding.errors import SettingsError, SnapshotError
from grounding.records import Sample
from grounding.snapshots import read_snapshot
from grounding.training.rehearsal import pictures_to_rehearse, rehearsed_at
from grounding.training.settings import TrainSettings


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 0.9])
def test_the_share_is_kept_at_every_place(share: float) -> None:
    old = 0
    for place in range(400):
        before, is_old = rehearsed_at(place, share)
        assert before == old
        assert abs(old - place * share) < 1
        old += is_old


def sample(number: int, picture: Path, split: str = "train") -> Sample:
    return Sample(str(number), picture, "the dog", (Box(0, 0, 5, 5),), split)


@pytest.fixture
def snapshots(make_snapshot: Any, tmp_path: Path) -> Path:
    a, b, c = (tmp_path / f"{name}.png" for name in "abc")
    make_snapshot([sample(1, a), sample(2, b, "val")], "new")
    make_snapshot([sample(3, a), sample(4, b), sample(5, c), sample(6, tmp_path / "d.png", "val")], "old")
    folder: Path = make_snapshot([sample(7, a)], "same")
    return folder.parent


def test_rehearsed_are_the_train_pictures_that_the_run_does_not_hold(snapshots: Path, tmp_path: Path) -> None:
    settings = TrainSettings(rehearsal_share=0.2, rehearse_snapshot="old")
    (picture,) = pictures_to_rehearse(settings, read_snapshot(snapshots, "new"))
    assert picture.image == tmp_path / "c.png"  # never b: the run is scored on it


def test_without_a_share_nothing_is_read(snapshots: Path) -> None:
    assert pictures_to_rehearse(TrainSettings(rehearse_snapshot="gone"), read_snapshot(snapshots, "new")) == []


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        ("", SettingsError, "rehearse_snapshot names no snapshot"),
        ("gone", SnapshotError, "There is no complete snapshot 'gone'"),
        ("same", SnapshotError, "nothing to rehearse"),
    ],
)
def test_what_cannot_be_rehearsed_is_told(snapshots: Path, name: str, error: type[Exception], told: str) -> None:
    settings = replace(TrainSettings(rehearsal_share=0.2), rehearse_snapshot=name)
    with pytest.raises(error, match=told):
        pictures_to_rehearse(settings, read_snapshot(snapshots, "new"))
