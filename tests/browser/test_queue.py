"""The queue in a real browser, with a stand-in for the training: two browsers, and everything killed at random."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Error, Page, expect

from chromium import PATIENCE_MS, visit
from grounding.adapters import MANIFEST
from grounding.demo.dataset import DemoSize
from grounding.jobs.store import RunState, RunStore
from job_workers import STAND_IN, end_workers, wait_for, workers_of
from served import ServedApp, free_port, small_workspace

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def served_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedApp]:
    """The app on a small workspace, whose workers train nothing and take their time."""
    monkeypatch.setenv("PYTHONPATH", str(STAND_IN))
    monkeypatch.setenv("STAND_IN_SECONDS", "0.1")
    expect.set_options(timeout=60_000)
    app = ServedApp(small_workspace(tmp_path, DemoSize(4, 1, 1)), free_port())
    app.start()
    yield app
    expect.set_options(timeout=PATIENCE_MS)
    app.stop()
    end_workers(app.workspace)


def open_train(page: Page, app: ServedApp) -> None:
    visit(page, app.url)
    page.get_by_role("tab", name="Train").click()
    expect(page.locator("#train-name").get_by_role("textbox")).not_to_have_value("")


def start(page: Page, name: str, steps: int) -> None:
    field = page.locator("#train-name").get_by_role("textbox")
    field.fill(name)
    field.press("Tab")
    number = page.locator("#train-set-steps").get_by_role("textbox")
    if not number.is_visible():
        page.get_by_role("button", name="Settings").click()
    number.fill(str(steps))
    number.press("Tab")
    page.locator("#train-start").click()
    expect(row(page, name)).to_be_visible()


def row(page: Page, name: str) -> object:
    return page.locator("#train-queue li").filter(has=page.locator("b", has_text=name))


def press(page: Page, name: str, action: str) -> None:
    row(page, name).locator(f"[data-action={action}]").click()  # type: ignore[attr-defined]


def waiting(page: Page) -> list[str]:
    return page.locator("#train-queue li[data-state=queued] b").all_inner_texts()


def test_the_queue_is_worked_on_by_two_browsers(page: Page, browser: Browser, served_app: ServedApp) -> None:
    open_train(page, served_app)
    start(page, "first", 4000)
    start(page, "second", 3)
    start(page, "third", 900)
    other = browser.new_context().new_page()
    open_train(other, served_app)
    expect(row(other, "third")).to_be_visible()  # type: ignore[arg-type]
    assert waiting(other) == ["second", "third"]

    press(other, "third", "up")
    wait_for(lambda: waiting(page) == ["third", "second"] == waiting(other))

    press(page, "third", "edit")
    expect(page.locator("#train-edit")).to_be_visible()
    steps = page.locator("#train-set-steps").get_by_role("textbox")
    expect(steps).to_have_value("900")
    steps.fill("4")
    steps.press("Tab")
    page.locator("#train-edit-save").click()
    expect(page.locator("#train-edit")).to_be_hidden()
    expect(row(other, "third")).to_contain_text("4 steps")  # type: ignore[arg-type]

    press(page, "second", "copy")
    page.locator("#train-edit-save").click()
    expect(row(other, "second-2")).to_be_visible()  # type: ignore[arg-type]
    other.context.close()

    press(page, "first", "discard")
    expect(row(page, "first")).to_have_attribute("data-state", "running")  # type: ignore[arg-type]
    press(page, "first", "discard")
    expect(row(page, "first")).to_have_attribute("data-state", "discarded")  # type: ignore[arg-type]
    for name in ("third", "second"):
        done = page.locator("#train-queue li[data-state=done] b").get_by_text(name, exact=True)
        expect(done).to_be_visible(timeout=60_000)
    press(page, "third", "log")
    expect(page.locator("#train-queue-log pre")).to_contain_text("training 'third'")

    press(page, "third", "look")
    expect(page.locator("#train-run h3")).to_have_text("third")
    page.locator("#train-back").click()
    expect(page.locator("#train-back")).to_be_hidden()
    expect(page.locator("#train-run h3")).not_to_have_text("third")


def test_a_name_that_is_typed_while_the_page_answers_stays(page: Page, served_app: ServedApp) -> None:
    """The name of the run just started is taken by then, and the next free one comes back for it."""
    open_train(page, served_app)
    field = page.locator("#train-name").get_by_role("textbox")
    field.fill("mugs")
    page.locator("#train-start").click()
    field.fill("cups")
    expect(row(page, "mugs")).to_be_visible()  # type: ignore[arg-type]
    page.wait_for_timeout(4_000)
    expect(field).to_have_value("cups")
    page.locator("#train-start").click()
    expect(row(page, "cups")).to_be_visible()  # type: ignore[arg-type]
    expect(field).to_have_value("adapter-1")


@pytest.mark.parametrize("seed", [1])
def test_whatever_is_killed_the_page_tells_the_truth(browser: Browser, served_app: ServedApp, seed: int) -> None:
    """`kill -9` of the worker, of the app and of the browser's page, at random moments."""
    dice = random.Random(seed)
    workspace, store = served_app.workspace, RunStore(served_app.workspace.runs_db)
    page = browser.new_context().new_page()
    open_train(page, served_app)
    names = ["a-run", "b-run", "c-run"]
    for name in names:
        start(page, name, 30)
    for _ in range(6):
        page.wait_for_timeout(dice.uniform(300, 2500))
        victim = dice.choice(["worker", "app", "page"])
        if victim == "worker":
            for process in workers_of(workspace)[-1:]:
                psutil.Process(process.pid).kill()
        elif victim == "app":
            assert served_app.process is not None
            served_app.process.kill()
            served_app.process.wait()
            served_app.start()
        else:
            page.context.close()
            page = browser.new_context().new_page()
        open_train(page, served_app)
        for folder in workspace.adapters.glob("[!.]*"):
            assert (folder / MANIFEST).is_file()
        for failed in page.locator("#train-queue li[data-state=failed]").all():
            expect(failed).to_contain_text("Press Resume")
    expect(page.locator("#train-queue li")).to_have_count(3)

    def all_done() -> bool:
        for resume in page.locator("#train-queue [data-action=resume]").all():
            with suppress(Error):  # the panel may have drawn it anew meanwhile, or the run goes on already
                resume.click(timeout=3000)
            page.wait_for_timeout(500)
        page.wait_for_timeout(200)
        return all(run.state is RunState.DONE for run in store.list())

    wait_for(all_done, 120)
    assert not (workspace.root / "two-at-once").exists()
    expect(page.locator("#train-queue li[data-state=done]")).to_have_count(3)
    assert sorted(path.name for path in workspace.adapters.iterdir()) == names
    page.context.close()
