"""What the cards say of an answer, and when a box counts as the truth."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from grounding.boxes import Box
from grounding.heat import CONDITION, Band, BoxHeat, Heat
from grounding.metrics import score
from grounding.overlay import COLOURS
from grounding.probes import Probe, ProbeAnswer, ProbeKind, ProbeResult
from grounding.prompts import PromptToken, ReadPrompt
from grounding.records import Prediction, Sample, Status
from grounding.ui.cards import Evidence, Scene, answers_html, pending_html, problem_html
from grounding.ui.truth import Truth, truth_on_picture

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
    truth = truth_on_picture(sample, tuple, phrase, is_placeholder)
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


SILENT = answer(None, adapter="a", status=Status.UNREADABLE)
ABSENT = answer(None, adapter="b", status=Status.NO_BOX)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([answer(), SILENT], "Same overlap"),
        ([replace(ABSENT, adapter=None), SILENT], "Adapter −1.00 IoU"),
        ([answer(), SILENT, ABSENT], "Best: b (1.00 IoU)"),
    ],
)
def test_what_cannot_be_read_is_no_nothing_there(answers: list[Prediction], said: str) -> None:
    """Badge, gain and best are `metrics.score`'s."""
    html = answers_html(scene(()), answers)
    assert said in html
    badges = re.findall(r'bw-badge" data-good="(\w+)"', html)[: len(answers)]
    sample = replace(SAMPLE, boxes_xyxy_px=())
    assert badges == [str(score(sample, one).iou >= 0.5).lower() for one in answers]


def test_no_text_reaches_the_page_unescaped() -> None:
    prediction = replace(answer(adapter="x"), raw_text=NASTY)
    shown = Scene('pictures/"><b>', (100, 80), NASTY, Truth((TRUE_BOX,), NASTY))
    for html in (
        answers_html(shown, [answer(), prediction]),
        answers_html(shown, [answer(), prediction], nasty_evidence()),
        pending_html(shown, (None, NASTY), NASTY),
        problem_html(shown, (None, NASTY), NASTY),
    ):
        ours = html.count('<img src="pictures/&quot;&gt;&lt;b&gt;"') + html.count('<img class="bw-heat" src="data:')
        assert html.count("<img") == ours
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
    assert 'aria-busy="true"' in pending_html(scene(), (None, "a"), "Loading, 3 s")
    assert "Loading, 3 s" in pending_html(scene(), (None, "a"), "Loading, 3 s")
    assert 'aria-busy="false"' in problem_html(scene(), (None,), "No model.")


def heat(chance: float = 1.0) -> Heat:
    left = (Band(10, 10, chance), *([Band(60, 60, 1 - chance)] if chance < 1 else []))
    return Heat((BoxHeat(TRUE_BOX, (100, 80), left, (Band(10, 10, 1),), (Band(50, 50, 1),), (Band(50, 50, 1),)),))


def probed(moved: bool, phrase: str = "right mug") -> ProbeResult:
    told = ProbeAnswer(Probe(ProbeKind.SIDES, phrase), answer(), 0.1 if moved else 0.95)
    return ProbeResult("left mug", answer(), (told,))


def nasty_evidence() -> Evidence:
    prompt = ReadPrompt(NASTY, (PromptToken(1, NASTY),))
    return Evidence(1, (heat(), Heat((), NASTY)), (probed(True, NASTY), probed(False, NASTY)), ((NASTY, prompt),))


def pixels_of(html: str) -> list[Any]:
    addresses = re.findall(r'class="bw-heat" src="data:image/png;base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(address))) for address in addresses]


def test_every_state_has_the_same_parts() -> None:
    """Or the page would jump when answers come."""
    states = [
        pending_html(scene(), (None, "a"), "Loading"),
        problem_html(scene(), (None, "a"), "No model."),
        answers_html(scene(), [answer(), answer(adapter="a")], Evidence(1)),
    ]
    part = re.compile(r'<(?:section|div|ul|button|select|details|figure|input)[^>]*?class="([^"]+)"')
    parts = [part.findall(state) for state in states]
    assert parts[0] == parts[1] == parts[2]
    assert {"bw-cards", "bw-card bw-overlay", "bw-card bw-slider", "bw-split", "bw-read", "bw-ask"} <= set(parts[0])


def test_each_model_has_a_colour_of_its_own() -> None:
    adapters = [answer(adapter=name) for name in "abc"]
    for answers, kinds in (
        ([answer(), *adapters], ["base", "adapter", "adapter2", "adapter3"]),
        ([adapters[2], answer()], ["adapter", "base"]),
        ([*adapters, answer(adapter="d")], ["adapter", "adapter2", "adapter3", "adapter4"]),
    ):
        html = answers_html(scene(), answers)
        assert re.findall(r'class="bw-card" data-kind="(\w+)"', html) == kinds
    assert len({COLOURS[kind] for kind in ("base", "adapter", "adapter2", "adapter3", "adapter4")}) == 5


def test_the_overlay_names_every_box() -> None:
    html = answers_html(scene(), [answer(), answer(Box(20, 20, 60, 60), adapter="tools-v1")])
    overlay = html[html.index("bw-overlay") : html.index("bw-slider")]
    labels = re.findall(r"<text[^>]*>([^<]+)</text>", overlay)
    assert sorted(labels) == ["base", "tools-v1", "truth"]
    assert "<text" not in html[: html.index("bw-overlay")], "a card's own title names its box"


def test_the_divider_offers_the_models_and_the_truth_alone() -> None:
    html = answers_html(scene(), [answer(), answer(adapter="tools-v1")])
    slider = html[html.index("bw-slider") :]
    assert re.findall(r"<option[^>]*>([^<]+)</option>", slider)[:3] == ["Base model", "tools-v1", "Truth alone"]
    assert slider.count('class="bw-layer"') == 3
    assert "Picture alone" in answers_html(scene(None), [answer()])


def test_heat_is_clear_where_the_box_can_not_be() -> None:
    html = answers_html(scene(), [answer()], Evidence(1, heats=(heat(0.5),)))
    (picture,) = pixels_of(html)
    width, height = picture.size
    assert picture.getpixel((round(width * 0.9), height // 2))[3] == 0
    inside = picture.getpixel((round(width * 0.3), round(height * 0.4)))
    (sure,) = pixels_of(answers_html(scene(), [answer()], Evidence(1, heats=(heat(1.0),))))
    certain = sure.getpixel((round(width * 0.3), round(height * 0.4)))
    assert 0 < inside[3] < certain[3]
    assert sum(inside[:3]) < sum(certain[:3]), "lighter where it is likelier, for who sees no colours"
    assert escape(CONDITION) in html


def test_without_heat_the_reason_stands_there() -> None:
    html = answers_html(scene(), [answer()], Evidence(1, heats=(Heat((), "It is a detector."),)))
    assert "No heat map: It is a detector." in html
    assert pixels_of(html) == []


def test_probes_show_each_wording_and_the_verdict() -> None:
    answers = [answer(), answer(adapter="deaf")]
    html = answers_html(scene(), answers, Evidence(1, probes=(probed(True), probed(False))))
    probes = html[html.index("bw-probes") :]
    assert probes.count('class="bw-probe"') == 2
    assert "as asked" in probes and "left and right swapped" in probes and "“right mug”" in probes
    assert re.findall(r'data-verdict="(\w+)"', probes) == ["moves", "stays"]
    assert "does not follow the words: it stays (mean IoU 0.95 over 1 probe)" in probes


def test_the_prompt_shows_its_tokens() -> None:
    tokens = (PromptToken(7, "Find\n"), PromptToken(99, "<|image_pad|>", 64, is_image=True), PromptToken(8, " mug"))
    html = answers_html(scene(), [answer()], Evidence(1, prompts=(("demo", ReadPrompt("x", tokens)),)))
    assert "66 tokens, 64 of them for the picture." in html
    assert '<span data-image="true">&lt;|image_pad|&gt; × 64<small>99</small></span>' in html
    assert "<span>·mug<small>8</small></span>" in html
    assert "<span>Find↵<br><small>7</small></span>" in html
