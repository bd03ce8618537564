"""`predict`: the box for a phrase."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from grounding.commands.shared import Commands, answers, common, load, model, profile
from grounding.records import check_phrase
from grounding.workspace import Workspace


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser(
        "predict", parents=[common(), model(), profile(), answers()], help="the box for a phrase"
    )
    command.add_argument("image", type=Path)
    command.add_argument("phrase")
    command.add_argument("--out", type=Path, metavar="BOXED.png", help="write the picture with its boxes drawn")
    command.set_defaults(run=run, refuse=command.error)


def run(options: argparse.Namespace, workspace: Workspace) -> int:
    from grounding.overlay import Layer, draw_boxes
    from grounding.pictures import open_picture

    picture, phrase = open_picture(options.image), check_phrase(options.phrase)
    predictor = load(options, workspace)
    prediction = predictor.predict(picture, phrase, options.adapter)
    if options.out is not None:
        layer = Layer(phrase, "base" if options.adapter is None else "adapter", prediction.boxes_xyxy_px)
        _write_picture(draw_boxes(picture, [layer]), options.out)
    if options.json:
        print(json.dumps(prediction.to_json()))
        return 0
    for box in prediction.boxes:
        print(" ".join(f"{value:.1f}" for value in box))
    if not prediction.boxes:
        print(f"{prediction.status}: {prediction.raw_text}")
    return 0


def _write_picture(picture: Any, path: Path) -> None:
    from grounding.errors import PictureError

    try:
        picture.save(path)
    except (OSError, ValueError) as error:
        misplaced = isinstance(error, ValueError | FileNotFoundError | NotADirectoryError | IsADirectoryError)
        way_out = "Give a .png path in a folder that exists." if misplaced else "Free space or rights there."
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise PictureError(f"The picture can't be written to {path} ({reason}). {way_out}") from error
