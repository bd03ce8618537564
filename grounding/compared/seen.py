"""Which samples an adapter has seen in training: those say nothing about how it does on new ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from grounding.adapters import AdapterRegistry
from grounding.adapters.evaluations import adapter_of
from grounding.adapters.info import MANIFEST, AdapterInfo
from grounding.compared.columns import Samples
from grounding.errors import AdapterError, SnapshotError
from grounding.measures import Flags
from grounding.records import Sample
from grounding.reports import KeptReport
from grounding.snapshots import BASE_SCENES, read_snapshot
from grounding.workspace import Workspace


@dataclass(frozen=True, eq=False)
class Seen:
    """What of the samples stood in an adapter's train split: `sample` [samples] the very sample, `picture` [samples]
    its picture, with whatever phrase. Where it isn't `known`, both are all False. `sentence` says it in words."""

    adapter: str
    known: bool
    sample: Flags
    picture: Flags
    sentence: str

    @property
    def any(self) -> Flags:
        return self.sample | self.picture


def seen_in_training(samples: Samples, report: KeptReport | None, workspace: Workspace) -> Seen | None:
    """What the adapter of a kept evaluation has seen of these samples; None for a base, which wasn't trained here.

    Its adapter.json names the snapshot; a sample of its train split is the same by its id, unless it is known to be on
    another picture; a picture by the SHA-256 of its content, which is its file name in a workspace.
    """
    if report is None or report.adapter is None:
        return None
    nothing = np.zeros(len(samples), dtype=bool)
    try:
        trained = _train_samples(_adapter(report, workspace), workspace)
    except (AdapterError, SnapshotError) as error:
        sentence = f"What {report.adapter} saw in training is not known, so no sample is left out: {error}"
        return Seen(report.adapter, False, nothing, nothing, sentence)
    learned = {sample.id: sample.image.stem for sample in trained}
    pictures = set(learned.values())
    on = np.array([sha256 or Path(name).stem for sha256, name in zip(samples.image_sha256, samples.image, strict=True)])
    picture = np.array([name in pictures for name in on], dtype=bool)
    sample = np.array(
        [_is_same(learned.get(key), name) for key, name in zip(samples.id, on, strict=True)],
        dtype=bool,
    )
    return Seen(report.adapter, True, sample, picture, _sentence(report.adapter, sample, picture))


def _sentence(adapter: str, sample: Flags, picture: Flags) -> str:
    total, itself = int(np.count_nonzero(sample | picture)), int(np.count_nonzero(sample))
    if not total:
        return f"None of the samples was seen by {adapter} in training."
    return (
        f"{adapter} saw {total:,} of {len(sample):,} samples in training: {itself:,} themselves, of "
        f"{total - itself:,} more the picture."
    )


def _is_same(learned_on: str | None, shown_on: str) -> bool:
    if learned_on is None:
        return False
    both_known = _is_sha256(learned_on) and _is_sha256(shown_on)
    return learned_on == shown_on if both_known else True


def _is_sha256(name: str) -> bool:
    return len(name) == 64 and all(digit in "0123456789abcdef" for digit in name)


def _adapter(report: KeptReport, workspace: Workspace) -> AdapterInfo:
    """Raises `AdapterError` when it is gone."""
    infos = AdapterRegistry(workspace.adapters).list()
    folder = Path(str(report.adapter)).expanduser()
    if (folder / MANIFEST).is_file():
        infos.append(AdapterInfo.load(folder.resolve()))
    found = adapter_of(report, infos)
    if found is None:
        raise AdapterError(f"the adapter that was evaluated as {report.adapter!r} no longer stands in the workspace.")
    return found


def _train_samples(info: AdapterInfo, workspace: Workspace) -> list[Sample]:
    """Everything that the adapter learned from. Raises `SnapshotError` when some of it is not known."""
    if not info.snapshot:
        raise SnapshotError("its adapter.json names no snapshot.")
    snapshot = read_snapshot(workspace.snapshots, info.snapshot)
    if info.snapshot_sha256 and snapshot.samples_sha256 != info.snapshot_sha256:
        raise SnapshotError(f"the snapshot {info.snapshot!r} here is another one than it learned from.")
    trained = snapshot.split("train")
    rehearsed = str(info.settings.get("rehearse_snapshot") or "").strip()
    if info.settings.get("rehearsal_share") and rehearsed and rehearsed != BASE_SCENES:
        trained += read_snapshot(workspace.snapshots, rehearsed).split("train")
    return trained
