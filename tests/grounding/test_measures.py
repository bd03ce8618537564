"""Boxes of many samples at once are scored as those of one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from grounding.boxes import Box, set_iou
from grounding.measures import RaggedBoxes, set_ious

# Few places, so that boxes overlap, touch, and are equally good.
places = st.sampled_from([0.0, 1.0, 2.5, 4.0, 7.0])
sides = st.sampled_from([0.5, 1.0, 3.0])
boxes = st.builds(lambda x, y, w, h: Box(x, y, x + w, y + h), places, places, sides, sides)
answers = st.lists(st.tuples(st.lists(boxes, max_size=4), st.lists(boxes, max_size=4)), max_size=6)


@given(answers)
def test_set_ious_are_set_iou_to_the_bit(pairs: list[tuple[list[Box], list[Box]]]) -> None:
    found = set_ious(*(RaggedBoxes.of(some) for some in columns(pairs)))
    assert found.tolist() == [set_iou(predicted, truth) for predicted, truth in pairs]


def columns(pairs: list[tuple[list[Box], list[Box]]]) -> tuple[list[list[Box]], list[list[Box]]]:
    return [predicted for predicted, _ in pairs], [truth for _, truth in pairs]
