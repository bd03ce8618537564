"""Whether a model is better than chance, from its largest kept evaluation: beside what probes say of one picture."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Lock

from grounding.adapters import AdapterInfo
from grounding.adapters.evaluations import evaluations_of, is_base
from grounding.compared.chance import WORTH_HAVING, chance_level
from grounding.compared.comparison import open_comparison
from grounding.compared.figures import headline
from grounding.compared.wording import interval_text
from grounding.errors import BoxwrightError
from grounding.evaluating.selection import is_narrowed
from grounding.paired import Difference
from grounding.reports import KeptReport, ReportStore
from grounding.workspace import Workspace

log = logging.getLogger(__name__)

NO_SIGNAL = "Its train phrases carried no signal: what it knows of words, it knows from elsewhere. "
NOT_EVALUATED = "Not evaluated yet: Evaluate, below, tells how it does over many samples."


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
        self._known: dict[tuple[tuple[str, str], ...], Standing] = {}

    def of(self, model_id: str, adapter: AdapterInfo | None = None, *, quantize: str = "none") -> Standing:
        """How the base (without `adapter`) or an adapter stands, on weights that are quantised so, by its
        `most_telling` evaluation. Of an adapter whose phrases taught it nothing, that is said first, and what its
        training added to the base where both were asked the same. An evaluation that can't be read is named, not
        raised."""
        reports = self.reports.list()
        if adapter is None:
            own = [report for report in reports if report.model_id == model_id and is_base(report, quantize)]
        else:
            own = evaluations_of(adapter, reports, quantize)
        is_untaught = adapter is not None and adapter.is_without_signal
        first = NO_SIGNAL if is_untaught else ""
        if not own:
            return Standing(first + NOT_EVALUATED)
        told = most_telling(own)
        base = next((report for report in reports if is_base(report, quantize) and _is_asked_alike(report, told)), None)
        try:
            standing = self._once((told,), self._read)
            if is_untaught and base is not None:
                first += self._once((base, told), self._added).sentence
        except BoxwrightError as error:
            log.warning("%s", error)
            return Standing(f"{first}{error}")
        return replace(standing, sentence=first + standing.sentence)

    def _once(self, reports: tuple[KeptReport, ...], read: Callable[..., Standing]) -> Standing:
        key = tuple((str(report.path), report.created_at) for report in reports)
        with self._lock:
            if key not in self._known:
                self._known[key] = read(*reports)
            return self._known[key]

    def _added(self, base: KeptReport, report: KeptReport) -> Standing:
        """What the training added to the base, over the samples of both evaluations that it did not see."""
        comparison = open_comparison([base.path, report.path], workspace=self.workspace)
        change = headline(comparison).differences.get("accuracy_50")
        return Standing("" if change is None else f"{_added_sentence(change)} ")

    def _read(self, report: KeptReport) -> Standing:
        comparison = open_comparison([report.path], workspace=self.workspace)
        chance = chance_level(comparison, comparison.a)
        split = f"In the {report.split} split. " if report.split else ""
        if chance is None:
            return Standing(f"{split}No two samples of its evaluation can exchange answers: chance isn't known.")
        return Standing(f"{split}{chance.sentence}", chance.is_better)


def _is_asked_alike(base: KeptReport, report: KeptReport) -> bool:
    files = {str(one.settings.get("conditions", {}).get("model_files") or "") for one in (base, report)} - {""}
    return (base.model_id, base.samples_sha256) == (report.model_id, report.samples_sha256) and len(files) < 2


def _added_sentence(change: Difference) -> str:
    told = "These samples can't tell whether it adds anything to its base"
    if change.verdict == "higher":
        told = "It is better than its base all the same"
    elif change.verdict == "lower":
        told = "It is worse than its base"
    elif change.high is not None and change.high < WORTH_HAVING:
        told = "It adds nothing worth having to its base"
    interval = "" if change.low is None else f" ({interval_text('accuracy_50', change)} points)"
    return f"{told}: Acc@0.5 {change.a:.1%} → {change.b:.1%}{interval}."


def most_telling(reports: Sequence[KeptReport]) -> KeptReport:
    """Of a model's evaluations, newest first and at least one: the one of most samples among those of its present state
    that no filter narrowed, of equals the newest. Where all were narrowed, the largest of those.

    The present state is that of the newest: the same content of the adapter and of the model's files, as far as an
    evaluation says.
    """
    now = _state(reports[0])
    present = [report for report in reports if not (_state(report) and now) or _state(report) == now]
    whole = [report for report in present if not is_narrowed(report.split)]
    return max(whole or present, key=lambda report: report.scores.count)


def _state(report: KeptReport) -> tuple[str, str] | None:
    """What tells one state of a model from another; None of an evaluation that doesn't say."""
    conditions = report.settings.get("conditions", {})
    found = str(report.settings.get("adapter_sha256") or ""), str(conditions.get("model_files") or "")
    return found if any(found) else None
