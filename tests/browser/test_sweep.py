"""A sweep in a real browser, with a stand-in for the training: started, watched, kept, in light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from chromium import PATIENCE_MS, visit
from grounding.demo.dataset import DemoSize
from job_workers import end_workers
from served import ServedApp, free_port, small_workspace
from sweep_samples import STAND_IN

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def served_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedApp]:
    """The app on a small workspace, whose workers score as the settings say."""
    monkeypatch.setenv("PYTHONPATH", str(STAND_IN))
    expect.set_options(timeout=120_000)
    app = ServedApp(small_workspace(tmp_path, DemoSize(4, 2, 1)), free_port())
    app.start()
    yield app
    expect.set_options(timeout=PATIENCE_MS)
    app.stop()
    end_workers(app.workspace)


def type_into(page: Page, field: str, text: str) -> None:
    box = page.locator(f"#{field}").get_by_role("textbox")
    box.fill(text)
    box.press("Tab")


def test_a_sweep_is_started_watched_and_its_winner_kept(page: Page, served_app: ServedApp) -> None:
    visit(page, served_app.url)
    page.get_by_role("tab", name="Train").click()
    expect(page.locator("#train-name").get_by_role("textbox")).not_to_have_value("")
    page.get_by_role("button", name="Settings").click()
    type_into(page, "train-set-steps", "4")
    page.get_by_role("button", name="Sweep").click()
    expect(page.locator("#train-sweep-view")).to_contain_text("No sweep yet")
    type_into(page, "train-sweep-name", "mugs")
    type_into(page, "train-sweep-lora_rank", "8, 16")
    type_into(page, "train-sweep-learning_rate", "")
    expect(page.locator("#train-sweep-plan")).to_contain_text("there are only 2 different ways to try")
    type_into(page, "train-sweep-runs", "2")
    expect(page.locator("#train-sweep-plan")).to_contain_text("2 runs of 4 steps")
    page.locator("#train-sweep-start").click()
    sweep = page.locator("#train-sweep .bw-sweep")
    expect(sweep).to_contain_text("Going on")
    expect(page.locator("#train-queue")).to_contain_text("mugs-run-1")
    expect(sweep).to_have_attribute("data-state", "done")
    expect(sweep).to_contain_text("2 runs: 2 done.")
    expect(sweep.locator("tbody tr[data-best=true]")).to_have_count(1)
    for _ in ("light", "dark"):
        line = sweep.locator(".bw-parallel-line[data-kind=best] polyline").last
        assert line.evaluate("e => getComputedStyle(e).stroke") != "none"
        assert line.bounding_box() is not None
        page.locator("#theme-switch").click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing reaches out of the page"
    sweep.get_by_role("button", name="Keep the winner").click()
    expect(sweep).to_contain_text("is in your adapters as mugs")
    expect(page.locator("#train-adapters")).to_contain_text("mugs")
    assert (served_app.workspace.adapters / "mugs" / "adapter.json").is_file()
