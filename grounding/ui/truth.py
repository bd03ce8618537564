"""When a sample's box is the truth for the phrase that somebody typed."""

from __future__ import annotations

from collections.abc import Callable
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
    wanted = _plain(phrase)
    if not wanted:
        return Truth(None, "")
    own = [_plain(known) for known in (sample.phrase, *sample.alternatives)]
    if wanted in own and not is_placeholder(phrase):
        if not sample.boxes_xyxy_px:
            return Truth((), "This phrase refers to nothing in the picture: the right answer is no box.")
        return Truth(sample.boxes_xyxy_px, "Dashed: the true box of this phrase.")
    if not sample.phrase.strip() or is_placeholder(sample.phrase):
        return Truth(
            sample.boxes_xyxy_px,
            "Dashed: this sample's box. Its own phrase is a placeholder, so yours stands in for it.",
        )
    return Truth(None, f"Not this sample's phrase (“{sample.phrase}”), so there is no truth to measure against.")


def _plain(phrase: str) -> str:
    return " ".join(phrase.casefold().split())
