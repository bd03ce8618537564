"""The Annotate tab in a real browser: every key, no lost text, no double save."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from annotate_page import Rows, at_rest, box, open_annotate, shown, status
from chromium import visit
from served import ServedApp

pytestmark = [pytest.mark.browser, pytest.mark.slow]

EVIL = """<img src=x onerror="window.bad=1">'"&"""


def test_five_quick_phrases_land_on_five_samples(page: Page, rows: Rows) -> None:
    queue = rows(
        "SELECT id FROM samples WHERE placeholder = 1 AND split = 'train' ORDER BY skip_order, position LIMIT 6"
    )
    assert shown(page) == queue[0][0]
    expect(box(page)).to_have_value("")
    page.evaluate("window.scrollTo(0, 9999)")
    assert page.evaluate("window.scrollY") == 0, "the tab fits on 1280 x 720"
    for number in range(5):
        page.keyboard.type(f"quick {number}")
        page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    status(page, "quick 4")
    assert shown(page) == queue[5][0]
    saved = rows("SELECT id, phrase, revision FROM samples WHERE phrase LIKE 'quick %' ORDER BY position")
    assert saved == [(queue[number][0], f"quick {number}", 2) for number in range(5)]
    expect(page.locator("#annotate-counts")).to_contain_text(re.compile(r"^5 of \d+ phrases done"))
    expect(box(page)).to_have_value("")
    expect(box(page)).to_be_focused()


def test_skip_flag_back_and_undo_by_keys(page: Page, rows: Rows) -> None:
    first = shown(page)
    page.keyboard.type("half a thought")
    page.keyboard.press("Escape")
    status(page, "Skipped")
    second = shown(page)
    assert second != first and rows("SELECT skip_order > 0 FROM samples WHERE id = ?", first) == [(1,)]

    page.keyboard.press("Alt+f")
    status(page, "Flagged")
    assert rows("SELECT flagged, flag_note FROM samples WHERE id = ?", second) == [(1, "")]
    page.keyboard.type("box is off")
    page.keyboard.press("Enter")
    status(page, "with a note")
    assert rows("SELECT flag_note FROM samples WHERE id = ?", second) == [("box is off",)]
    third = shown(page)

    page.locator("#annotate-figure").click()  # after the mouse the keys go on working
    page.keyboard.press("Alt+ArrowLeft")
    page.keyboard.press("Alt+ArrowLeft")
    expect(box(page)).to_have_value("half a thought")
    assert shown(page) == first
    page.keyboard.press("Alt+z")
    status(page, "Undone")
    assert rows("SELECT skip_order, revision FROM samples WHERE id = ?", first) == [(0, 3)]
    page.keyboard.press("Enter")
    status(page, "half a thought")
    assert shown(page) == second, "after a visit back one returns to where one was"

    page.keyboard.press("Alt+z")  # at once after a save: takes that save back
    status(page, "Undone")
    assert shown(page) == first
    expect(box(page)).to_have_value("half a thought")
    assert rows("SELECT placeholder, revision FROM samples WHERE id = ?", first) == [(1, 5)]
    assert third not in (first, second)


def test_a_refresh_and_a_restart_lose_nothing(page: Page, app: ServedApp, rows: Rows) -> None:
    page.keyboard.press("Alt+ArrowRight")
    status(page, "")
    sample = shown(page)
    (revision,) = rows("SELECT revision FROM samples WHERE id = ?", sample)[0]
    page.keyboard.type("typed before the ref")
    open_annotate(page, app)
    assert shown(page) == sample
    expect(box(page)).to_have_value("typed before the ref")
    page.keyboard.type("resh")

    app.stop()
    try:
        page.keyboard.press("Enter")
        status(page, "does not answer")
        expect(box(page)).to_have_value("typed before the refresh")
        assert rows("SELECT revision FROM samples WHERE id = ?", sample) == [(revision,)]
    finally:
        app.start()
    # A page that noticed reloads by itself, sooner or later; here it does so now, and on the same tab.
    visit(page, app.url)
    expect(page.get_by_role("tab", name="Annotate")).to_have_attribute("aria-selected", "true")
    at_rest(page)
    assert shown(page) == sample
    expect(box(page)).to_have_value("typed before the refresh")
    page.keyboard.press("Enter")
    status(page, "typed before the refresh")
    assert rows("SELECT phrase, revision FROM samples WHERE id = ?", sample) == [
        ("typed before the refresh", revision + 1)
    ]
    assert page.evaluate("Object.keys(localStorage).filter((key) => key.includes('draft'))") == []


def test_two_tabs_never_overwrite_each_other(context: BrowserContext, page: Page, app: ServedApp, rows: Rows) -> None:
    sample = shown(page)
    queue_alone = open_annotate(context.new_page(), app)
    assert shown(queue_alone) != sample, "a queue passes over what others have open"
    other = context.new_page()
    visit(other, f"{app.url}#queue=placeholders&split=train&sample={sample}")
    assert shown(at_rest(other)) == sample, "an address leads there all the same"
    expect(other.locator("#annotate-holder")).to_contain_text("tester has this sample open")
    (revision,) = rows("SELECT revision FROM samples WHERE id = ?", sample)[0]
    box(other).fill(EVIL)
    box(other).press("Enter")
    status(other, EVIL)
    page.bring_to_front()
    box(page).fill('mine, "quoted"')
    box(page).press("Enter")
    expect(page.locator("#annotate-conflict")).to_contain_text(EVIL)
    expect(page.locator("#annotate-conflict")).to_contain_text('mine, "quoted"')
    page.keyboard.press("Enter")  # out of habit: it must not choose
    assert rows("SELECT phrase FROM samples WHERE id = ?", sample) == [(EVIL,)]
    page.locator("[data-choose=mine]").click()
    status(page, "Saved")
    assert rows("SELECT phrase, revision FROM samples WHERE id = ?", sample) == [('mine, "quoted"', revision + 2)]
    assert page.evaluate("window.bad") is None and other.evaluate("window.bad") is None


def test_a_repair_is_shown_first_and_taken_back(page: Page, rows: Rows) -> None:
    open_placeholders = "SELECT count(*) FROM samples WHERE placeholder = 1"
    before = rows(open_placeholders)
    for way in ("cancel", "confirm"):
        page.locator("#annotate-repair").click()
        expect(page.locator("#annotate-repair-preview tbody tr")).not_to_have_count(0)
        assert rows(open_placeholders) == before
        page.locator(f"#annotate-repair-{way}").click()
        expect(page.locator("#annotate-repair-preview")).to_be_hidden()
    expect(page.locator(".an-repaired")).to_contain_text("filled from the source")
    assert rows(open_placeholders) < before
    page.locator("#annotate-repair-undo").click()
    status(page, "put back")
    assert rows(open_placeholders) == before


def test_the_name_is_remembered_and_other_tabs_are_left_alone(page: Page, app: ServedApp, rows: Rows) -> None:
    name = page.locator("#annotate-who input")
    name.fill("")
    name.press_sequentially("Ana")
    box(page).fill("signed")
    box(page).press("Enter")
    status(page, "Ana")
    open_annotate(page, app)
    expect(name).to_have_value("Ana")
    assert rows("SELECT who FROM changes WHERE phrase_after = 'signed'") == [("Ana",)]

    count = rows("SELECT count(*) FROM changes")
    page.get_by_role("tab", name="Compare").click()
    for key in ("Escape", "Alt+s", "Alt+f", "Enter"):
        page.keyboard.press(key)
    page.wait_for_timeout(300)
    assert rows("SELECT count(*) FROM changes") == count
