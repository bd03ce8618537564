"""Freeze the samples with a usable phrase into a folder that never changes: what training runs learn from."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import annotate
from annotate.edits import clean_who, now
from annotate.items import Item
from annotate.leaks import Kind
from annotate.partial_folders import partial_folder
from annotate.phrases import usable_phrase
from annotate.store import Store
from annotate.twins import Progress, fill_hashes
from grounding.errors import BoxwrightError, SnapshotError
from grounding.records import SPLITS, Sample
from grounding.workspace import check_name

FORMAT = "boxwright-snapshot/1"
COORDINATES = "xyxy_px of the original image"
SAMPLES_FILE = "samples.jsonl"
MANIFEST_FILE = "manifest.json"
LEAKS_FILE = "leaks.jsonl"
# An import may bring pictures while the others are looked at; one that goes on for hours is not waited for.
_MOST_LOOKS = 5
# Why a sample is left out; the first that applies is the one counted.
REASONS = ("rejected", "placeholder", "flagged", "not_approved", "leak", "near_duplicate", "in_test_too")


@dataclass(frozen=True)
class SnapshotInfo:
    """A complete snapshot. `sha256` is that of the bytes of samples.jsonl; `counts` are samples a split;
    `left_out` counts each reason of `REASONS` that applied; `leaks` counts the train samples of each kind of leak,
    those left out for another reason included, and leaks.jsonl lists their pictures in pairs."""

    name: str
    path: Path
    sha256: str
    counts: Mapping[str, int]
    left_out: Mapping[str, int]
    created_at: str
    who: str
    approved_only: bool
    leaks: Mapping[str, int] = field(default_factory=dict)

    @property
    def samples_path(self) -> Path:
        return self.path / SAMPLES_FILE


def freeze(
    store: Store,
    folder: Path,
    name: str,
    *,
    who: str,
    approved_only: bool = False,
    placeholders: bool = False,
    progress: Progress | None = None,
) -> SnapshotInfo:
    """Write the snapshot `name` into `folder` (the workspace's snapshots) and return it.

    It holds the samples of one moment in import order, in all splits, whose phrase is usable: no placeholder, not
    rejected, not flagged, and approved when `approved_only`. A train sample whose picture also stands in val or test is
    left out: as a leak when it is the same picture or has the same image id, else as a near-duplicate. So is a val
    sample whose very picture stands in test: each picture stands in one split. The same samples give the same hash.
    `placeholders` takes those phrases in all the same: a run learns nothing from them, and training has to be forced.
    `progress` gets the pictures looked at for that, and how many there are to look at: each once only. Raises
    `SnapshotError` when the name is taken, nothing is left to train on, or the folder can't be written; then nothing is
    left behind.
    """
    check_name(name, "a snapshot")
    target = folder.resolve() / name
    if target.exists():
        raise _taken(name)
    for _ in range(_MOST_LOOKS):
        if not fill_hashes(store.path, store.pictures, progress).hashed:
            break
    try:
        with partial_folder(target.parent, "snapshot") as partial:
            manifest = _write(store, partial, name, who, _Kept(approved_only, placeholders))
            _publish(partial, target)
    except OSError as error:
        raise SnapshotError(
            f"The snapshot {name} can't be written to {folder} ({error.strerror or error}). "
            "Free some space or give yourself the right to write there, then try again."
        ) from error
    return _info(target, manifest)


def read_snapshot(folder: Path, name: str) -> SnapshotInfo:
    """The snapshot `name` in `folder`. Raises `SnapshotError` when it is missing, incomplete or of another format."""
    path = folder / check_name(name, "a snapshot")
    if not path.is_dir():
        there = ", ".join(info.name for info in list_snapshots(folder)) or "none yet"
        raise SnapshotError(f"There is no snapshot {name!r}. There are: {there}. Make one with: snapshot NAME.")
    try:
        manifest = json.loads((path / MANIFEST_FILE).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise SnapshotError(f"The snapshot {name} has the format {manifest['format']!r}; expected {FORMAT!r}.")
        return _info(path, manifest)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SnapshotError(f"The snapshot {name} is incomplete or damaged ({error!r}). Make a new one.") from error


def list_snapshots(folder: Path) -> tuple[SnapshotInfo, ...]:
    """The complete snapshots in `folder`, newest first; folders without a sound manifest are passed over."""
    infos = []
    for manifest in folder.glob(f"[!.]*/{MANIFEST_FILE}"):
        with suppress(BoxwrightError):
            infos.append(read_snapshot(folder, manifest.parent.name))
    return tuple(sorted(infos, key=lambda info: (info.created_at, info.name), reverse=True))


def check_unchanged(info: SnapshotInfo) -> None:
    """Raises `SnapshotError` when samples.jsonl isn't what was frozen."""
    try:
        with info.samples_path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SnapshotError(f"The snapshot {info.name} has no readable {SAMPLES_FILE}. Make a new one.") from error
    if sha256 != info.sha256:
        raise SnapshotError(
            f"The snapshot {info.name} was changed after it was made: {SAMPLES_FILE} has the hash {sha256[:12]}, "
            f"the manifest says {info.sha256[:12]}. Make a new one."
        )


@dataclass(frozen=True)
class _Kept:
    """Which samples a snapshot takes: approved ones alone; placeholders too."""

    approved_only: bool = False
    placeholders: bool = False


def would_be_frozen(store: Store) -> tuple[list[Sample], dict[str, int]]:
    """(samples that a snapshot made now would hold, how many train samples it would leave out for each reason).

    Near-duplicates are not looked for: that takes a look at every picture.
    """
    samples, left_out = [], Counter[str]()
    with store.view() as view:
        leaking = view.leaks(by_looks=False).kind_of_picture()
        reason_for = _reasons(leaking, view.pictures_of_val_and_test(), _Kept())
        replaced = view.replaced_phrases()
        for item in view.items():
            reason = reason_for(item)
            if reason is None:
                samples.append(_with_usable_alternatives(item.sample, replaced.get(item.id, frozenset())))
            elif item.sample.split == "train":
                left_out[reason] += 1
    return samples, dict(left_out)


def _write(store: Store, partial: Path, name: str, who: str, kept: _Kept) -> dict[str, Any]:
    counts: Counter[str] = Counter(dict.fromkeys(SPLITS, 0))
    left_out: Counter[str] = Counter()
    digest = hashlib.sha256()
    with store.view() as view, (partial / SAMPLES_FILE).open("wb") as file:
        leaks = view.leaks()
        reason_for = _reasons(leaks.kind_of_picture(), view.pictures_of_val_and_test(), kept)
        replaced = view.replaced_phrases()
        for item in view.items():
            reason = reason_for(item)
            if reason:
                left_out[reason] += 1
                continue
            counts[item.sample.split] += 1
            sample = _with_usable_alternatives(item.sample, replaced.get(item.id, frozenset()))
            line = (json.dumps(sample.to_json(partial), ensure_ascii=False) + "\n").encode()
            digest.update(line)
            file.write(line)
        _to_disk(file)
    if not counts["train"]:
        raise _nothing_to_train(name, left_out)
    with (partial / LEAKS_FILE).open("wb") as file:
        file.writelines((json.dumps(leak.to_json()) + "\n").encode() for leak in leaks.leaks)
        _to_disk(file)
    manifest = {
        "format": FORMAT,
        "name": name,
        "samples_sha256": digest.hexdigest(),
        "counts": dict(counts),
        "left_out": {reason: left_out[reason] for reason in REASONS if left_out[reason]},
        "leaks": dict(leaks.counts()),
        "approved_only": kept.approved_only,
        "created_at": now(),
        "who": clean_who(who),
        "app_version": annotate.__version__,
        "coordinates": COORDINATES,
    }
    with (partial / MANIFEST_FILE).open("wb") as file:
        file.write((json.dumps(manifest, ensure_ascii=False, indent=2) + "\n").encode())
        _to_disk(file)
    return manifest


def _with_usable_alternatives(sample: Sample, replaced: frozenset[str]) -> Sample:
    """The sample with those alternatives alone that may be learned from: no placeholder, nothing that a person
    has put another phrase in the place of."""
    usable = tuple(a for a in sample.alternatives if usable_phrase(a) not in (None, *replaced))
    return replace(sample, alternatives=usable)


def _reasons(
    leaking: Mapping[str, Kind], of_val_and_test: Collection[str], kept: _Kept
) -> Callable[[Item], str | None]:
    def reason_for(item: Item) -> str | None:
        leak = leaking.get(item.picture_sha256) if item.sample.split == "train" else None
        applies = {
            "rejected": item.state == "rejected",
            "placeholder": item.placeholder and not kept.placeholders,
            "flagged": item.flagged,
            "not_approved": kept.approved_only and item.state != "approved",
            "leak": leak in ("same_picture", "same_image_id"),
            "near_duplicate": leak == "near_duplicate",
            "in_test_too": item.sample.split == "val" and item.picture_sha256 in of_val_and_test,
        }
        return next((reason for reason in REASONS if applies[reason]), None)

    return reason_for


def _to_disk(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _publish(partial: Path, target: Path) -> None:
    try:
        partial.rename(target)
    except OSError as error:
        if target.exists():
            raise _taken(target.name) from error
        raise


def _taken(name: str) -> SnapshotError:
    return SnapshotError(f"There is a snapshot {name!r} already, and a snapshot never changes. Choose another name.")


def _nothing_to_train(name: str, left_out: Counter[str]) -> SnapshotError:
    why = ", ".join(f"{left_out[reason]} {reason}" for reason in REASONS if left_out[reason]) or "the store has none"
    return SnapshotError(
        f"The snapshot {name} would have no train sample (left out: {why}). Import samples of the split train, "
        "fill placeholders with repair or in the Annotate tab, and approve them if only approved ones may count."
    )


def _info(path: Path, manifest: Mapping[str, Any]) -> SnapshotInfo:
    return SnapshotInfo(
        name=manifest["name"],
        path=path,
        sha256=manifest["samples_sha256"],
        counts=dict(manifest["counts"]),
        left_out=dict(manifest["left_out"]),
        created_at=manifest["created_at"],
        who=manifest["who"],
        approved_only=bool(manifest.get("approved_only", False)),
        leaks=dict(manifest.get("leaks", {})),
    )
