"""Which samples an adapter has seen in training: those say nothing about how it does on new ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from grounding.adapters import AdapterRegistry
from grounding.adapters.evaluations import adapter_of
from grounding.adapters.info import MANIFEST, AdapterInfo
from grounding.adapters.merge import MERGED
from grounding.compared.columns import Samples
from grounding.errors import AdapterError, SnapshotError
from grounding.measures import Flags
from grounding.pictures import is_content_name
from grounding.records import Sample
from grounding.reports import KeptReport
from grounding.snapshots import BASE_SCENES, Snapshot, read_snapshot
from grounding.workspace import Workspace


@dataclass(frozen=True, eq=False)
class Seen:
    """What of the samples stood in an adapter's train split: `sample` [samples] the very sample, `picture` [samples]
    its picture, with whatever phrase. Where it isn't `known`, both are all False. `sentence` says it in words, and
    `optimistic`, where it isn't "", on which samples the figures are better than on new ones although none was
    learned."""

    adapter: str
    known: bool
    sample: Flags
    picture: Flags
    sentence: str
    optimistic: str = ""

    @property
    def any(self) -> Flags:
        return self.sample | self.picture


def seen_in_training(samples: Samples, report: KeptReport | None, workspace: Workspace) -> Seen | None:
    """What the adapter of a kept evaluation has seen of these samples, one that was merged into its base too; None for
    a base, which wasn't trained here.

    Its adapter.json names the snapshot, of a merged model merged_from.json; a sample of its train split is the same by
    its id, unless it is known to be on another picture; a picture by the SHA-256 of its content, which is its file name
    in a workspace.
    """
    if report is None:
        return None
    who = report.adapter or Path(report.model_id).name
    nothing = np.zeros(len(samples), dtype=bool)
    try:
        infos = _learners(report, workspace)
        if not infos:
            return None
        snapshots = [_snapshots(info, workspace) for info in infos]
    except (AdapterError, SnapshotError) as error:
        sentence = f"What {who} saw in training is not known, so no sample is left out: {error}"
        return Seen(who, False, nothing, nothing, sentence)
    trained = [sample for learned_from in snapshots for snapshot in learned_from for sample in snapshot.split("train")]
    sample, picture = _marked(samples, trained)
    chosen_on = [
        one
        for info, (own, *_) in zip(infos, snapshots, strict=True)
        if info.settings.get("keep_best")
        for one in own.split("val")
    ]
    itself, _ = _marked(samples, chosen_on)
    return Seen(who, True, sample, picture, _sentence(who, sample, picture), _optimistic(who, itself))


def _marked(samples: Samples, learned: Sequence[Sample]) -> tuple[Flags, Flags]:
    """(the very sample is among these, its picture is): [samples] each."""
    on_pictures: dict[str, set[str]] = {}
    for one in learned:  # an id may stand twice: in train and in what was rehearsed
        on_pictures.setdefault(one.id, set()).add(one.image.stem)
    pictures = set().union(*on_pictures.values())
    on = np.array([sha256 or Path(name).stem for sha256, name in zip(samples.image_sha256, samples.image, strict=True)])
    picture = np.array([name in pictures for name in on], dtype=bool)
    sample = np.array(
        [
            any(_is_same(one, name) for one in on_pictures.get(key, ()))
            for key, name in zip(samples.id, on, strict=True)
        ],
        dtype=bool,
    )
    return sample, picture


def _sentence(adapter: str, sample: Flags, picture: Flags) -> str:
    total, itself = int(np.count_nonzero(sample | picture)), int(np.count_nonzero(sample))
    if not total:
        return f"None of the samples was seen by {adapter} in training."
    return (
        f"{adapter} saw {total:,} of {len(sample):,} samples in training: {itself:,} "
        f"{'itself' if itself == 1 else 'themselves'}, of {total - itself:,} more the picture."
    )


def _optimistic(adapter: str, itself: Flags) -> str:
    count = int(np.count_nonzero(itself))
    if not count:
        return ""
    return (
        f"The step of {adapter} that was kept is the one that scored best on the val split, in which {count:,} of "
        f"these samples stand{'s' * (count == 1)}: over {'it' if count == 1 else 'them'} its figures are better than "
        "over new ones."
    )


def _is_same(learned_on: str, shown_on: str) -> bool:
    both_known = is_content_name(learned_on) and is_content_name(shown_on)
    return learned_on == shown_on if both_known else True


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


def _learners(report: KeptReport, workspace: Workspace) -> list[AdapterInfo]:
    """The adapters whose training is in what answered: the one that was used, and one that was merged into its base.

    Raises `AdapterError` when one is gone or its file is damaged.
    """
    merged = merged_adapter(report.model_id)
    return [*([_adapter(report, workspace)] if report.adapter is not None else []), *([merged] if merged else [])]


def merged_adapter(model_id: str) -> AdapterInfo | None:
    """The adapter that a model in a folder was made of, as its merged_from.json says; None for another model.

    Raises `AdapterError` when the file is damaged.
    """
    path = _merged_file(model_id)
    if path is None:
        return None
    try:
        return AdapterInfo.from_json(json.loads(path.read_text(encoding="utf-8"))["adapter"], path.parent)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AdapterError(f"{path} is damaged ({error}). Merge the adapter again.") from error


def is_merged(model_id: str) -> bool:
    """Whether a model in a folder was made of an adapter and its base."""
    return _merged_file(model_id) is not None


def _merged_file(model_id: str) -> Path | None:
    try:
        path = Path(model_id).expanduser() / MERGED
        return path if path.is_file() else None
    except (OSError, RuntimeError, ValueError):  # no path: too long, a NUL, the home of somebody unknown
        return None


def _snapshots(info: AdapterInfo, workspace: Workspace) -> list[Snapshot]:
    """The adapter's own snapshot and one that it rehearsed: it learned from their train splits.

    Raises `SnapshotError` when one is not known.
    """
    if not info.snapshot:
        raise SnapshotError("its adapter.json names no snapshot.")
    snapshot = read_snapshot(workspace.snapshots, info.snapshot)
    if info.snapshot_sha256 and snapshot.samples_sha256 != info.snapshot_sha256:
        raise SnapshotError(f"the snapshot {info.snapshot!r} here is another one than it learned from.")
    rehearsed = str(info.settings.get("rehearse_snapshot") or "").strip()
    if info.settings.get("rehearsal_share") and rehearsed and rehearsed != BASE_SCENES:
        return [snapshot, read_snapshot(workspace.snapshots, rehearsed)]
    return [snapshot]
