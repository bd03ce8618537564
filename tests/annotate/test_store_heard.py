"""What is kept of a model's answers, and the two figures that the queues run by."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from annotate.heard import Heard, answer_gap, heard_iou, judge, rival_of
from annotate.store import Store
from annotate_samples import MakeSample
from grounding.boxes import Box
from grounding.errors import StoreError
from grounding.records import Prediction, Status

Fill = Callable[..., Store]
TARGET, HALF, OTHER = Box(0, 0, 10, 10), Box(0, 0, 10, 5), Box(20, 0, 30, 10)


def says(*boxes: Box, adapter: str | None = None, status: Status | None = None) -> Prediction:
    return Prediction(boxes, status or (Status.OK if boxes else Status.NO_BOX), "", 0.5, 0.1, adapter)


@pytest.fixture
def mugs(store: Store, make_sample: MakeSample) -> Store:
    """On one picture: a at TARGET, twin almost there, b at OTHER; nothing refers to nothing."""
    boxes = {"a": (TARGET,), "twin": (Box(0, 0, 10, 9.9),), "b": (OTHER,), "nothing": ()}
    samples = [make_sample(sample_id, boxes_xyxy_px=box, phrase=f"{sample_id} mug") for sample_id, box in boxes.items()]
    assert store.import_samples(samples, source="s", who="w").errors == ()
    return store


@pytest.fixture
def heard(mugs: Store) -> Heard:
    return Heard(mugs.path)


def figures(store: Store, sample_id: str = "a") -> tuple[float | None, float | None]:
    item = store.get(sample_id)
    return item.listener_iou, item.listener_gap


def test_the_lowest_iou_and_the_gap_stand_with_the_sample_and_its_revision_stays(heard: Heard, mugs: Store) -> None:
    assert heard.record("a", "a mug", [says(TARGET)])
    assert figures(mugs) == (1.0, None)
    assert heard.record("a", "a mug", [says(HALF, adapter="new")])
    assert figures(mugs) == (0.5, 0.5)
    assert mugs.get("a").revision == 1 and len(mugs.history("a")) == 1
    assert (mugs.counts().low_iou, mugs.counts().disagree) == (1, 1)
    base, adapter = heard.of("a")
    assert (base.listener, base.iou, base.boxes_xyxy_px, base.status) == ("base", 1.0, (TARGET,), Status.OK)
    assert (adapter.listener, adapter.iou, adapter.confidence, adapter.rival) == ("adapter new", 0.5, 0.5, None)


def test_both_figures_are_those_of_the_base_and_the_adapter_heard_last(heard: Heard, mugs: Store) -> None:
    heard.record("a", "a mug", [says(TARGET), says(OTHER, adapter="old")])
    assert figures(mugs) == (0.0, 1.0)
    heard.record("a", "a mug", [says(TARGET, adapter="new")])
    assert figures(mugs) == (1.0, 0.0)
    assert [one.listener for one in heard.of("a")] == ["base", "adapter new"]
    assert heard.has("a", "a mug", [None, "new"])
    assert not heard.has("a", "a mug", [None]) and not heard.has("a", "a mug", [None, "old"])
    assert not heard.has("a", "the mug", [None, "new"])


def test_answers_of_adapters_alone_have_no_gap(heard: Heard, mugs: Store) -> None:
    heard.record("a", "a mug", [says(TARGET, adapter="x"), says(OTHER, adapter="y")])
    assert figures(mugs) == (0.0, None)


def test_an_answer_to_words_that_no_longer_stand_is_not_kept(heard: Heard, mugs: Store) -> None:
    heard.record("a", "a mug", [says(HALF)])
    mugs.save("a", "left mug", who="ann", expected_revision=1)
    assert figures(mugs) == (None, None) and heard.of("a") == ()
    assert not heard.record("a", "a mug", [says(TARGET)])
    assert not heard.record("gone", "a mug", [says(TARGET)])
    assert figures(mugs) == (None, None)
    heard.record("a", "left mug", [says(TARGET, adapter="new")])
    assert figures(mugs) == (1.0, None), "what the base heard in other words does not count"


def test_answers_are_judged_against_the_boxes_that_stand(heard: Heard, mugs: Store) -> None:
    heard.record("a", "a mug", [says(OTHER)])
    assert heard.of("a")[0].iou == 0.0
    mugs.save("a", "a mug", who="ann", expected_revision=1, boxes_xyxy_px=[OTHER])
    assert figures(mugs) == (None, None)
    assert heard.of("a")[0].iou == 1.0


@pytest.mark.parametrize(
    ("status", "boxes", "expected"),
    [(Status.NO_BOX, (), 1.0), (Status.UNREADABLE, (), 0.0), (Status.DEGENERATE, (), 0.0), (Status.OK, (OTHER,), 0.0)],
)
def test_only_nothing_there_is_right_for_a_phrase_that_refers_to_nothing(
    status: Status, boxes: tuple[Box, ...], expected: float, heard: Heard, mugs: Store
) -> None:
    heard.record("nothing", "nothing mug", [says(*boxes, status=status)])
    assert figures(mugs, "nothing") == (expected, None)


def test_the_rival_is_named_by_the_sample_that_the_answer_hits(heard: Heard) -> None:
    heard.record("a", "a mug", [says(OTHER), says(HALF, adapter="x"), says(adapter="y")])
    assert [one.rival for one in heard.of("a")] == ["b", None, None]
    heard.record("nothing", "nothing mug", [says(TARGET)])
    assert heard.of("nothing")[0].rival == "a"


def test_the_same_thing_boxed_twice_is_no_rival_and_neither_is_a_worse_hit() -> None:
    siblings = {"twin": (Box(0, 0, 10, 9.9),), "below": (Box(0, 3, 10, 13),)}
    assert rival_of((Box(0, 0, 10, 9.9),), (TARGET,), siblings) is None
    assert rival_of((Box(0, 1, 10, 11),), (TARGET,), siblings) is None, "hits both; the target more"
    assert rival_of((Box(0, 2, 10, 12),), (TARGET,), siblings) == "below", "hits both; the other more"
    assert rival_of((OTHER,), (TARGET,), siblings) is None, "hits nothing at all"


def test_one_wrong_box_of_several_has_a_rival() -> None:
    target, third = (TARGET, OTHER), Box(0, 20, 10, 29)
    assert rival_of((TARGET, third), target, {"c": (third,)}) == "c"
    assert rival_of((TARGET, third), (TARGET,), {"c": (third,)}) is None, "the first box is the answer"


def test_a_gap_is_the_same_whoever_is_asked_first() -> None:
    one, two = says(TARGET), says(TARGET, OTHER, adapter="x")
    assert answer_gap(one, two) == answer_gap(two, one) == 0.5
    assert answer_gap(says(), says(adapter="x")) == 0.0
    assert answer_gap(says(), says(status=Status.UNREADABLE)) == 1.0
    assert answer_gap(says(), says(TARGET)) == 1.0


def test_words_still_being_typed_are_judged_without_a_record(heard: Heard, mugs: Store) -> None:
    (one,) = judge([says(OTHER)], "typing", [TARGET], {"b": [OTHER]})
    assert (one.phrase, one.iou, one.rival, one.at) == ("typing", 0.0, "b", "")
    assert heard.of("a") == ()
    assert heard_iou((TARGET,), Status.OK, (TARGET, OTHER)) == 0.5


def test_what_another_model_answered_is_forgotten(heard: Heard, mugs: Store) -> None:
    heard.record("a", "a mug", [says(HALF), says(OTHER, adapter="x")])
    heard.belong_to("small")
    heard.belong_to("small")
    assert figures(mugs) == (0.0, 1.0), "kept before any model was named: taken for those of the first"
    heard.belong_to("large")
    assert figures(mugs) == (None, None) and heard.of("a") == ()
    assert (mugs.counts().low_iou, mugs.counts().disagree) == (0, 0)


def test_many_threads_record_at_once_and_the_figures_are_those_of_what_stands(heard: Heard, mugs: Store) -> None:
    together = threading.Barrier(8)

    def record(number: int) -> None:
        together.wait()
        for _ in range(5):
            heard.record("a", "a mug", [says(HALF if number else OTHER, adapter=f"m{number}")])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(record, range(8)))
    (last,) = heard.of("a")
    assert figures(mugs) == (last.iou, None)


def test_an_unknown_sample_is_a_sentence(heard: Heard) -> None:
    with pytest.raises(StoreError, match="There is no sample 'zzz'"):
        heard.of("zzz")
