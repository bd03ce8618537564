"""Ask, score, compare and train models that ground phrases in pictures.

`python -m grounding COMMAND`; each command is a module of `grounding.commands`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from grounding.commands import adapters, calibrate, compare, demo, evaluate, predict, runs, sweeps, train
from grounding.errors import BoxwrightError
from grounding.progress import catch_interrupts, output_lost
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


if __name__ == "__main__":
    catch_interrupts()
    sys.exit(main())
