"""The Annotate tab in a real browser: filters, checks, the listener, suggestions, opinions, many at once, leases."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from playwright.sync_api import BrowserContext, Page, TimeoutError, expect

from annotate.store import Store
from annotate_page import Rows, at_rest, box, shown, status
from chromium import visit
from served import ROOT, ServedApp

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# On one picture of the demo, which is drawn the same each time: a phrase that the embedded model knows, and its rival.
TRUCK, RIVAL = "demo-train-0026", "demo-train-0027"
LISTENER_MS = 60_000  # the model may still be loading


def go_to(page: Page, app: ServedApp, sample: str, queue: str = "all") -> Page:
    visit(page, f"{app.url}#queue={queue}&split=train&sample={sample}")
    expect(page.locator("[data-fact=id]")).to_have_text(sample)
    return at_rest(page)


def choose(page: Page, entry: str) -> None:
    page.locator("#annotate-more").click()
    page.locator(f"[data-open={entry}]").click()


def be(page: Page, name: str) -> None:
    field = page.locator("#annotate-who input")
    field.fill(name)
    field.blur()
    box(page).focus()


def phrase_of(rows: Rows, sample: str) -> str:
    return str(rows("SELECT phrase FROM samples WHERE id = ?", sample)[0][0])


def test_filters_stand_in_the_address_and_open_the_same_elsewhere(
    context: BrowserContext, page: Page, app: ServedApp, rows: Rows
) -> None:
    go_to(page, app, TRUCK)
    (found,) = rows("SELECT count(*) FROM samples WHERE split = 'train' AND placeholder = 0 AND phrase LIKE '%left%'")[
        0
    ]
    page.locator("#annotate-filter").click()
    page.keyboard.type("left")
    expect(page.locator("#annotate-filters output")).to_have_text(f"{found} found")
    expect(page).to_have_url(re.compile(r"#queue=all&split=train&words=left$"))
    expect(page.locator("#annotate-words")).to_be_focused()
    assert "left" in phrase_of(rows, shown(page))

    other = context.new_page()
    visit(other, page.url)
    at_rest(other)
    expect(other.locator("#annotate-words")).to_have_value("left")
    assert "left" in phrase_of(rows, shown(other)), "the link leads to the same samples"
    other.reload()
    at_rest(other)
    expect(other.locator("#annotate-filters output")).to_have_text(f"{found} found")
    other.evaluate("location.hash = 'queue=nonsense'")
    status(other, "no queue 'nonsense'")
    other.keyboard.press("Alt+ArrowRight")
    expect(other.locator("#annotate-status")).to_be_empty()
    assert "left" in phrase_of(rows, shown(other)), "a broken link leaves one where one was"

    page.locator("#annotate-words").fill("no such words")
    expect(page.locator("#annotate-done")).to_contain_text("Nothing matches the filter")
    page.locator("#annotate-unfilter").click()  # the end of a queue must not lie over the filters
    at_rest(page)
    expect(page.locator("#annotate-filters output")).to_be_empty()


def test_checks_appear_while_typing_and_never_hold_up_a_save(page: Page, rows: Rows) -> None:
    sample = shown(page)
    findings = page.locator("#annotate-findings li")
    page.keyboard.type("the red circled objct {x}")
    expect(findings).not_to_have_count(0)
    box(page).fill("the lone zebra by the lake")
    expect(findings).to_have_count(0)
    box(page).fill("the red circled objct")
    expect(findings).not_to_have_count(0)
    page.keyboard.press("Enter")
    status(page, "Saved")
    assert rows("SELECT phrase, state FROM samples WHERE id = ?", sample) == [("the red circled objct", "written")]
    expect(findings).to_have_count(0)


def test_the_listener_says_where_it_would_point_and_its_rival_is_drawn(page: Page, app: ServedApp, rows: Rows) -> None:
    truck = phrase_of(rows, TRUCK)
    go_to(page, app, RIVAL)
    box(page).fill(truck)
    said = page.locator(".an-listeners [data-listener=base]")
    expect(said).to_contain_text("points at", timeout=LISTENER_MS)
    expect(said).to_contain_text(truck)
    expect(said.locator(".an-iou")).to_have_attribute("data-hit", "false")
    expect(page.locator("#annotate-figure .an-heard-base:not(.an-rival)")).to_have_count(1)
    rival = page.locator("#annotate-figure .an-rival")
    ((x1, y1),) = rows("SELECT x1_px, y1_px FROM boxes WHERE sample_id = ?", TRUCK)
    drawn = [float(rival.get_attribute(name) or "nan") for name in ("x", "y")]
    assert drawn == pytest.approx([x1, y1], abs=0.06), "the box that the model takes for the target"
    page.keyboard.type("x")
    expect(page.locator("#annotate-figure .an-heard-base")).to_have_count(0)  # it was about other words
    box(page).fill("")
    expect(said).to_have_count(0)

    go_to(page, app, TRUCK)
    expect(said.locator(".an-iou")).to_have_attribute("data-hit", "true", timeout=LISTENER_MS)
    expect(said).not_to_contain_text("points at")


def test_a_suggestion_taken_as_it_is_is_told_from_words_of_a_person(page: Page, rows: Rows) -> None:
    def take() -> tuple[str, str]:
        chip = page.locator(".an-suggested .an-chip span").first
        while True:
            shown(page)
            try:
                chip.wait_for(timeout=1_500)
                break
            except TimeoutError:
                page.keyboard.press("Alt+ArrowRight")
        text = chip.inner_text()
        # By its words: once the model has listened, another one may stand first.
        page.locator(".an-suggested .an-chip").get_by_text(text, exact=True).click()
        expect(box(page)).to_have_value(text)
        expect(box(page)).to_be_focused()
        return shown(page), text

    sample, text = take()
    page.keyboard.press("Enter")
    status(page, "Saved")
    assert rows("SELECT phrase_after, origin FROM changes WHERE sample_id = ? ORDER BY id DESC", sample)[0] == (
        text,
        "model",
    )
    page.keyboard.press("Alt+ArrowLeft")
    expect(page.locator(".an-history")).to_contain_text("tester took a suggestion")
    page.keyboard.press("Alt+ArrowRight")
    shown(page)
    sample, text = take()
    page.reload()
    expect(box(at_rest(page))).to_have_value(text)
    page.keyboard.press("Enter")
    status(page, "Saved")
    origin = "SELECT origin FROM changes WHERE sample_id = ? ORDER BY id DESC"
    assert rows(origin, sample)[0] == ("model",), "nobody's words after a reload as well"
    sample, text = take()
    page.keyboard.type(" over there")
    page.keyboard.press("Enter")
    status(page, f"{text} over there")
    assert rows("SELECT phrase_after, origin FROM changes WHERE sample_id = ? ORDER BY id DESC", sample)[0] == (
        f"{text} over there",
        "human",
    )


def test_another_opinion_changes_nothing_until_somebody_decides(page: Page, app: ServedApp, rows: Rows) -> None:
    stood = phrase_of(rows, TRUCK)
    go_to(page, app, TRUCK)
    be(page, "Ben")
    box(page).fill("the red engine")
    page.keyboard.press("Shift+Enter")
    status(page, "Kept as another opinion")
    assert phrase_of(rows, TRUCK) == stood
    choose(page, "undecided")
    expect(page.locator("[data-fact=id]")).to_have_text(TRUCK)
    opinion = page.locator(".an-opinions li", has_text="the red engine")
    expect(opinion).to_contain_text("Ben")
    opinion.get_by_role("button", name="Take it").click()
    status(page, "Decided")
    assert rows("SELECT action, phrase_after FROM changes WHERE sample_id = ? ORDER BY id DESC", TRUCK)[0] == (
        "decide",
        "the red engine",
    )
    page.keyboard.press("Alt+d")
    status(page, "Nobody disagrees")
    be(page, "tester")


def test_decisions_are_gone_through_one_after_the_other(page: Page, app: ServedApp, rows: Rows) -> None:
    stood = {sample: phrase_of(rows, sample) for sample in (TRUCK, RIVAL)}
    be(page, "Ben")
    for sample in stood:
        go_to(page, app, sample)
        box(page).fill(f"words for {sample}")
        page.keyboard.press("Shift+Enter")
        status(page, "Kept as another opinion")
    be(page, "tester")
    entry = page.locator("[data-open=undecided]")
    expect(entry).to_have_text("Decide where people disagree (2)")
    page.keyboard.press("Alt+d")
    first = shown(page)
    page.locator(".an-opinions").get_by_role("button", name="Take it").click()
    status(page, "Decided")
    expect(entry).to_have_text("Decide where people disagree (1)")
    assert {first, shown(page)} == set(stood), "on to the other one"
    page.keyboard.press("Alt+z")
    status(page, "Undone")
    assert phrase_of(rows, first) == stood[first] and shown(page) == first, "the decision was taken back"
    for _ in stood:
        before = shown(page)
        page.locator(".an-opinions").get_by_role("button", name="Take it").click()
        status(page, f"words for {before}")
        assert phrase_of(rows, before) == f"words for {before}"
    expect(entry).to_have_text("Decide where people disagree")
    store = Store(app.workspace.annotations_db, app.workspace.pictures)
    for sample in stood:
        store.undo(sample, who="tester", expected_revision=store.get(sample).revision)
    assert {sample: phrase_of(rows, sample) for sample in stood} == stood


def test_blind_pointing_records_how_far_people_agree(page: Page, rows: Rows) -> None:
    be(page, "Cleo")
    choose(page, "blind")
    dialog = page.locator("#annotate-dialog")
    expect(dialog.locator("[data-kind=target]")).to_have_count(0)
    expect(page.locator("#annotate-figure")).to_be_hidden()  # perhaps the same picture, with its boxes
    picture = dialog.locator(".an-blind-picture svg")
    for hit in (True, False):
        phrase = dialog.locator(".an-blind-phrase").inner_text()
        source = str(picture.locator("xpath=..").locator("img").get_attribute("src"))
        ((sample, width),) = rows(
            "SELECT id, width_px FROM samples JOIN pictures ON sha256 = picture_sha256"
            " WHERE phrase = ? AND instr(?, sha256)",
            phrase,
            source,
        )
        boxes = rows("SELECT x1_px, y1_px, x2_px, y2_px FROM boxes WHERE sample_id = ?", sample)
        if hit == bool(boxes):
            frame = picture.bounding_box()
            assert frame is not None
            x1, y1, x2, y2 = (frame["width"] / width * number for number in (boxes[0] if boxes else (0, 0, 9, 9)))
            page.mouse.move(frame["x"] + x1, frame["y"] + y1)
            page.mouse.down()
            page.mouse.move(frame["x"] + x2, frame["y"] + y2, steps=5)
            page.mouse.up()
        else:
            page.keyboard.press("0")
        expect(dialog.locator(".an-blind-verdict .an-iou")).to_have_attribute("data-hit", str(hit).lower())
        ((who, kind, met),) = rows("SELECT who, kind, iou FROM opinions WHERE sample_id = ? AND kind = 'blind'", sample)
        assert (who, kind, met >= 0.5) == ("Cleo", "blind", hit)
        page.keyboard.press("Enter")
        expect(dialog.locator(".an-blind-verdict .an-iou")).to_have_count(0)
    picture.hover()
    page.mouse.down()
    page.mouse.move(5, 5000)  # let go outside the window: that counts, and nothing hangs
    page.mouse.up()
    expect(dialog.locator(".an-blind-verdict .an-iou")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(box(page)).to_be_focused()
    choose(page, "people")
    expect(dialog).to_contain_text(re.compile(r"From the phrase alone [12] of 3 targets were found"))
    page.keyboard.press("Escape")
    be(page, "tester")


def test_many_are_changed_at_once_after_a_preview_and_put_back(page: Page, app: ServedApp, rows: Rows) -> None:
    go_to(page, app, TRUCK)
    before = rows("SELECT id, phrase FROM samples ORDER BY id")
    lefts = [row for row in before if re.search(r"\bleft\b", row[1]) and row[0].startswith("demo-train")]
    choose(page, "bulk")
    dialog = page.locator("#annotate-dialog")
    expect(dialog.locator(".an-dialog-status")).to_be_empty()
    dialog.locator("[name=find]").fill("left")
    dialog.locator("[name=put]").fill("far left")
    press = dialog.locator("[data-bulk]")
    expect(press).to_have_text(f"Change {len(lefts)}")
    expect(dialog.locator(".an-preview tbody tr")).to_have_count(len(lefts))
    assert rows("SELECT id, phrase FROM samples ORDER BY id") == before
    dialog.locator("[name=put]").fill("leftmost")
    assert press.is_disabled(), "what the preview does not show yet can't be done"
    expect(dialog.locator(".an-preview tbody")).to_contain_text("leftmost")
    press.click()
    expect(page.locator(".an-repaired")).to_contain_text(f"{len(lefts)} samples changed")
    now = dict(rows("SELECT id, phrase FROM samples"))
    assert {now[sample] for sample, _ in lefts} == {re.sub(r"\bleft\b", "leftmost", phrase) for _, phrase in lefts}
    page.locator("#annotate-repair-undo").click()
    status(page, f"{len(lefts)} samples put back")
    assert rows("SELECT id, phrase FROM samples ORDER BY id") == before


def test_a_blind_check_takes_several_boxes(page: Page, app: ServedApp) -> None:
    store = Store(app.workspace.annotations_db, app.workspace.pictures)
    boxes = [*store.get(TRUCK).sample.boxes_xyxy_px, *store.get(RIVAL).sample.boxes_xyxy_px]
    item = store.get(TRUCK)
    store.save(TRUCK, "both of them", who="Ann", expected_revision=item.revision, boxes_xyxy_px=boxes)
    go_to(page, app, TRUCK)
    be(page, "Dora")
    choose(page, "blind")
    dialog = page.locator("#annotate-dialog")
    phrase = dialog.locator(".an-blind-phrase")
    for _ in range(80):
        if phrase.inner_text() == "both of them":
            break
        passed = phrase.inner_text()
        page.keyboard.press("Enter")
        expect(phrase).not_to_have_text(passed)
    frame = dialog.locator(".an-blind-picture svg").bounding_box()
    assert frame is not None
    scale = frame["width"] / item.image_size_wh[0]
    page.keyboard.down("Shift")
    for number, (x1, y1, x2, y2) in enumerate(boxes, start=1):
        page.mouse.move(frame["x"] + scale * x1, frame["y"] + scale * y1)
        page.mouse.down()
        page.mouse.move(frame["x"] + scale * x2, frame["y"] + scale * y2, steps=4)
        page.mouse.up()
        expect(dialog.locator("[data-blind-next]")).to_have_text(f"These {number}")
    page.keyboard.up("Shift")
    page.keyboard.press("Enter")
    expect(dialog.locator(".an-blind-verdict .an-iou")).to_have_attribute("data-hit", "true")
    page.keyboard.press("Escape")
    store.undo(TRUCK, who="Ann", expected_revision=store.get(TRUCK).revision)
    be(page, "tester")


def test_back_leads_to_the_queue_and_the_sample_before(page: Page, app: ServedApp) -> None:
    go_to(page, app, TRUCK)
    page.keyboard.press("Alt+ArrowRight")
    left_at = shown(page)
    assert left_at != TRUCK
    page.locator("#annotate-split select").select_option("val")
    expect(page).to_have_url(re.compile(r"#queue=all&split=val$"))
    page.locator("#annotate-filter").click()
    page.keyboard.type("the", delay=400)  # each letter is asked for, and all are one step
    expect(page).to_have_url(re.compile(r"split=val&words=the$"))
    page.go_back()
    expect(page.locator("#annotate-filters output")).to_be_empty()
    expect(page.locator("#annotate-words")).to_have_value("")
    page.go_back()
    expect(page.locator("[data-fact=id]")).to_have_text(left_at)
    expect(page.locator("#annotate-split select")).to_have_value("train")
    page.go_forward()
    expect(page.locator("#annotate-split select")).to_have_value("val")


def test_a_queue_chosen_while_a_save_is_on_its_way_is_opened(page: Page, app: ServedApp) -> None:
    go_to(page, app, TRUCK)
    page.keyboard.press("Alt+ArrowRight")
    page.locator("#annotate-split select").select_option("val")
    expect(page.locator("[data-fact=split]")).to_have_text("val")
    expect(page.locator("#annotate-split select")).to_have_value("val")


def test_a_duplicate_of_a_browser_tab_is_another_page(context: BrowserContext, page: Page, app: ServedApp) -> None:
    sample = shown(page)
    with context.expect_page() as opened:
        page.evaluate("window.open(location.href)")  # with a copy of the storage of this browser tab
    other = at_rest(opened.value)
    assert shown(other) == sample
    expect(other.locator("#annotate-holder")).to_contain_text("has this sample open")
    page.reload()
    at_rest(page)
    assert shown(page) == sample
    expect(page.locator("#annotate-holder")).to_be_hidden()
    other.close(run_before_unload=True)


def test_other_boxes_of_the_picture_are_drawn_and_can_be_hidden(page: Page, app: ServedApp) -> None:
    go_to(page, app, TRUCK)
    others = page.locator("#annotate-figure .an-beside")
    expect(others).not_to_have_count(0)
    page.keyboard.press("Alt+o")
    expect(others).to_have_count(0)
    page.reload()
    at_rest(page)
    expect(others).to_have_count(0)
    page.keyboard.press("Alt+o")
    expect(others).not_to_have_count(0)


def test_help_opens_as_long_as_nothing_is_typed(page: Page, app: ServedApp, rows: Rows) -> None:
    go_to(page, app, TRUCK)
    page.keyboard.press("?")
    expect(page.locator("#annotate-help-page")).to_be_visible()
    page.keyboard.press("Escape")
    expect(box(page)).to_be_focused()
    page.keyboard.type(" is it")
    page.keyboard.press("?")
    expect(box(page)).to_have_value(f"{phrase_of(rows, TRUCK)} is it?")
    box(page).fill(phrase_of(rows, TRUCK))


def test_who_has_a_sample_open_is_shown_and_it_can_be_taken_over(
    context: BrowserContext, page: Page, app: ServedApp, rows: Rows
) -> None:
    sample = shown(page)
    expect(page.locator("#annotate-holder")).to_be_hidden()
    other = go_to(context.new_page(), app, sample, "placeholders")
    holder = other.locator("#annotate-holder")
    expect(holder).to_contain_text("tester has this sample open")
    (token,) = rows("SELECT token FROM leases WHERE sample_id = ?", sample)[0]
    other.locator("#annotate-take-over").click()
    expect(holder).to_be_hidden()
    assert rows("SELECT count(*) FROM leases WHERE sample_id = ? AND token <> ?", sample, token) == [(1,)]
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # back in the first window
    expect(page.locator("#annotate-holder")).to_contain_text("has this sample open")
    other.keyboard.press("Alt+ArrowRight")
    assert shown(other) != sample
    expect(holder).to_be_hidden()
    other.close(run_before_unload=True)


def test_the_menu_has_keys_of_its_own_and_the_picture_stays_in_its_frame(page: Page, rows: Rows) -> None:
    sample = shown(page)
    page.locator("#annotate-more").click()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Escape")
    expect(page.locator("#annotate-menu")).to_be_hidden()
    expect(box(page)).to_be_focused()
    assert shown(page) == sample, "Esc closes the menu and skips nothing"

    frame = page.locator("#annotate-figure").bounding_box()
    target = page.locator("#annotate-figure .an-target")
    page.keyboard.press("Alt+x")
    expect(page.locator("#annotate-figure")).to_have_attribute("data-zoom", "true")
    near = target.bounding_box()
    assert frame is not None and near is not None and page.locator("#annotate-figure").bounding_box() == frame
    assert near["x"] + near["width"] / 2 == pytest.approx(frame["x"] + frame["width"] / 2, abs=2)
    assert near["y"] + near["height"] / 2 == pytest.approx(frame["y"] + frame["height"] / 2, abs=2)
    page.keyboard.press("Alt+x")
    expect(page.locator("#annotate-figure")).to_have_attribute("data-zoom", "false")


def command(app: ServedApp, *arguments: str) -> None:
    where = ["--workspace", str(app.workspace.root)]
    done = subprocess.run([sys.executable, "-m", *arguments, *where], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_base_and_the_newest_adapter_point_side_by_side_and_make_a_queue(
    page: Page, app: ServedApp, rows: Rows
) -> None:
    go_to(page, app, TRUCK)
    listeners = page.locator(".an-listeners [data-listener]")
    expect(listeners).to_have_count(1, timeout=LISTENER_MS)
    command(app, "annotate", "snapshot", "one")
    command(app, "grounding", "train", "one", "--name", "hasty", "--set", "steps=2")
    page.reload()
    at_rest(page)
    expect(listeners).to_have_count(2, timeout=LISTENER_MS)
    expect(listeners.nth(0)).to_contain_text("Base")
    expect(listeners.nth(1)).to_contain_text("Adapter hasty")
    heard = "SELECT listener FROM heard WHERE sample_id = ? ORDER BY listener"
    assert rows(heard, TRUCK) == [("adapter hasty",), ("base",)]

    choose(page, "listening")
    page.locator("[data-pass=pass_start]").click()
    expect(page.locator(".an-pass")).to_contain_text("Done", timeout=LISTENER_MS)
    page.keyboard.press("Escape")
    gaps = "SELECT listener_gap FROM samples WHERE split = 'train' AND listener_gap IS NOT NULL AND state <> 'rejected'"
    ordered = sorted((gap for (gap,) in rows(gaps)), reverse=True)
    assert len(ordered) > 10
    page.locator("#annotate-queue select").select_option("disagree")
    expect(page.locator("#annotate-queue select")).to_have_value("disagree")
    for gap in ordered[:3]:
        assert rows("SELECT listener_gap FROM samples WHERE id = ?", shown(page)) == [(gap,)], "the widest gap first"
        page.keyboard.press("Alt+ArrowRight")
