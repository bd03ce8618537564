"""Failed checks stand beside each sample, as soon as they fail and no longer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from annotate.problems import check_profile, choose_profile
from annotate.store import Store
from annotate_samples import PLACEHOLDER, MakeSample
from grounding.boxes import Box
from grounding.errors import StoreError

Fill = Callable[..., Store]
ELSEWHERE = (Box(20, 3, 30, 12),)


def problems(store: Store, *ids: str) -> list[tuple[str, ...]]:
    return [store.get(sample_id).problems for sample_id in ids]


def test_an_import_checks_each_phrase(fill: Fill) -> None:
    for sample_id, phrase in (("a", "the mug"), ("b", "the mugg <b>"), ("c", PLACEHOLDER)):
        store = fill(sample_id, phrase=phrase)
    assert problems(store, "a", "c") == [(), ()]
    assert "markup" in store.get("b").problems
    assert store.counts().problems == 1


def test_the_same_words_on_another_box_are_found_in_one_import_and_in_two(
    store: Store, make_sample: MakeSample
) -> None:
    first = [
        make_sample("a", phrase="the mug"),
        make_sample("b", phrase="A mug!", boxes_xyxy_px=ELSEWHERE),
        make_sample("same-box", phrase="the tall cup"),
        make_sample("too", phrase="tall cup"),
        make_sample("other-picture", picture=1, phrase="the mug"),
    ]
    store.import_samples(first, source="one", who="ann")
    assert problems(store, "a", "b", "same-box", "too", "other-picture") == [("duplicate",), ("duplicate",), (), (), ()]
    later = [make_sample("late", phrase="tall cup", boxes_xyxy_px=ELSEWHERE)]
    store.import_samples(later, source="two", who="ann")
    assert problems(store, "late", "same-box", "too") == [("duplicate",)] * 3


def test_a_new_phrase_frees_the_other_and_may_bind_a_third(fill: Fill) -> None:
    fill("a", phrase="the mug")
    fill("b", phrase="mug", boxes_xyxy_px=ELSEWHERE)
    store = fill("c", phrase="the tall cup", boxes_xyxy_px=(Box(5, 5, 9, 9),))
    store.save("b", "a tall cup", who="ann", expected_revision=1)
    assert problems(store, "a", "b", "c") == [(), ("duplicate",), ("duplicate",)]
    store.undo("b", who="ann", expected_revision=2)
    assert problems(store, "a", "b", "c") == [("duplicate",), ("duplicate",), ()]


def test_new_boxes_and_rejections_count(fill: Fill) -> None:
    fill("a", phrase="the mug")
    store = fill("b", phrase="mug", boxes_xyxy_px=ELSEWHERE)
    store.save("b", "mug", who="ann", expected_revision=1, boxes_xyxy_px=store.get("a").sample.boxes_xyxy_px)
    assert problems(store, "a", "b") == [(), ()]
    store.undo("b", who="ann", expected_revision=2)
    store.reject("b", "blurred", who="ann", expected_revision=3)
    assert problems(store, "a") == [()]
    store.reopen("b", who="ann", expected_revision=4)
    assert problems(store, "a", "b") == [("duplicate",)] * 2


def test_an_added_sample_is_checked_too(fill: Fill) -> None:
    store = fill("a", phrase="the mug")
    added = store.add("a", "mug", ELSEWHERE, who="ann")
    assert problems(store, "a", added.id) == [("duplicate",)] * 2


def test_another_profile_checks_everything_anew(fill: Fill) -> None:
    fill("a", phrase="mug on the left")
    store = fill("b", phrase="the tall cup", boxes_xyxy_px=ELSEWHERE)
    assert check_profile(store.path) == "free" and store.counts().problems == 0
    assert choose_profile(store.path, "RefCOCO+") == 1
    assert (problems(store, "a", "b"), check_profile(store.path)) == ([("location",), ()], "refcoco+")
    late = fill("c", phrase="left dog", boxes_xyxy_px=(Box(5, 5, 9, 9),))
    assert problems(late, "c") == [("location",)]
    with pytest.raises(StoreError, match="no check profile 'x'"):
        choose_profile(store.path, "x")


def test_one_among_very_many_of_the_same_words_is_found(store: Store, make_sample: MakeSample) -> None:
    same = [make_sample(f"s{number}", phrase="the mug") for number in range(520)]
    other = make_sample("other", phrase="a tall cup", boxes_xyxy_px=ELSEWHERE)
    store.import_samples([*same, other], source="one", who="ann")
    assert store.counts().problems == 0
    store.save("other", "mug", who="ann", expected_revision=1)
    assert store.counts().problems == 521
    store.save("s3", "the mug", who="ann", expected_revision=1)
    assert problems(store, "s3", "other") == [("duplicate",)] * 2
    store.undo("other", who="ann", expected_revision=2)
    assert store.counts().problems == 0


def test_other_failed_checks_stay_when_a_duplicate_comes_and_goes(fill: Fill) -> None:
    fill("a", phrase="the mugg <b>")
    store = fill("b", phrase="cup", boxes_xyxy_px=ELSEWHERE)
    alone = store.get("a").problems
    store.save("b", "mugg <b>", who="ann", expected_revision=1)
    assert set(store.get("a").problems) == {*alone, "duplicate"}
    store.undo("b", who="ann", expected_revision=2)
    assert store.get("a").problems == alone
