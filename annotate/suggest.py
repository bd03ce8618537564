"""Phrases to choose from for a sample. Only proposals: nothing is saved before a person takes one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from annotate.heard import heard_iou
from annotate.items import Item
from annotate.listening import Listener
from annotate.phrases import clean_text, usable_phrase
from annotate.true_words import Kind, Thing, noun_of, wordings
from grounding.boxes import SAME_THING_IOU, iou
from grounding.placeholders import normalise

Origin = Literal["human", "source", "model"]
MOST_SUGGESTIONS = 12
_MOST_OF_SOURCE = 6


@dataclass(frozen=True)
class Suggestion:
    """A phrase to take or leave. `origin` is "source" where the data set gave it for this box, else "model": nobody
    wrote it. `iou` (0.0 to 1.0) says how well a model found the box from it; None where none was asked."""

    text: str
    kind: Kind
    origin: Origin
    iou: float | None = None


def candidates(item: Item, siblings: Sequence[Item], *, locations: bool = True) -> tuple[Suggestion, ...]:
    """What one may call the box of `item` and nothing else that is boxed on its picture; may be empty.

    First the source's own phrases, then those made by rule from category, place and size, which need a category and
    exactly one box. Not `locations`: without those made of a place, as RefCOCO+ wants it. The phrase that stands and
    those that can't be saved are left out.
    """
    found = [Suggestion(text, "source", "source") for text in _of_source(item, siblings)][:_MOST_OF_SOURCE]
    found += [one for one in _by_rule(item, siblings) if locations or one.kind in ("noun", "size")]
    unlike: dict[str, Suggestion] = {}
    for one in found:
        text = usable_phrase(one.text)
        if text is not None and normalise(text) != normalise(item.phrase):
            unlike.setdefault(normalise(text), replace(one, text=text))
    return tuple(unlike.values())[:MOST_SUGGESTIONS]


def ranked(item: Item, found: Sequence[Suggestion], listener: Listener | None) -> tuple[Suggestion, ...]:
    """The suggestions, best understood first, each with the lowest IoU among the models that answered.

    In their own order where there is no listener. Raises what the listener raises, such as `BusyError`.
    """
    if listener is None or not found:
        return tuple(found)
    answers = listener.many([(item.sample.image, one.text) for one in found])
    target = item.sample.boxes_xyxy_px
    judged = [
        replace(one, iou=min((heard_iou(each.boxes_xyxy_px, each.status, target) for each in given), default=None))
        for one, given in zip(found, answers, strict=True)
    ]
    return tuple(sorted(judged, key=lambda one: -1.0 if one.iou is None else one.iou, reverse=True))


def origin_of(text: str, taken: str | None, found: Sequence[Suggestion]) -> Origin:
    """What to save `text` as: the origin of the suggestion that was `taken` when it is unchanged, else "human".

    `taken` is what the page says that the person took (None: they wrote it themselves, whatever it reads like). It
    counts only when it is among `found`, the candidates of the sample.
    """
    if taken is None or clean_text(text) != clean_text(taken):
        return "human"
    return next((one.origin for one in found if one.text == clean_text(taken)), "human")


def _of_source(item: Item, siblings: Sequence[Item]) -> Iterator[str]:
    """The source's phrases for this box, without those that another box of the picture has too."""
    elsewhere = {
        normalise(phrase)
        for sibling in siblings
        if not _has_same_boxes(item, sibling)
        for phrase in (sibling.phrase, *sibling.sample.alternatives)
    }
    yield from (phrase for phrase in item.sample.alternatives if normalise(phrase) not in elsewhere)


def _has_same_boxes(one: Item, other: Item) -> bool:
    mine, theirs = one.sample.boxes_xyxy_px, other.sample.boxes_xyxy_px
    return len(mine) == len(theirs) and all(iou(a, b) >= SAME_THING_IOU for a, b in zip(mine, theirs, strict=True))


def _by_rule(item: Item, siblings: Sequence[Item]) -> Iterator[Suggestion]:
    if len(item.sample.boxes_xyxy_px) != 1:
        return
    me = Thing(noun_of(item.sample.category), item.sample.boxes_xyxy_px[0], item.image_size_wh)
    others = [thing for thing in _things(siblings) if iou(thing.box, me.box) < SAME_THING_IOU]
    yield from (Suggestion(text, kind, "model") for kind, text in wordings(me, others))


def _things(items: Sequence[Item]) -> list[Thing]:
    """What is boxed on the picture, each thing once, though the samples name it several times."""
    things: list[Thing] = []
    for item in items:
        for box in item.sample.boxes_xyxy_px:
            noun = noun_of(item.sample.category)
            if not any(iou(thing.box, box) >= SAME_THING_IOU and thing.noun == noun for thing in things):
                things.append(Thing(noun, box, item.image_size_wh))
    return things
