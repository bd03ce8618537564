"""Find a Chromium for the browser tests: one that stands on the machine, or Playwright's own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, BrowserType, Error, Page, expect, sync_playwright

_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# The background services of Chromium would only knock at closed doors.
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
# How long a page may take for what is expected of it: other tests may have the processor.
PATIENCE_MS = 20_000
expect.set_options(timeout=PATIENCE_MS)
NONE_FOUND = (
    "browser tests skipped: no Chromium on this machine. Install Debian's (apt-get install chromium) "
    "or Playwright's own (python -m playwright install chromium)."
)


def launch(kind: BrowserType) -> Browser | None:
    """A headless browser, or None when there is none to be had."""
    installed = next((path for name in _NAMES if (path := shutil.which(name))), None)
    try:
        return kind.launch(executable_path=installed, args=_ARGUMENTS)
    except Error:
        return None


@contextmanager
def open_browser() -> Iterator[Browser | None]:
    """A browser for a `with` block, closed at its end; None when there is none."""
    with sync_playwright() as playwright:
        browser = launch(playwright.chromium)
        try:
            yield browser
        finally:
            if browser is not None:
                browser.close()


def visit(page: Page, url: str) -> None:
    """Open the page. Again when it was just being opened: a page reloads by itself when its app is back."""
    for attempt in range(3):
        try:
            page.goto(url)
            return
        except Error as error:
            own_reload = "ERR_ABORTED" in str(error) or "interrupted by another navigation" in str(error)
            if attempt == 2 or not own_reload:
                raise
