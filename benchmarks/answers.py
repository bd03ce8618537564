"""What the ways of answering are worth, and how far the confidences can be trusted: the embedded model, unseen scenes.

Free text, forced skeleton, expected coordinates and five merged samples on the same phrases of known nouns; then the
calibration, fitted on other scenes than those it is measured on.

    python benchmarks/answers.py          # about ten minutes on two cores
    python benchmarks/answers.py --write  # and keep the calibration beside the embedded model
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from grounding.calibration import Calibration  # noqa: E402
from grounding.decoding.settings import Decoding  # noqa: E402
from grounding.demo.dataset import DemoSize, write_demo  # noqa: E402
from grounding.demo.sprites import known_nouns  # noqa: E402
from grounding.evaluation import Report, evaluate  # noqa: E402
from grounding.models import DEMO_MODEL_FOLDER, load_model  # noqa: E402
from grounding.paired import compare_rows  # noqa: E402
from grounding.predict import Predictor  # noqa: E402
from grounding.profiles import PROFILE_FILE  # noqa: E402
from grounding.records import Sample, read_samples  # noqa: E402
from measuring import write_figures, write_result  # noqa: E402

WAYS = {
    "free": Decoding(mode="free"),
    "forced": Decoding(),
    "expected": Decoding(coordinates="expected"),
    "five votes": Decoding(samples=5),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=800, help="scenes for each of fitting and measuring")
    parser.add_argument("--write", action="store_true", help=f"put the calibration into {PROFILE_FILE}")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        fit, measured = (known_samples(Path(folder) / str(seed), seed, options.pictures) for seed in (7, 8))
        predictor = Predictor(replace(load_model("demo"), calibration=None), Path(folder))
        reports = {name: answered(predictor, way, measured, name) for name, way in WAYS.items()}
        calibration = predictor.calibrate(fit)
        calibration = replace(calibration, measured_on=f"{calibration.samples} boxes for known nouns on drawn scenes")
        calibrated = answered(predictor, Decoding(), measured, "calibrated")
    result = {
        "samples": len(measured),
        "ways": {name: figures(report) for name, report in reports.items()},
        "against_free": {name: paired(reports["free"], reports[name]) for name in WAYS if name != "free"},
        "calibration_error": {
            "plain": reports["forced"].scores.box_calibration_error,
            "calibrated": calibrated.scores.box_calibration_error,
        },
        "fitted_on": calibration.samples,
    }
    print(json.dumps(result, indent=1))
    write_result("answers", result, ("torch", "transformers"))
    write_figures("answers", figures_markdown(result))
    if options.write:
        keep(calibration)
    return 0


def figures_markdown(result: dict[str, Any]) -> str:
    """The README's table, from the result alone."""
    lines = ["| way of answering | mean IoU | Acc@0.5 | Acc@0.9 |\n|---|---|---|---|\n"]
    for name, way in result["ways"].items():
        lines.append(f"| {name} | {way['mean_iou']:.3f} | {way['accuracy_50']:.1%} | {way['accuracy_90']:.1%} |\n")
    error = result["calibration_error"]
    return (
        "".join(lines)
        + f"\n{result['samples']} phrases of known nouns on unseen scenes. Calibration error of the confidence: "
        f"{error['plain']:.3f} before, {error['calibrated']:.3f} after.\n"
    )


def known_samples(folder: Path, seed: int, pictures: int) -> list[Sample]:
    """Phrases with one target of a noun that the embedded model knows."""
    write_demo(folder, seed=seed, size=DemoSize(0, 0, pictures))
    samples = read_samples(folder / "test.jsonl")
    return [s for s in samples if s.category in known_nouns() and len(s.boxes_xyxy_px) == 1]


def answered(predictor: Predictor, way: Decoding, samples: Sequence[Sample], name: str) -> Report:
    """The samples answered in this way."""
    print(name, file=sys.stderr)
    predictor.decoding = way
    return evaluate(samples, predictor)


def figures(report: Report) -> dict[str, Any]:
    """The figures of one way."""
    scores = report.scores
    accuracy = {f"accuracy_{round(100 * t)}": round(share, 4) for t, share in scores.accuracy.items()}
    return {"detection_rate": round(scores.detection_rate, 4), "mean_iou": round(scores.mean_iou, 4), **accuracy}


def paired(first: Report, second: Report) -> dict[str, Any]:
    """The difference in mean IoU with its interval."""
    difference = compare_rows(first.rows, second.rows).mean_iou
    return {"mean_iou_difference": difference.difference, "low": difference.low, "high": difference.high}


def keep(calibration: Calibration) -> None:
    """Put it beside the embedded model."""
    path = DEMO_MODEL_FOLDER / PROFILE_FILE
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["calibration"] = {settings["profile"]: calibration.to_json()}
    path.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
