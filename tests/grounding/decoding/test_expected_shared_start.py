"""Expected coordinates where "nothing there" and a box part only at the first digit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from grounding import Decoding
from grounding.formats import AnswerShape, Frame, QwenJson1000
from grounding.predict import Predictor


@dataclass(frozen=True)
class SharedStart(QwenJson1000):
    """`[{"bbox_2d": [` begins both answers."""

    def shape(self, frame: Frame, phrase: str = "") -> AnswerShape:
        return replace(super().shape(frame, phrase), nothing='[{"bbox_2d": []}]')


def test_the_first_number_keeps_its_likeliest_value(
    predictor: Predictor, questions: list[tuple[Path, str]], tmp_path: Path
) -> None:
    profile = replace(predictor.profile, box_format=SharedStart())
    odd = Predictor(replace(predictor.loaded, profile=profile), tmp_path)
    likeliest = odd.predict(*questions[0])
    expected = odd.predict(*questions[0], decoding=Decoding(coordinates="expected"))
    assert expected.raw_text == likeliest.raw_text
    assert expected.boxes[0].x1 == pytest.approx(likeliest.boxes[0].x1)
    assert list(expected.boxes[0])[1:] != pytest.approx(list(likeliest.boxes[0])[1:])
