"""The foreign phrase of a probe, and what wordings are known to mean on a picture: the same for page and programs."""

from __future__ import annotations

from grounding.boxes import Box
from grounding.records import MAX_PHRASE_CHARACTERS, Sample, check_phrase
from grounding.ui.sources import Parts, picture_id
from grounding.ui.truth import truth_for

_OTHERS_LOOKED_AT = 24  # samples, for one with another phrase

Truths = dict[str, tuple[Box, ...]]


def foreign_phrase(
    parts: Parts, picture_sha256: str, sample: Sample | None, phrase: str, other: str | None = None
) -> tuple[str | None, Truths]:
    """What to give `probes.probe` as `other` and `truths` for a phrase on a picture.

    `sample` is the one asked about, None for a picture alone. `other` is a phrase that somebody chose, "" for none at
    all; without a choice it is the phrase of another sample, of the same split where there is one, and None where no
    other is found. The truths, boxes in pixels by wording, are those of both phrases as far as they are known. Raises
    `RecordError` for a phrase that is too long.
    """
    own = truth_for(sample, phrase, parts.is_placeholder).boxes_xyxy_px
    truths: Truths = {} if own is None else {phrase: own}
    others = _others(parts, picture_sha256, sample, phrase)
    if other is None and others:
        other = others[0].phrase
    if other is None or not other.strip():
        return None, truths
    other = check_phrase(other)
    for one in others:
        if picture_id(one) != picture_sha256:
            continue
        meant = truth_for(one, other, parts.is_placeholder).boxes_xyxy_px
        if meant is not None:
            truths.setdefault(other, meant)
    return other, truths


def _others(parts: Parts, picture_sha256: str, sample: Sample | None, phrase: str) -> list[Sample]:
    """Samples with another phrase, the most telling first."""
    samples, _ = parts.source.page(sample.split if sample else None, 0, _OTHERS_LOOKED_AT)
    usable = [
        one
        for one in samples
        if (sample is None or one.id != sample.id)
        and 0 < len(one.phrase.strip()) <= MAX_PHRASE_CHARACTERS
        and one.phrase.casefold() != phrase.casefold()
        and not parts.is_placeholder(one.phrase)
    ]
    # Of the same picture, it names a thing that is there; and the fewer words it shares, the more it says.
    words = set(phrase.casefold().split())
    usable.sort(
        key=lambda one: (picture_id(one) != picture_sha256, len(words.intersection(one.phrase.casefold().split())))
    )
    return usable
