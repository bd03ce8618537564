"""The answers of up to four models on one picture: plain HTML, everything escaped.

gradio puts an HTML component's value into the page as it is, so no text from a person or a file may come here
unescaped. The default template `${value}` is kept on purpose: a Handlebars template of one's own would run
`${...}` out of a phrase as code.

Every state holds the same parts in the same places, so that nothing jumps when answers come: the cards side by side,
all boxes on one picture, two models with a divider. `assets/compare.js` shows one of these three.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from grounding.boxes import Box
from grounding.heat import Heat
from grounding.metrics import answer_iou
from grounding.overlay import Kind, Layer, figure_html
from grounding.probes import ProbeResult
from grounding.prompts import ReadPrompt
from grounding.records import Prediction, Status
from grounding.ui.against_chance import Standing
from grounding.ui.chosen import Models, is_further, kinds_of, title_of
from grounding.ui.evidence import HEAT_NOTE, heat_url, probes_html, prompt_html
from grounding.ui.to_annotate import annotate_link_html
from grounding.ui.truth import Truth

GOOD_IOU = 0.5
_STATUS_WORDS = {
    Status.OK: "Found",
    Status.NO_BOX: "Says: nothing there",
    Status.UNREADABLE: "Unreadable answer",
    Status.DEGENERATE: "Box without area",
}
_STAGE = (
    '<div class="bw-stage" tabindex="0" role="group" '
    'aria-label="Picture. Plus and minus zoom, 0 shows it whole, arrow keys move it.">'
)


@dataclass(frozen=True)
class Scene:
    """What all cards show: the picture, the phrase and the truth. `image_size_wh` in pixels of the original.
    `sample_id` is None for an uploaded picture."""

    picture_url: str
    image_size_wh: tuple[int, int]
    phrase: str
    truth: Truth
    sample_id: str | None = None


@dataclass(frozen=True)
class NoAnswer:
    """Why a model has not answered: `sentence`. `waiting`: it is on its way, and the page asks again."""

    model: str | None
    sentence: str
    waiting: bool = False


Answer = Prediction | NoAnswer


def model_of(answer: Answer) -> str | None:
    """Whose answer it is, as it stands among `Models`."""
    return answer.model if isinstance(answer, NoAnswer) else answer.adapter


@dataclass(frozen=True)
class Evidence:
    """What was asked for besides the answers, None until then. `heats` and `probes` have one entry a model, None for
    one that did not answer; `prompts` what is read by whom, where several read; `problems` says why a part could not
    come, by its name; `truths` has the boxes that the probes' wordings are known to mean, `standings`, one a model, how
    each does over many samples. `question` tells one question from the next.
    """

    question: int = 0
    heats: tuple[Heat, ...] | None = None
    probes: tuple[ProbeResult | None, ...] | None = None
    prompts: tuple[tuple[str, ReadPrompt], ...] | None = None
    problems: tuple[tuple[str, str], ...] = ()
    truths: Mapping[str, tuple[Box, ...]] = field(default_factory=dict)
    standings: tuple[Standing, ...] = ()

    def problem(self, part: str) -> str | None:
        return dict(self.problems).get(part)


@dataclass(frozen=True)
class _Entry:
    """One model's part of the page. `boxes` is None before there is an answer."""

    title: str
    kind: Kind
    layer: Layer | None
    badge: str = ""
    facts: str = ""
    raw_text: str = ""
    alt: str = "The picture, no answer yet"
    heat: Heat | None = None


def answers_html(scene: Scene, answers: Sequence[Answer], evidence: Evidence | None = None) -> str:
    """One card per answer, and what else was asked for; a base on its own is followed by the way to a first
    adapter."""
    evidence = evidence or Evidence()
    models = tuple(map(model_of, answers))
    heats = evidence.heats or (None,) * len(models)
    entries = [
        _without_answer(answer, kind) if isinstance(answer, NoAnswer) else _answered(scene, answer, kind, heat)
        for answer, kind, heat in zip(answers, kinds_of(models), heats, strict=True)
    ]
    waiting = any(isinstance(answer, NoAnswer) and answer.waiting for answer in answers)
    predictions = [answer for answer in answers if isinstance(answer, Prediction)]
    return _frame(scene, entries, _verdict(scene, predictions), evidence, waiting=waiting)


def pending_html(scene: Scene, models: Models, message: str, *, busy: bool = True) -> str:
    """The same before there are answers, so that the picture stands still when they come."""
    return _frame(scene, _unanswered(models, message, busy), "", None, busy=busy)


def problem_html(scene: Scene, models: Models, message: str) -> str:
    """The same without answers, and why."""
    problem = f'<strong class="bw-problem" role="alert">{escape(message)}</strong>'
    return _frame(scene, _unanswered(models, "No answer", False), problem, None)


def empty_html(sentence: str) -> str:
    """What stands in place of the cards when there is no picture at all."""
    return f'<div class="bw-empty"><p>{escape(sentence)}</p></div>'


def _unanswered(models: Models, message: str, busy: bool) -> list[_Entry]:
    facts = _waiting_fact(message, busy)
    return [
        _Entry(title_of(model), kind, None, facts=facts) for model, kind in zip(models, kinds_of(models), strict=True)
    ]


def _waiting_fact(message: str, busy: bool) -> str:
    bar = '<span class="bw-wait" role="progressbar" aria-label="Waiting for the model"></span>' if busy else ""
    return f'<li class="bw-waiting">{bar}{escape(message)}</li>'


def _without_answer(answer: NoAnswer, kind: Kind) -> _Entry:
    if answer.waiting:
        return _Entry(title_of(answer.model), kind, None, facts=_waiting_fact(answer.sentence, busy=True))
    fact = f'<li class="bw-problem" role="alert">{escape(answer.sentence)}</li>'
    return _Entry(title_of(answer.model), kind, None, facts=fact, alt="The picture, no answer")


def _answered(scene: Scene, prediction: Prediction, kind: Kind, heat: Heat | None) -> _Entry:
    name = "base" if prediction.adapter is None else title_of(prediction.adapter)
    who = "The base model" if prediction.adapter is None else name
    alt = f"{who} on “{scene.phrase}”: {_status_words(prediction)}"
    layer = Layer(name, kind, prediction.boxes_xyxy_px, labelled=False)
    badge, facts = _badge(scene, prediction), _facts(prediction)
    return _Entry(title_of(prediction.adapter), kind, layer, badge, facts, prediction.raw_text, alt, heat)


def _frame(
    scene: Scene,
    entries: Sequence[_Entry],
    verdict: str,
    evidence: Evidence | None,
    *,
    busy: bool = False,
    waiting: bool = False,
) -> str:
    cards = [_card(scene, entry, place) for place, entry in enumerate(entries)]
    if len(cards) == 1:
        cards.append(_NO_ADAPTER_CARD)
    to_annotate = annotate_link_html(scene.sample_id, "Open in Annotate", has_key=True) if scene.sample_id else ""
    return (
        f'<div class="bw-answers" aria-busy="{str(busy).lower()}" data-waiting="{str(waiting).lower()}"'
        f"{_states(evidence)}>"
        f'<div class="bw-cards" data-count="{len(cards)}">{"".join(cards)}</div>'
        f"{_overlay(scene, entries)}{_slider(scene, entries)}"
        f'<p class="bw-note">{verdict}<span>{_truth_note(scene.truth)}</span>{to_annotate}</p>{HEAT_NOTE}'
        f"{_asides(scene, entries, evidence, busy)}</div>"
    )


def _states(evidence: Evidence | None) -> str:
    """Which parts are there, for the page's script: "yes", "no", or "failed"."""
    if evidence is None:
        return ""
    parts = {"heats": evidence.heats, "probes": evidence.probes, "prompt": evidence.prompts}
    states = {
        part: "failed" if evidence.problem(part) else "no" if value is None else "yes" for part, value in parts.items()
    }
    told = "".join(f' data-{part}="{state}"' for part, state in states.items())
    return f' data-question="{evidence.question}"{told}'


def _asides(scene: Scene, entries: Sequence[_Entry], evidence: Evidence | None, busy: bool) -> str:
    """The two questions that one may ask of an answer; there from the beginning, so that nothing moves."""
    waiting = "" if evidence is not None else " disabled"
    problems = [problem for part in ("heats", "probes") if evidence and (problem := evidence.problem(part))]
    failed = "".join(f'<p class="bw-problem" role="alert">{escape(problem)}</p>' for problem in problems)
    probes = ""
    if evidence is not None and evidence.probes is not None:
        standings = evidence.standings or (None,) * len(entries)
        told = [
            (entry.title, entry.kind, result, standing)
            for entry, result, standing in zip(entries, evidence.probes, standings, strict=True)
            if result is not None
        ]
        probes = probes_html(scene.picture_url, scene.image_size_wh, told, evidence.truths)
    prompts, problem = (evidence.prompts, evidence.problem("prompt")) if evidence else (None, None)
    return (
        f'<div class="bw-asides"><button type="button" class="bw-ask" data-part="probes"{waiting}>'
        f"Does it follow the words?</button>{failed}{probes}"
        f"{prompt_html(prompts, problem, is_asked=busy or evidence is not None)}</div>"
    )


def _truth_note(truth: Truth) -> str:
    key = '<i class="bw-key" data-kind="truth"></i>' if truth.boxes_xyxy_px else ""
    return f"{key}{escape(truth.sentence)}"


def _verdict(scene: Scene, predictions: Sequence[Prediction]) -> str:
    truth = scene.truth.boxes_xyxy_px
    if truth is None or len(predictions) < 2:
        return ""
    overlaps = [answer_iou(prediction, truth) for prediction in predictions]
    if len(predictions) > 2 or predictions[0].adapter is not None:
        return _best(predictions, overlaps)
    gain = overlaps[1] - overlaps[0]
    if abs(gain) < 0.005:
        return '<b class="bw-gain" data-sign="same">Same overlap</b>'
    sign = "up" if gain > 0 else "down"
    amount = f"{gain:+.2f}".replace("-", "−")
    who = predictions[1].adapter
    name = escape(title_of(who)) if is_further(who) else "Adapter"
    return f'<b class="bw-gain" data-sign="{sign}">{name} {amount} IoU</b>'


def _best(predictions: Sequence[Prediction], overlaps: Sequence[float]) -> str:
    most = max(overlaps)
    names = [
        title_of(prediction.adapter)
        for prediction, overlap in zip(predictions, overlaps, strict=True)
        if most - overlap < 0.005
    ]
    if len(names) == len(predictions):
        return '<b class="bw-gain" data-sign="same">Same overlap</b>'
    return f'<b class="bw-gain" data-sign="same">Best: {escape(", ".join(names))} ({most:.2f} IoU)</b>'


def _figure(scene: Scene, layers: Sequence[Layer], alt: str, heat: Heat | None = None) -> str:
    return figure_html(
        scene.picture_url, scene.image_size_wh, layers, alt=alt, heat_url=heat_url(heat) if heat is not None else None
    )


def _card(scene: Scene, entry: _Entry, place: int) -> str:
    layers = [*_truth_layers(scene), *([entry.layer] if entry.layer else [])]
    raw = f"<code>{escape(entry.raw_text)}</code>" if entry.raw_text else "<code>&nbsp;</code>"
    reason = entry.heat.reason if entry.heat is not None else ""
    no_heat = f'<li class="bw-no-heat">No heat map: {escape(reason)}</li>' if reason else ""
    off = "" if entry.layer else " disabled"
    return (
        f'<section class="bw-card" data-kind="{entry.kind}" data-place="{place}"><header>{_key(entry.kind)}'
        f'<h3 title="{escape(entry.title)}">{escape(entry.title)}</h3>'
        f'<button type="button" class="bw-heat-switch" aria-pressed="false" aria-label="Heat map of '
        f'{escape(entry.title)}" title="Where the box could be"{off}><i></i></button>{entry.badge}</header>'
        f"{_STAGE}{_figure(scene, layers, entry.alt, entry.heat)}</div>"
        f'<ul class="bw-facts">{entry.facts}{no_heat}</ul>'
        f'<div class="bw-raw" title="What the model wrote">{raw}</div></section>'
    )


def _overlay(scene: Scene, entries: Sequence[_Entry]) -> str:
    """All boxes on one picture, each with its name."""
    layers = [Layer("truth", "truth", truth)] if (truth := scene.truth.boxes_xyxy_px) else []
    layers += [Layer(e.layer.label, e.kind, e.layer.boxes_xyxy_px) for e in entries if e.layer]
    legend = "".join(
        f'<li>{_key(entry.kind)}<span title="{escape(entry.title)}">{escape(entry.title)}</span>{entry.badge}</li>'
        for entry in entries
    )
    alt = "; ".join(entry.alt for entry in entries)
    return (
        f'<section class="bw-card bw-overlay"><ul class="bw-legend">{legend}</ul>'
        f"{_STAGE}{_figure(scene, layers, alt)}</div></section>"
    )


def _slider(scene: Scene, entries: Sequence[_Entry]) -> str:
    """Two of the models, or one and the truth alone, with a divider to be moved."""
    figures = [
        _figure(scene, [*_truth_layers(scene), *([entry.layer] if entry.layer else [])], entry.alt) for entry in entries
    ]
    figures.append(_figure(scene, _truth_layers(scene), "The truth alone" if _truth_layers(scene) else "The picture"))
    titles = [entry.title for entry in entries] + ["Truth alone" if _truth_layers(scene) else "Picture alone"]
    options = "".join(f'<option value="{place}">{escape(title)}</option>' for place, title in enumerate(titles))
    layered = "".join(
        f'<div class="bw-layer" data-place="{place}">{figure}</div>' for place, figure in enumerate(figures)
    )
    width, height = scene.image_size_wh
    return (
        '<section class="bw-card bw-slider"><div class="bw-legend">'
        f'<select class="bw-side" data-side="left" aria-label="Left of the divider">{options}</select>'
        f'<select class="bw-side" data-side="right" aria-label="Right of the divider">{options}</select></div>'
        f'{_STAGE}<div class="bw-layers" style="--bw-ratio:{width / height:.5f}">{layered}'
        '<input type="range" class="bw-split" min="0" max="100" step="1" value="50" '
        'aria-label="Divider between both models"></div></div></section>'
    )


def _key(kind: Kind) -> str:
    return f'<i class="bw-key" data-kind="{kind}"></i>'


_NO_ADAPTER_CARD = (
    '<section class="bw-card bw-card-empty" data-kind="adapter"><div><i class="bw-key" data-kind="adapter"></i>'
    "<h3>No adapter to compare with</h3><p>Choose one above, train one in the Train tab, or add another "
    "model: its answer then stands here, beside the base.</p></div></section>"
)


def _truth_layers(scene: Scene) -> list[Layer]:
    truth = scene.truth.boxes_xyxy_px
    return [Layer("truth", "truth", truth, labelled=False)] if truth else []


def _badge(scene: Scene, prediction: Prediction) -> str:
    truth = scene.truth.boxes_xyxy_px
    if truth is None:
        return ""
    overlap = answer_iou(prediction, truth)
    if not truth:
        right = overlap >= GOOD_IOU
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
