"""The kept scores of the base and of adapters over the test split, and how old they are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from datetime import datetime

from grounding.adapters import AdapterInfo, AdapterRegistry
from grounding.adapters.evaluations import evaluations_of, is_base, moment
from grounding.boxes import Box
from grounding.compared import Report
from grounding.compared.columns import read_columns
from grounding.errors import RecordError
from grounding.evaluating.selection import Selection
from grounding.records import Sample
from grounding.reports import KeptReport, ReportStore, samples_digest
from grounding.ui.kept import Kept, id_of
from grounding.ui.sources import Parts
from grounding.ui.summary import KeptScores

SUMMARY_SPLIT = "test"
_MOST_OPENED = 4


class Scoreboard:
    """What the summary shows."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.reports = ReportStore(parts.workspace.evaluations)
        self._kept = Kept(parts.workspace)
        self._opened: OrderedDict[tuple[str, ...], Report] = OrderedDict()

    def samples(self) -> list[Sample]:
        """The test samples with a usable phrase. Raises `StoreError` when there are none."""
        return list(Selection(SUMMARY_SPLIT).pick(self.parts.source, self.parts.is_placeholder).samples)

    def kept(self, adapter: str | None, samples: Sequence[Sample]) -> KeptScores | None:
        """The newest scores of the base (None) or an adapter, with how many of `samples` were edited since.

        Those on exactly `samples` come first, and an adapter's count under every name that it had. Raises
        `WorkspaceError` when the samples of those can't be read.
        """
        digest, reports = samples_digest(samples), self._reports_of(adapter)
        same = (report for report in reports if report.samples_sha256 == digest)
        report = next(same, None) or next((report for report in reports if report.split == SUMMARY_SPLIT), None)
        if report is None:
            return None
        edits = 0 if report.samples_sha256 == digest else count_edits(report, samples)
        return KeptScores(report, in_words(report.created_at), edits)

    def figures(self, *kept: KeptScores | None) -> list[Report]:
        """Those that are there as one comparison, the base first, as the whole-set part has it: one report over the
        samples that they have in common and no adapter saw in training. One report each where they have none.

        Raises `WorkspaceError` when one can't be read.
        """
        there = [id_of(one.report) for one in kept if one is not None]
        try:
            return [self._report(*there)] if there else []
        except RecordError:  # nothing in common
            return [self._report(one) for one in there]

    def _report(self, *evaluations: str) -> Report:
        """Kept for as long as its comparison is open, so that the intervals are worked out once."""
        comparison = self._kept.open(*evaluations)
        found = self._opened.get(evaluations)
        if found is None or found.comparison is not comparison:
            found = self._opened[evaluations] = Report(comparison)
            while len(self._opened) > _MOST_OPENED:
                self._opened.popitem(last=False)
        return found

    def adapters(self) -> list[AdapterInfo]:
        """The adapters that fit the app's model, newest first."""
        return AdapterRegistry(self.parts.workspace.adapters).fitting(self.parts.models.model)

    def _reports_of(self, adapter: str | None) -> list[KeptReport]:
        """The kept evaluations of the base (None) or of an adapter that stands here, newest first."""
        reports = self.reports.list()
        if adapter is None:
            base = self.parts.models.model
            return [one for one in reports if one.model_id == base and is_base(one, self.parts.models.quantize)]
        info = next((info for info in self.adapters() if info.name == adapter), None)
        return evaluations_of(info, reports, self.parts.models.quantize) if info is not None else []


def count_edits(report: KeptReport, samples: Sequence[Sample]) -> int:
    """How many samples were changed, added or taken away since the report was made.

    Raises `WorkspaceError` when its samples can't be read.
    """
    asked = read_columns(report.path).samples
    before = {
        asked.id[row]: (asked.image[row], asked.phrase[row], _rounded(asked.truth.row(row).tolist()))
        for row in range(len(asked))
    }
    now = {sample.id: _question(sample) for sample in samples}
    changed = sum(before[key] != now[key] for key in before.keys() & now.keys())
    return changed + len(before.keys() ^ now.keys())


def _question(sample: Sample) -> tuple[str, str, list[list[float]]]:
    return (sample.image.name, sample.phrase, _rounded(sample.boxes_xyxy_px))


def _rounded(boxes_xyxy_px: Iterable[Iterable[float]]) -> list[list[float]]:
    """To hundredths of a pixel, as reports of earlier versions have them."""
    return [list(Box(*box).rounded()) for box in boxes_xyxy_px]


def in_words(created_at: str) -> str:
    """Such as "23 Nov 2026, 09:12 UTC"; the text itself when it is no ISO 8601 time."""
    try:
        datetime.fromisoformat(created_at)
    except ValueError:
        return created_at
    time = moment(created_at)
    return f"{time.day} {time:%b %Y, %H:%M} UTC"
