"""A report as Markdown, to be pasted wherever people talk about it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from grounding.buckets import Buckets
from grounding.metrics import ScoredSample, Scores

WORST = 10
MOST_CATEGORIES = 30
_TITLES = {"phrase_words": "Words", "spatial": "Says where", "box_size": "Box", "category": "Category"}
# What Markdown gives a meaning to inside a line or a table's cell; a backslash takes it away (CommonMark 2.4). The
# colon and the dot are there for bare addresses, the dollar for formulas.
_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+!|~$&@:.^])")


def report_markdown(
    title: str, scores: Scores, buckets: Buckets, rows: Sequence[ScoredSample], notes: Sequence[str] = ()
) -> str:
    """The figures, the figures by kind of sample and the worst samples, as GitHub-flavoured Markdown tables. `notes`
    are sentences on what the figures are over."""
    parts = [f"# Evaluation: {escape(title)}", *map(escape, notes), _headline(scores)]
    for dimension, inside in buckets.items():
        if dimension == "iou":
            parts.append(_ious({bucket: found.count for bucket, found in inside.items()}))
        else:
            parts.append(_by_bucket(_TITLES.get(dimension, dimension), inside.items()))
    parts.append(_worst(rows))
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: str) -> str:
    """The text on one line, to be read as it is: no part of it is markup, a link or a cell's end."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def _headline(scores: Scores) -> str:
    over_targets = [
        ("Detection rate", f"{scores.detection_rate:.1%}"),
        ("Mean IoU", f"{scores.mean_iou:.3f}"),
        ("Median IoU", f"{scores.median_iou:.3f}"),
        *((f"Acc@{threshold:g}", f"{share:.1%}") for threshold, share in scores.accuracy.items()),
    ]
    lines = [("Samples with a target", f"{scores.count:,}")]
    lines += over_targets if scores.count else [(name, "–") for name, _ in over_targets]
    if scores.no_target_accuracy is not None:
        lines.append(("No-target accuracy", f"{scores.no_target_accuracy:.1%} of {scores.no_target_count:,}"))
    if scores.multi_target_f1 is not None:
        lines.append(("F1, several targets", f"{scores.multi_target_f1:.3f} over {scores.multi_target_count:,}"))
    if scores.box_f1 is not None:
        lines.append(("F1, all boxes", f"{scores.box_f1:.3f}"))
    if scores.calibration_error is not None:
        lines.append(("Calibration error", f"{scores.calibration_error:.3f} over {scores.calibration_count:,}"))
    if scores.box_calibration_error is not None:
        found = f"{scores.box_calibration_error:.3f} over {scores.box_calibration_count:,}"
        lines.append(("Calibration error, boxes", found))
    lines += [(f"Answers: {escape(str(status))}", f"{count:,}") for status, count in scores.statuses.items()]
    return table(("Measure", "Value"), lines)


def _by_bucket(title: str, buckets: Iterable[tuple[str, Scores]]) -> str:
    filled = [(name, scores) for name, scores in buckets if scores.count or scores.no_target_count]
    lines = [
        (
            escape(name),
            f"{scores.count:,}",
            *(_figures(scores) if scores.count else ("–",) * 4),
            "–" if scores.no_target_accuracy is None else f"{scores.no_target_accuracy:.1%}",
        )
        for name, scores in filled[:MOST_CATEGORIES]
    ]
    header = (title, "With a target", "Detection rate", "Mean IoU", "Acc@0.5", "Acc@0.75", "No-target accuracy")
    more = len(filled) - MOST_CATEGORIES
    return table(header, lines) + (f"\n\n{more:,} more stand in report.json." if more > 0 else "")


def _figures(scores: Scores) -> tuple[str, ...]:
    shares = f"{scores.accuracy[0.5]:.1%}", f"{scores.accuracy[0.75]:.1%}"
    return (f"{scores.detection_rate:.1%}", f"{scores.mean_iou:.3f}", *shares)


def _ious(counts: dict[str, int]) -> str:
    total = sum(counts.values())
    if not total:
        return ""
    return table(("IoU", "Samples", "Share"), [(name, f"{n:,}", f"{n / total:.1%}") for name, n in counts.items()])


def _worst(rows: Sequence[ScoredSample]) -> str:
    """The lowest IoUs, of equal ones those that the model was surest of."""
    if not rows:
        return ""
    worst = sorted(rows, key=lambda row: (row.iou, -(row.prediction.confidence or 0.0)))[:WORST]
    lines = [
        (escape(row.sample.id), escape(row.sample.phrase), escape(str(row.prediction.status)), f"{row.iou:.3f}")
        for row in worst
    ]
    return f"## The worst {len(lines)} samples\n\n" + table(("Sample", "Phrase", "Status", "IoU"), lines, words=3)


def table(header: Sequence[str], lines: Iterable[Sequence[str]], words: int = 1) -> str:
    """A table whose first `words` columns are words; the others are numbers, set to the right. Cells are as given."""
    rule = ["---"] * words + ["---:"] * (len(header) - words)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *lines))
