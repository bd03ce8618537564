"""Which kept evaluations are of an adapter, whatever it was called when they were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from grounding.adapters.info import AdapterInfo
from grounding.adapters.labels import read_label
from grounding.journal import adapter_digest
from grounding.metrics import Scores
from grounding.reports import KeptReport, ReportStore, asked_plainly, weights_of
from grounding.workspace import Workspace

FIGURES = ("accuracy_50", "accuracy_75", "mean_iou", "detection_rate")
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Standing:
    """How an adapter does: `scores` and the base's on the same samples (None: not known), and where they are from.

    `source` is "evaluation" for a kept one (then `report`, and `base_report` where the base was asked the same), else
    "training", the last scoring of the run on `split`. Of an evaluation, `left_out` samples were seen in training and
    are not among the `count` with a target; `seen_words` says so (`KeptReport.seen_words`).
    """

    source: str
    split: str
    count: int
    scores: dict[str, float]
    base_scores: dict[str, float] | None
    report: KeptReport | None = None
    base_report: KeptReport | None = None
    left_out: int = 0
    seen_words: str = ""

    @property
    def quantize(self) -> str:
        """What the base's weights were in the evaluation: "none", "4bit" or "8bit"."""
        return weights_of(self.report) if self.report is not None else "none"


def evaluations_of(info: AdapterInfo, reports: Sequence[KeptReport], quantize: str = "none") -> list[KeptReport]:
    """Those of the reports (newest first) that are of this adapter, asked in the default way on weights that were
    quantised so, in their order.

    A report counts when it was made on the adapter's base after the adapter was trained, names it as it was called
    at that time, or by its folder, and was made of the same files, where it says so: while an adapter lay in the bin,
    another may have had its name.
    """
    spans = _spans(info)
    return [
        report
        for report in reports
        if report.model_id == info.base and asked_plainly(report, quantize) and _is_of(report, info, spans)
    ]


def adapter_of(report: KeptReport, infos: Sequence[AdapterInfo]) -> AdapterInfo | None:
    """The adapter that a kept evaluation is of, however it was asked; None where none of these is it."""
    fitting = (info for info in infos if info.base == report.model_id and _is_of(report, info, _spans(info)))
    return next(fitting, None)


def standing(workspace: Workspace, info: AdapterInfo, quantize: str = "none") -> Standing | None:
    """The adapter's figures: of its newest kept evaluation on weights that were quantised so, preferably one that the
    base has on the same samples; else of the end of its training; None where it was never scored on one with a target.

    What the adapter saw in training counts for neither."""
    from grounding.counted import counted_pair, counted_report

    store = ReportStore(workspace.evaluations)
    reports = store.list()
    own = evaluations_of(info, reports, quantize)
    base = {r.samples_sha256: r for r in reversed(reports) if r.model_id == info.base and is_base(r, quantize)}
    in_order = sorted(own, key=lambda r: r.samples_sha256 not in base)  # stable: the newest first
    counted = (counted_report(r, workspace) for r in in_order)
    report = next((r for r in counted if r.scores.count), None)
    if report is not None:
        other = base.get(report.samples_sha256)
        scores_of_base = counted_pair(other, report, workspace)[0] if other else None
        return Standing(
            "evaluation",
            report.split,
            report.scores.count,
            figures(report.scores),
            figures(scores_of_base) if scores_of_base else None,
            report,
            other,
            report.seen.left_out if report.seen else 0,
            report.seen_words,
        )
    if not info.scores or info.scores.get("count") == 0:
        return None
    numbers, before = _plain(info.scores), _plain(info.base_scores)
    return Standing("training", "val", int(info.scores.get("count", 0)), numbers, before or None)


def standing_as_trained(workspace: Workspace, info: AdapterInfo, *, merged: bool = False) -> Standing | None:
    """`standing` on weights quantised as those that it was trained on, else on full-precision ones where it was
    evaluated there alone; of a model that it was `merged` into, the other way round."""
    both = [standing(workspace, info, quantize) for quantize in dict.fromkeys((info.quantize, "none"))]
    if merged:
        both.reverse()
    return next((found for found in both if found is not None and found.report is not None), both[0])


def is_base(report: KeptReport, quantize: str = "none") -> bool:
    """Whether the report is of a base, asked in the default way on weights that were quantised so."""
    return report.adapter is None and asked_plainly(report, quantize)


def figures(scores: Scores) -> dict[str, float]:
    """The figures that adapters are told apart by, 0.0 to 1.0, under the names of `AdapterInfo.scores`."""
    return {
        "mean_iou": scores.mean_iou,
        "accuracy_50": scores.accuracy[0.5],
        "accuracy_75": scores.accuracy[0.75],
        "detection_rate": scores.detection_rate,
    }


def _plain(scores: Mapping[str, Any]) -> dict[str, float]:
    """The figures of `figures` that a run wrote down."""
    return {key: float(scores[key]) for key in FIGURES if isinstance(scores.get(key), int | float)}


def _spans(info: AdapterInfo) -> list[tuple[str, datetime, datetime]]:
    """(name, from, until) of every name that the adapter had, its present one last."""
    spans, since = [], moment(info.created_at)
    for name, until in read_label(info.path).names:
        spans.append((name, since, moment(until)))
        since = moment(until)
    return [*spans, (info.name, since, _LAST)]


def _is_of(report: KeptReport, info: AdapterInfo, spans: Sequence[tuple[str, datetime, datetime]]) -> bool:
    if report.adapter is None or not _is_named_so(report, report.adapter, info, spans):
        return False
    answered = report.settings.get("adapter_sha256")
    return not answered or answered == adapter_digest(info.path)


def _is_named_so(
    report: KeptReport, adapter: str, info: AdapterInfo, spans: Sequence[tuple[str, datetime, datetime]]
) -> bool:
    made = moment(report.created_at)
    if "/" in adapter or "\\" in adapter:
        return Path(adapter).expanduser().resolve() == info.path.resolve() and made >= moment(info.created_at)
    # Times of reports and of adapters have whole seconds.
    return any(name == adapter and since.replace(microsecond=0) <= made <= until for name, since, until in spans)


def moment(iso: str) -> datetime:
    """The time in UTC; the beginning of time where the text is none."""
    try:
        time = datetime.fromisoformat(iso)
    except ValueError:
        return _FIRST
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
