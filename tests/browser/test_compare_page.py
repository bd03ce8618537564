"""Compare in a real browser: three views, one zoom for all pictures, heat, probes, the prompt; by keys too."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from chromium import visit
from compare_tab import wait_for_answers
from grounding.demo.dataset import DemoSize
from random_adapters import write_random_adapter
from served import ServedApp, free_port, small_workspace

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def served_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApp]:
    """The app with two adapters beside its base. One for all tests here: they only look."""
    workspace = small_workspace(tmp_path_factory.mktemp("compare"), DemoSize(6, 2, 6))
    write_random_adapter(workspace.adapters / "older", seed=1, created_at="2026-01-01T00:00:00+00:00")
    write_random_adapter(workspace.adapters / "newer", seed=2, created_at="2026-02-01T00:00:00+00:00")
    app = ServedApp(workspace, free_port())
    app.start()
    yield app
    app.stop()


@pytest.fixture
def answered(page: Page, served_app: ServedApp) -> Page:
    """The page with the answers of the base and of the newest adapter."""
    visit(page, served_app.url)
    wait_for_answers(page)
    return page


def titles(page: Page) -> list[str]:
    return page.locator("#compare-results .bw-cards h3").all_inner_texts()


def show(page: Page, view: str) -> None:
    page.locator(".bw-views label", has_text=view).click()


def place_of(picture: Locator) -> tuple[float, float, float]:
    """Left, top and width of a picture in sizes of its frame: what zoom and pan change."""
    left, top, width = picture.evaluate(
        "i => { const f = i.parentElement.getBoundingClientRect(), b = i.getBoundingClientRect();"
        " return [(b.left - f.left) / f.width, (b.top - f.top) / f.height, b.width / f.width]; }"
    )
    return round(left, 3), round(top, 3), round(width, 3)


def places(page: Page) -> set[tuple[float, float, float]]:
    pictures = page.locator("#compare-results .bw-cards .bw-figure > img:not(.bw-heat)")
    return {place_of(picture) for picture in pictures.all()}


def test_models_are_added_and_taken_away(answered: Page) -> None:
    page = answered
    assert titles(page) == ["Base model", "newer"]
    field = page.locator("#compare-models").get_by_role("combobox")
    field.click()
    page.get_by_role("option", name="older").click()
    expect(page.locator("#compare-results .bw-cards h3")).to_have_text(["Base model", "newer", "older"])
    wait_for_answers(page)
    expect(page.locator("#compare-results .bw-note")).to_contain_text(re.compile("Best|Same overlap|no truth"))
    page.keyboard.press("Escape")
    page.locator("#compare-models .token", has_text="newer").locator(".token-remove, button").first.click()
    expect(page.locator("#compare-results .bw-cards h3")).to_have_text(["Base model", "older"])


def test_nothing_jumps_when_the_answers_come(page: Page, served_app: ServedApp) -> None:
    visit(page, served_app.url)
    busy = page.locator("#compare-results .bw-answers")
    expect(busy).to_have_attribute("aria-busy", "true")
    watched = ("#compare-results .bw-note", "#compare-results .bw-ask", "#compare-summary-panel")
    before = [page.locator(selector).bounding_box() for selector in watched]
    wait_for_answers(page)
    assert [page.locator(selector).bounding_box() for selector in watched] == before


def test_all_pictures_zoom_and_move_as_one(answered: Page) -> None:
    page = answered
    assert places(page) == {(0, 0, 1)}
    stage = page.locator("#compare-results .bw-cards .bw-stage").first
    stage.focus()
    for _ in range(3):
        page.keyboard.press("+")
    (zoomed,) = places(page)
    assert zoomed[2] == pytest.approx(1.35**3, abs=0.01)
    expect(page.locator(".bw-zoom-now")).to_have_text("246%")
    page.keyboard.press("ArrowRight")
    (moved,) = places(page)
    assert moved[0] < zoomed[0] and moved[1:] == zoomed[1:]
    box = stage.bounding_box()
    assert box is not None
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 40, middle[1] + 30, steps=4)
    page.mouse.up()
    (dragged,) = places(page)
    assert dragged[0] > moved[0] and dragged[1] > moved[1]
    page.mouse.dblclick(*middle)
    assert places(page) == {(0, 0, 1)}
    page.mouse.wheel(0, -200)
    page.wait_for_function("document.querySelector('.bw-zoom-now').textContent !== '100%'", polling=300)
    assert len(places(page)) == 1
    show(page, "Overlay")
    assert place_of(page.locator(".bw-overlay .bw-figure > img")) in places_hidden(page)
    page.locator("button[data-zoom=whole]").click()
    show(page, "Side by side")
    assert places(page) == {(0, 0, 1)}


def places_hidden(page: Page) -> set[tuple[float, float, float]]:
    """The place that the three numbers give, whatever is shown."""
    x, y, by = page.locator("#compare-results .bw-overlay .bw-figure").evaluate(
        "f => ['x', 'y', 'zoom'].map(n => Number(getComputedStyle(f).getPropertyValue('--bw-' + n)))"
    )
    return {(round(x, 3), round(y, 3), round(by, 3))}


def test_the_view_and_the_zoom_stay_for_the_next_sample(answered: Page) -> None:
    page = answered
    show(page, "Overlay")
    page.locator("button[data-zoom=in]").click()
    page.locator("#compare-grid .bw-thumb").nth(3).click()
    expect(page.locator("#compare-grid .bw-thumb").nth(3)).to_have_attribute("aria-pressed", "true")
    page.wait_for_timeout(500)
    wait_for_answers(page)
    expect(page.locator("#compare-results .bw-overlay")).to_be_visible()
    expect(page.locator("#compare-results .bw-cards")).to_be_hidden()
    assert place_of(page.locator(".bw-overlay .bw-figure > img"))[2] == pytest.approx(1.35, abs=0.01)


def test_the_divider_is_moved_by_keys(answered: Page) -> None:
    page = answered
    show(page, "Slider")
    divider = page.locator(".bw-split")
    divider.focus()
    clipped = "l => getComputedStyle(l).clipPath"
    left = page.locator('.bw-layer[data-side="left"]')
    before = left.evaluate(clipped)
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    expect(divider).to_have_value("60")
    assert left.evaluate(clipped) != before
    page.locator('.bw-side[data-side="right"]').select_option(label="Truth alone")
    expect(page.locator('.bw-layer[data-side="right"]')).to_have_attribute("data-place", "2")


def test_heat_probes_and_prompt_come_when_asked_for(answered: Page) -> None:
    page = answered
    results = page.locator("#compare-results .bw-answers")
    page.locator(".bw-cards .bw-heat-switch").first.click()
    expect(results).to_have_attribute("data-heats", "yes")
    expect(page.locator(".bw-cards .bw-heat-switch").first).to_have_attribute("aria-pressed", "true")
    shown = page.locator(".bw-cards .bw-heat:visible, .bw-cards .bw-no-heat:visible")
    expect(shown).to_have_count(1)
    expect(page.locator(".bw-cards .bw-card").first.locator(".bw-heat")).to_be_visible()

    page.locator(".bw-ask").click()
    expect(page.locator(".bw-verdicts li")).to_have_count(2)
    # The base finds the motorcycle; the picture's other phrase, "eggplant", it was never taught.
    base = page.locator(".bw-verdicts li").first
    marks = page.locator(".bw-probe .bw-moves span[data-moved]:first-child").all()
    moved = [mark.get_attribute("data-moved") for mark in marks].count("true")
    expect(base).to_have_attribute("data-verdict", "in part")
    expect(base).to_contain_text(f"The box follows the words in part: it moved in {moved} of {len(marks)} probes")
    assert 0 < moved <= len(marks) == 3
    expect(page.locator(".bw-probe img").first).to_be_visible()
    expect(shown).to_have_count(1)

    page.locator(".bw-read summary").click()
    expect(page.locator(".bw-tokens [data-image]")).to_contain_text("× 64")
    page.locator("#compare-phrase").get_by_role("textbox").fill("the left ship")
    page.locator("#compare-phrase").get_by_role("textbox").press("Enter")
    expect(page.locator(".bw-tokens")).to_contain_text("ship")
    expect(page.locator("#compare-results .bw-answers")).to_have_attribute("data-heats", "yes")
    expect(page.locator(".bw-verdicts")).to_have_count(0)


_FOCUSED = """() => {
  const found = document.activeElement;
  if (!found || found === document.body) return null;
  const looks = () => {
    const seen = [];
    for (let one = found; one && seen.length < 6; one = one.parentElement) {
      const { outlineStyle, outlineWidth } = getComputedStyle(one);
      seen.push(outlineStyle !== 'none' && parseFloat(outlineWidth) >= 1);
    }
    return seen;
  };
  const focused = looks();
  found.blur();
  const without = looks();
  found.focus();
  const rings = focused.map((ring, i) => ring && !without[i]);
  const name = found.getAttribute('aria-label') || found.labels?.[0]?.innerText || found.innerText || found.title;
  return { id: found.id, name: (name || '').trim(), ringed: rings.includes(true),
           where: found.closest('[id]')?.id, seen: found.getBoundingClientRect().width > 0 };
}"""


def test_all_of_it_is_reached_by_keys(answered: Page) -> None:
    page = answered
    page.locator("#tab-compare-button").focus()
    stops = []
    while not stops or stops[-1]["id"] != "compare-summary-run":
        assert len(stops) < 80, "Evaluate is never reached"
        page.keyboard.press("Tab")
        stop = page.evaluate(_FOCUSED)
        if stop is not None:
            stops.append(stop)
    assert [stop for stop in stops if not (stop["name"] and stop["ringed"] and stop["seen"])] == []
    reached = {stop["id"] or stop["where"] for stop in stops}
    assert reached >= {"compare-split", "compare-upload", "compare-phrase", "compare-run", "compare-models"}
    names = {stop["name"] for stop in stops}
    assert names >= {"Side by side", "Zoom in", "Heat map of Base model", "Does it follow the words?"}


def test_a_sample_is_compared_by_keys_alone(answered: Page) -> None:
    page = answered

    def tab_to(selector: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("(selector) => document.activeElement?.matches(selector)", selector):
                return
        raise AssertionError(f"{selector} is never reached")

    page.locator("#tab-compare-button").focus()
    tab_to("#compare-grid .bw-thumb:nth-of-type(3)")
    page.keyboard.press("Enter")
    expect(page.locator("#compare-grid .bw-thumb").nth(2)).to_have_attribute("aria-pressed", "true")
    phrase = page.locator("#compare-grid .bw-thumb").nth(2).inner_text().strip()
    expect(page.locator("#compare-phrase textarea")).to_have_value(phrase)
    wait_for_answers(page)
    tab_to("#compare-phrase textarea")
    page.keyboard.press("Control+a")
    page.keyboard.type("the left ship")
    page.keyboard.press("Enter")
    expect(page.locator("#compare-results .bw-note")).to_contain_text("Not this sample")
    wait_for_answers(page)
    tab_to(".bw-views input")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#compare-results .bw-overlay")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    tab_to(".bw-cards .bw-heat-switch")
    page.keyboard.press("Enter")
    expect(page.locator("#compare-results .bw-answers")).to_have_attribute("data-heats", "yes")
    tab_to(".bw-ask")
    page.keyboard.press("Enter")
    expect(page.locator(".bw-verdicts li")).to_have_count(2)
    tab_to(".bw-read summary")
    page.keyboard.press("Enter")
    expect(page.locator(".bw-tokens")).to_contain_text("ship")
