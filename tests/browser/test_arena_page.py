"""The arena in a real browser: keys, a double click, two windows; and gradio's own page about the endpoints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from annotate.store import Store
from chromium import visit
from compared_samples import answered, keep
from grounding.arena import VoteStore, pair_of
from grounding.boxes import Box
from grounding.compared import open_comparison
from grounding.demo.dataset import DemoSize
from served import ServedApp, free_port, small_workspace

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def served_app(tmp_path: Path) -> Iterator[ServedApp]:
    """The app without a model, with the evaluations of a base and of an adapter that answer otherwise."""
    workspace = small_workspace(tmp_path, DemoSize(2, 1, 6))
    samples = list(Store(workspace.annotations_db, workspace.pictures).iterate("test"))
    keep(workspace.evaluations / "base", [answered(sample, [Box(5, 5, 60, 60)]) for sample in samples])
    keep(workspace.evaluations / "tools", [answered(sample, [Box(90, 90, 180, 170)]) for sample in samples], "tools")
    app = ServedApp(workspace, free_port(), model="/no/such/model")
    app.start()
    yield app
    app.stop()


def open_arena(page: Page, app: ServedApp) -> str:
    visit(page, app.url)
    page.locator("#arena > button").click()
    expect(page.locator(".bw-arena-question")).to_be_visible()
    return asked(page)


def asked(page: Page) -> str:
    return page.locator(".bw-arena-question").get_attribute("data-question") or ""


def wait_for_another(page: Page, question: str) -> None:
    expect(page.locator(f'.bw-arena-question:not([data-question="{question}"])')).to_be_visible()


def test_picks_by_keys_and_clicks_count_once(page: Page, browser: Browser, served_app: ServedApp) -> None:
    workspace = served_app.workspace
    pair = pair_of(open_comparison([workspace.evaluations / name for name in ("base", "tools")], workspace=workspace))
    other = browser.new_context(viewport={"width": 1024, "height": 768}).new_page()
    first = open_arena(page, served_app)
    assert open_arena(other, served_app) == first, "both windows ask the same"
    page.keyboard.press("ArrowDown")  # on the heading: that scrolls, and picks nothing
    page.wait_for_timeout(500)
    where = [page.locator(part).bounding_box() for part in (".bw-arena-choices", ".bw-arena-after")]

    page.keyboard.press("1")
    wait_for_another(page, first)
    expect(page.locator(".bw-arena-last")).to_contain_text("You took left")
    votes = VoteStore(workspace.arena_db)
    last = votes.last(pair, "tester")
    assert last is not None and last.preferred == last.left
    assert [page.locator(part).bounding_box() for part in (".bw-arena-choices", ".bw-arena-after")] == where

    other.locator('.bw-arena-choices [data-choice="right"]').dblclick()
    wait_for_another(other, first)
    expect(other.get_by_text("it counts once")).to_be_visible()
    assert asked(other) == asked(page) and votes.tally(pair).votes == 1

    second = asked(page)
    page.locator('.bw-arena-choices [data-choice="both"]').dblclick()
    wait_for_another(page, second)
    expect(page.locator(".bw-arena-tally")).to_contain_text("1 both good, 0 neither")
    third = asked(page)
    page.keyboard.press("ArrowRight")
    wait_for_another(page, third)
    assert votes.tally(pair).votes == 3
    page.keyboard.press("u")
    expect(page.locator(".bw-arena-last")).to_contain_text("both good")
    assert votes.tally(pair).votes == 2

    page.goto(f"{served_app.url}?view=api")
    expect(page.get_by_text("Where one model puts the box for a phrase.")).to_be_visible()
    expect(page.get_by_text("A picture file (gradio_client.handle_file)").first).to_be_attached()
    other.context.close()
