"""`calibrate`: measure how far confidences can be trusted, and keep that."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from grounding.commands.shared import Commands, common, model, profile, progress
from grounding.records import read_samples
from grounding.workspace import Workspace


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser(
        "calibrate",
        parents=[common(), model(), profile()],
        help="measure how far confidences can be trusted, and keep that",
    )
    command.add_argument("samples", type=Path, metavar="SAMPLES.jsonl")
    command.set_defaults(run=run)


def run(options: argparse.Namespace, workspace: Workspace) -> int:
    import grounding
    from grounding.calibration import keep_calibration

    samples = list(read_samples(options.samples))
    workspace.check_writable()
    predictor = grounding.load(options.model, quantize=options.quantize, workspace=workspace, profile=options.profile)
    with progress() as show:
        calibration = predictor.calibrate(samples, progress=show)
    quantize = predictor.loaded.quantize
    keep_calibration(workspace.calibrations, predictor.model_id, predictor.profile.name, calibration, quantize)
    if options.json:
        print(json.dumps(calibration.to_json()))
    else:
        print(f"calibrated on {calibration.measured_on}; kept in {workspace.calibrations}")
    return 0
