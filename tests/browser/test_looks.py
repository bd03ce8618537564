"""Compare in all of its states, photographed light, dark and on a tablet, and checked for what eyes would catch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from annotate.store import Store
from chromium import visit
from compare_tab import keep_base_and_adapter, wait_for_answers
from grounding.boxes import Box
from grounding.demo.dataset import DemoSize
from grounding.records import Sample
from grounding.workspace import Workspace
from looks import Album
from random_adapters import write_random_adapter
from served import ServedApp, free_port, small_workspace

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LONG_NAME = "tools-of-the-workshop-second-try-with-more-phrases"
LONG_PHRASE = "the small dog that stands to the left of the large red drum and looks away from it " * 4
HTML_PHRASE = '<img src=x onerror="alert(1)"> & <b>the "left" drum</b>'


def odd_samples(folder: Path) -> list[Sample]:
    """Pictures and phrases that a page is seldom drawn for."""
    folder.mkdir()
    pictures = {
        "wide": Image.linear_gradient("L").resize((1200, 150)).convert("RGB"),
        "tall": Image.linear_gradient("L").resize((150, 1200)).convert("RGB"),
        "tiny": Image.effect_noise((36, 36), 90).convert("RGB"),
        "white": Image.new("RGB", (320, 240), "white"),
        "black": Image.new("RGB", (320, 240), "black"),
        "strip": Image.new("RGB", (900, 4), "grey"),
    }
    phrases = {"wide": HTML_PHRASE, "tall": LONG_PHRASE.strip(), "tiny": "左边的狗", "white": "الكلب على اليسار"}
    made = []
    for name, picture in pictures.items():
        picture.save(folder / f"{name}.png")
        width, height = picture.size
        boxes = (Box(width * 0.1, height * 0.1, width * 0.5, height * 0.9), Box(0, 0, width, height * 0.5))
        phrase = phrases.get(name, f"the {name} thing")
        made.append(Sample(f"odd-{name}", folder / f"{name}.png", phrase, boxes, split="val", category="odd"))
    return made


def looked_at_workspace(folder: Path) -> Workspace:
    """A demo, odd pictures, three adapters that answer otherwise, and two evaluations of the test split."""
    workspace = small_workspace(folder, DemoSize(4, 1, 16))
    store = Store(workspace.annotations_db, workspace.pictures)
    store.import_samples(odd_samples(folder / "odd"), source="odd", who="tester")
    for seed, name in enumerate(("older", "newer", LONG_NAME), start=1):
        write_random_adapter(workspace.adapters / name, seed=seed, created_at=f"2026-0{seed}-01T00:00:00+00:00")
    keep_base_and_adapter(workspace, LONG_NAME)
    return workspace


@pytest.fixture(scope="module")
def served_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApp]:
    app = ServedApp(looked_at_workspace(tmp_path_factory.mktemp("looks")), free_port())
    app.start()
    yield app
    app.stop()


def open_odd(page: Page, name: str) -> None:
    thumb = page.locator(f'#compare-grid [data-sample="odd-{name}"]')
    thumb.click()
    expect(thumb).to_have_attribute("aria-pressed", "true")
    page.wait_for_timeout(500)
    wait_for_answers(page)


def choose(page: Page, selector: str, option: str) -> None:
    page.locator(selector).get_by_role("combobox").click()
    page.get_by_role("listbox").get_by_role("option", name=option).click()


def test_one_picture(page: Page, served_app: ServedApp) -> None:
    album = Album(page)
    visit(page, served_app.url)
    wait_for_answers(page)
    album.look("two-models")
    for name in ("older", "newer"):
        choose(page, "#compare-models", name)
    expect(page.locator("#compare-results .bw-cards h3")).to_have_count(4)
    page.keyboard.press("Escape")
    wait_for_answers(page)
    album.look("four-models")
    for view in ("Overlay", "Slider"):
        page.locator(".bw-views label", has_text=view).click()
        album.look(f"four-models-{view.lower()}")
    page.locator(".bw-views label", has_text="Side by side").click()

    page.locator(".bw-cards .bw-heat-switch").first.click()
    expect(page.locator("#compare-results .bw-answers")).to_have_attribute("data-heats", "yes")
    album.look("heat")
    page.locator(".bw-ask").click()
    expect(page.locator(".bw-verdicts li")).to_have_count(4, timeout=90_000)
    album.look("probes", at=".bw-verdicts")
    page.locator(".bw-read summary").click()
    expect(page.locator(".bw-tokens")).to_be_visible()
    album.look("prompt", at=".bw-read")

    choose(page, "#compare-split", "val")
    for name in ("wide", "tall", "tiny", "white", "black"):
        open_odd(page, name)
        album.look(f"odd-{name}")
    page.locator(".bw-views label", has_text="Overlay").click()
    for name in ("wide", "tall", "tiny"):
        open_odd(page, name)
        album.look(f"odd-{name}-overlay")
    page.locator(".bw-views label", has_text="Side by side").click()
    open_odd(page, "strip")
    album.look("odd-strip")
    page.locator("#compare-phrase").get_by_role("textbox").fill("")
    page.locator("#compare-run").click()
    album.look("no-phrase")
    page.locator("#compare-further-show").click()
    expect(page.locator("#compare-further-bar")).to_be_visible()
    album.look("further-models")
    page.locator("#compare-left input[type=file]").set_input_files(
        str(served_app.workspace.root.parent / "odd/wide.png")
    )
    wait_for_answers(page)
    album.look("uploaded")
    assert not album.faults, "\n".join(album.faults)


def test_a_whole_set(page: Page, served_app: ServedApp) -> None:
    album = Album(page)
    visit(page, served_app.url)
    wait_for_answers(page)
    expect(page.locator(".bw-whole-figures")).to_have_attribute("data-exact", "true")
    album.look("whole", at="#whole-head")
    album.look("whole-breakdowns", at="#whole-breakdowns")
    album.look("whole-list", at="#whole-bar")
    page.locator("#whole-bar input[type=search]").fill("nothing is called this")
    expect(page.locator(".bw-whole-count b")).to_have_text("0")
    album.look("whole-nothing-left", at="#whole-bar")
    page.locator("#whole-bar .bw-remove").click()
    expect(page.locator(".bw-whole-count b")).to_have_text("32")
    choose(page, "#whole-b", "nothing: the other alone")
    expect(page.locator(".bw-whole-figures")).to_have_attribute("data-exact", "true")
    album.look("whole-one-alone", at="#whole-head")
    page.reload()
    wait_for_answers(page)
    page.locator("#whole-head").scroll_into_view_if_needed()
    expect(page.locator(".bw-whole-figures")).to_have_attribute("data-exact", "true")
    page.locator("#whole-bar button", has_text="Labels that may be wrong").click()
    page.wait_for_timeout(800)
    album.look("whole-labels", at="#whole-bar")
    page.locator("#arena > button").click()
    expect(page.locator(".bw-arena-question")).to_be_visible()
    album.look("arena", at="#arena")
    page.locator('.bw-arena-choices [data-choice="left"]').click()
    expect(page.locator(".bw-arena-last")).to_contain_text("You took left")
    album.look("arena-voted", at="#arena")
    page.locator("#compare-summary-run").click()
    expect(page.locator("#compare-evaluations li").first).to_have_attribute("data-state", "done", timeout=120_000)
    album.look("evaluated", at="#compare-summary-panel")
    assert not album.faults, "\n".join(album.faults)


@pytest.fixture
def page_of_its_own(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 720})
    page = context.new_page()
    page.set_default_timeout(60_000)
    yield page
    context.close()


_LENDS_ITS_MODEL = """
from grounding.ui.keeper import Keeper
def look(keeper):
    keeper.models.unload()  # as when a run needs the GPU
Keeper.look = look
"""


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("model-failed", "There is no model folder"),
        ("model-lent", "its memory is lent to a training run"),
        ("no-samples", "Upload"),
    ],
)
def test_without_a_model_or_samples(page_of_its_own: Page, tmp_path: Path, state: str, says: str) -> None:
    page = page_of_its_own
    album = Album(page)
    empty = state == "no-samples"
    workspace = Workspace(tmp_path / "empty") if empty else small_workspace(tmp_path, DemoSize(2, 1, 3))
    app = ServedApp(
        workspace,
        free_port(),
        model="no/such/model" if state == "model-failed" else "demo",
        flags=("--no-demo",) if empty else (),
        before=_LENDS_ITS_MODEL if state == "model-lent" else "",
    )
    app.start()
    try:
        visit(page, app.url)
        if state == "model-lent":
            expect(page.locator("header.bw-header")).to_contain_text("lent", timeout=90_000)
            visit(page, app.url)
        expect(page.locator("#compare-results, #compare-right").first).to_contain_text(says, timeout=90_000)
        album.look(state)
        album.look(f"{state}-below", at="#compare-summary-panel")
    finally:
        app.stop()
    assert not album.faults, "\n".join(album.faults)
