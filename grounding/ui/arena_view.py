"""What the arena shows: plain HTML, everything escaped. Before a vote nothing here says whose answer stands where:
both sides are drawn by the same words in the same colour, and carry no id, name or figure of their own."""

from __future__ import annotations

from html import escape

from grounding.arena import Question, Questions, Tally, Vote
from grounding.compared.comparison import AnswerRecord, SampleRecord
from grounding.overlay import Kind, Layer, figure_html
from grounding.records import Status
from grounding.ui.pictures import figure_url, picture_url

KINDS: dict[str, Kind] = {"a": "base", "b": "adapter"}
"""The colours of both, once it may be known who is who."""
_CHOICES = (("left", "Left", "←"), ("both", "Both good", "↑"), ("neither", "Neither", "↓"), ("right", "Right", "→"))
_WITHOUT_BOX = {Status.NO_BOX: "Says: nothing there", Status.UNREADABLE: "No readable answer"}
_CHOSEN = {"both": "both good", "neither": "neither"}
_SMALL_SIDE_PX = 320


def arena_html(question: str, last: str, tally: str, notes: str) -> str:
    """The parts in their places, the same in every state."""
    return f'<div class="bw-arena-parts">{question}<div class="bw-arena-after">{last}{tally}</div>{notes}</div>'


def message_html(title: str, sentence: str) -> str:
    """In place of a question."""
    return f'<div class="bw-arena-message"><h3>{escape(title)}</h3><p>{escape(sentence)}</p></div>'


def question_html(question: Question, record: SampleRecord) -> str:
    """Both answers side by side, unlabelled, and the four choices."""
    answers = {answer.letter: answer for answer in record.answers}
    sides = "".join(
        _side(name, title, record, answers[letter])
        for name, title, letter in (("left", "Left", question.left), ("right", "Right", question.right))
    )
    buttons = "".join(
        f'<button type="button" data-choice="{name}" title="Key {number} or {arrow}">'
        f"<kbd>{number}</kbd><span>{title}</span><kbd>{arrow}</kbd></button>"
        for number, (name, title, arrow) in enumerate(_CHOICES, start=1)
    )
    return (
        f'<section class="bw-arena-question" data-question="{question.token}" tabindex="-1" '
        f'aria-label="Which is better?">'
        f'<p class="bw-arena-phrase"><span>Which one would you take for</span> <b>“{escape(record.phrase)}”</b></p>'
        f'<div class="bw-arena-sides">{sides}</div><div class="bw-arena-choices" role="group" '
        f'aria-label="Your choice">{buttons}</div></section>'
    )


def _side(name: str, title: str, record: SampleRecord, answer: AnswerRecord) -> str:
    layer = Layer(title, "target", answer.boxes_xyxy_px, labelled=False)
    words = "" if answer.boxes_xyxy_px else _WITHOUT_BOX.get(answer.status, "No box")
    told = f'<span class="bw-arena-none">{words}</span>' if words else ""
    figure = figure_html(
        figure_url(record.image_sha256), record.image_size_wh, [layer], alt=f"{title}: {words or 'box'}"
    )
    stage = f'<div class="bw-stage">{figure}{told}</div>'
    return f'<div class="bw-arena-side" data-choice="{name}"><h3>{title}</h3>{stage}</div>'


def last_html(vote: Vote | None, record: SampleRecord | None, names: dict[str, str]) -> str:
    """Who was who in this person's last vote, with both answers and the truth, and the way to take it back."""
    if vote is None or record is None:
        return (
            '<section class="bw-arena-last" data-empty="true"><p>Whose answers they were '
            "is shown here after each vote, never before.</p></section>"
        )
    right = "b" if vote.left == "a" else "a"
    answers = {answer.letter: answer for answer in record.answers}
    chosen = _CHOSEN.get(vote.preferred) or ("left" if vote.preferred == vote.left else "right")
    told = "".join(
        f'<li data-chosen="{str(vote.preferred == letter).lower()}"><span>{title}</span>'
        f'<i class="bw-key" data-kind="{KINDS[letter]}"></i>{_name(names[letter])}'
        f"<em>IoU {answers[letter].iou:.2f}</em></li>"
        for title, letter in (("Left", vote.left), ("Right", right))
    )
    layers = [Layer("truth", "truth", record.truth_xyxy_px, labelled=False)]
    layers += [Layer(names[x], KINDS[x], answers[x].boxes_xyxy_px, labelled=False) for x in ("a", "b")]
    address = picture_url(record.image_sha256, _SMALL_SIDE_PX)
    figure = figure_html(address, record.image_size_wh, layers, alt=f"Both answers to “{record.phrase}”")
    return (
        f'<section class="bw-arena-last" aria-live="polite"><div class="bw-arena-small">{figure}</div>'
        f'<div class="bw-arena-told"><p>You took <b>{chosen}</b> for “{escape(record.phrase)}”</p><ul>{told}</ul>'
        f'<button type="button" data-undo="{vote.id}" title="Key U">Take it back</button></div></section>'
    )


def _name(name: str) -> str:
    return f'<b title="{escape(name)}">{escape(name)}</b>'


def tally_html(tally: Tally, names: dict[str, str]) -> str:
    """How often b is preferred, as a dot with its interval, and in words."""
    ends = "".join(
        f'<span data-side="{side}"><i class="bw-key" data-kind="{KINDS[side]}"></i>'
        f"{_name(names[side])}<em>{count:,}</em></span>"
        for side, count in (("a", tally.a), ("b", tally.b))
    )
    mark = ""
    if tally.share_b is not None and tally.interval is not None:
        low, high = tally.interval
        mark = (
            f'<i class="bw-arena-interval" style="left:{low:.2%};width:{high - low:.2%}"></i>'
            f'<i class="bw-arena-dot" style="left:{tally.share_b:.2%}"></i>'
        )
    return (
        f'<section class="bw-arena-tally"><div class="bw-arena-ends">{ends}</div>'
        f'<div class="bw-arena-track" role="img" aria-label="{escape(tally_sentence(tally, names))}">{mark}</div>'
        f"<p>{escape(tally_sentence(tally, names))}</p></section>"
    )


def tally_sentence(tally: Tally, names: dict[str, str]) -> str:
    """The tally for people."""
    people = f" by {tally.people} people" if tally.people > 1 else ""
    ties = f"{tally.both:,} both good, {tally.neither:,} neither{people}."
    if tally.share_b is None or tally.interval is None:
        return f"No vote for one of the two yet. {ties}" if tally.votes else "No votes yet."
    low, high = tally.interval
    told = (
        f"{names['b']} is preferred in {tally.b:,} of {tally.decisive:,} decisive votes: {tally.share_b:.0%} "
        f"(95% interval {low:.0%} to {high:.0%})."
    )
    if tally.decided:
        better = names["b"] if tally.share_b > 0.5 else names["a"]
        return f"{told} More than chance: {better}. {ties}"
    return f"{told} Not decided: the interval holds 50%. {ties}"


def notes_html(questions: Questions, open_count: int) -> str:
    """What is left to judge, and what is not asked."""
    told = [f"{open_count:,} of {len(questions.rows):,} left for you"]
    if questions.skipped_same:
        told.append(f"{questions.skipped_same:,} skipped, as both answers look the same (IoU above 0.9)")
    if questions.seen_in_training:
        told.append(f"{questions.seen_in_training:,} left out, as an adapter saw them in training")
    if questions.without_picture:
        told.append(f"{questions.without_picture:,} left out, as their pictures are not in this workspace")
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in told)
    return f'<ul class="bw-arena-notes">{items}</ul>'
