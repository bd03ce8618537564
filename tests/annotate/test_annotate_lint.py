"""What lint finds."""

from __future__ import annotations

from collections.abc import Callable

from annotate.checks import PROFILES
from annotate.lint import lint
from annotate.store import Store
from annotate_samples import PLACEHOLDER
from grounding.boxes import Box

Fill = Callable[..., Store]
ELSEWHERE = (Box(20, 20, 30, 30),)


def test_each_finding_names_its_samples(fill: Fill) -> None:
    fill("empty", picture=1, phrase=" \n")
    fill("generic", "generic-2", picture=1, phrase=PLACEHOLDER)
    fill("dog", picture=2, phrase="Left dog")
    fill("dog-elsewhere", picture=2, phrase="left  dog!", boxes_xyxy_px=ELSEWHERE)
    fill("dog-again", picture=2, phrase="left dog")
    fill("other-picture", picture=3, phrase="left dog", boxes_xyxy_px=ELSEWHERE)
    store = fill("fine", picture=3, phrase="right dog")
    report = lint(store)
    assert report.empty == ("empty",)
    assert report.placeholders == ("generic", "generic-2")
    assert report.duplicates == (("dog", "dog-elsewhere", "dog-again"),)
    assert report.checked == 8
    assert report.counts == {"empty": 1, "placeholders": 2, "duplicates": 3}


def test_the_same_phrase_for_the_same_box_is_no_finding(fill: Fill) -> None:
    fill("a", phrase="left dog")
    assert lint(fill("b", phrase="left dog")).duplicates == ()


def test_rejected_samples_are_not_looked_at(fill: Fill) -> None:
    store = fill("a", phrase=PLACEHOLDER)
    store.reject("a", "", who="ann", expected_revision=1)
    assert (lint(store).checked, lint(store).placeholders) == (0, ())


def test_findings_are_ids_by_code_as_the_profile_says(fill: Fill) -> None:
    fill("place", picture=1, phrase="the dog on the left")
    fill("slip", "slip-2", picture=1, phrase="a brwon dog in bbox")
    fill("generic", picture=2, phrase=PLACEHOLDER)
    store = fill("fine", picture=2, phrase="brown dog")
    report = lint(store)
    assert report.profile == "free"
    assert report.findings == {"placeholder": ("generic",), "marker": ("slip", "slip-2"), "typo": ("slip", "slip-2")}
    assert report.counts == {"empty": 0, "placeholders": 1, "duplicates": 0, "marker": 2, "typo": 2}
    assert lint(store, PROFILES["refcoco+"]).findings["location"] == ("place",)


def test_phrases_that_differ_in_articles_alone_are_duplicates(fill: Fill) -> None:
    fill("a", phrase="the dog")
    report = lint(fill("b", phrase="A dog.", boxes_xyxy_px=ELSEWHERE))
    assert report.duplicates == (("a", "b"),)
    assert report.findings == {"duplicate": ("a", "b")}


def test_a_wording_on_many_pictures_is_a_template(fill: Fill) -> None:
    wording = "the thing which the person in charge has pointed out"
    for number in range(21):
        store = fill(f"s{number}", picture=number, phrase=wording, category="dog" if number % 2 else "cup")
    store.reject("s20", "", who="ann", expected_revision=1)
    assert lint(store).repeated == ()
    fill("s21", picture=21, phrase=f"{wording}!")
    report = lint(store)
    assert [(each.phrase, each.rows) for each in report.repeated] == [(wording, 21)]
    assert set(report.findings["repeated"]) == {f"s{number}" for number in range(22) if number != 20}
    assert report.counts["repeated"] == 21
