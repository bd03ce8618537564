"""The foreign phrase of a probe, and what wordings are known to mean on a picture: the same for page and programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from grounding.boxes import Box, set_iou
from grounding.metrics import MATCH_MIN_IOU
from grounding.probes import probes_of
from grounding.records import MAX_PHRASE_CHARACTERS, Sample, check_phrase
from grounding.ui.sources import Parts, picture_id
from grounding.ui.truth import boxes_called, truth_on_picture

_OTHERS_LOOKED_AT = 24  # samples, for one with another phrase

Truths = dict[str, tuple[Box, ...]]


def foreign_phrase(
    parts: Parts, picture_sha256: str, sample: Sample | None, phrase: str, other: str | None = None
) -> tuple[str | None, Truths]:
    """What to give `probes.probe` as `other` and `truths` for a phrase on a picture.

    `sample` is the one asked about, None for a picture alone. `other` is a phrase that somebody chose, "" for none at
    all; without a choice it is that of another sample of the picture, else of another picture, of the same split where
    there is one, and None where no other is found. The truths, boxes in pixels by wording, are those of the phrase and
    of every wording of its probes, as far as the samples of the picture say. Raises `RecordError` for a phrase that is
    too long.
    """
    on_picture = parts.source.samples_of_picture(picture_sha256)
    own = truth_on_picture(sample, lambda: on_picture, phrase, parts.is_placeholder).boxes_xyxy_px
    if other is None:
        other = _telling(parts, phrase, (one for one in on_picture if _differs(one, sample, own)))
    if other is None:
        elsewhere, _ = parts.source.page(sample.split if sample else None, 0, _OTHERS_LOOKED_AT)
        other = _telling(parts, phrase, (one for one in elsewhere if picture_id(one) != picture_sha256))
    other = check_phrase(other) if other is not None and other.strip() else None
    truths: Truths = {} if own is None else {phrase: own}
    for one in probes_of(phrase, other=other):
        meant = boxes_called(on_picture, one.phrase, parts.is_placeholder)
        if meant is not None:
            truths.setdefault(one.phrase, meant)
    return other, truths


def _differs(one: Sample, sample: Sample | None, own: Sequence[Box] | None) -> bool:
    """Whether `one` is about something else than the phrase asked about `sample`, whose true boxes are `own` where they
    are known: on the same picture another wording of the same thing decides nothing."""
    if own is None:
        return sample is None or one.id != sample.id
    return set_iou(one.boxes_xyxy_px, own) < MATCH_MIN_IOU


def _telling(parts: Parts, phrase: str, samples: Iterable[Sample]) -> str | None:
    """Of the samples' phrases the one that shares the fewest words: it says the most."""
    usable = [
        one.phrase
        for one in samples
        if 0 < len(one.phrase.strip()) <= MAX_PHRASE_CHARACTERS
        and one.phrase.casefold() != phrase.casefold()
        and not parts.is_placeholder(one.phrase)
    ]
    words = set(phrase.casefold().split())
    return min(usable, key=lambda one: len(words.intersection(one.casefold().split())), default=None)
