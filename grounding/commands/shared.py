"""What the commands share: their common options, the model they ask for, and a line of progress."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from grounding.decoding.settings import MOST_SAMPLES
from grounding.progress import Rarely
from grounding.workspace import Workspace

if TYPE_CHECKING:
    from grounding.predict import Predictor

Commands = argparse._SubParsersAction  # argparse has no public name for what `add_subparsers` returns


def common() -> argparse.ArgumentParser:
    """The options of every command."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--workspace", metavar="DIR", help="default: $BOXWRIGHT_WORKSPACE, else data/workspace")
    options.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    return options


def again() -> argparse.ArgumentParser:
    """The common options once more after the action: not given there, they stay as they were given before it."""
    options = common()
    for option in options._actions:
        option.default = argparse.SUPPRESS
    return options


def model() -> argparse.ArgumentParser:
    """Which model is loaded, and how."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--model", default="demo", help='"demo", a local folder or a Hub id (default: demo)')
    options.add_argument("--quantize", default="none", choices=("none", "4bit", "8bit"))
    return options


def profile() -> argparse.ArgumentParser:
    """How it is asked."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--profile", help="another prompt and box format than the model's default, by name")
    return options


def answers() -> argparse.ArgumentParser:
    """Who answers in which way; `load` reads these."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--adapter", help="an adapter's name in the workspace, or its folder")
    way = options.add_mutually_exclusive_group()
    way.add_argument("--free", action="store_true", help="let the model write freely: no fixed characters fed")
    way.add_argument("--expected", action="store_true", help="expected coordinates instead of the likeliest digits")
    options.add_argument("--votes", type=_votes, default=1, metavar="N", help="draw N answers and merge them")
    options.add_argument("--rerank", metavar="CLIP", help="with --votes: this CLIP or SigLIP model chooses")
    return options


def count(text: str) -> int:
    """A whole number from 1, for argparse."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _votes(text: str) -> int:
    """As many answers as can be drawn, for argparse."""
    if count(text) > MOST_SAMPLES:
        raise ValueError(text)
    return int(text)


# What argparse says was expected.
count.__name__ = "count (a whole number from 1)"
_votes.__name__ = f"count (a whole number from 1 to {MOST_SAMPLES})"


def load(options: argparse.Namespace, workspace: Workspace) -> Predictor:
    """The model that the options ask for, answering in the way they ask for."""
    import grounding
    from grounding.choose import ClipScorer

    decoding = grounding.Decoding(
        mode="free" if options.free else "forced",
        coordinates="expected" if options.expected else "likeliest",
        samples=options.votes,
        choose="rerank" if options.rerank else "vote",
    )
    scorer = ClipScorer(options.rerank) if options.rerank else None
    predictor = grounding.load(
        options.model,
        quantize=options.quantize,
        workspace=workspace,
        profile=options.profile,
        decoding=decoding,
        scorer=scorer,
    )
    if options.quantize != "none" or predictor.device != "cpu":  # what was chosen is then worth a line each
        for note in predictor.load_notes:
            print(note, file=sys.stderr)
    return predictor


@contextmanager
def progress() -> Iterator[Callable[[int, int], None]]:
    """Shows done and total on one line, which ends with the block however that ends. Where standard error is no
    terminal, that is every few seconds."""
    shown = False

    def show(done: int, total: int) -> None:
        nonlocal shown
        shown = True
        print(f"\r{done} of {total}", end="", file=sys.stderr, flush=True)

    told = Rarely(show)
    try:
        yield told
    finally:
        told.catch_up()
        if shown:
            print(file=sys.stderr)
