"""How the store of the Annotate tab bears 100,000 and 1,000,000 samples: importing, opening queues, saving.

The phrases are those of `grounding.demo`, about half of them lost to the placeholder, eight samples a picture. A few
hundred pictures are drawn; the others are those again with a few bytes behind their end, so that each is a picture of
its own to the store. The import that is timed brings other ids for pictures that stand. Everything goes through
`Store`, with the disk waited for as in earnest.

    python benchmarks/annotate_scale.py                                   # 100,000 samples, a few minutes
    python benchmarks/annotate_scale.py --samples 100000 1000000          # about half an hour, 4 GB of disk
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import psutil  # noqa: E402

from annotate.bulk import BulkEdit  # noqa: E402
from annotate.people import progress  # noqa: E402
from annotate.queues import QUEUES  # noqa: E402
from annotate.scopes import Scope  # noqa: E402
from annotate.store import Store  # noqa: E402
from grounding.boxes import Box  # noqa: E402
from grounding.database import connect  # noqa: E402
from grounding.demo.dataset import PLACEHOLDER_PHRASE  # noqa: E402
from grounding.demo.phrases import true_phrases  # noqa: E402
from grounding.demo.scenes import draw_scene  # noqa: E402
from grounding.pictures import PictureStore  # noqa: E402
from grounding.records import SPLITS, Sample  # noqa: E402
from measuring import write_result  # noqa: E402

SCENES = 300
SAMPLES_A_PICTURE = 8
SECOND_IMPORT = 50_000
OPERATIONS = 200
COMMON_WORDS = ("left", "the", "right", "bottom")
PEOPLE = ("Ann", "Ben", "Cleo", "Dan")
SAVES_BEFORE = 1_000
WANTED_ROWS_A_SECOND = 5_000
WANTED_MS = 50


@dataclass(frozen=True)
class Drawn:
    """A drawn scene: its JPEG, and for each object that can be told apart its noun, box and phrases."""

    jpeg: bytes
    objects: tuple[tuple[str, Box, tuple[str, ...]], ...]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[100_000])
    parser.add_argument("--folder", type=Path, help="where to build, instead of the system's folder for such things")
    options = parser.parse_args(arguments)
    scenes = draw_scenes(SCENES)
    sizes = []
    for count in options.samples:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            sizes.append(measure(Path(folder), scenes, count))
        print_size(sizes[-1])
    wanted = {"rows_a_second": WANTED_ROWS_A_SECOND, "milliseconds_95": WANTED_MS}
    write_result("annotate_scale", {"wanted": wanted, "sizes": sizes}, ("sqlite-utils", "pillow"))
    return 0


def print_size(size: dict[str, Any]) -> None:
    print(f"{size['samples']:,} samples: {size['import']}")
    for name, figures in size["milliseconds"].items():
        of_processor = f"{figures['processor_95']:.1f} of the processor"
        print(
            f"  {figures['95']:8.1f} ms at the 95th percentile ({figures['median']:.1f} median, {of_processor}): {name}"
        )


def measure(folder: Path, scenes: Sequence[Drawn], count: int) -> dict[str, Any]:
    """One size: the imports, then every operation."""
    store = Store(folder / "annotations.db", PictureStore(folder / "images"))
    built = build(store, folder / "source", scenes, count)
    rng = random.Random(7)
    ways = operations(store, rng)
    return {
        "samples": store.counts().total,
        "busy_processors": psutil.getloadavg()[0],
        **built,
        "database_mib": round(store.path.stat().st_size / 2**20),
        "milliseconds": {name: percentiles(run) for name, run in ways.items()},
    }


def build(store: Store, source: Path, scenes: Sequence[Drawn], count: int) -> dict[str, Any]:
    """Fill an empty store with so many samples and some work of people; returns what the imports took."""
    pictures = write_pictures(source, scenes, (count - SECOND_IMPORT) // SAMPLES_A_PICTURE)
    first = timed_import(store, make_samples(scenes, pictures, "first", count - SECOND_IMPORT))
    standing = pictures[: SECOND_IMPORT // SAMPLES_A_PICTURE]
    second = timed_import(store, make_samples(scenes, standing, "second", SECOND_IMPORT))
    fill_queues(store)
    return {"pictures": len(pictures), "import": {"pictures_new": first, "pictures_standing": second}}


def draw_scenes(count: int) -> list[Drawn]:
    rng = random.Random(5)
    drawn = []
    for _ in range(count):
        scene = draw_scene(rng)
        file = BytesIO()
        scene.image.save(file, "JPEG", quality=60)
        phrases = [tuple(phrase.text for phrase in true_phrases(scene.objects, i)) for i in range(len(scene.objects))]
        objects = zip(scene.objects, phrases, strict=True)
        drawn.append(Drawn(file.getvalue(), tuple((o.noun, o.box_xyxy_px, said) for o, said in objects if said)))
    return [one for one in drawn if one.objects]


def write_pictures(folder: Path, scenes: Sequence[Drawn], count: int) -> list[Path]:
    """So many different files; the picture with number n shows scene n modulo the number of scenes."""
    paths = []
    for number in range(count):
        path = folder / str(number // 1000) / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(scenes[number % len(scenes)].jpeg + number.to_bytes(8, "big"))
        paths.append(path)
    return paths


def make_samples(scenes: Sequence[Drawn], pictures: Sequence[Path], name: str, count: int) -> Iterator[Sample]:
    """Samples picture by picture, each picture of one split."""
    rng = random.Random(name)
    for number in range(count):
        picture = number * len(pictures) // count
        noun, box, phrases = rng.choice(scenes[picture % len(scenes)].objects)
        lost = rng.random() < 0.5
        yield Sample(
            id=f"{name}-{number:07d}",
            image=pictures[picture],
            phrase=PLACEHOLDER_PHRASE if lost else rng.choice(phrases),
            boxes_xyxy_px=(box,),
            split=SPLITS[(picture % 10 == 8) + 2 * (picture % 10 == 9)],
            category=noun,
            image_id=str(picture),
            alternatives=phrases[:3] if lost else (),
        )


def timed_import(store: Store, samples: Iterator[Sample]) -> dict[str, float]:
    """Rows a second, and by how much memory grew from a tenth of the way on."""
    process = psutil.Process()
    resident: list[int] = []
    begin, begin_processor = time.perf_counter(), time.process_time()
    report = store.import_samples(
        samples,
        source="demo",
        who="benchmark",
        link=True,
        progress=lambda done: resident.append(process.memory_info().rss),
    )
    seconds = time.perf_counter() - begin
    assert not report.errors, report.errors[:3]
    grown = max(resident) - resident[len(resident) // 10]
    return {
        "rows": report.imported,
        "rows_a_second": round(report.imported / seconds),
        "rows_a_second_of_processor": round(report.imported / (time.process_time() - begin_processor)),
        "memory_grown_mib": round(grown / 2**20, 1),
    }


def fill_queues(store: Store) -> None:
    """What listeners and checks would have found, and some work of people."""
    with connect(store.path) as connection:
        connection.execute("""
            UPDATE samples SET listener_iou = (shuffle % 997) / 997.0, listener_gap = (shuffle % 991) / 991.0,
                problems = CASE shuffle % 7 WHEN 0 THEN 'too_short' ELSE '' END
            WHERE placeholder = 0 AND shuffle % 2 = 0
        """)
    rng = random.Random(1)
    for number in range(SAVES_BEFORE):
        item = store.next_item("placeholders", (0, rng.randrange(store.counts().total)))
        if item is None:
            continue
        names: dict[str, Any] = {"who": PEOPLE[number % len(PEOPLE)], "expected_revision": item.revision}
        edit = number % 10
        if edit == 0:
            store.skip(item.id, **names)
        elif edit == 1:
            store.flag(item.id, "look", **names)
        elif edit == 2:
            store.reject(item.id, "blurred", **names)
        else:
            store.save(item.id, rng.choice(item.sample.alternatives), **names)


def operations(store: Store, rng: random.Random) -> dict[str, Callable[[], object]]:
    """What a page asks for, each with other values at every call."""
    categories = store.categories()
    words = (
        "left",
        "the",
        "on the",
        "big",
        "small",
        "top le",
        "closest to",
        "rig",
        "a",
        "zebra",
        "circled",
        *categories,
    )

    def at_random(queue: str, **filters: str) -> Callable[[], object]:
        def open_it() -> object:
            scope = Scope(queue, rng.choice((None, *SPLITS)), **filters, token="mine")  # type: ignore[arg-type]
            return store.next_item(scope), store.previous_item(scope)

        return open_it

    def filtered(filters: Callable[[], dict[str, str]], *queues: str) -> Callable[[], object]:
        def open_it() -> object:
            scope = Scope(rng.choice(queues), rng.choice((None, *SPLITS)), **filters(), token="mine")  # type: ignore[arg-type]
            return store.next_item(scope), store.count_in(scope)

        return open_it

    def save_and_move_on() -> object:
        scope = Scope("placeholders", token="mine")
        item = store.next_item(scope, (0, rng.randrange(store.counts().total)))
        assert item is not None
        begin = time.perf_counter()
        saved = store.save(item.id, rng.choice(item.sample.alternatives), who="Ann", expected_revision=item.revision)
        onward = store.next_item(scope, item.place_in("placeholders"))
        assert onward is not None
        store.siblings(onward.id), store.history(onward.id), store.counts(), store.count_in(scope)
        assert saved.state == "written"
        return time.perf_counter() - begin

    kinds: dict[str, Callable[[], dict[str, str]]] = {
        "category": lambda: {"category": rng.choice(categories)},
        "words": lambda: {"phrase": rng.choice(words)},
        "annotator": lambda: {"annotator": rng.choice(PEOPLE)},
        "category and words": lambda: {"category": rng.choice(categories), "phrase": rng.choice(words)},
        "annotator and words": lambda: {"annotator": rng.choice(PEOPLE), "phrase": rng.choice(words)},
    }
    ways = {f"open {queue}, both ends": at_random(queue) for queue in QUEUES}
    for name, filters in kinds.items():
        ways[f"open and count any queue by {name}"] = filtered(filters, *QUEUES)
    common = filtered(lambda: {"phrase": rng.choice(COMMON_WORDS)}, "placeholders")
    ways["open and count placeholders by common words, which none has"] = common
    return {
        "save and move on": save_and_move_on,
        **ways,
        "the names to choose from": lambda: (store.categories(), store.annotators()),
        "progress of people": lambda: progress(store.path),
        "preview of a bulk edit of one category": lambda: store.bulk_preview(
            Scope("all", category=rng.choice(categories)), BulkEdit("replace", find="left", put="leftmost")
        ),
    }


def percentiles(run: Callable[[], object]) -> dict[str, float]:
    """Milliseconds of each call: median, 95th percentile and the worst. A run may return its own seconds.

    "processor_95" leaves out what other programs on the machine took, and the waiting for the disk.
    """
    taken, of_processor = [], []
    for _ in range(OPERATIONS):
        begin, begin_processor = time.perf_counter(), time.process_time()
        own = run()
        taken.append(1000 * (own if isinstance(own, float) else time.perf_counter() - begin))
        of_processor.append(1000 * (time.process_time() - begin_processor))
    return {
        "median": round(statistics.median(taken), 2),
        "95": round(statistics.quantiles(taken, n=20)[-1], 2),
        "worst": round(max(taken), 2),
        "processor_95": round(statistics.quantiles(of_processor, n=20)[-1], 2),
    }


if __name__ == "__main__":
    sys.exit(main())
