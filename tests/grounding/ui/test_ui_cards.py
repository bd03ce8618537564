"""What the cards say of an answer, and when a box counts as the truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from grounding.boxes import Box
from grounding.records import Prediction, Sample, Status
from grounding.ui.cards import Scene, answers_html, pending_html, problem_html
from grounding.ui.truth import Truth, truth_for

TRUE_BOX = Box(10, 10, 50, 50)
SAMPLE = Sample("a", Path("/nowhere/a.png"), "left mug", (TRUE_BOX,), alternatives=("Mug on the LEFT",))
PLACEHOLDER = "describe this region"
NASTY = "<img src=x onerror=alert(1)> ${1+1} {{7*7}}"


def is_placeholder(phrase: str) -> bool:
    return phrase == PLACEHOLDER


def scene(truth: tuple[Box, ...] | None = (TRUE_BOX,), phrase: str = "left mug") -> Scene:
    return Scene("pictures/abc", (100, 80), phrase, Truth(truth, "A sentence."))


def answer(box: Box | None = TRUE_BOX, adapter: str | None = None, status: Status = Status.OK) -> Prediction:
    return Prediction((box,) if box else (), status, "[raw]", 0.5, 0.1234, adapter)


@pytest.mark.parametrize(
    ("sample", "phrase", "boxes", "said"),
    [
        (SAMPLE, "left mug", (TRUE_BOX,), "true box"),
        (SAMPLE, "  LEFT   mug ", (TRUE_BOX,), "true box"),
        (SAMPLE, "mug on the left", (TRUE_BOX,), "true box"),
        (SAMPLE, "right mug", None, "“left mug”"),
        (SAMPLE, " ", None, ""),
        (replace(SAMPLE, phrase=PLACEHOLDER), "anything", (TRUE_BOX,), "placeholder"),
        (replace(SAMPLE, phrase=PLACEHOLDER), PLACEHOLDER, (TRUE_BOX,), "placeholder"),
        (replace(SAMPLE, phrase=""), "anything", (TRUE_BOX,), "placeholder"),
        (replace(SAMPLE, boxes_xyxy_px=()), "left mug", (), "no box"),
        (None, "left mug", None, "uploaded"),
    ],
)
def test_when_the_truth_is_known(sample: Sample | None, phrase: str, boxes: tuple[Box, ...] | None, said: str) -> None:
    truth = truth_for(sample, phrase, is_placeholder)
    assert truth.boxes_xyxy_px == boxes
    assert said in truth.sentence


@pytest.mark.parametrize(
    ("truth", "prediction", "badge", "good"),
    [
        ((TRUE_BOX,), answer(), "IoU 1.00", "true"),
        ((TRUE_BOX,), answer(Box(10, 10, 50, 29)), "IoU 0.47", "false"),
        ((TRUE_BOX,), answer(None, status=Status.UNREADABLE), "IoU 0.00", "false"),
        ((), answer(None, status=Status.NO_BOX), "Right: no box", "true"),
        ((), answer(), "Wrong: expected no box", "false"),
        ((), answer(None, status=Status.UNREADABLE), "Wrong: expected no box", "false"),
    ],
)
def test_the_badge_says_how_good_the_answer_is(
    truth: tuple[Box, ...], prediction: Prediction, badge: str, good: str
) -> None:
    html = answers_html(scene(truth), [prediction])
    assert f'data-good="{good}"' in html
    assert badge in html


def test_without_a_truth_nothing_is_measured() -> None:
    html = answers_html(scene(None), [answer(), answer(adapter="a")])
    assert "bw-badge" not in html
    assert "bw-gain" not in html


@pytest.mark.parametrize(
    ("box", "said"), [(Box(10, 10, 50, 50), "Adapter +0.50 IoU"), (Box(10, 10, 50, 20), "Adapter −0.25 IoU")]
)
def test_the_gain_of_the_adapter_is_told(box: Box, said: str) -> None:
    html = answers_html(scene(), [answer(Box(10, 10, 50, 30)), answer(box, adapter="tools-v1")])
    assert said in html
    assert 'class="bw-card"' in html, "the minus sign is for the number alone, not for the page"


def test_no_text_reaches_the_page_unescaped() -> None:
    prediction = replace(answer(adapter="x"), raw_text=NASTY)
    shown = Scene('pictures/"><b>', (100, 80), NASTY, Truth((TRUE_BOX,), NASTY))
    for html in (
        answers_html(shown, [answer(), prediction]),
        pending_html(shown, NASTY, NASTY),
        problem_html(shown, NASTY, NASTY),
    ):
        assert html.count("<img") == html.count('<img src="pictures/&quot;&gt;&lt;b&gt;"')
        assert "&lt;img src=x" in html


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (Status.NO_BOX, "Says: nothing there"),
        (Status.UNREADABLE, "Unreadable answer"),
        (Status.DEGENERATE, "Box without area"),
    ],
)
def test_every_status_has_words(status: Status, said: str) -> None:
    assert said in answers_html(scene(), [answer(None, status=status)])


def test_facts_and_the_way_to_a_first_adapter() -> None:
    html = answers_html(scene(), [answer()])
    assert "123 ms" in html
    assert "50% sure" in html
    assert "[raw]" in html
    assert "Train tab" in html
    assert "sure" not in answers_html(scene(), [replace(answer(), confidence=None)])


def test_waiting_is_busy_and_a_problem_is_not() -> None:
    assert 'aria-busy="true"' in pending_html(scene(), "a", "Loading, 3 s")
    assert "Loading, 3 s" in pending_html(scene(), "a", "Loading, 3 s")
    assert 'aria-busy="false"' in problem_html(scene(), None, "No model.")
