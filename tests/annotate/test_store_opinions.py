"""Pointing from the phrase alone, further wordings, and deciding between them."""

from __future__ import annotations

import math
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

import pytest

from annotate.blind import SEEK_BLIND
from annotate.opinions import Agreement, BlindAsk, Opinions
from annotate.store import Store
from annotate_samples import PLACEHOLDER, MakeSample
from grounding.boxes import Box
from grounding.database import connect
from grounding.errors import StaleSaveError, StoreError

Fill = Callable[..., Store]
TARGET, OTHER, AROUND = Box(1, 1, 11, 11), Box(20, 1, 30, 11), Box(0, 0, 15, 20)


@pytest.fixture
def mugs(store: Store, make_sample: MakeSample) -> Store:
    """On one picture of 40 x 30 pixels: a at TARGET (again to the pixel in twin), b at OTHER, c around a."""
    boxes = {"a": (TARGET,), "twin": (Box(1, 1, 11, 10.9),), "b": (OTHER,), "c": (AROUND,), "nothing": ()}
    samples = [make_sample(one, boxes_xyxy_px=box, phrase=f"{one} mug") for one, box in boxes.items()]
    assert store.import_samples(samples, source="s", who="w").errors == ()
    return store


@pytest.fixture
def opinions(mugs: Store) -> Opinions:
    return Opinions(mugs)


def ask_all(opinions: Opinions, who: str, split: str | None = None) -> list[str]:
    """Point at nothing for whatever is asked, to the end."""
    asked: list[str] = []
    while (ask := opinions.next_blind(who, split)) is not None:
        assert len(asked) < 50, "it never ends"
        asked.append(ask.sample_id)
        opinions.point(ask.sample_id, ask.revision, who, boxes_xyxy_px=[])
    return asked


def undecided(opinions: Opinions, split: str | None = None) -> list[str]:
    """The ids of the samples that await a decision, as a person who goes through them meets them."""
    found: list[str] = []
    after = -1
    while (item := opinions.next_undecided(split, after)) is not None:
        found.append(item.id)
        after = item.place[1]
    return found


def test_a_blind_ask_holds_nothing_of_the_target(opinions: Opinions, mugs: Store) -> None:
    ask = opinions.next_blind("bob")
    assert ask is not None and ask.image.is_file() and ask.image_size_wh == (40, 30)
    assert ask.phrase == mugs.get(ask.sample_id).phrase
    assert not {"boxes", "boxes_xyxy_px", "sample", "category"} & {field.name for field in fields(BlindAsk)}


def test_everybody_is_asked_everything_once_in_the_same_random_order(opinions: Opinions, mugs: Store) -> None:
    order = sorted(mugs.iterate(), key=lambda sample: mugs.get(sample.id).shuffle)
    assert ask_all(opinions, "bob") == ask_all(opinions, "cy") == [sample.id for sample in order]
    assert ask_all(opinions, "bob") == []


def test_nobody_points_at_what_they_changed_last(opinions: Opinions, mugs: Store) -> None:
    mugs.save("a", "left mug", who="bob", expected_revision=1)
    mugs.save("b", "right mug", who="bob", expected_revision=1)
    mugs.save("b", "other mug", who="ann", expected_revision=2)
    assert set(ask_all(opinions, "bob")) == {"b", "c", "twin", "nothing"}
    with pytest.raises(StoreError, match="You changed this sample last"):
        opinions.point("a", 2, " bob ", boxes_xyxy_px=[TARGET])


def test_unusable_phrases_are_not_asked_about(fill: Fill) -> None:
    fill("a", "r", "v", phrase="the mug")
    store = fill("p", phrase=PLACEHOLDER)
    store.reject("r", "", who="ann", expected_revision=1)
    assert sorted(ask_all(Opinions(store), "bob")) == ["a", "v"]


def test_a_split_is_asked_alone(store: Store, fill: Fill) -> None:
    fill("a", "b", split="train")
    fill("v", split="val")
    assert ask_all(Opinions(store), "bob", "val") == ["v"]
    assert sorted(ask_all(Opinions(store), "bob")) == ["a", "b"]
    with pytest.raises(StoreError, match="no split 'x'"):
        Opinions(store).next_blind("bob", "x")


def test_new_words_are_asked_about_again_and_other_changes_are_not(opinions: Opinions, mugs: Store) -> None:
    ask_all(opinions, "bob")
    mugs.flag("a", "", who="ann", expected_revision=1)
    mugs.approve("b", who="ann", expected_revision=1)
    assert opinions.next_blind("bob") is None
    mugs.save("a", "left mug", who="ann", expected_revision=2)
    assert ask_all(opinions, "bob") == ["a"]


def test_one_can_be_passed_over(opinions: Opinions) -> None:
    first = opinions.next_blind("bob")
    assert first is not None and opinions.next_blind("bob") == first
    second = opinions.next_blind("bob", behind=first.sample_id)
    assert second is not None and second != first


def test_pointing_with_a_box_records_the_iou_and_leaves_the_sample_alone(opinions: Opinions, mugs: Store) -> None:
    before = mugs.get("a")
    said = opinions.point("a", 1, "bob", boxes_xyxy_px=[Box(1, 1, 11, 6)], seconds=2.5)
    assert (said.kind, said.who, said.phrase, said.iou, said.hit, said.seconds) == (
        *("blind", "bob", "a mug", 0.5, True, 2.5),
    )
    assert opinions.of("a") == (said,)
    assert mugs.get("a") == before and len(mugs.history("a")) == 1
    assert opinions.point("nothing", 1, "bob", boxes_xyxy_px=[]).iou == 1.0
    assert opinions.point("nothing", 1, "cy", boxes_xyxy_px=[OTHER]).iou == 0.0


POINTS = {
    "in the target": ("b", (25, 6), 1.0),
    "beside it": ("b", (35, 6), 0.0),
    "in another": ("a", (25, 6), 0.0),
    "in the target, which lies in another": ("a", (5, 5), 1.0),
    "in a smaller one inside the target": ("c", (5, 5), 0.0),
    "in the target outside the smaller one": ("c", (5, 18), 1.0),
    "at a phrase for nothing": ("nothing", (5, 5), 0.0),
    "on the edge": ("b", (20, 1), 1.0),
}


@pytest.mark.parametrize(("sample_id", "point", "iou"), POINTS.values(), ids=POINTS)
def test_a_point_means_the_smallest_box_around_it(
    sample_id: str, point: tuple[float, float], iou: float, opinions: Opinions
) -> None:
    said = opinions.point(sample_id, 1, "bob", point_xy_px=point)
    assert (said.iou, said.point_xy_px, said.boxes_xyxy_px) == (iou, point, ())
    assert opinions.of(sample_id) == (said,)


@pytest.mark.parametrize(
    ("pointed", "message"),
    [
        ({"point_xy_px": (41, 5)}, "outside the picture of 40 x 30"),
        ({"point_xy_px": (math.nan, 5)}, "outside the picture"),
        ({"boxes_xyxy_px": [Box(100, 100, 120, 120)]}, "outside its picture"),
        ({}, "not with both"),
        ({"boxes_xyxy_px": [], "point_xy_px": (1, 1)}, "not with both"),
    ],
)
def test_pointing_nowhere_is_refused_and_records_nothing(
    pointed: dict[str, object], message: str, opinions: Opinions
) -> None:
    with pytest.raises(StoreError, match=message):
        opinions.point("a", 1, "bob", **pointed)  # type: ignore[arg-type]
    assert opinions.of("a") == ()


def test_only_the_first_answer_counts_as_the_second_knows_the_target(opinions: Opinions) -> None:
    first = opinions.point("a", 1, "bob", boxes_xyxy_px=[OTHER])
    assert opinions.point("a", 1, "bob", boxes_xyxy_px=[TARGET]) == first
    assert opinions.of("a") == (first,)


def test_what_was_changed_meanwhile_is_neither_recorded_nor_shown(opinions: Opinions, mugs: Store) -> None:
    mugs.save("a", "left mug", who="ann", expected_revision=1)
    for record in (
        lambda: opinions.point("a", 1, "bob", boxes_xyxy_px=[TARGET]),
        lambda: opinions.propose("a", 1, "bob", "my mug"),
    ):
        with pytest.raises(StoreError, match="changed this sample meanwhile") as caught:
            record()
        assert not isinstance(caught.value, StaleSaveError), "that would carry the target"
    assert opinions.of("a") == ()


@pytest.mark.parametrize(("sent", "kept"), [(-3.0, 0.0), (math.inf, 0.0), (math.nan, 0.0), (1e9, 86400.0)])
def test_absurd_times_are_bounded(sent: float, kept: float, opinions: Opinions) -> None:
    assert opinions.point("a", 1, "bob", boxes_xyxy_px=[], seconds=sent).seconds == kept


def test_a_proposal_leaves_the_sample_alone_and_awaits_a_decision(opinions: Opinions, mugs: Store) -> None:
    before = mugs.get("a")
    said = opinions.propose("a", 1, "bob", "  left  mug ", seconds=4)
    assert (said.kind, said.phrase, said.boxes_xyxy_px, said.iou, said.hit) == (
        *("phrase", "left mug", (TARGET,), None, False),
    )
    assert opinions.propose("a", 1, "bob", "left mug") == said, "sent twice"
    assert mugs.get("a") == before
    opinions.propose("a", 1, "cy", "Left mug!")
    opinions.propose("a", 1, "di", "mug with a handle", boxes_xyxy_px=[OTHER])
    assert opinions.agreement("a") == Agreement(0, 0, None, ("left mug", "mug with a handle"), True)
    with pytest.raises(StoreError, match="placeholder"):
        opinions.propose("a", 1, "bob", PLACEHOLDER)


def test_a_proposal_of_what_stands_needs_no_decision(opinions: Opinions) -> None:
    opinions.propose("a", 1, "bob", "A mug")
    assert len(undecided(opinions)) == 0
    opinions.propose("a", 1, "bob", "A mug", boxes_xyxy_px=[OTHER])
    assert len(undecided(opinions)) == 1


def test_half_of_the_blind_ones_missing_awaits_a_decision(opinions: Opinions) -> None:
    opinions.point("a", 1, "bob", boxes_xyxy_px=[TARGET])
    assert opinions.agreement("a") == Agreement(1, 1, 1.0, (), False)
    opinions.point("a", 1, "cy", boxes_xyxy_px=[OTHER])
    assert opinions.agreement("a") == Agreement(2, 1, 0.5, (), True)
    opinions.point("a", 1, "di", point_xy_px=(5, 5))
    assert opinions.agreement("a") == Agreement(3, 2, 2 / 3, (), False)
    assert len(undecided(opinions)) == 0


def test_agreement_is_about_the_words_and_boxes_that_stand(opinions: Opinions, mugs: Store) -> None:
    opinions.point("a", 1, "bob", boxes_xyxy_px=[OTHER])
    mugs.flag("a", "", who="ann", expected_revision=1)
    assert opinions.agreement("a") == Agreement(1, 0, 0.0, (), True)
    mugs.save("a", "a mug", who="ann", expected_revision=2, boxes_xyxy_px=[OTHER])
    assert opinions.agreement("a") == Agreement(0, 0, None, (), False)
    assert len(undecided(opinions)) == 0 and len(opinions.of("a")) == 1


def test_the_undecided_come_in_import_order(opinions: Opinions) -> None:
    opinions.propose("c", 1, "bob", "big mug")
    opinions.propose("a", 1, "bob", "left mug")
    opinions.point("b", 1, "bob", boxes_xyxy_px=[TARGET])
    assert undecided(opinions, "train") == ["a", "b", "c"]
    assert undecided(opinions, "val") == []


def test_deciding_saves_that_opinion_with_a_history_and_keeps_all_of_them(opinions: Opinions, mugs: Store) -> None:
    said = opinions.propose("a", 1, "bob", "left mug", boxes_xyxy_px=[Box(0, 0, 12, 12)])
    opinions.propose("a", 1, "cy", "blue mug")
    item = opinions.decide(said.id, "ann", 1)
    assert (item.phrase, item.sample.boxes_xyxy_px, item.state) == ("left mug", (Box(0, 0, 12, 12),), "written")
    assert (mugs.history("a")[-1].action, mugs.history("a")[-1].who) == ("decide", "ann")
    assert len(opinions.of("a")) == 2
    assert len(undecided(opinions)) == 0 and not opinions.agreement("a").undecided
    mugs.undo("a", who="ann", expected_revision=2)
    assert len(undecided(opinions)) == 1, "the decision was taken back"
    assert mugs.get("a").sample.boxes_xyxy_px == (TARGET,)


def test_deciding_for_a_blind_answer_moves_the_box_and_for_what_stands_changes_nothing(
    opinions: Opinions, mugs: Store
) -> None:
    said = opinions.point("a", 1, "bob", boxes_xyxy_px=[OTHER])
    point = opinions.point("b", 1, "bob", point_xy_px=(1, 1))
    assert opinions.decide(said.id, "ann", 1).sample.boxes_xyxy_px == (OTHER,)
    with pytest.raises(StoreError, match="a point is no box"):
        opinions.decide(point.id, "ann", 1)
    assert len(undecided(opinions)) == 1
    kept = opinions.keep("b", "ann", 1)
    assert (kept.phrase, kept.revision) == ("b mug", 2)
    assert len(undecided(opinions)) == 0
    assert opinions.agreement("b").asked == 1, "the miss is still told"
    with pytest.raises(StoreError, match="no opinion 999"):
        opinions.decide(999, "ann", 1)


def test_a_stale_decision_overwrites_nothing(opinions: Opinions, mugs: Store) -> None:
    said = opinions.propose("a", 1, "bob", "left mug")
    mugs.save("a", "my mug", who="eve", expected_revision=1)
    with pytest.raises(StaleSaveError):
        opinions.decide(said.id, "ann", 1)
    assert mugs.get("a").phrase == "my mug"
    assert len(undecided(opinions)) == 1


def test_an_edit_that_adopts_the_only_proposal_settles_it_and_so_does_a_rejection(
    opinions: Opinions, mugs: Store
) -> None:
    opinions.propose("a", 1, "bob", "left mug")
    opinions.propose("b", 1, "bob", "right mug")
    mugs.save("a", "left mug", who="ann", expected_revision=1)
    mugs.reject("b", "", who="ann", expected_revision=1)
    assert len(undecided(opinions)) == 0
    mugs.undo("b", who="ann", expected_revision=2)
    assert len(undecided(opinions)) == 1


def test_figures_are_of_those_who_pointed(opinions: Opinions) -> None:
    total, people = opinions.figures()
    assert (total.asked, total.share, people) == (0, 0.0, ())
    opinions.point("a", 1, "bob", boxes_xyxy_px=[TARGET], seconds=2)
    opinions.point("b", 1, "bob", boxes_xyxy_px=[TARGET], seconds=4)
    opinions.point("b", 1, "cy", boxes_xyxy_px=[OTHER])
    opinions.propose("a", 1, "eve", "left mug")
    total, people = opinions.figures()
    assert (total.who, total.asked, total.hits, total.share) == (None, 3, 2, 2 / 3)
    assert [(one.who, one.share, one.mean_iou, one.mean_seconds) for one in people] == [
        ("bob", 0.5, 0.5, 3.0),
        ("cy", 1.0, 1.0, 0.0),
    ]


def test_opinions_are_never_changed(opinions: Opinions) -> None:
    opinions.propose("a", 1, "bob", "left mug")
    for statement in ("DELETE FROM opinions", "UPDATE opinions SET who = 'x'"):
        with pytest.raises(sqlite3.IntegrityError, match="only ever added"), connect(opinions.path) as connection:
            connection.execute(statement)


def test_the_next_blind_one_is_an_index_seek(opinions: Opinions) -> None:
    with connect(opinions.path) as connection:
        plan = [
            row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {SEEK_BLIND}", ("train", 1, 1, "", ""))
        ]
    assert any("samples_blind (split=? AND (shuffle,position)>(?,?))" in step for step in plan), plan
    assert any("opinions_of_sample (sample_id=?)" in step for step in plan), plan
    assert not any("TEMP B-TREE" in step or step.startswith("SCAN") for step in plan), plan


def test_one_person_on_two_pages_answers_once(opinions: Opinions) -> None:
    together = threading.Barrier(8)

    def point(number: int) -> int:
        together.wait()
        return opinions.point("a", 1, "bob", boxes_xyxy_px=[Box(number, 0, 30, 30)]).id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(point, range(8)))) == 1


@pytest.mark.parametrize("method", ["of", "agreement"])
def test_an_unknown_sample_is_a_sentence(method: str, opinions: Opinions) -> None:
    with pytest.raises(StoreError, match="There is no sample 'zzz'"):
        getattr(opinions, method)("zzz")
    with pytest.raises(StoreError, match="There is no sample 'zzz'"):
        opinions.point("zzz", 1, "bob", boxes_xyxy_px=[])
