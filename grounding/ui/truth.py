"""When a sample's box is the truth for the phrase that somebody typed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from grounding.boxes import Box
from grounding.records import Sample


@dataclass(frozen=True)
class Truth:
    """The true boxes for a phrase, or None where they are unknown, and the sentence that says why."""

    boxes_xyxy_px: tuple[Box, ...] | None
    sentence: str


def truth_for(sample: Sample | None, phrase: str, is_placeholder: Callable[[str], bool]) -> Truth:
    """The truth is known for the sample's phrase and its alternatives, and for any phrase in place of a placeholder."""
    if sample is None:
        return Truth(None, "An uploaded picture has no known truth, so nothing is measured.")
    if not _plain(phrase):
        return Truth(None, "")
    if _is_called(sample, phrase) and not is_placeholder(phrase):
        return _known(sample.boxes_xyxy_px, "the true box of this phrase")
    if not sample.phrase.strip() or is_placeholder(sample.phrase):
        return Truth(
            sample.boxes_xyxy_px,
            "Dashed: this sample's box. Its own phrase is a placeholder, so yours stands in for it.",
        )
    return Truth(None, f"Not this sample's phrase (“{sample.phrase}”), so there is no truth to measure against.")


def truth_on_picture(
    sample: Sample | None, others: Iterable[Sample], phrase: str, is_placeholder: Callable[[str], bool]
) -> Truth:
    """As `truth_for`; where it is not known from the sample itself, by the other samples of the same picture. Those
    that give a phrase different boxes say nothing."""
    own = truth_for(sample, phrase, is_placeholder)
    if own.boxes_xyxy_px is not None:
        return own
    boxes = boxes_called(others, phrase, is_placeholder)
    return own if boxes is None else _known(boxes, "what another sample of this picture calls so")


def boxes_called(
    samples: Iterable[Sample], phrase: str, is_placeholder: Callable[[str], bool]
) -> tuple[Box, ...] | None:
    """The true boxes of what samples of one picture call so, None where none does, or they don't agree."""
    if not _plain(phrase) or is_placeholder(phrase):
        return None
    known = {sample.boxes_xyxy_px for sample in samples if _is_called(sample, phrase)}
    return known.pop() if len(known) == 1 else None


def _known(boxes: tuple[Box, ...], what: str) -> Truth:
    if not boxes:
        return Truth((), "This phrase refers to nothing in the picture: the right answer is no box.")
    return Truth(boxes, f"Dashed: {what}.")


def _is_called(sample: Sample, phrase: str) -> bool:
    return _plain(phrase) in map(_plain, (sample.phrase, *sample.alternatives))


def _plain(phrase: str) -> str:
    return " ".join(phrase.casefold().split())
