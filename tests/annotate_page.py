"""The Annotate tab in a real browser, for the tests that use it: fixtures are taken over by name in conftest."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from chromium import NONE_FOUND, PATIENCE_MS, open_browser, visit
from grounding.demo.dataset import DemoSize
from served import ServedApp, free_port, small_workspace

Rows = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as found:
        if found is None:
            pytest.skip(NONE_FOUND)
        yield found


@pytest.fixture(scope="module")
def app(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApp]:
    """One app for all tests here; each of them goes on where the one before left the queue."""
    served = ServedApp(small_workspace(tmp_path_factory.mktemp("annotate"), DemoSize(24, 2, 2)), free_port())
    served.start()
    yield served
    served.stop()


@pytest.fixture
def context(browser: Browser, app: ServedApp) -> Iterator[BrowserContext]:
    """A browser's worth of storage; nothing may leave this machine, no script may fail."""
    context = browser.new_context(viewport={"width": 1280, "height": 720})
    context.set_default_timeout(PATIENCE_MS)
    wrong: list[str] = []
    own = (app.url, app.url.replace("http", "ws"), "data:", "blob:")
    context.on("request", lambda request: None if request.url.startswith(own) else wrong.append(request.url))
    context.on("weberror", lambda error: wrong.append(str(error.error)))
    yield context
    context.close()
    assert not wrong


@pytest.fixture
def rows(app: ServedApp) -> Rows:
    def read(sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(f"file:{app.workspace.annotations_db}?mode=ro", uri=True)
        try:
            return connection.execute(sql, parameters).fetchall()
        finally:
            connection.close()

    return read


@pytest.fixture
def page(context: BrowserContext, app: ServedApp) -> Page:
    return open_annotate(context.new_page(), app)


def open_annotate(page: Page, app: ServedApp) -> Page:
    visit(page, app.url)
    page.get_by_role("tab", name="Annotate").click()
    return at_rest(page)


def at_rest(page: Page) -> Page:
    """The page once the tab shows a sample and waits for words."""
    expect(page.locator(".an")).to_have_attribute("data-state", "sample")
    expect(box(page)).to_be_focused()
    return page


def box(page: Page) -> Locator:
    return page.locator("#annotate-phrase textarea")


def shown(page: Page) -> str:
    """The id of the sample on the page, once the page has come to rest."""
    page.wait_for_timeout(60)
    expect(page.locator(".an")).not_to_have_attribute("aria-busy", "true")
    return page.locator("[data-fact=id]").inner_text()


def status(page: Page, text: str) -> None:
    # Longer than usual: right after a start the app is busy importing what the model needs.
    expect(page.locator("#annotate-status")).to_contain_text(text, timeout=30_000)
