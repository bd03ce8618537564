"""A whole-set comparison in a real browser: it fills itself, filters by one click, opens a sample, exports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from annotate_page import at_rest
from chromium import visit
from compare_tab import keep_base_and_adapter, wait_for_answers
from grounding.demo.dataset import DemoSize
from served import ServedApp, free_port, small_workspace

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def served_app(tmp_path: Path) -> Iterator[ServedApp]:
    """The app with an evaluation of the base and of an adapter on 32 samples."""
    workspace = small_workspace(tmp_path, DemoSize(2, 2, 16))
    keep_base_and_adapter(workspace, "tools")
    app = ServedApp(workspace, free_port())
    app.start()
    yield app
    app.stop()


def test_from_the_figures_to_a_sample_and_to_a_file(page: Page, served_app: ServedApp) -> None:
    visit(page, served_app.url)
    wait_for_answers(page)
    page.locator("#whole-head").scroll_into_view_if_needed()
    figures = page.locator(".bw-whole-figures")
    expect(figures).to_have_attribute("data-exact", "true")
    expect(page.locator(".bw-sample-card")).to_have_count(24)

    # One click filters; the chip says so, stays in view, and takes the filter away again.
    count = page.locator(".bw-whole-count b")
    wins = page.locator('.bw-outcome-keys [data-outcome="win"]')
    expected = wins.locator("b").inner_text()
    wins.click()
    expect(count).to_have_text(expected)
    expect(page.locator(".bw-sample-card")).to_have_count(min(24, int(expected)))
    page.locator(".bw-sample-card").last.scroll_into_view_if_needed()
    expect(page.locator("#whole-bar")).to_be_in_viewport()
    page.locator(".bw-remove").first.click()
    page.get_by_role("button", name="Clear all").click()
    expect(count).to_have_text("32")

    # By keys: the words, then a select, then from card to card.
    page.locator("#whole-bar input[type=search]").fill("the")
    expect(count).not_to_have_text("32")
    expect(page.locator("#whole-bar input[type=search]")).to_be_focused()
    page.locator("#whole-bar .bw-remove").click()
    expect(count).to_have_text("32")
    page.locator('#whole-bar select[data-name="order"]').select_option("gain")
    expect(page.locator(".bw-sample-card .bw-gain").first).to_contain_text("+")
    cards = page.locator(".bw-sample-open")
    cards.first.focus()
    page.keyboard.press("ArrowRight")
    expect(cards.nth(1)).to_be_focused()

    # Into the part for one picture, and into Annotate.
    phrase = page.locator(".bw-sample-card .bw-sample-phrase").nth(1).inner_text()
    page.keyboard.press("Enter")
    expect(page.locator("#compare-phrase textarea")).to_have_value(phrase)
    wait_for_answers(page)

    # Into Annotate and, mended, back: it is asked as it stands now, and its card says that it was another one.
    cards.nth(1).focus()
    page.keyboard.press("e")
    at_rest(page)
    expect(page.locator("#annotate-phrase textarea")).to_have_value(phrase)
    page.keyboard.type(" again")
    page.keyboard.press("Enter")
    page.keyboard.press("Alt+c")
    expect(page.locator("#compare-phrase textarea")).to_have_value(f"{phrase} again")
    wait_for_answers(page)
    expect(page.locator(".bw-sample-card .bw-chip-note", has_text="edited")).to_have_count(1)

    page.locator("#whole-export").click()
    expect(page.locator("#whole-download")).to_contain_text("kB")
    with page.expect_download() as download:
        page.locator("#whole-download").click()
    assert download.value.suggested_filename == "comparison-markdown.zip"


def test_a_row_leads_to_its_samples_and_its_fold_stays_open(page: Page, served_app: ServedApp) -> None:
    visit(page, served_app.url)
    wait_for_answers(page)
    page.locator("#whole-head").scroll_into_view_if_needed()
    expect(page.locator(".bw-whole-figures")).to_have_attribute("data-exact", "true")
    fold = page.locator('.bw-breakdown[data-dimension="category"] details')
    fold.locator("summary").click()
    row = fold.locator(".bw-open-row").first
    category = row.inner_text()
    row.click()
    expect(page.locator('.bw-breakdown[data-dimension="category"] [data-chosen=true]')).to_contain_text(category)
    expect(page.locator(".bw-whole-figures")).to_have_attribute("data-exact", "true")
    expect(fold).to_have_attribute("open", "")
    expect(page.locator(".bw-sample-card").first).to_be_in_viewport()
