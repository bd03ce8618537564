"""How long a person waits at the page of the Annotate tab, on a store of 100,000 and of 1,000,000 samples.

The store is that of `annotate_scale.py`. The real app serves it, with the embedded model loaded, as it listens to what
is being typed; headless Chromium types phrases, saves with Enter and chooses queues. The clock is the page's own: from
the key press or the choice until the frame with the next sample's words, and until its picture is there too.

    python benchmarks/annotate_page.py                              # 100,000 samples, about ten minutes
    python benchmarks/annotate_page.py --samples 100000 1000000     # about an hour, 4 GB of disk
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "benchmarks")]

import psutil  # noqa: E402
from playwright.sync_api import Page, expect  # noqa: E402

from annotate.store import Store  # noqa: E402
from annotate_scale import SCENES, Drawn, build, draw_scenes  # noqa: E402
from chromium import NONE_FOUND, open_browser  # noqa: E402
from grounding.workspace import Workspace  # noqa: E402
from measuring import write_result  # noqa: E402
from served import ServedApp, free_port  # noqa: E402

REPETITIONS = 100
WANTED_MS = 150
_MODEL_MS = 180_000
# From a quick hand that saves before anything was asked about the phrase to one that waits for the answers.
_PAUSES_MS = (0, 100, 300, 700, 1500)
_CLOCK = """
window.boxwrightClock = (began) => new Promise((resolve) => {
  const facts = document.querySelector('.an-facts');
  const seen = new MutationObserver(async () => {
    seen.disconnect();
    await new Promise(requestAnimationFrame);
    const words = performance.now() - began;
    const picture = document.querySelector('#annotate-figure img');
    await picture.decode().catch(() => {});
    resolve({ words, picture: performance.now() - began });
  });
  seen.observe(facts, { childList: true, subtree: true, characterData: true });
});
document.addEventListener('keydown', (event) => {
  if (event.key === 'Enter') window.boxwrightTook = window.boxwrightClock(event.timeStamp);
}, true);
document.addEventListener('change', (event) => {
  if (event.target.closest('#annotate-queue')) window.boxwrightTook = window.boxwrightClock(event.timeStamp);
}, true);
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[100_000])
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--folder", type=Path, help="where to build, instead of the system's folder for such things")
    parser.add_argument(
        "--keep", action="store_true", help="keep what was built in --folder, and use what stands there"
    )
    options = parser.parse_args(arguments)
    scenes = draw_scenes(SCENES)
    sizes = []
    for count in options.samples:
        if options.keep and options.folder:
            sizes.append(measure(options.folder / str(count), scenes, count, options.repetitions))
        else:
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                sizes.append(measure(Path(folder), scenes, count, options.repetitions))
        print_size(sizes[-1])
    wanted = {"milliseconds_95": WANTED_MS}
    write_result("annotate_page", {"wanted": wanted, "sizes": sizes}, ("gradio", "playwright", "sqlite-utils"))
    return 0


def print_size(size: dict[str, Any]) -> None:
    print(f"{size['samples']:,} samples, load and niceness {size['busy_processors']}, {size['niceness']}")
    for name, figures in size["milliseconds"].items():
        words, picture = figures["words"], figures["with_picture"]
        print(
            f"  {words['95']:8.1f} ms at the 95th percentile ({words['median']:.1f} median), "
            f"with the picture {picture['95']:.1f} ({picture['median']:.1f}): {name}"
        )


def measure(folder: Path, scenes: Sequence[Drawn], count: int, repetitions: int) -> dict[str, Any]:
    """One size: the store where it isn't there yet, then saves and every queue."""
    workspace = Workspace(folder / "workspace")
    standing = workspace.exists
    store = Store(workspace.annotations_db, workspace.pictures)
    if not standing:
        build(store, folder / "source", scenes, count)
    app = ServedApp(workspace, free_port(), flags=("--no-demo",))
    app.start()
    busy = psutil.getloadavg()[0]
    try:
        with open_browser() as browser:
            if browser is None:
                raise SystemExit(NONE_FOUND)
            page = browser.new_context(viewport={"width": 1280, "height": 720}).new_page()
            page.add_init_script(_CLOCK)
            page.goto(app.url)
            expect(page.locator("#model-status")).to_have_attribute("data-phase", "ready", timeout=_MODEL_MS)
            page.get_by_role("tab", name="Annotate").click()
            expect(page.locator("#annotate-phrase textarea")).to_be_focused()
            taken = {"save with Enter, the next sample": saves(page, repetitions)}
            taken |= {f"choose the queue {queue}": each for queue, each in openings(page, repetitions).items()}
    finally:
        app.stop()
    return {
        "samples": store.counts().total,
        "busy_processors": {"before": round(busy, 2), "after": round(psutil.getloadavg()[0], 2)},
        "niceness": psutil.Process().nice(),
        "repetitions": repetitions,
        "milliseconds": {name: figures_of(each) for name, each in taken.items()},
    }


def queues_of(page: Page) -> list[str]:
    values: list[str] = page.eval_on_selector_all("#annotate-queue option", "all => all.map(one => one.value)")
    return values


def saves(page: Page, repetitions: int) -> list[dict[str, float]]:
    """Phrases written and saved, some at once and some after a moment's thought."""
    rng = random.Random(3)

    def save() -> None:
        page.keyboard.type(f"the thing number {rng.randrange(10_000)}", delay=15)
        page.wait_for_timeout(rng.choice(_PAUSES_MS))
        page.keyboard.press("Enter")

    return [timed(page, save) for _ in range(repetitions)]


def openings(page: Page, repetitions: int) -> dict[str, list[dict[str, float]]]:
    """Every queue chosen so many times, in an order that changes from round to round."""
    rng = random.Random(4)
    select = page.locator("#annotate-queue select")
    taken: dict[str, list[dict[str, float]]] = {queue: [] for queue in queues_of(page)}
    for _ in range(repetitions):
        for queue in rng.sample(list(taken), len(taken)):
            taken[queue].append(timed(page, lambda queue=queue: select.select_option(queue)))
    return taken


def timed(page: Page, act: Callable[[], object]) -> dict[str, float]:
    """What the page's clock says of one act, and then a moment for what comes behind it."""
    act()
    took: dict[str, float] = page.evaluate("window.boxwrightTook")
    page.wait_for_timeout(150)
    return took


def figures_of(taken: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Milliseconds until the words stood, and until the picture did."""
    return {
        "words": percentiles([one["words"] for one in taken]),
        "with_picture": percentiles([one["picture"] for one in taken]),
    }


def percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(milliseconds), 1),
        "95": round(statistics.quantiles(milliseconds, n=20)[-1], 1),
        "worst": round(max(milliseconds), 1),
    }


if __name__ == "__main__":
    sys.exit(main())
