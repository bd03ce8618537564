"""An adapter that was trained on placeholders alone: one look at the page says what it is worth."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from annotate.snapshot import freeze
from annotate.store import Store
from chromium import visit
from compare_tab import wait_for_answers
from grounding.demo.dataset import PLACEHOLDER_PHRASE, DemoSize, write_demo
from grounding.records import SPLITS, Sample, read_samples
from grounding.workspace import Workspace
from looks import Album
from served import ROOT, ServedApp, free_port

pytestmark = [pytest.mark.browser, pytest.mark.slow]

_SETTINGS = {
    "steps": 60,
    "images_per_step": 2,
    "learning_rate": 0.01,
    "lora_layers": "attention",
    "rehearsal_share": 0,
    "learn_new_words": "false",
    "augment": "false",
    "keep_best": "false",
    "score_samples": 8,
}
"""So much, and with nothing rehearsed, that even what the base knew of words is gone."""


@pytest.fixture
def served_app(tmp_path: Path) -> Iterator[ServedApp]:
    workspace = Workspace(tmp_path / "workspace")
    write_demo(tmp_path / "demo", size=DemoSize(60, 8, 30))
    store = Store(workspace.annotations_db, workspace.pictures)
    store.import_samples(without_phrases(tmp_path / "demo"), source="demo", who="demo")
    freeze(store, workspace.snapshots, "placeholders", who="tester", placeholders=True)
    values = [word for name, value in _SETTINGS.items() for word in ("--set", f"{name}={value}")]
    train = ["-m", "grounding", "train", "placeholders", "--name", "deaf", "--force", *values]
    subprocess.run(
        [sys.executable, *train, "--workspace", str(workspace.root)], cwd=ROOT, check=True, capture_output=True
    )
    app = ServedApp(workspace, free_port())
    app.start()
    yield app
    app.stop()


def without_phrases(folder: Path) -> Iterator[Sample]:
    for split in SPLITS:
        for sample in read_samples(folder / f"{split}.jsonl"):
            yield replace(sample, phrase=PLACEHOLDER_PHRASE, alternatives=()) if split == "train" else sample


def test_one_screen_says_that_it_heeds_no_words_and_is_no_better_than_chance(page: Page, served_app: ServedApp) -> None:
    history = (served_app.workspace.adapters / "deaf" / "training_history.json").read_text(encoding="utf-8")
    assert "every one of the 120 train phrases is a placeholder" in json.loads(history)["notes"][-1]["text"]
    visit(page, served_app.url)
    wait_for_answers(page)
    page.locator("#compare-summary-run").click()
    expect(page.locator("#compare-summary")).to_contain_text("deaf (demo)", timeout=120_000)
    page.locator(".bw-ask").click()
    verdicts = page.locator(".bw-verdicts li")
    expect(verdicts).to_have_count(2)
    base, adapter = verdicts.all()
    expect(base.locator(".bw-standing")).to_have_attribute("data-better", "yes")
    expect(adapter).to_contain_text("does not follow the words")
    expect(adapter).to_contain_text("Its train phrases carried no signal")
    expect(adapter).to_contain_text("It is worse than its base")
    expect(adapter).to_contain_text("No better than chance")
    expect(adapter.locator(".bw-standing")).to_have_attribute("data-better", "no")
    adapter.scroll_into_view_if_needed()
    boxes = [one.bounding_box() for one in (page.locator(".bw-ask"), base, adapter)]
    assert all(box is not None and box["y"] >= 0 and box["y"] + box["height"] <= 720 for box in boxes), boxes
    album = Album(page)
    album.look("placeholder-adapter", at=".bw-cards")
    assert album.faults == []
