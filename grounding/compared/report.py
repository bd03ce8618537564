"""A comparison to work with in a notebook: figures, samples and exports, shown richly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from grounding.compared.chance import Chance, chance_level
from grounding.compared.columns import DIMENSIONS
from grounding.compared.comparison import Comparison, SampleRecord
from grounding.compared.conditions import conditions_notes
from grounding.compared.curves import Calibration, Curve, accuracy_curves, calibrations
from grounding.compared.figures import Bucket, Headline, breakdown, headline, iou_counts
from grounding.compared.filters import Filter, order_rows
from grounding.compared.suspects import Suspect, suspects
from grounding.compared.wording import comparison_title
from grounding.errors import RecordError
from grounding.measures import Flags
from grounding.paired import RESAMPLES

if TYPE_CHECKING:
    from grounding.compared.exports import Exported

SHOWN_SAMPLES = 6


@dataclass(frozen=True, eq=False)
class Report:
    """A comparison, or those of its samples that pass `filter`.

    Figures leave out the samples that an adapter saw in training, unless `with_seen`, or a filter that asks for seen
    ones. In a notebook it shows itself: figures with intervals, the curve, the worst samples with their boxes.
    """

    comparison: Comparison
    filter: Filter = field(default_factory=Filter)
    with_seen: bool = False
    resamples: int = RESAMPLES
    seed: int = 0

    @cached_property
    def listed(self) -> Flags:
        """[samples]: which ones pass the filter."""
        return self.filter.mask(self.comparison)

    @cached_property
    def counted(self) -> Flags:
        """[samples]: which of them the figures are over."""
        leave_out = not self.with_seen and not self.filter.seen
        return self.listed & self.comparison.counted if leave_out else self.listed

    @property
    def is_contaminated(self) -> bool:
        """Whether the figures are over samples, too, that an adapter saw in training."""
        return bool((self.counted & self.comparison.seen).any())

    @property
    def notes(self) -> tuple[str, ...]:
        """What one has to know beside the figures."""
        return (
            *conditions_notes(self.comparison),
            *self.comparison.notes,
            *([self._on_seen] if self.comparison.seen.any() else []),
        )

    @property
    def _on_seen(self) -> str:
        """Whether the figures are over seen samples; there are some."""
        if self.filter.seen in ("seen", "sample_seen", "picture_seen"):
            return (
                "The figures are over seen samples alone, as was asked: they say what was remembered, not how a model "
                "does on new ones."
            )
        if self.is_contaminated:
            return "The figures are over the seen samples too, as was asked: they don't say which model is better."
        if self.with_seen:
            return "No seen sample passes the filter."
        count = int(self.comparison.seen.sum())
        return f"The {count:,} seen sample{' is' if count == 1 else 's are'} left out of the figures of all."

    @cached_property
    def headline(self) -> Headline:
        left_out = int((self.listed & ~self.counted).sum())
        found = headline(self.comparison, self.counted, resamples=self.resamples, seed=self.seed)
        return replace(found, left_out=left_out)

    @cached_property
    def chances(self) -> tuple[Chance | None, ...]:
        """What each side scores by chance, with intervals; see `chance.chance_level`."""
        asked = {"resamples": self.resamples, "seed": self.seed}
        return tuple(chance_level(self.comparison, side, self.counted, **asked) for side in self.comparison.sides)

    def breakdown(self, dimension: str, figures: Sequence[str] = ("accuracy_50", "mean_iou")) -> tuple[Bucket, ...]:
        """See `figures.breakdown`. Raises `RecordError` for a dimension that there isn't."""
        asked = {"figures": (*figures, "no_target_accuracy"), "resamples": self.resamples, "seed": self.seed}
        return breakdown(self.comparison, dimension, self.counted, **asked)  # type: ignore[arg-type]

    def breakdowns(self) -> Mapping[str, tuple[Bucket, ...]]:
        """Every dimension's."""
        return {dimension: self.breakdown(dimension) for dimension in DIMENSIONS}

    def iou_counts(self) -> Mapping[str, tuple[int, ...]]:
        return iou_counts(self.comparison, self.counted)

    def curves(self) -> tuple[Curve, ...]:
        return accuracy_curves(self.comparison, self.counted)

    def calibrations(self) -> tuple[Calibration, ...]:
        return calibrations(self.comparison, self.counted)

    def samples(self, order: str = "worst", most: int = 10) -> list[SampleRecord]:
        """The first samples that pass the filter, in an order of `filters.ORDERS`."""
        return [self.comparison.record(int(row)) for row in order_rows(self.comparison, self.listed, order)[:most]]

    def suspects(self, most: int | None = 20) -> tuple[Suspect, ...]:
        """The samples whose label may be wrong; none where one model stands alone."""
        if self.comparison.b is None:
            return ()
        return suspects(self.comparison, self.listed, most=most)

    def only(self, /, **asked: str) -> Report:
        """The same of fewer samples, such as `only(outcome="loss", spatial="spatial")`; see `Filter`. What was asked
        before still holds. Raises `RecordError` for what can't be asked."""
        known = {spec.name for spec in fields(Filter)}
        if unknown := asked.keys() - known:
            raise RecordError(f"There is no filter {min(unknown)!r}: expected some of {', '.join(sorted(known))}.")
        return replace(self, filter=replace(self.filter, **asked))

    def export(self, folder: str | Path, format: str = "markdown") -> Exported:
        """Write it into a new folder as one of `exports.FORMATS`. Raises `WorkspaceError` when that can't be."""
        from grounding.compared.exports import export

        return export(self, Path(folder), format)

    def __repr__(self) -> str:
        found = self.headline
        accuracy = " to ".join(f"{scores.accuracy[0.5]:.1%}" for scores in found.scores[:2])
        title = comparison_title(self.comparison)
        return f"<Report of {title}: {found.count:,} samples with a target, Acc@0.5 {accuracy}>"

    def _repr_html_(self) -> str:
        from grounding.compared.notebook import report_html

        return report_html(self)
