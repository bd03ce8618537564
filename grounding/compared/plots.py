"""The curves of a comparison as SVG documents."""

from __future__ import annotations

from collections.abc import Sequence

from grounding.charts import Axis, Line, chart_svg
from grounding.compared.comparison import LETTERS
from grounding.compared.curves import Calibration, Curve

_FIRST = ("#d9790b", "#6f63f2", "#17a2b8", "#12a150", "#c2379b")
_MORE = ("#8a6d3b", "#4d5566", "#b02a2a", "#2a6fb0", "#7a8f00")
COLOURS = dict(zip(LETTERS, _FIRST + _MORE, strict=True))
"""The colour of each side."""
_SHARE = Axis(0.0, 1.0, "{:.0%}")


def accuracy_svg(curves: Sequence[Curve]) -> str:
    """Accuracy over the IoU threshold, a line a side."""
    lines = [
        Line(f"{curve.letter}: {curve.name}", curve.letter, list(zip(curve.thresholds, curve.accuracy, strict=True)))
        for curve in curves
    ]
    return chart_svg("Accuracy over the IoU threshold", lines, Axis(0.0, 1.0), _SHARE, COLOURS, "IoU of at least")


def calibration_svg(calibrations: Sequence[Calibration]) -> str:
    """The share that is right over confidence, a line a side; dashed: what an honest confidence would give. Each
    point's title says how many answers it stands for."""
    lines = [Line("honest", "honest-dashed", [(0.0, 0.0), (1.0, 1.0)])]
    for one in calibrations:
        known = [
            (b.mean_confidence, b.share_right, f"of {b.count:,} answer{'s' * (b.count != 1)}")
            for b in one.bins
            if b.mean_confidence is not None and b.share_right is not None
        ]
        points, told = [(x, y) for x, y, _ in known], [of for _, _, of in known]
        lines.append(Line(f"{one.letter}: {one.name}", one.letter, points, dots=True, notes=told))
    colours = {**COLOURS, "honest-dashed": "#7a8394"}
    return chart_svg("Confidence against what is right", lines, Axis(0.0, 1.0), _SHARE, colours, "confidence")
