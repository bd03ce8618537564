"""The bar of a change of many samples that another process makes, or that ended in the middle, in the browser."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from annotate.bulk import BulkEdit
from annotate.scopes import Scope
from annotate.store import Store
from annotate_page import Rows, open_annotate, status
from grounding.database import connect
from served import ServedApp


def test_a_change_that_broke_off_is_offered_until_it_is_put_back(page: Page, app: ServedApp, rows: Rows) -> None:
    store = Store(app.workspace.annotations_db, app.workspace.pictures)
    report = store.bulk(Scope("all", "train"), BulkEdit("flag", put="look"), who="ben", batch="mine")
    with connect(store.path) as connection:
        connection.execute("UPDATE batches SET state = 'broken', total = 999 WHERE name = 'mine'")
    bar = page.locator(".an-repaired")
    open_annotate(page, app)
    expect(bar).to_contain_text("by ben ended in the middle")
    page.locator("[data-dismiss]").click()
    expect(bar).to_have_count(0)
    open_annotate(page, app)
    expect(bar).to_have_count(0)
    other = open_annotate(page.context.new_page(), app)
    other.locator("#annotate-repair-undo").click()
    status(other, f"{report.count} samples put back")
    assert rows("SELECT count(*) FROM samples WHERE flagged = 1") == [(0,)]


def test_a_change_that_goes_on_tells_how_far_it_is_until_it_ends(page: Page, app: ServedApp) -> None:
    store = Store(app.workspace.annotations_db, app.workspace.pictures)

    def say(state: str, done: int) -> None:
        with connect(store.path) as connection:
            connection.execute("UPDATE batches SET state = ?, done = ? WHERE name = 'far'", (state, done))

    report = store.bulk(Scope("all", "train"), BulkEdit("flag", put="look"), who="ben", batch="far")
    with connect(store.path) as connection:
        connection.execute("UPDATE batches SET total = 999, at = '2999-01-01T00:00:00+00:00' WHERE name = 'far'")
    say("running", 500)
    # The page that began it remembers that, over a reload too.
    key = page.evaluate("`boxwright-annotate:${document.querySelector('.an').dataset.workspace}`")
    page.evaluate(
        "(key) => sessionStorage.setItem(key, JSON.stringify({ ...JSON.parse(sessionStorage.getItem(key)), "
        "repaired: { batch: 'far', sentence: 'begun', going: true, undoable: true } }))",
        key,
    )
    open_annotate(page, app)
    bar = page.locator(".an-repaired")
    expect(bar).to_have_text("Changing many: 500 of 999 samples.Undo")
    say("running", 700)
    expect(bar).to_contain_text("700 of 999")
    say("done", 999)
    expect(bar).to_have_text(f"{report.count} samples changed by ben, 0 left as they were.UndoDismiss")
    page.locator("#annotate-repair-undo").click()
    status(page, f"{report.count} samples put back")
    expect(bar).to_have_count(0)
