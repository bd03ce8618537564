"""What lint finds."""

from __future__ import annotations

from collections.abc import Callable

from conftest import PLACEHOLDER

from annotate.lint import lint
from annotate.store import Store
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
