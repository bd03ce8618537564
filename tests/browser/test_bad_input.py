"""Bad input gets a sentence, and loses nothing."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from chromium import visit
from grounding.demo.dataset import DemoSize
from grounding.workspace import Workspace
from served import ServedApp, free_port, small_workspace

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def huge_png(path: Path, side_px: int) -> Path:
    """A valid, small PNG file of `side_px` x `side_px` grey pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side_px, side_px, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side_px // 8 + 1) * side_px), 9)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


def test_bad_pictures_and_phrases_are_sentences(page: Page, served_app: ServedApp, tmp_path: Path) -> None:
    visit(page, served_app.url)
    answers = page.locator("#compare-results .bw-answers")
    expect(answers).to_have_attribute("aria-busy", "false", timeout=90_000)
    shown = answers.locator("img").first.get_attribute("src")
    upload = page.locator("#compare-left input[type=file]")

    (tmp_path / "notes.png").write_text("these are notes")
    upload.set_input_files(tmp_path / "notes.png")
    expect(page.get_by_text("notes.png is not a picture that can be read")).to_be_visible()

    upload.set_input_files(huge_png(tmp_path / "huge.png", 20_000))
    expect(page.get_by_text("huge.png has far too many pixels")).to_be_visible()

    page.locator("#compare-phrase").get_by_role("textbox").fill("   ")
    page.locator("#compare-phrase").get_by_role("textbox").press("Enter")
    expect(page.locator("#compare-results")).to_contain_text("Write what to look for and press Enter")
    assert answers.locator("img").first.get_attribute("src") == shown


@pytest.fixture
def broken_app(tmp_path: Path) -> Iterator[ServedApp]:
    """The app on a model folder that is not there."""
    app = ServedApp(small_workspace(tmp_path, DemoSize(3, 1, 1)), free_port(), model="/nowhere/at/all")
    app.start()
    yield app
    app.stop()


def test_without_its_model_the_page_says_so_and_annotating_goes_on(browser: Browser, broken_app: ServedApp) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 720})
    page = context.new_page()
    visit(page, broken_app.url)
    expect(page.locator("#model-status")).to_have_attribute("data-phase", "failed", timeout=60_000)
    expect(page.locator("#model-status")).to_contain_text("There is no model folder /nowhere/at/all")
    page.get_by_role("tab", name="Annotate").click()
    page.locator("#annotate-phrase").fill("the round thing")
    page.locator("#annotate-phrase").press("Enter")
    expect(page.locator("#annotate-status")).to_contain_text(re.compile("saved", re.IGNORECASE))
    context.close()


@pytest.fixture
def empty_app(tmp_path: Path) -> Iterator[ServedApp]:
    """The app on a workspace without a single sample."""
    app = ServedApp(Workspace(tmp_path / "workspace"), free_port(), flags=("--no-demo",))
    app.workspace.root.mkdir()
    app.start()
    yield app
    app.stop()


def test_an_empty_workspace_says_what_to_do(browser: Browser, empty_app: ServedApp) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 720})
    page = context.new_page()
    visit(page, empty_app.url)
    expect(page.locator("#compare-results")).to_contain_text("No samples in this workspace yet")
    page.get_by_role("tab", name="Train").click()
    expect(page.locator("#train-name").get_by_role("textbox")).not_to_have_value("")
    page.locator("#train-start").click()
    expect(page.get_by_role("status").get_by_text("There is no train sample")).to_be_visible()
    expect(page.locator("#train-force")).to_be_hidden()
    assert not list(empty_app.workspace.snapshots.glob("*"))
    page.get_by_role("tab", name="Annotate").click()
    expect(page.locator("#annotate-done")).to_be_visible()
    context.close()
