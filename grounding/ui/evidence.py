"""What may be asked of an answer besides: its heat, its probes, the prompt that the model read. Plain HTML, escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape

from PIL import Image

from grounding.boxes import Box
from grounding.heat import CONDITION, Heat
from grounding.overlay import Kind, Layer, figure_html
from grounding.probes import ProbeResult, Verdict
from grounding.prompts import PromptToken, ReadPrompt
from grounding.records import Prediction, Status
from grounding.ui.against_chance import Standing

_HEAT_CELLS = 96  # along each side: smoothed by the page, the steps of the digits still show
# Along the way from no chance to certainty: red, green, blue, opacity. Dark to light, so that it reads without colours.
_HEAT_RAMP = ((36, 12, 79, 0), (123, 29, 109, 150), (213, 72, 66, 190), (251, 155, 6, 205), (252, 255, 164, 220))
_NO_CHANCE = 0.01
HEAT_NOTE = f'<p class="bw-heat-note"><span>0%</span><i></i><span>100%</span><span>{escape(CONDITION)}</span></p>'
_VERDICT_MARKS = {
    Verdict.FOLLOWS: "✓",
    Verdict.MOVES: "~",
    Verdict.IN_PART: "~",
    Verdict.STRAYS: "✕",
    Verdict.STAYS: "✕",
    Verdict.UNKNOWN: "?",
}


def heat_url(heat: Heat) -> str | None:
    """The heat as a transparent PNG, in a `data:` address; None where there is none."""
    grid = heat.grid(_HEAT_CELLS, _HEAT_CELLS)
    if grid is None:
        return None
    picture = Image.new("RGBA", (_HEAT_CELLS, _HEAT_CELLS))
    picture.putdata([_heat_colour(chance) for row in grid for chance in row])
    content = io.BytesIO()
    picture.save(content, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode("ascii")


def _heat_colour(chance: float) -> tuple[int, ...]:
    if chance < _NO_CHANCE:
        return (0, 0, 0, 0)
    at = min(1.0, chance) * (len(_HEAT_RAMP) - 1)
    below = min(int(at), len(_HEAT_RAMP) - 2)
    share = at - below
    return tuple(
        round(low + share * (high - low)) for low, high in zip(_HEAT_RAMP[below], _HEAT_RAMP[below + 1], strict=True)
    )


def probes_html(
    picture_url: str,
    image_size_wh: tuple[int, int],
    told: Sequence[tuple[str, Kind, ProbeResult, Standing | None]],
    truths: Mapping[str, Sequence[Box]],
) -> str:
    """The verdict on each model, (title, colour, what it answered, how it does over many samples), then one small
    picture a wording with the boxes of all of them, and with what it is known to mean. "" where none has answered."""
    if not told:
        return ""
    verdicts = "".join(
        f'<li data-verdict="{result.verdict.value}"><i class="bw-key" data-kind="{kind}"></i>'
        f'<b title="{escape(title)}">{escape(title)}</b>'
        f'<span class="bw-mark" aria-hidden="true">{_VERDICT_MARKS[result.verdict]}</span>'
        f"<span>{escape(result.sentence)}{_standing(standing)}</span></li>"
        for title, kind, result, standing in told
    )
    first = [(kind, result.original) for _, kind, result, _ in told]
    asked = told[0][2].phrase
    pictures = [_probe(picture_url, image_size_wh, asked, "as asked", first, [], truths.get(asked, ()))]
    for place, answer in enumerate(told[0][2].answers):
        answers = [(kind, result.answers[place]) for _, kind, result, _ in told]
        shown = [(kind, own.prediction) for kind, own in answers]
        marks = [(kind, own.iou, own.moved) for kind, own in answers]
        wording, what = answer.probe.phrase, answer.probe.kind.value
        pictures.append(_probe(picture_url, image_size_wh, wording, what, shown, marks, truths.get(wording, ())))
    return (
        f'<section class="bw-probes" aria-label="Probes"><ul class="bw-verdicts">{verdicts}</ul>'
        f'<div class="bw-probe-row">{"".join(pictures)}</div></section>'
    )


def _standing(standing: Standing | None) -> str:
    if standing is None:
        return ""
    better = {True: "yes", False: "no", None: "unknown"}[standing.is_better]
    return f'<small class="bw-standing" data-better="{better}">{escape(standing.sentence)}</small>'


def _probe(
    picture_url: str,
    image_size_wh: tuple[int, int],
    phrase: str,
    what: str,
    shown: Sequence[tuple[Kind, Prediction]],
    marks: Sequence[tuple[Kind, float, bool]],
    truth: Sequence[Box],
) -> str:
    layers = [Layer("truth", "truth", tuple(truth), labelled=False)]
    layers += [Layer(str(kind), kind, answer.boxes_xyxy_px, labelled=False) for kind, answer in shown]
    figure = figure_html(picture_url, image_size_wh, layers, alt=f"The answers to “{phrase}”")
    told = "".join(
        f'<span data-moved="{str(moved).lower()}" title="Overlap with the answer as asked">'
        f'<i class="bw-key" data-kind="{kind}"></i>{"moved" if moved else "stays"} {iou:.2f}</span>'
        for kind, iou, moved in marks
    ) or "".join(
        f'<span><i class="bw-key" data-kind="{kind}"></i>{"box" if answer.status is Status.OK else "no box"}</span>'
        for kind, answer in shown
    )
    return (
        f'<div class="bw-probe"><div class="bw-probe-figure">{figure}</div><p class="bw-probe-what">{escape(what)}</p>'
        f'<p class="bw-probe-phrase" title="{escape(phrase)}">“{escape(phrase)}”</p>'
        f'<p class="bw-moves">{told}</p></div>'
    )


def prompt_html(
    prompts: Sequence[tuple[str, ReadPrompt]] | None, problem: str | None = None, *, is_asked: bool = True
) -> str:
    """A fold with the prompt and its tokens, one for each (who reads it, prompt); asked for when it is opened."""
    if problem is not None:
        body = f'<p class="bw-problem">{escape(problem)}</p>'
    elif not is_asked:
        body = '<p class="bw-quiet">Nothing was read yet: the prompt stands here once the model answers.</p>'
    elif prompts is None:
        body = '<p class="bw-quiet">Asking the model for its prompt…</p>'
    else:
        body = "".join(_prompt(title if len(prompts) > 1 else "", prompt) for title, prompt in prompts)
    return f'<details class="bw-read"><summary>What the model read</summary>{body}</details>'


def _prompt(title: str, prompt: ReadPrompt) -> str:
    who = f"<b>{escape(title)}:</b> " if title else ""
    return (
        f'<p class="bw-quiet">{who}{_counted(prompt)} Each token with its number in the vocabulary beneath.</p>'
        f'<div class="bw-tokens">{"".join(map(_token, prompt.tokens))}</div>'
    )


def _counted(prompt: ReadPrompt) -> str:
    pictured = sum(token.count for token in prompt.tokens if token.is_image)
    of_picture = f", {pictured:,} of them for the picture" if pictured else ", none of them for the picture"
    return f"{prompt.length:,} tokens{of_picture}."


def _token(token: PromptToken) -> str:
    text = escape(token.text).replace("\n", "↵<br>").replace(" ", "·")
    many = f" × {token.count:,}" if token.count > 1 else ""
    kind = ' data-image="true"' if token.is_image else ""
    return f"<span{kind}>{text}{many}<small>{token.id}</small></span>"
