"""From a frozen snapshot to the feed of a run."""

from __future__ import annotations

from grounding.snapshots import Snapshot
from grounding.training.data import group_by_picture
from grounding.training.feed import Feed
from grounding.training.rehearsal import pictures_to_rehearse
from grounding.training.settings import TrainSettings


def feed_of(snapshot: Snapshot, settings: TrainSettings) -> Feed:
    """What a run with these settings would be fed from this snapshot. Raises `SnapshotError` and `SettingsError`."""
    pictures = group_by_picture(snapshot.split("train"), use_alternatives=settings.use_alternatives)
    return Feed(pictures, settings, pictures_to_rehearse(settings, snapshot))
