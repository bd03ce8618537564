"""When a sample's box is the truth for the phrase that somebody typed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from grounding.boxes import SAME_THING_IOU, Box, set_iou
from grounding.records import Sample


@dataclass(frozen=True)
class Truth:
    """The true boxes for a phrase, or None where they are unknown, and the sentence that says why."""

    boxes_xyxy_px: tuple[Box, ...] | None
    sentence: str


def truth_on_picture(
    sample: Sample | None, others: Callable[[], Iterable[Sample]], phrase: str, is_placeholder: Callable[[str], bool]
) -> Truth:
    """The truth is known for the sample's phrase and its alternatives, for what another sample of the same picture
    calls so, and for any other phrase in place of a placeholder.

    `others` gives the samples of the picture; they are only read where they decide. What several of them call so, with
    different boxes, is not known.
    """
    if not _plain(phrase):
        return Truth(None, "")
    if sample is not None and _is_own(sample, phrase) and not is_placeholder(phrase):
        return _known(sample.boxes_xyxy_px, "the true box of this phrase")
    boxes = boxes_called(others(), phrase, is_placeholder)
    if boxes is not None:
        return _known(boxes, "what another sample of this picture calls so")
    if sample is None:
        return Truth(None, "An uploaded picture has no known truth, so nothing is measured.")
    if not sample.phrase.strip() or is_placeholder(sample.phrase):
        return Truth(
            sample.boxes_xyxy_px,
            "Dashed: this sample's box. Its own phrase is a placeholder, so yours stands in for it.",
        )
    return Truth(None, f"Not this sample's phrase (“{sample.phrase}”), so there is no truth to measure against.")


def boxes_called(
    samples: Iterable[Sample], phrase: str, is_placeholder: Callable[[str], bool]
) -> tuple[Box, ...] | None:
    """The true boxes of what samples of one picture call so, None where none does, or they don't agree."""
    if not _plain(phrase) or is_placeholder(phrase):
        return None
    known = [sample.boxes_xyxy_px for sample in samples if _plain(sample.phrase) == _plain(phrase)]
    agree = all(set_iou(boxes, known[0]) >= SAME_THING_IOU for boxes in known[1:])
    return known[0] if known and agree else None


def _known(boxes: tuple[Box, ...], what: str) -> Truth:
    if not boxes:
        return Truth((), "This phrase refers to nothing in the picture: the right answer is no box.")
    return Truth(boxes, f"Dashed: {what}.")


def _is_own(sample: Sample, phrase: str) -> bool:
    return _plain(phrase) in map(_plain, (sample.phrase, *sample.alternatives))


def _plain(phrase: str) -> str:
    return " ".join(phrase.casefold().split())
