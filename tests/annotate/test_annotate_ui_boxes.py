"""Boxes on the Annotate tab in a real browser: drawn, moved, nudged, saved; new phrases, rejections, versions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from annotate_page import Rows, box, shown, status

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def boxes_of(rows: Rows, sample: str) -> list[list[float]]:
    found = rows("SELECT x1_px, y1_px, x2_px, y2_px FROM boxes WHERE sample_id = ? ORDER BY ordinal", sample)
    return [list(numbers) for numbers in found]


def on_page(page: Page, x_px: float, y_px: float) -> tuple[float, float]:
    """Where a pixel of the picture lies on the page."""
    frame = page.locator("#annotate-figure svg").bounding_box()
    assert frame is not None
    size: list[int] = page.evaluate("document.querySelector('#annotate-figure svg').viewBox.baseVal.width")
    scale = frame["width"] / float(size)  # type: ignore[arg-type]
    return frame["x"] + x_px * scale, frame["y"] + y_px * scale


def drag(page: Page, from_px: tuple[float, float], to_px: tuple[float, float]) -> None:
    page.mouse.move(*on_page(page, *from_px))
    page.mouse.down()
    page.mouse.move(*on_page(page, *to_px), steps=6)
    page.mouse.up()


def save(page: Page, phrase: str) -> None:
    box(page).fill(phrase)
    page.keyboard.press("Enter")
    status(page, phrase)


def centre(numbers: list[float]) -> tuple[float, float]:
    x1, y1, x2, y2 = numbers
    return (x1 + x2) / 2, (y1 + y2) / 2


def test_a_box_is_moved_and_resized_by_the_mouse_and_saved(page: Page, rows: Rows) -> None:
    sample = shown(page)
    (before,) = boxes_of(rows, sample)
    x, y = centre(before)
    by = 12.0 if x < 128 else -12.0
    drag(page, (x, y), (x + by, y))
    expect(page.locator("#annotate-boxes-changed")).to_contain_text("changed, not saved")
    assert boxes_of(rows, sample) == [before], "nothing is saved before the person says so"
    save(page, "moved along")
    (moved,) = boxes_of(rows, sample)
    assert moved == pytest.approx([before[0] + by, before[1], before[2] + by, before[3]], abs=1.0)
    expect(page.locator("#annotate-boxes-changed")).to_be_hidden()

    page.keyboard.press("Alt+ArrowLeft")
    assert shown(page) == sample
    drag(page, (moved[2], moved[3]), (moved[2] - 6, moved[3] - 6))
    save(page, "moved and smaller")
    assert boxes_of(rows, sample)[0] == pytest.approx([*moved[:2], moved[2] - 6, moved[3] - 6], abs=1.0)


def test_boxes_by_keys_alone_with_a_draft_over_a_reload(page: Page, rows: Rows) -> None:
    sample = shown(page)
    (before,) = boxes_of(rows, sample)
    page.keyboard.press("Alt+b")
    step = "ArrowRight" if before[2] < 240 else "ArrowLeft"
    sign = 1 if step == "ArrowRight" else -1
    page.keyboard.press(step)
    page.keyboard.press(f"Shift+{step}")
    page.keyboard.press("n")
    expect(page.locator("#annotate-figure [data-kind=target]")).to_have_count(2)
    page.keyboard.press("Control+Shift+ArrowDown")
    page.reload()
    expect(box(page)).to_be_focused()
    assert shown(page) == sample
    expect(page.locator("#annotate-boxes-changed")).to_contain_text("changed, not saved")
    save(page, "two of them")
    first, second = boxes_of(rows, sample)
    assert first == pytest.approx([before[0] + 11 * sign, before[1], before[2] + 11 * sign, before[3]], abs=0.02)
    assert second == pytest.approx([102.4, 102.4, 153.6, 163.6], abs=0.02)

    page.keyboard.press("Alt+z")
    status(page, "Undone")
    assert boxes_of(rows, sample) == [before]
    page.keyboard.press("Alt+b")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Escape")
    expect(page.locator("#annotate-boxes-changed")).to_be_hidden()
    expect(box(page)).to_be_focused()


def test_a_phrase_without_a_box_is_asked_for_twice(page: Page, rows: Rows) -> None:
    sample = shown(page)
    page.keyboard.press("Alt+b")
    page.keyboard.press("Delete")
    box(page).fill("the dragon")
    page.keyboard.press("Enter")
    status(page, "would refer to nothing")
    assert len(boxes_of(rows, sample)) == 1
    page.keyboard.press("Enter")
    status(page, "Saved")
    assert boxes_of(rows, sample) == []


def test_another_phrase_is_added_to_the_picture_with_a_box_of_its_own(page: Page, rows: Rows) -> None:
    sample = shown(page)
    page.keyboard.type("half a thought")
    page.keyboard.press("Alt+n")
    expect(box(page)).to_have_value("")
    drag(page, (5, 5), (45, 65))
    page.keyboard.type("the empty corner")
    page.keyboard.press("Enter")
    status(page, "Added")
    assert shown(page) == sample
    expect(box(page)).to_have_value("half a thought")
    expect(page.locator(".an-siblings")).to_contain_text("the empty corner")
    (added,) = rows("SELECT id, split, state FROM samples WHERE phrase = 'the empty corner'")
    assert added[1:] == ("train", "written")
    assert boxes_of(rows, added[0])[0] == pytest.approx([5, 5, 45, 65], abs=1.0)
    page.keyboard.press("Alt+n")
    page.keyboard.press("Escape")
    expect(box(page)).to_have_value("half a thought")
    box(page).fill("")


def test_rejected_with_a_reason_opened_again_and_an_earlier_version_put_back(page: Page, rows: Rows) -> None:
    sample = shown(page)
    page.keyboard.press("Alt+r")
    page.keyboard.type("cut off at the edge")
    page.keyboard.press("Enter")
    status(page, "Rejected")
    assert rows("SELECT state, reject_reason FROM samples WHERE id = ?", sample) == [
        ("rejected", "cut off at the edge")
    ]
    page.keyboard.press("Alt+ArrowLeft")
    expect(page.locator(".an-stands")).to_contain_text("cut off at the edge")
    page.keyboard.press("Alt+r")
    status(page, "Open again")
    page.get_by_role("button", name="put back").last.click()
    status(page, "Put back")
    assert rows("SELECT state, revision FROM samples WHERE id = ?", sample) == [("imported", 4)]


BAD_BOXES: dict[str, Any] = {
    "no list": "x",
    "text": [["a", 1, 2, 3]],
    "too few": [[1, 2, 3]],
    "outside": [[5000, 5000, 6000, 6000]],
    "no number": [[None, 1, 2, 3]],
}


@pytest.mark.parametrize("boxes", BAD_BOXES.values(), ids=BAD_BOXES)
def test_boxes_that_make_no_sense_are_refused_with_a_sentence(boxes: Any, page: Page, rows: Rows) -> None:
    sample = shown(page)
    (before,) = rows("SELECT phrase, revision FROM samples WHERE id = ?", sample)
    page.evaluate(f"""() => {{
        const send = window.fetch;
        window.fetch = (url, options) => {{
            if (options && typeof options.body === 'string' && options.body.includes('"save"')) {{
                const sent = JSON.parse(options.body);
                const inside = sent.data.do ? sent.data : sent.data[0];
                inside.boxes = {json.dumps(boxes)};
                options.body = JSON.stringify(sent);
            }}
            return send(url, options);
        }};
    }}""")
    box(page).fill("bad boxes")
    page.keyboard.press("Enter")
    expect(page.locator("#annotate-status")).to_have_attribute("data-kind", "problem")
    assert rows("SELECT phrase, revision FROM samples WHERE id = ?", sample) == [before]
    box(page).fill("")
