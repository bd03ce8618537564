"""A comparison as Markdown with plots beside it, to be pasted wherever people talk about it."""

from __future__ import annotations

from collections.abc import Sequence

from grounding.compared.figures import Bucket, figure_of
from grounding.compared.report import Report
from grounding.compared.wording import (
    DASH,
    DIMENSION_TITLES,
    chance_sentences,
    comparison_title,
    difference_text,
    figure_text,
    filter_sentence,
    headline_rows,
    interval_text,
    outcome_sentence,
    over_sentence,
    side_title,
)
from grounding.markdown import MOST_CATEGORIES, WORST, escape, table

MOST_SUSPECTS = 20


def report_markdown(report: Report, plots: Sequence[str]) -> str:
    """Figures with intervals, plots (files beside it), breakdowns, the worst samples and labels that may be wrong."""
    found = report.headline
    said = [filter_sentence(report.filter), over_sentence(found), outcome_sentence(found)]
    said += [*chance_sentences(report.comparison.sides, report.chances), *report.notes]
    parts = [f"# {escape(comparison_title(report.comparison))}"]
    parts += [escape(sentence) for sentence in said if sentence]
    parts += [_headline(report), *(f"![{escape(name.removesuffix('.svg'))}]({name})" for name in plots)]
    for dimension, buckets in report.breakdowns().items():
        parts.append(_breakdown(report, DIMENSION_TITLES[dimension], buckets))
    parts += [_worst(report), _suspects(report)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _headline(report: Report) -> str:
    sides = [escape(side_title(side)) for side in report.comparison.sides]
    two = report.comparison.b is not None
    header = ["Measure", *sides, *(["b − a"] if two else []), "95% interval"]
    lines = [
        [escape(title), *values, *([told] if two else []), interval]
        for title, values, told, interval in headline_rows(report.headline)
    ]
    return table(header, lines)


def _breakdown(report: Report, title: str, buckets: Sequence[Bucket]) -> str:
    letters = [side.letter for side in report.comparison.sides]
    two = len(letters) > 1
    header = [title, "With a target", *(f"Acc@0.5, {letter}" for letter in letters)]
    header += ["b − a", "95% interval"] if two else []
    header += [*(f"Mean IoU, {letter}" for letter in letters), *(f"No-target, {letter}" for letter in letters)]
    lines = []
    for bucket in buckets[:MOST_CATEGORIES]:
        difference = bucket.differences.get("accuracy_50")
        told = [difference_text("accuracy_50", difference), interval_text("accuracy_50", difference)] if two else []
        lines.append(
            [
                escape(bucket.name),
                f"{bucket.count:,}",
                *_cells(bucket, "accuracy_50"),
                *told,
                *_cells(bucket, "mean_iou"),
                *_cells(bucket, "no_target_accuracy"),
            ]
        )
    more = len(buckets) - MOST_CATEGORIES
    return table(header, lines) + (f"\n\n{more:,} more stand in the other exports." if more > 0 else "")


def _cells(bucket: Bucket, name: str) -> list[str]:
    return [figure_text(name, figure_of(scores, name)) for scores in bucket.scores]


def _worst(report: Report) -> str:
    records = report.samples("worst", WORST)
    if not records:
        return ""
    header = ["Sample", "Phrase", *(f"IoU, {side.letter}" for side in report.comparison.sides)]
    lines = [[escape(r.id), escape(r.phrase), *(f"{answer.iou:.3f}" for answer in r.answers)] for r in records]
    if any(record.seen for record in records):
        header.append("Seen in training by")
        lines = [[*line, escape(", ".join(r.seen))] for line, r in zip(lines, records, strict=True)]
    return f"## The worst {len(records)} samples\n\n" + table(header, lines, words=2)


def _suspects(report: Report) -> str:
    found = report.suspects(MOST_SUSPECTS)
    if not found:
        return ""
    lines = [
        [
            escape(suspect.record.id),
            escape(suspect.record.phrase),
            escape(suspect.sentence),
            f"{suspect.score:.2f}" if suspect.score else DASH,
        ]
        for suspect in found
    ]
    return "## Labels that may be wrong\n\n" + table(["Sample", "Phrase", "Why", "Score"], lines, words=3)
