"""The claim of the README: one press of Train makes the adapter hit where the base misses.

Walks the whole loop in a fresh workspace through the real page, as a stranger would: the first start, Fill from the
source, Train with its default settings, Evaluate. Takes the README's pictures, writes benchmarks/results/loop.json,
and puts the figures into the README. The test split has 48 phrases of known nouns, of which one is two points: so base
and adapter are also measured on four times as many pictures, drawn as the test split is from another seed.

    python benchmarks/loop.py              # everything: about five minutes on two cores
    python benchmarks/loop.py --no-readme  # measure only, leave the README and its pictures alone
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "benchmarks")]

from playwright.sync_api import Page, expect  # noqa: E402
from pyarrow import parquet  # noqa: E402

import grounding  # noqa: E402
from chromium import NONE_FOUND, open_browser  # noqa: E402
from grounding.adapters import AdapterInfo, AdapterRegistry  # noqa: E402
from grounding.demo.dataset import DemoSize, write_demo  # noqa: E402
from grounding.demo.sprites import known_nouns, unknown_nouns  # noqa: E402
from grounding.evaluation import evaluate  # noqa: E402
from grounding.jobs.store import RunStore  # noqa: E402
from grounding.records import read_samples  # noqa: E402
from grounding.reports import KeptReport, ReportStore  # noqa: E402
from grounding.workspace import Workspace  # noqa: E402
from measuring import machine, versions, write_figures  # noqa: E402
from served import ServedApp, free_port  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "loop.json"
PICTURES = ROOT / "docs" / "images"
_WAIT_MS = 900_000
_POLL_MS = 1000
_MORE_PICTURES = 400


@dataclass(frozen=True)
class Row:
    """One sample of a kept evaluation's log."""

    id: str
    category: str
    has_target: bool
    iou: float
    status: str


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-readme", action="store_true", help="leave the README and its pictures alone")
    parser.add_argument("--out", type=Path, default=RESULT, help="where the result goes")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures" if options.no_readme else PICTURES
        pictures.mkdir(parents=True, exist_ok=True)
        result = walk(Workspace(Path(folder) / "workspace"), pictures)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(figures_markdown(result))
    if not options.no_readme:
        write_figures("loop", figures_markdown(result))
    return 0


def walk(workspace: Workspace, pictures: Path) -> dict[str, Any]:
    """The loop, once; returns the figures."""
    app = ServedApp(workspace, free_port())
    workspace.root.mkdir(parents=True)
    began = time.monotonic()
    app.start()
    page_seconds = time.monotonic() - began
    try:
        with open_browser() as browser:
            if browser is None:
                raise SystemExit(NONE_FOUND)
            page = browser.new_context(viewport={"width": 1280, "height": 720}, device_scale_factor=1.5).new_page()
            page.set_default_timeout(_WAIT_MS)
            expect.set_options(timeout=_WAIT_MS)
            page.goto(app.url)
            _wait_for_answers(page)
            answer_seconds = time.monotonic() - began
            _annotate(page, pictures)
            _train(page, pictures)
            adapter = AdapterRegistry(workspace.adapters).list()[0]
            base, tuned = _summarise(page, workspace, adapter)
            _show_contrast(page, base, tuned, pictures)
    finally:
        app.stop()
    more = _measure_on_more(workspace, adapter)
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions("torch", "transformers", "peft", "gradio"),
        "seconds": {
            "start_to_page": round(page_seconds, 1),
            "start_to_first_answer": round(answer_seconds, 1),
            "training": round(_run_seconds(workspace), 1),
        },
        "train_samples": _train_samples(workspace, adapter),
        "steps": adapter.steps,
        "test": {"base": _by_group(base), "adapter": _by_group(tuned)},
        "more": more,
    }


def _wait_for_answers(page: Page) -> None:
    expect(page.locator("#compare-results .bw-answers")).to_have_attribute("aria-busy", "false")


def _annotate(page: Page, pictures: Path) -> None:
    page.get_by_role("tab", name="Annotate").click()
    expect(page.locator("#annotate-figure img")).to_be_visible()
    page.wait_for_timeout(500)
    page.screenshot(path=pictures / "annotate.png")
    page.locator("#annotate-repair").click()
    page.locator("#annotate-repair-confirm").click()
    expect(page.locator("#annotate-counts")).to_contain_text(re.compile(r"[1-9]\d* of \d+"))


def _train(page: Page, pictures: Path) -> None:
    """One press with the default settings; a picture on the way, when the curves have something to say."""
    page.get_by_role("tab", name="Train").click()
    expect(page.locator("#train-name").get_by_role("textbox")).not_to_have_value("")
    page.locator("#train-start").click()
    # Asked rarely: a question at every frame would take a core from the training.
    page.wait_for_function("document.querySelectorAll('.bw-curve[data-kind=iou] circle').length >= 3", polling=_POLL_MS)
    page.screenshot(path=pictures / "train.png")
    expect(page.locator("#train-compare")).to_be_visible()
    expect(page.locator("#train-run")).to_contain_text("Done")


def _summarise(page: Page, workspace: Workspace, adapter: AdapterInfo) -> tuple[list[Row], list[Row]]:
    page.locator("#train-compare").click()
    _wait_for_answers(page)
    ticked = page.locator("#compare-evaluate-models label:has(input:checked)")
    expect(ticked).to_have_text(["Base model", adapter.name])
    page.locator("#compare-summary-run").click()
    reports = ReportStore(workspace.evaluations)
    while (tuned := reports.latest("demo", adapter.name)) is None or (base := reports.latest("demo", None)) is None:
        page.wait_for_timeout(500)
    expect(page.locator("#compare-summary")).to_contain_text(f"{adapter.name} (demo)")
    return _rows(base), _rows(tuned)


def _rows(report: KeptReport) -> list[Row]:
    return [
        Row(row["id"], row["category"], bool(row["truth_xyxy_px"]), row["iou"], row["status"])
        for row in parquet.read_table(report.path / "samples.parquet").to_pylist()
    ]


def _measure_on_more(workspace: Workspace, adapter: AdapterInfo) -> dict[str, dict[str, dict[str, float]]]:
    """Base and adapter on pictures that nobody has seen and nothing was chosen by."""
    folder = workspace.root / "more-test"
    write_demo(folder, seed=1, size=DemoSize(0, 0, _MORE_PICTURES))
    samples = list(read_samples(folder / "test.jsonl"))
    predictor = grounding.load("demo", workspace=workspace)
    figures = {}
    for name, chosen in (("base", None), ("adapter", adapter.name)):
        rows = evaluate(samples, predictor, chosen).rows
        figures[name] = _by_group(
            [Row(r.sample.id, r.sample.category, r.has_target, r.iou, r.prediction.status.value) for r in rows]
        )
    return figures


def _show_contrast(page: Page, base: Sequence[Row], tuned: Sequence[Row], pictures: Path) -> None:
    """The first page of samples that has one where the base misses and the adapter hits, with that one open."""
    hits = {
        new.id: new.iou
        for old, new in zip(base, tuned, strict=True)
        if new.has_target and old.iou < 0.1 and new.iou > 0.8
    }
    while True:
        shown = page.locator("#compare-grid [data-sample]").evaluate_all("all => all.map(one => one.dataset.sample)")
        found = max((hits.get(sample_id, 0.0), sample_id) for sample_id in shown)
        if found[0] > 0:
            break
        page.locator("#compare-grid .bw-pager button").last.click()
        page.wait_for_function(
            "first => document.querySelector('#compare-grid [data-sample]').dataset.sample !== first", arg=shown[0]
        )
    page.locator(f'#compare-grid [data-sample="{found[1]}"]').click()
    page.wait_for_timeout(1500)
    _wait_for_answers(page)
    page.mouse.move(5, 5)
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=pictures / "compare.png")


def _by_group(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Acc@0.5 and mean IoU of the new and the known nouns, and the share of "nothing there" rightly said."""
    groups = {"new_nouns": set(unknown_nouns()), "known_nouns": set(known_nouns())}
    figures: dict[str, dict[str, float]] = {}
    for name, nouns in groups.items():
        ious = [row.iou for row in rows if row.has_target and row.category in nouns]
        figures[name] = {
            "count": len(ious),
            "accuracy_50": sum(iou >= 0.5 for iou in ious) / len(ious),
            "mean_iou": sum(ious) / len(ious),
        }
    nothing = [row.status == "no_box" for row in rows if not row.has_target]
    figures["nothing_there"] = {"count": len(nothing), "accuracy": sum(nothing) / len(nothing)}
    return figures


def _run_seconds(workspace: Workspace) -> float:
    run = RunStore(workspace.runs_db).list(1)[0]
    assert run.finished_at is not None
    return (datetime.fromisoformat(run.finished_at) - datetime.fromisoformat(run.created_at)).total_seconds()


def _train_samples(workspace: Workspace, adapter: AdapterInfo) -> int:
    manifest = workspace.snapshots / adapter.snapshot / "manifest.json"
    return int(json.loads(manifest.read_text(encoding="utf-8"))["counts"]["train"])


def figures_markdown(result: dict[str, Any]) -> str:
    """The README's table, from the result alone."""
    seconds = result["seconds"]

    def line(label: str, group: str, figure: str) -> str:
        cells = [
            f"{result[where][who][group][figure]:.0%}" for where in ("test", "more") for who in ("base", "adapter")
        ]
        counts = [f"{result[where]['base'][group]['count']}" for where in ("test", "more")]
        return f"| {label} ({counts[0]}; {counts[1]}) | {' | '.join(cells)} |\n"

    return (
        "| Acc@0.5 (phrases) | test split: base | adapter | more pictures: base | adapter |\n"
        "|---|---|---|---|---|\n"
        + line("new nouns", "new_nouns", "accuracy_50")
        + line("known nouns", "known_nouns", "accuracy_50")
        + line('phrases that refer to nothing, answered "nothing there"', "nothing_there", "accuracy")
        + f"\nTrained on {result['train_samples']:,} samples in {seconds['training']:.0f} s, default settings, "
        f"{result['machine']['cores']} cores, no GPU. The page stood {seconds['start_to_page']:.0f} s after the very "
        f"first start, the first answer {seconds['start_to_first_answer']:.0f} s after it.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
