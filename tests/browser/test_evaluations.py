"""Evaluations in a real browser: seen alike in two windows, stopped, gone on with after the app was killed."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from annotate.store import Store
from chromium import visit
from grounding.demo.dataset import DemoSize
from served import ServedApp, free_port, small_workspace

pytestmark = [pytest.mark.browser, pytest.mark.slow]
_TIMES = 40
_POLL_MS = 300  # at every frame, as is the default, would take half a core from the app


@pytest.fixture
def served_app(tmp_path: Path) -> Iterator[ServedApp]:
    """The app with enough samples, on few pictures, to catch an evaluation in the midst."""
    workspace = small_workspace(tmp_path, DemoSize(2, 2, 6))
    store = Store(workspace.annotations_db, workspace.pictures)
    few = [sample for sample in store.iterate("test") if len(sample.phrase) < 60]
    more = (replace(sample, id=f"{sample.id}-{number}") for number in range(_TIMES) for sample in few)
    store.import_samples(more, source="more", who="tester")
    app = ServedApp(workspace, free_port())
    app.start()
    yield app
    app.stop()


def test_an_evaluation_outlives_its_page_and_its_app(page: Page, browser: Browser, served_app: ServedApp) -> None:
    visit(page, served_app.url)
    page.locator("#compare-summary-run").click()
    listed = page.locator("#compare-evaluations li")
    expect(listed).to_have_attribute("data-state", "running", timeout=120_000)
    page.wait_for_function(
        "document.querySelector('#compare-evaluations [role=progressbar]')?.ariaValueNow > 0", polling=_POLL_MS
    )
    other = browser.new_context(viewport={"width": 1280, "height": 720}).new_page()
    visit(other, served_app.url)
    expect(other.locator("#compare-evaluations li")).to_have_attribute("data-state", "running")
    stop = other.locator("#compare-evaluations button[data-action=stop]")
    stop.click()
    expect(listed).to_have_attribute("data-state", "stopped")
    expect(listed).to_contain_text("answers are kept")
    kept = int(re.search(r"(\d+) answers are kept", listed.inner_text())[1])  # type: ignore[index]
    page.locator("#compare-evaluations button[data-action=go-on]").click()
    expect(other.locator("#compare-evaluations li")).to_have_attribute("data-state", "running")

    assert served_app.process is not None
    served_app.process.send_signal(signal.SIGKILL)
    served_app.process.wait()
    served_app.start()
    visit(page, served_app.url)
    expect(listed).to_have_attribute("data-state", "running", timeout=120_000)
    going_on = "kept => document.querySelector('#compare-evaluations [role=progressbar]')?.ariaValueNow > kept"
    page.wait_for_function(going_on, arg=kept, polling=_POLL_MS)
