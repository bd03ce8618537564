"""Real photographs without a phrase: imported, written by keyboard alone, frozen, exported and read back."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from annotate.store import Store
from annotate_page import at_rest, shown, status
from chromium import visit
from grounding.records import Sample
from grounding.workspace import Workspace
from served import ROOT, ServedApp, free_port

COCO_CC = Path(__file__).resolve().parents[3] / "shared" / "data" / "coco_cc"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not COCO_CC.is_dir(), reason="shared/data/coco_cc is not here"),
]


def annotate(workspace: Workspace, *arguments: str) -> dict[str, Any]:
    """What the real command says as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "annotate", *arguments, "--workspace", str(workspace.root), "--json"],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.fixture
def served_app(tmp_path: Path) -> Iterator[ServedApp]:
    """The app on a fresh workspace with the photographs, none of which has a phrase."""
    app = ServedApp(Workspace(tmp_path / "photographs"), free_port(), flags=("--no-demo",))
    report = annotate(app.workspace, "import", str(COCO_CC))
    assert report["format"] == "coco" and report["imported"] > 500 and report["errors"] == []
    app.start()
    yield app
    app.stop()


def rows(app: ServedApp, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(f"file:{app.workspace.annotations_db}?mode=ro", uri=True)
    try:
        return connection.execute(sql, parameters).fetchall()
    finally:
        connection.close()


def open_annotate_by_keys(page: Page) -> None:
    """Tab to the name of the tab, and Enter."""
    name = "document.activeElement.matches('[role=tab]') && document.activeElement.textContent.trim()"
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate(name) == "Annotate":
            page.keyboard.press("Enter")
            at_rest(page)
            return
    raise AssertionError("the Annotate tab can't be reached by keys")


def photograph(page: Page) -> str:
    shown(page)
    return str(page.locator("#annotate-figure img").get_attribute("src"))


def on_to_another_photograph(page: Page, seen: set[str]) -> str:
    """Alt+Right until the photograph is a new one; returns the id of the sample shown."""
    for _ in range(200):
        if photograph(page) not in seen:
            seen.add(photograph(page))
            return shown(page)
        page.keyboard.press("Alt+ArrowRight")
    raise AssertionError("no further photograph came")


def write(page: Page, phrase: str) -> None:
    page.keyboard.type(phrase)
    page.keyboard.press("Enter")
    status(page, phrase)


def same(sample: Sample) -> tuple[Any, ...]:
    """All of a sample, its picture by content."""
    picture = hashlib.sha256(sample.image.read_bytes()).hexdigest()
    document = {key: value for key, value in sample.to_json(sample.image.parent).items() if key != "image"}
    return picture, json.dumps(document, sort_keys=True)


def test_phrases_for_photographs_by_keyboard_alone(page: Page, served_app: ServedApp, tmp_path: Path) -> None:
    visit(page, served_app.url)
    expect(page.get_by_role("tab", name="Annotate")).to_be_visible()
    open_annotate_by_keys(page)
    seen: set[str] = set()
    written: dict[str, str] = {}
    for number in range(4):
        sample = on_to_another_photograph(page, seen)
        written[sample] = f"the thing in photograph {number}"
        write(page, written[sample])

    nudged = on_to_another_photograph(page, seen)
    box = "SELECT x1_px, y1_px, x2_px, y2_px FROM boxes WHERE sample_id = ?"
    ((x1, y1, x2, y2),) = rows(served_app, box, nudged)
    width = "SELECT width_px FROM samples JOIN pictures ON sha256 = picture_sha256 WHERE id = ?"
    has_room = x2 + 3 <= rows(served_app, width, nudged)[0][0]
    key, by = ("ArrowRight", 3) if has_room else ("ArrowLeft", -3)
    page.keyboard.type("nudged a little")
    page.keyboard.press("Alt+b")
    for _ in range(3):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    status(page, "nudged a little")
    written[nudged] = "nudged a little"
    assert rows(served_app, box, nudged) == [pytest.approx((x1 + by, y1, x2 + by, y2))]

    skipped = on_to_another_photograph(page, seen)
    page.keyboard.press("Escape")
    status(page, "Skipped")
    flagged = on_to_another_photograph(page, seen)
    page.keyboard.press("Alt+f")
    status(page, "Flagged")
    page.keyboard.type("two boxes in one")
    page.keyboard.press("Enter")
    status(page, "with a note")
    undone = on_to_another_photograph(page, seen)
    write(page, "a slip of the hand")
    page.keyboard.press("Alt+z")
    status(page, "Undone")
    assert shown(page) == undone

    said = "SELECT id, phrase FROM samples WHERE placeholder = 0"
    assert dict(rows(served_app, said)) == written
    state = "SELECT skip_order > 0, flagged, flag_note, revision, placeholder FROM samples WHERE id = ?"
    assert rows(served_app, state, skipped) == [(1, 0, "", 2, 1)]
    assert rows(served_app, state, flagged) == [(0, 1, "two boxes in one", 3, 1)]
    assert rows(served_app, state, undone) == [(0, 0, "", 3, 1)]
    changes = "SELECT action, who FROM changes WHERE sample_id = ? ORDER BY revision"
    assert rows(served_app, changes, undone)[1:] == [("write", "tester"), ("undo", "tester")]

    assert annotate(served_app.workspace, "snapshot", "first")["counts"]["train"] == 5
    out = tmp_path / "coco_cc"
    assert annotate(served_app.workspace, "export", "first", "--format", "coco", "--out", str(out))["samples"] == 5
    other = Workspace(tmp_path / "other")
    assert annotate(other, "import", str(out))["imported"] == 5
    here, there = (Store(one.annotations_db, one.pictures) for one in (served_app.workspace, other))
    ours = [same(sample) for sample in here.iterate() if sample.id in written]
    assert len(ours) == 5 and [same(sample) for sample in there.iterate()] == ours
