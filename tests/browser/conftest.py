"""A browser and the real app for the tests in this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from chromium import NONE_FOUND, open_browser
from grounding.demo.dataset import DemoSize
from served import ServedApp, free_port, small_workspace


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as found:
        if found is None:
            pytest.skip(NONE_FOUND)
        yield found


@pytest.fixture
def served_app(tmp_path: Path) -> Iterator[ServedApp]:
    """The app on a workspace with 12 train, 2 val and 4 test pictures of the demo."""
    app = ServedApp(small_workspace(tmp_path, DemoSize(12, 2, 4)), free_port())
    app.start()
    yield app
    app.stop()


@pytest.fixture
def page(browser: Browser, served_app: ServedApp) -> Iterator[Page]:
    """A page of 1280x720 on which any script error fails the test, and nothing may leave this machine."""
    context = browser.new_context(viewport={"width": 1280, "height": 720})
    page = context.new_page()
    page.set_default_timeout(60_000)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(f"script error: {error}"))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((served_app.url, served_app.url.replace("http", "ws"), "data:", "blob:"))
            else wrong.append(f"a request left the machine: {request.url}")
        ),
    )
    yield page
    context.close()
    assert not wrong, wrong
