"""Old pictures take their share of the places, evenly and by the place alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from grounding.boxes import Box
from grounding.demo import old_scenes as old_scenes_module
from grounding.demo.old_scenes import old_scenes
from grounding.demo.sprites import known_nouns, unknown_nouns
from grounding.errors import SettingsError, SnapshotError, WorkspaceError
from grounding.records import Sample
from grounding.snapshots import read_snapshot
from grounding.training import rehearsal
from grounding.training.data import PhraseTarget, PictureTargets
from grounding.training.feed import Feed
from grounding.training.rehearsal import pictures_to_rehearse, rehearsed_at
from grounding.training.scoring import scoring_interval
from grounding.training.settings import TrainSettings


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 0.9])
def test_the_share_is_kept_at_every_place(share: float) -> None:
    old = 0
    for place in range(400):
        before, is_old = rehearsed_at(place, share)
        assert before == old
        assert abs(old - place * share) < 1
        old += is_old


@pytest.mark.parametrize(("share", "own"), [(0.0, 6), (0.4, 6), (0.4, 100), (0.9, 7), (0.3, 3)])
def test_a_round_is_that_of_the_runs_own_pictures(share: float, own: int) -> None:
    """However many there are to rehearse, of which a run may never see the last."""
    settings = TrainSettings(images_per_step=4, rehearsal_share=share, score_each_epoch=True, group_lengths=False)
    new, old = (
        [PictureTargets(Path(f"{kind}{i}.png"), (PhraseTarget("the dog", ()),)) for i in range(count)]
        for kind, count in (("new", own), ("old", 300 if share else 0))
    )
    feed = Feed(new, settings, old)
    steps, missing = 0, {picture.image for picture in new}
    while missing:
        steps += 1
        missing -= {drawn.picture.image for drawn in feed.step(steps)}
    assert scoring_interval(settings, len(feed.new.pictures)) == steps


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


def test_a_picture_of_the_run_is_known_in_another_workspace_too(make_snapshot: Any, tmp_path: Path) -> None:
    """There it has another folder, but a workspace calls a picture what its content hashes to."""
    held_out, other = (tmp_path / "theirs" / "images" / f"{digit * 64}.png" for digit in "ab")
    make_snapshot([sample(1, tmp_path / "a.png"), sample(2, tmp_path / "images" / held_out.name, "val")], "mine")
    folder = make_snapshot([sample(3, held_out), sample(4, other)], "theirs")
    settings = TrainSettings(rehearsal_share=0.2, rehearse_snapshot=str(folder))
    (picture,) = pictures_to_rehearse(settings, read_snapshot(folder.parent, "mine"))
    assert picture.image == other


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


def test_the_scenes_of_the_embedded_model_are_drawn_once_and_name_only_what_it_knows(
    snapshots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "_NUMBERS_OF_SCENES", (4, 40))
    settings = TrainSettings(steps=5, rehearsal_share=0.2, rehearse_snapshot="base-scenes")
    snapshot = read_snapshot(snapshots, "new")
    pictures = pictures_to_rehearse(settings, snapshot)
    assert len(pictures) == 4
    for picture in pictures:
        assert picture.image.is_file()
        for target in picture.targets:
            assert target.category in known_nouns() and len(target.boxes_xyxy_px) == 1
            assert not any(noun in phrase for phrase in target.phrases for noun in unknown_nouns())
    written = pictures[0].image.stat().st_mtime_ns
    assert pictures_to_rehearse(settings, snapshot) == pictures
    assert pictures[0].image.stat().st_mtime_ns == written
    assert sorted(path.name for path in snapshots.iterdir() if path.name.startswith(".")) == [".base-scenes-4"]


@pytest.mark.parametrize(("steps", "number"), [(1, 20), (25, 20), (26, 100), (126, 300), (100_000, 300)])
def test_a_short_run_has_few_scenes_to_rehearse_drawn(steps: int, number: int) -> None:
    assert rehearsal.scenes_for(TrainSettings(steps=steps, images_per_step=4, rehearsal_share=0.2)) == number


def test_scenes_half_drawn_are_no_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(old_scenes_module, "write_samples", full)
        with pytest.raises(WorkspaceError, match="No space left on device"):
            old_scenes(tmp_path / "scenes", pictures=2)
    assert list(tmp_path.iterdir()) == []
    assert len({sample.image for sample in old_scenes(tmp_path / "scenes", pictures=2)}) == 2
