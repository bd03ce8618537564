"""Ask, score, compare and train models that ground phrases in pictures.

`python -m grounding COMMAND`; each command is a module of `grounding.commands`.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from grounding.commands import adapters, calibrate, compare, demo, evaluate, predict, runs, sweeps, train
from grounding.errors import BoxwrightError
from grounding.progress import output_lost
from grounding.workspace import find_workspace


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns 0, or 1 when the work failed. Wrong usage exits with 2."""
    try:
        options = _parser().parse_args(arguments)
        if getattr(options, "rerank", None) and options.votes == 1:
            options.refuse("argument --rerank: there is nothing to choose from without --votes N, above 1")
        status = int(options.run(options, find_workspace(options.workspace)))
        sys.stdout.flush()
        return status
    except BoxwrightError as error:
        print(f"boxwright: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("boxwright: stopped.", file=sys.stderr)
    except OSError as error:
        if error.filename is not None:  # then it is no write to an open file, such as standard output
            raise
        print(f"boxwright: {output_lost(error)}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m grounding", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (predict, evaluate, compare, calibrate, train, runs, sweeps, adapters, demo):
        command.add(commands)
    return parser


class _Interrupt(KeyboardInterrupt):
    """Ctrl-C. Where a plain KeyboardInterrupt passes through an `exec` of text, as imports have them, Python 3.11 ends
    the process by the signal in the end, although it was caught."""


def _interrupt(*unused: object) -> None:
    raise _Interrupt


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it may be ignored, as behind nohup
        signal.signal(signal.SIGINT, _interrupt)
    sys.exit(main())
