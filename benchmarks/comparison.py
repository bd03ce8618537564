"""How long it takes to open two kept evaluations of 10,000 samples, to filter them and to compute their figures.

The evaluations are made up: phrases, boxes and answers at random, four samples a picture. Each is written as
`evaluate` writes it, then opened from the disk every time. The promise is 1 s for opening, 0.2 s for a filter. Of the
page it is the handlers' time, over a real store of the same samples: until figures and cards stand there, and until the
intervals of figures and breakdowns have followed: the former is promised, the latter is not. Exit status 1 when a
promise is not kept; the result is written all the same.

    python benchmarks/comparison.py            # about two minutes
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import psutil  # noqa: E402
from PIL import Image  # noqa: E402

from annotate.store import Store  # noqa: E402
from grounding.boxes import Box  # noqa: E402
from grounding.compared.columns import DIMENSIONS  # noqa: E402
from grounding.compared.comparison import open_comparison  # noqa: E402
from grounding.compared.curves import accuracy_curves, calibrations  # noqa: E402
from grounding.compared.figures import breakdown, headline  # noqa: E402
from grounding.compared.filters import ORDERS, Filter, order_rows  # noqa: E402
from grounding.compared.suspects import suspects  # noqa: E402
from grounding.evaluation import Report  # noqa: E402
from grounding.metrics import score, summarise  # noqa: E402
from grounding.records import Prediction, Sample, Status  # noqa: E402
from grounding.reports import ReportStore  # noqa: E402
from grounding.ui.sources import Parts  # noqa: E402
from grounding.ui.whole import Handlers  # noqa: E402
from grounding.ui.whole_look import Looking  # noqa: E402
from grounding.workspace import Workspace  # noqa: E402
from measuring import exit_status, interleaved, medians, write_result  # noqa: E402

SAMPLES_A_PICTURE = 4
PROMISED_SAMPLES = 10_000
WANTED_SECONDS = {
    "open": 1.0,
    "filter": 0.2,
    "page: open, until figures and cards stand": 1.0,
    "page: filter": 0.2,
}
"""What is promised of each way whose name begins so, with at most `PROMISED_SAMPLES`."""
WORDS = ("left", "right", "red", "small", "mug", "drum", "tent", "dog", "near", "the", "of", "on", "big", "top")
CATEGORIES = tuple(f"category {number}" for number in range(80))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=PROMISED_SAMPLES)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(Path(folder), options.samples, options.rounds)
    for name, median in seconds.items():
        print(f"{1000 * median:8.1f} ms  {name}")
    result = {
        "samples": options.samples,
        "pictures": options.samples // SAMPLES_A_PICTURE,
        "busy_processors": psutil.getloadavg()[0],
        "wanted_seconds": WANTED_SECONDS,
        "median_seconds": seconds,
    }
    write_result("comparison", result, ("numpy", "pyarrow"))
    return exit_status(seconds, WANTED_SECONDS) if options.samples <= PROMISED_SAMPLES else 0


def measure(folder: Path, count: int, rounds: int) -> dict[str, float]:
    """The median seconds of each way."""
    workspace = Workspace(folder / "workspace")
    store = Store(workspace.annotations_db, workspace.pictures)
    store.import_samples(make_samples(count, folder), source="made up", who="benchmark", link=True)
    samples = list(store.iterate(None))
    folders = [
        keep(workspace.evaluations / name, samples, name, hits) for name, hits in (("base", 0.4), ("adapter", 0.6))
    ]
    comparison = open_comparison(folders, workspace=workspace)
    everything = comparison.counted

    def filtered(**values: str) -> Callable[[], object]:
        def run() -> object:
            mask = Filter(**values).mask(comparison)
            return headline(comparison, mask), accuracy_curves(comparison, mask), order_rows(comparison, mask, "gain")

        return run

    ways: dict[str, Callable[[], object]] = {
        "open one": lambda: open_comparison(folders[:1], workspace=folder),
        "open two": lambda: open_comparison(folders, workspace=folder),
        "filter: none, with figures and curve": filtered(),
        "filter: none, without intervals": lambda: headline(comparison, everything, intervals=False),
        "filter: losses, with figures and curve": filtered(outcome="loss"),
        "filter: words, with figures and curve": filtered(words="left mug"),
        "filter: spatial words and size, with figures and curve": filtered(spatial="spatial", box_size="medium"),
        "filter: one category, with figures and curve": filtered(category=CATEGORIES[0]),
        **{f"breakdown by {d}": lambda d=d: breakdown(comparison, d) for d in DIMENSIONS},  # type: ignore[misc]
        "breakdown by category, without intervals": lambda: breakdown(comparison, "category", intervals=False),
        "calibration": lambda: calibrations(comparison),
        "every order": lambda: [order_rows(comparison, everything, order) for order in ORDERS],
        "suspects": lambda: suspects(comparison),
        **page_ways(Parts(workspace, store, SimpleNamespace(model="demo"), lambda phrase: False)),  # type: ignore[arg-type]
    }
    return medians(interleaved(ways, rounds=rounds))


def page_ways(parts: Parts) -> dict[str, Callable[[], object]]:
    """The page's handlers: what a visitor waits for when he opens a kept comparison, filters it, turns a page."""
    looking, handlers = Looking(), Handlers(parts)
    next(iter(handlers.show(looking)))

    def asked(**change: str) -> Callable[[], object]:
        def run() -> object:
            event = SimpleNamespace(change={"clear": "yes", **change})
            return next(iter(handlers.ask(event, looking)))  # type: ignore[arg-type,call-overload]

        return run

    return {
        "page: open, until figures and cards stand": lambda: next(iter(Handlers(parts).show(Looking()))),
        "page: open, until the intervals have followed": lambda: list(Handlers(parts).show(Looking())),
        "page: filter losses": asked(outcome="loss"),
        "page: filter words": asked(words="left mug"),
        "page: filter spatial words and size": asked(spatial="spatial", box_size="medium"),
        "page: filter one category": asked(category=CATEGORIES[0]),
        "page: turn to page 100": lambda: handlers_list(handlers, looking, page="100"),
        "page: labels that may be wrong": lambda: handlers_list(handlers, looking, list="suspects"),
    }


def handlers_list(handlers: Handlers, looking: Looking, **change: str) -> object:
    event = SimpleNamespace(change=change)
    return next(iter(handlers.ask(event, looking)))  # type: ignore[arg-type,call-overload]


def make_samples(count: int, folder: Path) -> list[Sample]:
    rng = random.Random(1)
    for number in range(-(-count // SAMPLES_A_PICTURE)):
        colour = (number % 256, number // 256, 90)
        Image.new("RGB", (640, 480), colour).save(folder / f"{number:06d}.png", compress_level=1)
    return [
        Sample(
            id=f"s{number:06d}",
            image=folder / f"{number // SAMPLES_A_PICTURE:06d}.png",
            phrase=" ".join(rng.choices(WORDS, k=rng.randint(1, 9))),
            boxes_xyxy_px=() if rng.random() < 0.05 else tuple(some_box(rng) for _ in range(rng.choice((1, 1, 1, 2)))),
            category=rng.choice(CATEGORIES),
        )
        for number in range(count)
    ]


def some_box(rng: random.Random) -> Box:
    x, y = rng.uniform(0, 500), rng.uniform(0, 350)
    return Box(x, y, x + rng.uniform(10, 140), y + rng.uniform(10, 130))


def keep(folder: Path, samples: Sequence[Sample], name: str, hits: float) -> Path:
    """An evaluation in which this share of the answers lies close to the truth."""
    rng = random.Random(name)
    rows = tuple(score(sample, answer(sample, rng, hits)) for sample in samples)
    report = Report("demo", None if name == "base" else name, summarise(rows), rows)
    return ReportStore(folder.parent).keep(report, split="test", folder=folder).path


def answer(sample: Sample, rng: random.Random, hits: float) -> Prediction:
    if rng.random() < 0.08:
        return Prediction((), Status.NO_BOX, "[]", rng.random(), 0.05)
    boxes = tuple(
        Box(*(value + rng.uniform(-4, 4) for value in box)) if rng.random() < hits else some_box(rng)
        for box in sample.boxes_xyxy_px or (some_box(rng),)
    )
    confidences = tuple(rng.random() for _ in boxes)
    return Prediction(boxes, Status.OK, str(boxes), confidences[0], 0.05, box_confidences=confidences)


if __name__ == "__main__":
    sys.exit(main())
