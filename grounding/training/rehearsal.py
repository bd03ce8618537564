"""Old data mixed into the new, so that what was learned before is not forgotten."""

from __future__ import annotations

import math
from pathlib import Path

from grounding.demo.old_scenes import PICTURES, old_scenes
from grounding.errors import SettingsError, SnapshotError
from grounding.pictures import is_content_name
from grounding.snapshots import BASE_SCENES, Snapshot, read_snapshot
from grounding.training.data import PictureTargets, group_by_picture
from grounding.training.settings import TrainSettings

_NUMBERS_OF_SCENES = (20, 100, PICTURES)


def rehearsed_at(place: int, share: float) -> tuple[int, bool]:
    """(old pictures before this place, whether an old one stands here), for places counted from 0.

    Old pictures take `share` (0.0 up to, not including, 1.0) of the places, as evenly as whole places allow.
    """
    before, after = math.floor(place * share), math.floor((place + 1) * share)
    return before, after > before


def pictures_per_step(settings: TrainSettings, own: int) -> int:
    """How many pictures a step takes of a run that has `own` ones; old ones fill it up, as there are enough of them."""
    return settings.images_per_step if settings.rehearsal_share else min(settings.images_per_step, own)


def scenes_for(settings: TrainSettings) -> int:
    """How many old scenes are drawn: enough for the places that they take, and no more than are worth their time."""
    places = math.ceil(settings.steps * settings.images_per_step * settings.rehearsal_share)
    return next((number for number in _NUMBERS_OF_SCENES if number >= places), PICTURES)


def pictures_to_rehearse(settings: TrainSettings, snapshot: Snapshot) -> list[PictureTargets]:
    """The train pictures of the settings' second snapshot, without those of the run's own; empty without a share.

    A name is looked for beside the run's own snapshot; of the `BASE_SCENES`, `scenes_for` are drawn there when they are
    missing. Raises `SettingsError` when there is a share but no snapshot, `SnapshotError` when the snapshot is missing
    or holds no other train picture, and `WorkspaceError` when the scenes can't be written.
    """
    if not settings.rehearsal_share:
        return []
    if not settings.rehearse_snapshot.strip():
        raise SettingsError(
            f"rehearsal_share is {settings.rehearsal_share:g}, but rehearse_snapshot names no snapshot to rehearse. "
            "Name one, or set rehearsal_share to 0."
        )
    if settings.rehearse_snapshot.strip() == BASE_SCENES:
        number = scenes_for(settings)
        drawn = old_scenes(snapshot.path.parent / f".{BASE_SCENES}-{number}", number)
        return group_by_picture(drawn, use_alternatives=settings.use_alternatives)
    old = read_snapshot(snapshot.path.parent, settings.rehearse_snapshot.strip())
    own = {_picture(sample.image) for sample in snapshot.samples}
    samples = [sample for sample in old.split("train") if _picture(sample.image) not in own]
    if not samples:
        raise SnapshotError(
            f"The snapshot {old.name!r} has no train picture that is not in {snapshot.name!r} as well: there is "
            "nothing to rehearse. Name another in rehearse_snapshot, or set rehearsal_share to 0."
        )
    return group_by_picture(samples, use_alternatives=settings.use_alternatives)


def _picture(path: Path) -> str:
    """What tells a picture from others: in any workspace, pictures are called what their content hashes to."""
    return path.stem if is_content_name(path.stem) else str(path)
