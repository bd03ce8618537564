"""Where a box could be: sides from digit probabilities, the grid from the sides, and what a model does not show."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from grounding.boxes import Box
from grounding.formats import Frame, QwenJson1000
from grounding.formats.locations import PaliGemmaLocations
from grounding.heat import Band, BoxHeat, Heat, box_heat
from grounding.records import Status

Question = tuple[Path, str]
FRAME = Frame((200, 100))


@dataclass(frozen=True)
class Part:
    low: float
    high: float
    probability: float


def sure(value: float) -> tuple[Part, ...]:
    return (Part(value, value, 1.0),)


def by_hand() -> BoxHeat:
    """Left edge at 50 px or, as likely, at 100; right edge evenly somewhere from 150 to 200; top 20, bottom 60."""
    left, right = (Part(250, 250, 0.5), Part(500, 500, 0.5)), (Part(750, 1000, 1.0),)
    shares = (left, sure(200), right, sure(600))
    return box_heat(Box(50, 20, 175, 60), (250, 200, 875, 600), shares, QwenJson1000(), FRAME)


def test_the_grid_is_the_product_of_both_axes() -> None:
    grid = by_hand().grid(5, 4)  # cells of 50 x 20 px, centres at 25, 75, 125, 175 and 10, 30, 50, 70, 90
    inside = pytest.approx([0.0, 0.5, 1.0, 0.5])
    assert [list(row) for row in grid] == [[0.0] * 4, inside, inside, [0.0] * 4, [0.0] * 4]


def test_the_interval_leaves_out_as_much_on_both_sides() -> None:
    heat = by_hand()
    assert heat.interval_px("x2", 0.9) == pytest.approx((152.5, 197.5), abs=0.02)
    assert heat.interval_px("x1") == pytest.approx((50, 100), abs=0.02)
    assert heat.interval_px("y1") == pytest.approx((20, 20), abs=0.02)


def test_corners_that_are_written_swapped_are_put_in_order() -> None:
    shares = (sure(875), sure(600), sure(250), sure(200))
    heat = box_heat(Box(50, 20, 175, 60), (875, 600, 250, 200), shares, QwenJson1000(), FRAME)
    assert (heat.x1, heat.x2) == ((Band(50, 50, 1),), (Band(175, 175, 1),))
    assert (heat.y1, heat.y2) == ((Band(20, 20, 1),), (Band(60, 60, 1),))


def test_a_format_that_writes_y_first_is_read_so() -> None:
    numbers = (1023 * 0.2, 1023 * 0.25, 1023 * 0.6, 1023 * 0.875)
    heat = box_heat(Box(50, 20, 175, 60), numbers, [sure(n) for n in numbers], PaliGemmaLocations(), FRAME)
    edges = [bands[0].low_px for bands in (heat.x1, heat.y1, heat.x2, heat.y2)]
    assert edges == pytest.approx([50, 20, 175, 60])


def test_shares_that_were_cut_short_are_made_whole() -> None:
    shares = ((Part(250, 250, 0.3), Part(500, 500, 0.6)), sure(200), sure(875), sure(600))
    heat = box_heat(Box(100, 20, 175, 60), (500, 200, 875, 600), shares, QwenJson1000(), FRAME)
    assert [band.share for band in heat.x1] == pytest.approx([1 / 3, 2 / 3])


def test_of_several_boxes_the_likelier_counts() -> None:
    def at(x1: float, share: float) -> BoxHeat:
        side = (Band(x1, x1, share), Band(x1 + 10, x1 + 10, 1 - share))
        whole = (Band(0, 0, 1.0),), (Band(100, 100, 1.0),)
        return BoxHeat(Box(x1, 0, x1 + 10, 100), (100, 100), side, whole[0], (Band(x1 + 10, x1 + 10, 1.0),), whole[1])

    grid = Heat((at(0, 0.9), at(50, 0.4))).grid(1, 10)
    assert grid is not None
    assert grid[0] == pytest.approx([0.9, 0, 0, 0, 0, 0.4, 0, 0, 0, 0])
    assert Heat((), "because").grid(2, 2) is None


def test_the_embedded_models_heat_lies_on_its_box(predictor: Any, questions: list[Question]) -> None:
    doubtful = 0
    for image, phrase in questions[:7]:
        (answer,), (heat,) = predictor.compare(image, phrase), predictor.heat(image, phrase)
        assert [own.box for own in heat.boxes] == list(answer.boxes)
        box, own = answer.boxes[0], heat.boxes[0]
        for bands in (own.x1, own.y1, own.x2, own.y2):
            assert math.fsum(band.share for band in bands) == pytest.approx(1.0)
        grid = own.grid(64, 64)
        assert all(0 <= cell <= 1 + 1e-9 for row in grid for cell in row)
        column, row = (int((low + high) / 2 / 256 * 64) for low, high in ((box.x1, box.x2), (box.y1, box.y2)))
        assert grid[row][column] > 0.5
        # The expected area is about that of the box; a map that is hot everywhere would have far more.
        area = sum(map(sum, grid)) * (256 / 64) ** 2
        assert 0.5 * box.area_px < area < 2 * box.area_px, (phrase, area, box)
        doubtful += sum(0.02 < cell < 0.98 for line in grid for cell in line)
    assert doubtful > 100  # or a plain rectangle would pass


def test_base_and_adapters_have_heat_of_their_own(
    predictor: Any, questions: list[Question], make_adapter: Callable[..., Path]
) -> None:
    make_adapter("warm", seed=3)
    image, phrase = questions[0]
    base, other = predictor.heat(image, phrase, [None, "warm"])
    (alone,) = predictor.heat(image, phrase)
    for row, own in zip(base.grid(16, 16), alone.grid(16, 16), strict=True):
        assert row == pytest.approx(own, abs=1e-4)  # the sums of a batch round otherwise
    assert [own.box for own in base.boxes] == [own.box for own in alone.boxes]
    assert other.boxes and other.boxes[0].x1 != base.boxes[0].x1
    answer = predictor.predict(image, phrase, "warm")
    assert [own.box for own in other.boxes] == list(answer.boxes)


def test_without_a_box_there_is_no_heat_and_a_reason(predictor: Any, questions: list[Question]) -> None:
    image, phrase = questions[-1]
    assert predictor.predict(image, phrase).status is Status.NO_BOX
    (heat,) = predictor.heat(image, phrase)
    assert (heat.boxes, heat.reason) == ((), "This answer holds no box.")


def test_answers_from_generate_show_none(
    predictor: Any, questions: list[Question], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor._answerer, "_fast", None)
    (heat,) = predictor.heat(*questions[0])
    assert heat.boxes == ()
    assert "generate" in heat.reason
