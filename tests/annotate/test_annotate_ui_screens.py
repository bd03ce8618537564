"""A sample as HTML: what is shown, and that no text of a data set runs in the page."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest

from annotate.items import Counts, RepairPreview
from annotate.opinions import Figures, Opinions
from annotate.people import PersonProgress
from annotate.store import Store
from annotate.ui.dialogs import people_html
from annotate.ui.pages import chosen_html, conflict_html, done_html, frame_html, repair_html
from annotate.ui.screens import Screen, build_screen, choices, opinions_html
from grounding.boxes import Box

EVIL = """<img src=x onerror="alert(1)">'"&</button>"""
PLACEHOLDER = "Provide a short description for this region."


class Page(HTMLParser):
    """The tags, attributes and text of some HTML, as a browser would read them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def screen_of(store: Store, sample_id: str) -> Screen:
    item = store.get(sample_id)
    return build_screen(item, store.siblings(sample_id), store.history(sample_id), lambda sha256: f"pictures/{sha256}")


def html_of(screen: Screen) -> str:
    return "".join(str(value) for name, value in asdict(screen).items() if name.endswith("_html"))


def test_a_placeholder_leaves_the_box_empty_and_shows_its_wording(fill: Callable[..., Store]) -> None:
    screen = screen_of(fill("a", phrase=PLACEHOLDER), "a")
    assert (screen.phrase, screen.placeholder) == ("", True)
    page = Page(screen.stands_html)
    assert "Placeholder" in page.text and "What the source says" in page.text and PLACEHOLDER in page.text


def test_a_phrase_stands_in_the_box(fill: Callable[..., Store]) -> None:
    screen = screen_of(fill("a", phrase="red cup"), "a")
    assert (screen.phrase, screen.placeholder, screen.undoable) == ("red cup", False, "")
    assert 'data-kind="placeholder"' not in screen.stands_html


def test_the_target_box_is_drawn_on_the_picture(fill: Callable[..., Store]) -> None:
    store = fill("a", boxes_xyxy_px=(Box(1, 2, 10, 12), Box(20, 5, 30, 20)))
    html = screen_of(store, "a").figure_html
    assert html.count('data-kind="target"') == 2
    assert f'src="pictures/{store.get("a").picture_sha256}"' in html


def test_a_sample_without_boxes_says_so(fill: Callable[..., Store]) -> None:
    screen = screen_of(fill("a", boxes_xyxy_px=()), "a")
    assert "refers to nothing" in screen.facts_html and "target" not in Page(screen.figure_html).text


def test_the_choices_can_be_saved_as_they_are(fill: Callable[..., Store]) -> None:
    alternatives = (" ", PLACEHOLDER, "red cup", "  red   cup ", "cup", "x" * 600)
    store = fill("a", phrase=PLACEHOLDER, alternatives=alternatives)
    assert choices(store.get("a")) == ("red cup", "cup")
    chips = Page(screen_of(store, "a").chips_html)
    assert [chip["data-text"] for chip in chips.all("button")] == ["red cup", "cup"]


def test_only_nine_choices_have_a_key(fill: Callable[..., Store]) -> None:
    store = fill("a", phrase=PLACEHOLDER, alternatives=tuple(f"cup {n}" for n in range(12)))
    page = Page(screen_of(store, "a").chips_html)
    assert (len(page.all("button")), len(page.all("kbd"))) == (12, 9)


def test_siblings_carry_their_boxes_and_phrase(fill: Callable[..., Store]) -> None:
    fill("a", phrase="Red Cup")
    store = fill("b", phrase="Red Cup", boxes_xyxy_px=(Box(20, 2, 30, 12.5),))
    (sibling,) = Page(screen_of(store, "a").siblings_html).all("button")
    assert sibling["data-go"] == "b"
    assert sibling["data-phrase"] == "red cup"
    assert sibling["data-boxes"] == "[[20.0, 2.0, 30.0, 12.5]]"
    store.reject("b", "blurred", who="ana", expected_revision=1)
    (sibling,) = Page(screen_of(store, "a").siblings_html).all("button")
    assert sibling["data-phrase"] == "", "a rejected phrase is nobody's twin"


def test_of_many_siblings_those_of_the_same_category_are_shown(fill: Callable[..., Store]) -> None:
    fill("a", category="cup")
    fill(*(f"s{number}" for number in range(60)), category="mug")
    store = fill("late", category="cup")
    shown = Page(screen_of(store, "a").siblings_html)
    assert [one["data-go"] for one in shown.all("button")][:2] == ["late", "s0"]


def test_history_is_newest_first_and_marks_what_was_taken_back(fill: Callable[..., Store]) -> None:
    store = fill("a", phrase=PLACEHOLDER)
    store.save("a", "red cup", who="ana", expected_revision=1)
    assert screen_of(store, "a").undoable == "ana wrote"
    store.undo("a", who="bo", expected_revision=2)
    screen = screen_of(store, "a")
    page = Page(screen.history_html)
    assert [row["data-undone"] for row in page.all("li")] == ["false", "true", "false"]
    assert re.search(r"bo took back.*ana wrote.*importer imported", page.text, re.DOTALL)
    assert screen.undoable == ""


def test_there_is_nothing_to_undo_for_a_sample_that_was_added(fill: Callable[..., Store]) -> None:
    store = fill("a")
    added = store.add("a", "the cup", [], who="ana")
    assert screen_of(store, added.id).undoable == ""


def test_no_text_of_a_data_set_becomes_html(fill: Callable[..., Store]) -> None:
    fields = {"phrase": f"Describe this region {EVIL}", "alternatives": (EVIL,), "category": EVIL}
    store = fill(f"id {EVIL}", f"sibling {EVIL}", **fields)
    store.flag(f"id {EVIL}", EVIL, who=EVIL, expected_revision=1)
    store.save(f"sibling {EVIL}", EVIL, who=EVIL, expected_revision=1)
    page = Page(html_of(screen_of(store, f"id {EVIL}")))
    assert [image["src"] for image in page.all("img")] == [f"pictures/{store.get(f'id {EVIL}').picture_sha256}"]
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.text.count("<img src=x onerror=") >= 6
    assert EVIL in [button.get("data-text") for button in page.all("button")]
    assert f"sibling {EVIL}" in [button.get("data-go") for button in page.all("button")]


def test_a_phrase_of_megabytes_costs_no_page_more_than_its_beginning(fill: Callable[..., Store]) -> None:
    fill("long", phrase="mug " * 2_500_000, category="c" * 1_000_000)
    store = fill("beside", phrase="red cup")
    own, beside = screen_of(store, "long"), screen_of(store, "beside")
    assert own.phrase.startswith("mug mug") and 500 < len(own.phrase) <= 2000
    assert "mug mug" in own.stands_html and "mug mug" in beside.siblings_html
    assert max(len(str(asdict(screen))) for screen in (own, beside)) < 10_000
    assert "<option" in chosen_html("Every category", ["mug", *store.categories()], "")
    assert len(chosen_html("Every category", ["mug", *store.categories()], "")) < 1000


def test_the_overlays_escape_as_well(fill: Callable[..., Store]) -> None:
    store = fill("a", phrase=PLACEHOLDER, alternatives=(EVIL,))
    item = store.get("a")
    preview = repair_html(RepairPreview(1, 0, (("a", PLACEHOLDER, EVIL),)), [(item, PLACEHOLDER, EVIL)], ["p"])
    stale = conflict_html(
        store.save("a", EVIL, who=EVIL, expected_revision=1), EVIL, "2026-01-01T00:00:00+00:00", EVIL, ("", "")
    )
    for html, pictures in ((preview, 1), (stale, 0)):
        assert len(Page(html).all("img")) == pictures
        assert EVIL in Page(html).text


def test_a_repair_names_both_counts_and_offers_both_ways(fill: Callable[..., Store]) -> None:
    page = Page(repair_html(RepairPreview(1200, 1, ()), [], []))
    assert "1,200 placeholders" in page.text and "1 has no such phrase and waits for people" in page.text
    ids = [button.get("id") for button in page.all("button")]
    assert ids == ["annotate-repair-cancel", "annotate-repair-confirm"]
    nothing = Page(repair_html(RepairPreview(0, 3, ()), [], []))
    assert [button.get("id") for button in nothing.all("button")] == ["annotate-repair-cancel"]


def counts(**numbers: int) -> Counts:
    names = ("total", "placeholders", "flagged", "skipped", "repaired", "written", "approved", "rejected")
    return Counts(**{name: numbers.get(name, 0) for name in names}, per_split={})


@pytest.mark.parametrize(
    ("queue", "here", "everywhere", "title", "way_out"),
    [
        pytest.param("placeholders", counts(), counts(), "No samples yet", "annotate import", id="empty workspace"),
        pytest.param("placeholders", counts(total=5), counts(total=5), "Nothing left", "Train on it", id="all done"),
        pytest.param(
            "placeholders",
            counts(total=5),
            counts(total=9, placeholders=2),
            "Nothing left",
            "all splits (2)",
            id="others",
        ),
        pytest.param("all", counts(), counts(total=9), "No samples in train", "Show all splits", id="empty split"),
        pytest.param("all", counts(total=9), counts(total=9), "The end of train", "From the first", id="end of all"),
        pytest.param("flagged", counts(total=9), counts(total=9), "Nothing is flagged", "Train on it", id="no flag"),
        pytest.param(
            "flagged", counts(total=9, flagged=2), counts(total=9), "The end of the flagged", "again (2)", id="flags"
        ),
        pytest.param(
            "skipped", counts(total=9, placeholders=3), counts(total=9), "Nothing is skipped", "(3)", id="no skips"
        ),
    ],
)
def test_the_end_of_a_queue_says_what_to_do_next(
    queue: str, here: Counts, everywhere: Counts, title: str, way_out: str
) -> None:
    text = Page(done_html(queue, "train", here, everywhere)).text  # type: ignore[arg-type]
    assert title in text and way_out in text


def test_the_frame_has_every_part_that_the_script_looks_for() -> None:
    ids = [attributes.get("id", "") for _, attributes in Page(frame_html("key")).tags]
    names = "phrase save skip flag back undo queue split status counts repair repair-preview figure note conflict help"
    for name in names.split():
        assert ids.count(f"annotate-{name}") == 1, name


def test_a_persons_days_are_the_last_thirty_of_the_calendar() -> None:
    today = datetime.now(UTC).date()
    days = ((str(today - timedelta(days=40)), 9), (str(today - timedelta(days=1)), 1), (str(today), 2))
    person = PersonProgress("ana", 12, 0, 0, 0, 0, None, "2026-01-01T00:00:00+00:00", days)
    html = people_html([person], Figures(None, 0, 0, 0.0, 0.0), ())
    assert [bar["x"] for bar in Page(html).all("rect")] == ["140", "145"]


def test_a_placeholder_on_which_people_disagree_can_not_be_kept(fill: Callable[..., Store]) -> None:
    fill("a", phrase=PLACEHOLDER)
    store = fill("b", phrase="red cup")
    opinions = Opinions(store)
    told = []
    for sample_id in "ab":
        opinions.propose(sample_id, 1, "bo", "blue cup")
        told.append(opinions_html(opinions.of(sample_id), opinions.agreement(sample_id), store.get(sample_id)))
    assert ["Keep it" in html for html in told] == [False, True]
