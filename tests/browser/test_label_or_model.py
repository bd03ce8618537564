"""From a sample in Compare into Annotate by one key, its label mended there, and back: it is scored again."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from annotate_page import at_rest
from chromium import visit
from served import ServedApp

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_there_and_back(page: Page, served_app: ServedApp) -> None:
    visit(page, served_app.url)
    answers = page.locator("#compare-results .bw-answers")
    words = page.locator("#compare-phrase").get_by_role("textbox")
    expect(words).not_to_have_value("")
    phrase = words.input_value()
    words.press("End")
    page.keyboard.type("e")
    expect(words).to_have_value(f"{phrase}e")  # a letter of the phrase, not the key
    page.locator("#compare-results .bw-cards .bw-stage").first.focus()
    page.keyboard.press("e")
    at_rest(page)
    expect(page.locator("#annotate-phrase textarea")).to_have_value(phrase)

    # What is typed is not lost on the way back, and what is saved is asked about.
    page.keyboard.type(" again")
    page.keyboard.press("Alt+c")
    expect(page.locator("#annotate-status")).to_contain_text("Not saved yet")
    page.keyboard.press("Enter")
    page.keyboard.press("Alt+c")
    expect(words).to_have_value(f"{phrase} again")
    expect(answers).to_have_attribute("aria-busy", "false", timeout=90_000)
    expect(page.locator("#compare-grid .bw-thumb[aria-pressed=true]")).to_have_text(f"{phrase} again")

    # By the link and by the tab's own name it is the same way; without having come from Compare there is no way back.
    page.get_by_role("link", name="Open in Annotate").click()
    back = page.get_by_role("button", name="Back to Compare")
    expect(back).to_be_visible()
    page.get_by_role("tab", name="Compare").click()
    expect(words).to_be_visible()
    page.get_by_role("tab", name="Annotate").click()
    expect(back).to_be_hidden()
