"""The kept evaluations of a workspace as the page offers them, and the few comparisons of them that are open."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from grounding.compared import Comparison, Filter, Report
from grounding.compared.columns import DIMENSIONS
from grounding.compared.conditions import asked_alike, condition_words
from grounding.compared.figures import Bucket
from grounding.compared.suspects import Suspect
from grounding.reports import KeptReport
from grounding.ui.evaluations_view import report_figures
from grounding.ui.kept import Kept, id_of
from grounding.ui.scoreboard import in_words
from grounding.ui.whole_figures import Figures, faceted, without
from grounding.workspace import Workspace

ALONE = ""
"""What stands in place of b's id when a stands alone."""
_OPEN_AT_ONCE = 4
_ANSWERS_KEPT = 64

Choices = list[tuple[str, str]]


@dataclass(eq=False)
class Opened:
    """An open comparison with the figures that were asked of it lately."""

    comparison: Comparison
    _figures: OrderedDict[tuple[Filter, bool], Figures] = field(default_factory=OrderedDict)
    _breakdowns: OrderedDict[tuple[str, Filter, bool], tuple[Bucket, ...]] = field(default_factory=OrderedDict)
    _suspects: OrderedDict[Filter, tuple[Suspect, ...]] = field(default_factory=OrderedDict)

    def report(self, asked: Filter, with_seen: bool) -> Report:
        return Report(self.comparison, asked, with_seen)

    def figures(self, asked: Filter, with_seen: bool, *, exact: bool) -> Figures:
        """The figures of the samples that pass; not `exact`: with intervals where those are known by now, else without,
        which takes a fifth of the time."""
        key = (asked, with_seen)
        found = self._figures.get(key)
        if found is None:
            report = self.report(asked, with_seen)
            keys = {name: (name, without(report, name).filter, with_seen) for name in DIMENSIONS}
            known = {name: buckets for name, one in keys.items() if (buckets := self._breakdowns.get(one)) is not None}
            found = faceted(report, exact=exact, known=known)
            if exact:
                _keep(self._figures, key, found)
                for name in DIMENSIONS:
                    _keep(self._breakdowns, keys[name], found.breakdowns[name])
        return found

    def suspects(self, asked: Filter) -> tuple[Suspect, ...]:
        """Every label that may be wrong among the samples that pass."""
        found = self._suspects.get(asked)
        if found is None:
            found = self.report(asked, False).suspects(None)
            _keep(self._suspects, asked, found)
        return found


class Shelf:
    """What the two lists offer, and what is open; safe to be used from several threads."""

    def __init__(self, workspace: Workspace) -> None:
        self.kept = Kept(workspace)
        self._open: OrderedDict[tuple[str, str], Opened] = OrderedDict()
        self._lock = Lock()

    def list(self) -> list[KeptReport]:
        """Every kept evaluation, newest first."""
        return self.kept.list()

    def open(self, a: str, b: str) -> Opened:
        """The comparison of two kept evaluations by id, or of `a` alone where `b` is `ALONE`.

        Raises `WorkspaceError` for an unknown or damaged one, `RecordError` when they have no sample in common.
        """
        with self._lock:  # two pages that ask for the same wait for one reading
            key = (a, b if b != a else ALONE)
            comparison = self.kept.open(*(name for name in key if name != ALONE))
            found = self._open.get(key)
            if found is None or found.comparison is not comparison:  # evaluated anew under the same name
                found = self._open[key] = Opened(comparison)
            self._open.move_to_end(key)
            while len(self._open) > _OPEN_AT_ONCE:
                self._open.popitem(last=False)
            return found


def report_choices(reports: Sequence[KeptReport]) -> Choices:
    """(label, id) of each: who answered, how it was asked, which samples, how well and when; equal labels get their
    ids."""
    labels = [report_label(kept) for kept in reports]
    told = [
        f"{label} · {id_of(kept)}" if labels.count(label) > 1 else label
        for label, kept in zip(labels, reports, strict=True)
    ]
    return list(zip(told, map(id_of, reports), strict=True))


def first_pair(reports: Sequence[KeptReport]) -> tuple[str, str]:
    """(a, b) to begin with: `adapter_pair`; where there is none, the newest evaluation alone; ("", "") of nothing.
    `reports` come newest first."""
    found = adapter_pair(reports)
    return found or (id_of(reports[0]) if reports else "", ALONE)


def adapter_pair(reports: Sequence[KeptReport]) -> tuple[str, str] | None:
    """(a, b): the newest evaluation of an adapter against the newest of its base on the same samples that was asked in
    the same way; None where there is none. `reports` come newest first."""
    for kept in reports:
        if kept.adapter:
            bases = (one for one in reports if not one.adapter and one.model_id == kept.model_id)
            base = next((one for one in bases if is_comparable(one, kept)), None)
            if base is not None:
                return id_of(base), id_of(kept)
    return None


def is_comparable(one: KeptReport, other: KeptReport) -> bool:
    """Whether both were asked the same samples in the same way."""
    return one.samples_sha256 == other.samples_sha256 and asked_alike(one, other)


def report_label(kept: KeptReport) -> str:
    """Such as "tools on demo · 4-bit · test · 192 samples · Acc@0.5 67.0% · 12 seen left out · 23 Nov 2026, 09:12 UTC".
    No samples are opened for it."""
    who = f"{Path(kept.adapter).name} on {kept.model_id}" if kept.adapter else f"base {kept.model_id}"
    asked = [kept.split, f"{kept.total:,} samples"]
    return " · ".join([who, *condition_words(kept), *asked, *report_figures(kept), in_words(kept.created_at)])


def _keep(kept: OrderedDict[Any, Any], key: object, value: object) -> None:
    kept[key] = value
    while len(kept) > _ANSWERS_KEPT:
        kept.popitem(last=False)
