"""The whole loop in a real browser: compare, fix phrases, train, compare with the new adapter."""

from __future__ import annotations

import json
import re
import sqlite3

import pytest
from playwright.sync_api import Page, expect
from train_page import set_values

from chromium import visit
from compare_tab import wait_for_answers
from served import ServedApp

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def train_name(page: Page) -> str:
    field = page.locator("#train-name").get_by_role("textbox")
    expect(field).not_to_have_value("")
    return field.input_value()


def annotation_rows(app: ServedApp, sql: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(app.workspace.annotations_db)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def answer_otherwise(app: ServedApp, name: str) -> tuple[str, str]:
    """Let the run have gained on one validation sample and lost on another; returns their phrases."""
    file = app.workspace.adapters / name / "training_samples.jsonl"
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    first, *_, last = {line["id"]: line for line in lines}.values()
    for line in lines:
        trained = line["step"] > 0
        line["iou"] = {first["id"]: float(trained), last["id"]: float(not trained)}.get(line["id"], 0.5)
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return first["phrase"], last["phrase"]


def the_gallery_leads_on(page: Page, app: ServedApp, name: str) -> None:
    gained, lost = answer_otherwise(app, name)
    assert gained != lost
    page.reload()
    open_tab(page, "Train")
    for half, phrase in (("Biggest gains", gained), ("Biggest losses", lost)):
        heading = page.locator("#train-gallery h4", has_text=half)
        card = heading.locator("xpath=following-sibling::*[1]").locator(".bw-gallery-card")
        expect(card).to_have_count(1)
        expect(card.locator(".bw-gallery-phrase")).to_have_text(phrase)
        expect(card.locator("figure img")).to_be_visible()
        card.get_by_role("button", name="Compare").click()
        expect(page.locator("#compare-phrase").get_by_role("textbox")).to_have_value(phrase)
        expect(page.locator("#compare-results")).to_contain_text(name)
        wait_for_answers(page)
        open_tab(page, "Train")
        card.get_by_role("link", name="Annotate").click()
        expect(page.locator("#annotate-phrase")).to_have_value(phrase)
        page.get_by_role("button", name="Back to Train").click()
    open_tab(page, "Compare")


def test_compare_fix_train_compare(page: Page, served_app: ServedApp) -> None:
    # Compare: the page stands before the model does, and the base's answer comes by itself.
    visit(page, served_app.url)
    expect(page.locator("#compare-phrase").get_by_role("textbox")).not_to_have_value("")
    wait_for_answers(page)
    expect(page.locator("#compare-results")).to_contain_text("Base model")

    # Annotate: fill what the source knows, after seeing what it would change.
    open_tab(page, "Annotate")
    before = annotation_rows(served_app, "SELECT count(*) FROM samples WHERE placeholder = 1")[0][0]
    page.locator("#annotate-repair").click()
    expect(page.locator("#annotate-repair-preview")).to_be_visible()
    assert annotation_rows(served_app, "SELECT count(*) FROM samples WHERE placeholder = 1")[0][0] == before
    page.locator("#annotate-repair-confirm").click()
    expect(page.locator("#annotate-counts")).to_contain_text(re.compile(r"[1-9]\d* of \d+ phrases done"))
    left = annotation_rows(served_app, "SELECT count(*) FROM samples WHERE placeholder = 1")[0][0]
    assert 0 < int(str(left)) < int(str(before))

    # Write one by hand: Enter saves and goes on, and the row is there when the page says so.
    page.locator("#annotate-phrase").fill('the "best" <b>thing</b>')
    page.locator("#annotate-phrase").press("Enter")
    expect(page.locator("#annotate-status")).to_contain_text(re.compile("saved", re.IGNORECASE))
    written = annotation_rows(
        served_app,
        "SELECT phrase_before, phrase_after, who FROM changes WHERE action = 'write' ORDER BY id DESC LIMIT 1",
    )
    assert written == [
        (
            "Please carefully observe the area circled in the image and come up with a caption for the area.",
            'the "best" <b>thing</b>',
            "tester",
        )
    ]

    # Train: one button. The app is restarted meanwhile, and the page finds the run again.
    open_tab(page, "Train")
    name = train_name(page)
    set_values(page, steps=8, score_samples=4, score_every_steps=4)
    page.locator("#train-start").click()
    expect(page.locator("#train-stop")).to_be_visible()
    served_app.stop()
    served_app.start()
    visit(page, served_app.url)
    open_tab(page, "Train")
    expect(page.locator("#train-run")).to_contain_text(name)
    expect(page.locator("#train-compare")).to_be_visible(timeout=180_000)
    expect(page.locator("#train-run")).to_contain_text("Done")
    assert (served_app.workspace.adapters / name / "adapter.json").is_file()

    # Compare again, with the new adapter beside the base.
    page.locator("#train-compare").click()
    expect(page.locator("#compare-results")).to_contain_text(name)
    wait_for_answers(page)
    the_gallery_leads_on(page, served_app, name)

    # The figures over the test split, computed once and there again on the next visit.
    page.locator("#compare-summary-run").click()
    expect(page.locator("#compare-evaluations li[data-state=done]")).to_have_count(2, timeout=120_000)
    expect(page.locator("#compare-summary")).to_contain_text(f"{name} (demo)")
    expect(page.locator("#compare-summary table")).to_be_visible()
    expect(page.locator("#compare-summary")).to_contain_text("Acc@0.75")
    figures = page.locator("#compare-summary tbody").inner_text()
    page.reload()
    expect(page.locator("#compare-summary table")).to_be_visible()
    assert page.locator("#compare-summary tbody").inner_text() == figures


def test_a_run_is_stopped_and_keeps_what_it_learned(page: Page, served_app: ServedApp) -> None:
    visit(page, served_app.url)
    open_tab(page, "Train")
    name = train_name(page)
    set_values(page, steps=5000, score_samples=2, score_every_steps=5000, rehearsal_share=0)
    page.locator("#train-start").click()
    expect(page.locator("#train-message")).to_contain_text(re.compile(r"Step \d+ of 5,000"), timeout=120_000)
    page.locator("#train-stop").click()
    expect(page.locator("#train-run")).to_contain_text("the adapter so far is kept", timeout=60_000)
    assert (served_app.workspace.adapters / name / "adapter_model.safetensors").is_file()


def test_a_setting_out_of_range_is_a_sentence(page: Page, served_app: ServedApp) -> None:
    visit(page, served_app.url)
    open_tab(page, "Train")
    train_name(page)
    # What the check lists leads to Annotate, and Annotate back.
    page.get_by_role("link", name="Show them in Annotate").click()
    expect(page.locator("#annotate-phrase")).to_be_visible()
    assert "queue=placeholders" in page.url
    page.get_by_role("button", name="Back to Train").click()
    set_values(page, steps=0)
    page.locator("#train-start").click()
    expect(page.get_by_test_id("toast-text").get_by_text("steps=0 is out of range")).to_be_visible()
    assert not list(served_app.workspace.snapshots.glob("*"))
