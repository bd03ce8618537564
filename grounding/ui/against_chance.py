"""Whether a model is better than chance, from its newest kept evaluation: beside what the probes say of one picture."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from threading import Lock

from grounding.adapters import AdapterInfo
from grounding.adapters.evaluations import evaluations_of, is_base
from grounding.compared.chance import chance_level
from grounding.compared.comparison import open_comparison
from grounding.errors import BoxwrightError
from grounding.reports import KeptReport, ReportStore
from grounding.workspace import Workspace

log = logging.getLogger(__name__)

NO_SIGNAL = "Its train phrases carried no signal: what it knows of words, it knows from elsewhere. "
NOT_EVALUATED = "Not evaluated yet: over many samples nothing is known of it."


@dataclass(frozen=True)
class Standing:
    """A sentence on one model over many samples; `is_better` than chance, None where that isn't known."""

    sentence: str
    is_better: bool | None = None


class AgainstChance:
    """Reads kept evaluations, each once."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.reports = ReportStore(workspace.evaluations)
        self._lock = Lock()
        self._known: dict[str, Standing] = {}

    def of(self, model_id: str, adapter: AdapterInfo | None = None, *, quantize: str = "none") -> Standing:
        """How the base (without `adapter`) or an adapter stands, on weights that are quantised so. An evaluation that
        can't be read is named, not raised; of an adapter whose phrases taught it nothing, that is said first."""
        standing = self._evaluated(model_id, adapter, quantize)
        if adapter is not None and adapter.is_without_signal:
            return replace(standing, sentence=NO_SIGNAL + standing.sentence)
        return standing

    def _evaluated(self, model_id: str, adapter: AdapterInfo | None, quantize: str) -> Standing:
        reports = self.reports.list()
        if adapter is not None:
            own = evaluations_of(adapter, reports, quantize)
        else:
            own = [report for report in reports if report.model_id == model_id and is_base(report, quantize)]
        if not own:
            return Standing(NOT_EVALUATED)
        with self._lock:
            if own[0].id not in self._known:
                self._known[own[0].id] = self._read(own[0])
            return self._known[own[0].id]

    def _read(self, report: KeptReport) -> Standing:
        try:
            comparison = open_comparison([report.path], workspace=self.workspace)
            chance = chance_level(comparison, comparison.a)
        except BoxwrightError as error:
            log.warning("%s", error)
            return Standing(str(error))
        split = f"In the {report.split} split. " if report.split else ""
        if chance is None:
            return Standing(f"{split}No two samples of its evaluation can exchange answers: chance isn't known.")
        return Standing(f"{split}{chance.sentence}", chance.is_better)
