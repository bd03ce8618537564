"""The foreign phrase of a probe, and what wordings are known to mean on a picture: the same for page and programs."""

from __future__ import annotations

from collections.abc import Sequence

from grounding.boxes import Box
from grounding.probes import probes_of
from grounding.records import MAX_PHRASE_CHARACTERS, Sample, check_phrase
from grounding.ui.sources import Parts
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
    if other is None:
        other = _other(parts, on_picture, sample, phrase)
    other = check_phrase(other) if other is not None and other.strip() else None
    own = truth_on_picture(sample, on_picture, phrase, parts.is_placeholder).boxes_xyxy_px
    truths: Truths = {} if own is None else {phrase: own}
    for one in probes_of(phrase, other=other):
        meant = boxes_called(on_picture, one.phrase, parts.is_placeholder)
        if meant is not None:
            truths.setdefault(one.phrase, meant)
    return other, truths


def _other(parts: Parts, on_picture: Sequence[Sample], sample: Sample | None, phrase: str) -> str | None:
    """Another phrase of the picture names a thing that is there; and the fewer words it shares, the more it says."""
    words = set(phrase.casefold().split())
    elsewhere, _ = parts.source.page(sample.split if sample else None, 0, _OTHERS_LOOKED_AT)
    for some in (on_picture, elsewhere):
        usable = [
            one.phrase
            for one in some
            if (sample is None or one.id != sample.id)
            and 0 < len(one.phrase.strip()) <= MAX_PHRASE_CHARACTERS
            and one.phrase.casefold() != phrase.casefold()
            and not parts.is_placeholder(one.phrase)
        ]
        if usable:
            return min(usable, key=lambda one: len(words.intersection(one.casefold().split())))
    return None
