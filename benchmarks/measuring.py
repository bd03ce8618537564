"""What every benchmark needs: who measured, medians of interleaved runs, a result that says both."""

from __future__ import annotations

import json
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"


def machine() -> dict[str, Any]:
    """The machine, as far as speed goes."""
    facts: dict[str, Any] = {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        facts["threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            facts["gpu"] = torch.cuda.get_device_name(0)
    return facts


def versions(*packages: str) -> dict[str, str]:
    """The versions that were measured."""
    return {name: version(name) for name in packages}


def interleaved(ways: Mapping[str, Callable[[], object]], *, rounds: int, warm_ups: int = 1) -> dict[str, list[float]]:
    """Seconds of each way, one run of each a round: a machine that slows down slows them all."""
    for _ in range(warm_ups):
        for run in ways.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, run in ways.items():
            begin = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begin)
        print(f"  round {number + 1} of {rounds}", file=sys.stderr)
    return seconds


def times_as_fast(seconds: Mapping[str, list[float]], ours: str, theirs: str) -> float:
    """How many times as fast `ours` is: the median over the rounds of each round's own ratio."""
    return statistics.median(b / a for a, b in zip(seconds[ours], seconds[theirs], strict=True))


def medians(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """The median seconds of each way."""
    return {name: round(statistics.median(values), 4) for name, values in seconds.items()}


def exit_status(seconds: Mapping[str, float], limits: Mapping[str, float]) -> int:
    """1 where something takes as long as its promised limit or longer, said in a sentence each on stderr; else 0.

    Both in seconds. A limit holds for every name in `seconds` that begins with its own; one that holds for none is a
    `ValueError`, as nothing would be promised any more.
    """
    status = 0
    for beginning, limit in limits.items():
        concerned = {name: value for name, value in seconds.items() if name.startswith(beginning)}
        if not concerned:
            raise ValueError(f"{beginning!r} limits nothing: expected a name that begins so among {list(seconds)}")
        for name, value in concerned.items():
            if value >= limit:
                print(f"Too slow: {name!r} took {value:g} s, and less than {limit:g} s is promised.", file=sys.stderr)
                status = 1
    return status


def write_figures(script: str, markdown: str, document: Path = README, *, part: str = "") -> None:
    """Put a script's figures into the README, or another document, between its marks; those of a `part` by its name."""
    text = document.read_text(encoding="utf-8")
    mark = f"benchmarks/{script}.py {part}".rstrip()
    marks = re.compile(rf"(<!-- figures: {re.escape(mark)} -->\n).*?(<!-- /figures -->)", re.DOTALL)
    document.write_text(marks.sub(lambda match: match[1] + markdown + match[2], text), encoding="utf-8")


def write_result(name: str, result: Mapping[str, Any], packages: tuple[str, ...]) -> Path:
    """Keep the result with the time, the machine and the versions."""
    path = RESULTS / f"{name}.json"
    RESULTS.mkdir(parents=True, exist_ok=True)
    whole = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(*packages),
        **result,
    }
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path}", file=sys.stderr)
    return path
