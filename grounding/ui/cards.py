"""The answers of the base and an adapter, side by side on the picture: plain HTML, everything escaped.

gradio puts an HTML component's value into the page as it is, so no text from a person or a file may come here
unescaped. The default template `${value}` is kept on purpose: a Handlebars template of one's own would run
`${...}` out of a phrase as code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from grounding.boxes import set_iou
from grounding.overlay import Kind, Layer, figure_html
from grounding.records import Prediction, Status
from grounding.ui.truth import Truth

GOOD_IOU = 0.5
_STATUS_WORDS = {
    Status.OK: "Found",
    Status.NO_BOX: "Says: nothing there",
    Status.UNREADABLE: "Unreadable answer",
    Status.DEGENERATE: "Box without area",
}


@dataclass(frozen=True)
class Scene:
    """What both cards show: the picture, the phrase and the truth. `image_size_wh` in pixels of the original."""

    picture_url: str
    image_size_wh: tuple[int, int]
    phrase: str
    truth: Truth


def answers_html(scene: Scene, predictions: Sequence[Prediction]) -> str:
    """One card per prediction; a base on its own is followed by the way to a first adapter."""
    cards = [_answer_card(scene, prediction) for prediction in predictions]
    if len(cards) == 1:
        cards.append(_NO_ADAPTER_CARD)
    return _frame(scene, cards, _verdict(scene, predictions))


def pending_html(scene: Scene, adapter: str | None, message: str, *, busy: bool = True) -> str:
    """The same cards before there are answers, so that the picture stands still when they come."""
    return _frame(scene, _unanswered(scene, adapter, message, busy), "", busy=busy)


def problem_html(scene: Scene, adapter: str | None, message: str) -> str:
    """The cards without answers, and why."""
    problem = f'<strong class="bw-problem" role="alert">{escape(message)}</strong>'
    return _frame(scene, _unanswered(scene, adapter, "No answer", False), problem)


def _unanswered(scene: Scene, adapter: str | None, message: str, busy: bool) -> list[str]:
    second = _pending_card(scene, "adapter", adapter, message, busy) if adapter else _NO_ADAPTER_CARD
    return [_pending_card(scene, "base", "Base model", message, busy), second]


def empty_html(sentence: str) -> str:
    """What stands in place of the cards when there is no picture at all."""
    return f'<div class="bw-empty"><p>{escape(sentence)}</p></div>'


def _frame(scene: Scene, cards: Sequence[str], verdict: str, *, busy: bool = False) -> str:
    return (
        f'<div class="bw-answers" aria-busy="{"true" if busy else "false"}">'
        f'<div class="bw-cards">{"".join(cards)}</div>'
        f'<p class="bw-note">{verdict}<span>{_truth_note(scene.truth)}</span></p></div>'
    )


def _truth_note(truth: Truth) -> str:
    key = '<i class="bw-key" data-kind="truth"></i>' if truth.boxes_xyxy_px else ""
    return f"{key}{escape(truth.sentence)}"


def _verdict(scene: Scene, predictions: Sequence[Prediction]) -> str:
    truth = scene.truth.boxes_xyxy_px
    if truth is None or len(predictions) != 2:
        return ""
    base, adapter = (set_iou(prediction.boxes_xyxy_px, truth) for prediction in predictions)
    gain = adapter - base
    if abs(gain) < 0.005:
        return '<b class="bw-gain" data-sign="same">Same overlap</b>'
    sign = "up" if gain > 0 else "down"
    amount = f"{gain:+.2f}".replace("-", "−")
    return f'<b class="bw-gain" data-sign="{sign}">Adapter {amount} IoU</b>'


def _answer_card(scene: Scene, prediction: Prediction) -> str:
    kind: Kind = "adapter" if prediction.adapter else "base"
    layers = _truth_layers(scene)
    layers.append(Layer(prediction.adapter or "base", kind, prediction.boxes_xyxy_px, labelled=False))
    alt = f"{prediction.adapter or 'The base model'} on “{scene.phrase}”: {_status_words(prediction)}"
    figure = figure_html(scene.picture_url, scene.image_size_wh, layers, alt=alt)
    return _card(
        kind,
        prediction.adapter or "Base model",
        _badge(scene, prediction),
        figure,
        _facts(prediction),
        prediction.raw_text,
    )


def _pending_card(scene: Scene, kind: Kind, title: str, message: str, busy: bool) -> str:
    figure = figure_html(scene.picture_url, scene.image_size_wh, _truth_layers(scene), alt="The picture, no answer yet")
    bar = '<span class="bw-wait" role="progressbar" aria-label="Waiting for the model"></span>' if busy else ""
    return _card(kind, title, "", figure, f'<li class="bw-waiting">{bar}{escape(message)}</li>', "")


def _card(kind: Kind, title: str, badge: str, figure: str, facts: str, raw_text: str) -> str:
    raw = f"<code>{escape(raw_text)}</code>" if raw_text else "<code>&nbsp;</code>"
    return (
        f'<section class="bw-card" data-kind="{kind}"><header><i class="bw-key" data-kind="{kind}"></i>'
        f'<h3>{escape(title)}</h3>{badge}</header><div class="bw-stage">{figure}</div>'
        f'<ul class="bw-facts">{facts}</ul><div class="bw-raw" title="What the model wrote">{raw}</div></section>'
    )


_NO_ADAPTER_CARD = (
    '<section class="bw-card bw-card-empty" data-kind="adapter"><div><i class="bw-key" data-kind="adapter"></i>'
    "<h3>No adapter to compare with</h3><p>Choose one above, or train one in the Train tab: "
    "its answer then stands here, beside the base.</p></div></section>"
)


def _truth_layers(scene: Scene) -> list[Layer]:
    truth = scene.truth.boxes_xyxy_px
    return [Layer("truth", "truth", truth, labelled=False)] if truth else []


def _badge(scene: Scene, prediction: Prediction) -> str:
    truth = scene.truth.boxes_xyxy_px
    if truth is None:
        return ""
    overlap = set_iou(prediction.boxes_xyxy_px, truth)
    if not truth:
        right = prediction.status is Status.NO_BOX
        words = "Right: no box" if right else "Wrong: expected no box"
        return f'<b class="bw-badge" data-good="{str(right).lower()}">{words}</b>'
    good = overlap >= GOOD_IOU
    return (
        f'<b class="bw-badge" data-good="{str(good).lower()}" '
        f'title="Overlap with the truth: a hit from {GOOD_IOU} on">IoU {overlap:.2f}</b>'
    )


def _status_words(prediction: Prediction) -> str:
    count = len(prediction.boxes_xyxy_px)
    words = _STATUS_WORDS[prediction.status]
    return f"{words} {count} boxes" if count > 1 else words


def _facts(prediction: Prediction) -> str:
    facts = [
        f'<li data-status="{prediction.status.value}">{escape(_status_words(prediction))}</li>',
        f'<li title="Time of this answer">{_seconds(prediction.seconds)}</li>',
    ]
    if prediction.confidence is not None:
        hint = "The model's own estimate that this answer is right"
        facts.append(f'<li title="{hint}">{prediction.confidence:.0%} sure</li>')
    return "".join(facts)


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
