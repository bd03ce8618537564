"""The figures of kept evaluations without what was seen in training, also where an earlier version kept them with it.

Lists show what stands in report.json, marked by `KeptReport.seen_words`; what is here opens the samples.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

from grounding.buckets import Buckets, bucket_scores
from grounding.errors import RecordError, WorkspaceError
from grounding.metrics import Scores, summarise
from grounding.paired import PairedComparison
from grounding.reports import KeptReport, read_rows
from grounding.seen import SeenCount, marks_of
from grounding.workspace import Workspace

if TYPE_CHECKING:
    from grounding.compared import Report

T = TypeVar("T")
_MOST_REMEMBERED = 256


class _Remembered(Generic[T]):
    """The last few answers, safe to be used from several threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable) -> T | None:
        with self._lock:
            return self._known.get(key)

    def put(self, key: Hashable, value: T) -> None:
        with self._lock:
            self._known[key] = value
            while len(self._known) > _MOST_REMEMBERED:
                self._known.popitem(last=False)


_RECOUNTED: _Remembered[tuple[SeenCount, Scores | None, Buckets | None]] = _Remembered()
_PAIRED: _Remembered[tuple[Scores, Scores]] = _Remembered()


def counted_report(kept: KeptReport, workspace: Workspace) -> KeptReport:
    """The evaluation with figures that leave out what its adapter saw in training.

    Those of a base, and those that were kept knowing what the adapter saw, are so already and nothing is opened. The
    others, of a base that an adapter was merged into too, are read and counted anew, if it is known by now; they are
    not changed on the disk. One whose samples can't be read comes back as it is.
    """
    from grounding.compared.seen import is_merged

    is_base = kept.adapter is None and not is_merged(kept.model_id)
    if is_base or (kept.seen is not None and kept.seen.known):
        return kept
    key = (workspace.root, kept.path, kept.created_at)
    found = _RECOUNTED.get(key)
    if found is None:
        try:
            found = _recounted(kept, workspace)
        except WorkspaceError:
            return kept
        if found[0].known:  # what is not known now may be found later
            _RECOUNTED.put(key, found)
    seen, scores, buckets = found
    if scores is None or buckets is None:
        return replace(kept, seen=seen)
    return replace(kept, seen=seen, scores=scores, buckets=buckets)


def _recounted(kept: KeptReport, workspace: Workspace) -> tuple[SeenCount, Scores | None, Buckets | None]:
    """(what was seen, figures and buckets of the rest: None where that is all of them)."""
    from grounding.compared.columns import read_columns
    from grounding.compared.seen import seen_in_training

    found = seen_in_training(read_columns(kept.path).samples, kept, workspace)
    assert found is not None, "it has an adapter, or is merged of one"
    seen = marks_of(found)
    if not seen.count.left_out:
        return seen.count, None, None
    rows = [row for row, mark in zip(read_rows(kept.path), seen.marks, strict=True) if not mark]
    return seen.count, summarise(rows), bucket_scores(rows)


def counted_pair(base: KeptReport, adapter: KeptReport, workspace: Workspace) -> tuple[Scores, Scores]:
    """The figures of a base and of an adapter over the same samples: those that both answered and the adapter did not
    see in training, all where that isn't known. `adapter` is as `counted_report` gives it."""
    if not any(one.seen is not None and one.seen.left_out for one in (base, adapter)):
        return base.scores, adapter.scores
    is_known = adapter.seen is not None and adapter.seen.known
    key = (workspace.root, base.path, base.created_at, adapter.path, adapter.created_at, is_known)
    found = _PAIRED.get(key)
    if found is None:
        try:
            report = opened(workspace, base, adapter)
        except (RecordError, WorkspaceError):
            return base.scores, adapter.scores
        # What was merged into the base it saw in training too, and leaves out of its own report.
        first, second = replace(report, resamples=0, with_seen=not is_known).headline.scores
        found = (first, second)
        _PAIRED.put(key, found)
    return found


def opened(workspace: Workspace, *kept: KeptReport) -> Report:
    """Kept evaluations as a comparison, the one to compare with first. Raises what `open_comparison` raises."""
    from grounding.compared import Report, open_comparison

    return Report(open_comparison([one.path for one in kept], workspace=workspace))


def paired(report: Report) -> PairedComparison:
    """b against a as `paired.compare_rows` has it, over the samples that the report counts.

    Raises `RecordError` where none of those has a target, or there is no b.
    """
    found = report.headline
    if found.outcomes is None or not found.count:
        if found.left_out and not found.no_target_count:
            raise RecordError(
                f"All {found.left_out:,} samples were seen in training, so there is nothing to compare. Count them all "
                "the same (--with-seen), or evaluate both on samples that are new to them."
            )
        raise RecordError("None of the samples has a target box, so there is nothing to compare. Give some that have.")
    return PairedComparison(
        count=found.count,
        pictures=found.target_pictures,
        accuracy_50=found.differences["accuracy_50"],
        mean_iou=found.differences["mean_iou"],
        wins=found.outcomes.wins,
        losses=found.outcomes.losses,
        ties=found.outcomes.ties,
        mcnemar_p=found.outcomes.mcnemar_p,
        resamples=found.resamples,
        seed=found.seed,
    )
