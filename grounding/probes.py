"""Does the box follow the words? The same picture asked again with the phrase changed in a few telling ways.

A model that looks at the picture alone keeps its box whatever is asked. Each probe changes one thing: the words are
gone, in disorder, name the other side or size, or are those of another sample. A box that only moves follows nothing
yet: where it is known what a wording means, it must lead there.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from grounding.boxes import Box, set_iou
from grounding.records import Prediction, Status, check_phrase

if TYPE_CHECKING:
    from PIL import Image

    from grounding.predict import Predictor

NEUTRAL_PHRASE = "the object"
MOVED_BELOW_IOU = 0.5
"""A box that overlaps the first answer by less than this has moved; one that overlaps the truth by less has missed."""

_SHUFFLES_TRIED = 20


class ProbeKind(StrEnum):
    """What a probe does to the words; its value says so on the page."""

    BLANK = "no words to go by"
    SHUFFLED = "words shuffled"
    SIDES = "left and right swapped"
    HEIGHTS = "top and bottom swapped"
    SIZES = "big and small swapped"
    OTHER = "another sample's phrase"


class Verdict(StrEnum):
    """Whether an answer follows the words."""

    FOLLOWS = "follows"
    IN_PART = "in part"
    STRAYS = "strays"
    STAYS = "stays"
    UNKNOWN = "unknown"


_SWAPPED: Mapping[ProbeKind, Mapping[str, str]] = {
    ProbeKind.SIDES: {"left": "right", "right": "left", "leftmost": "rightmost", "rightmost": "leftmost"},
    ProbeKind.HEIGHTS: {
        **{"top": "bottom", "bottom": "top", "topmost": "bottommost", "bottommost": "topmost"},
        **{"upper": "lower", "lower": "upper", "above": "below", "below": "above"},
    },
    ProbeKind.SIZES: {
        **{"big": "small", "bigger": "smaller", "biggest": "smallest", "little": "big"},
        **{"small": "big", "smaller": "bigger", "smallest": "biggest"},
        **{"large": "small", "larger": "smaller", "largest": "smallest"},
    },
}
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class Probe:
    """One changed wording."""

    kind: ProbeKind
    phrase: str


@dataclass(frozen=True)
class ProbeAnswer:
    """What a model answers to a probe. `iou`, 0.0 to 1.0, is the overlap with its answer to the phrase itself; two
    answers without a box overlap fully. `truth_iou` is the overlap with what the wording means, None where nobody
    knows."""

    probe: Probe
    prediction: Prediction
    iou: float
    truth_iou: float | None = None

    @property
    def moved(self) -> bool:
        return self.iou < MOVED_BELOW_IOU


@dataclass(frozen=True)
class ProbeResult:
    """One model's answers to a phrase and to its probes, in the order of `probes_of`. `truth_iou` is the overlap of the
    first answer with what the phrase means, None where nobody knows."""

    phrase: str
    original: Prediction
    answers: tuple[ProbeAnswer, ...]
    truth_iou: float | None = None

    @property
    def mean_iou(self) -> float | None:
        """The mean overlap of the probes' answers with the first one; None without probes."""
        return fmean(answer.iou for answer in self.answers) if self.answers else None

    @property
    def verdict(self) -> Verdict:
        """What the probes say together.

        Where words are shuffled or gone, a good model may point to the same thing all the same ("mug left"), so only
        swapped and foreign words decide whether an answer follows in full. An answer that moves and misses whatever is
        known strays: the words disturb it, they don't lead it.
        """
        if not self.answers or self.original.status not in (Status.OK, Status.NO_BOX):
            return Verdict.UNKNOWN
        if not any(answer.moved for answer in self.answers):
            return Verdict.STAYS
        if self._known and not any(overlap >= MOVED_BELOW_IOU for overlap in self._known):
            return Verdict.STRAYS
        kinds = [(answer.probe.kind, answer.moved) for answer in self.answers]
        deciding = [moved for kind, moved in kinds if kind not in (ProbeKind.BLANK, ProbeKind.SHUFFLED)]
        return Verdict.FOLLOWS if all(deciding) else Verdict.IN_PART

    @property
    def _known(self) -> list[float]:
        """The overlaps with what is known to be meant, by the phrase itself and by the probes."""
        overlaps = [self.truth_iou, *(answer.truth_iou for answer in self.answers)]
        return [overlap for overlap in overlaps if overlap is not None]

    @property
    def sentence(self) -> str:
        """The verdict with its figures, for people."""
        if self.verdict is Verdict.UNKNOWN:
            return "Nothing can be said: this answer holds no box to compare with."
        count = len(self.answers)
        figures = f"mean IoU {self.mean_iou:.2f} over {count} probe{'s' * (count != 1)}"
        what = "box" if self.original.status is Status.OK else "answer “nothing there”"
        if self.verdict is Verdict.STAYS:
            return f"The {what} does not follow the words: it stays ({figures})."
        moved = sum(answer.moved for answer in self.answers)
        if self.verdict is Verdict.STRAYS:
            known = len(self._known)
            return (
                f"The {what} does not follow the words: it moved in {moved} of {count} probes, but not to what they "
                f"name (best IoU {max(self._known):.2f} with the {known} true box{'es' * (known != 1)} known here)."
            )
        told = f"it moved in {moved} of {count} probes ({figures})"
        stayed = [answer.probe.kind.value for answer in self.answers if not answer.moved]
        rest = f" It stays with: {', '.join(stayed)}." if stayed else ""
        share = "follows the words" if self.verdict is Verdict.FOLLOWS else "follows the words in part"
        return f"The {what} {share}: {told}.{rest}"


def probes_of(phrase: str, *, other: str | None = None, seed: int = 0) -> tuple[Probe, ...]:
    """The wordings that differ from the phrase, in the order of `ProbeKind`.

    `other` is another sample's phrase. The words are shuffled by `seed`. Only English words for sides, heights and
    sizes are known. Raises `RecordError` for a phrase that is empty or too long.
    """
    phrase = check_phrase(phrase)
    found = [(ProbeKind.BLANK, NEUTRAL_PHRASE), (ProbeKind.SHUFFLED, _shuffled(phrase, seed))]
    found += [(kind, _swap(phrase, words)) for kind, words in _SWAPPED.items()]
    if other is not None and other.strip():
        found.append((ProbeKind.OTHER, check_phrase(other)))
    probes: dict[str, Probe] = {}
    for kind, wording in found:
        if wording.casefold() != phrase.casefold():
            probes.setdefault(wording.casefold(), Probe(kind, wording))
    return tuple(probes.values())


def probe(
    predictor: Predictor,
    image: str | Path | Image.Image,
    phrase: str,
    adapters: Sequence[str | None] = (None,),
    *,
    other: str | None = None,
    truths: Mapping[str, Sequence[Box]] | None = None,
    seed: int = 0,
    cancelled: Callable[[], bool] | None = None,
) -> list[ProbeResult]:
    """One result per entry of `adapters` (None: the base); phrase and probes are answered in one call.

    `truths` says what wordings mean on this picture, as far as it is known: true boxes in pixels, none of them where
    the wording refers to nothing. Raises what `probes_of` and `Predictor.compare_many` raise.
    """
    probes = probes_of(phrase, other=other, seed=seed)
    pairs = [(image, phrase), *((image, one.phrase) for one in probes)]
    answers = predictor.compare_many(pairs, adapters, cancelled=cancelled)  # [phrase and probes][adapters]
    return [_result(phrase, probes, own, truths or {}) for own in zip(*answers, strict=True)]


def _result(
    phrase: str, probes: Sequence[Probe], answers: Sequence[Prediction], truths: Mapping[str, Sequence[Box]]
) -> ProbeResult:
    def truth_iou(wording: str, answer: Prediction) -> float | None:
        return set_iou(answer.boxes_xyxy_px, truths[wording]) if wording in truths else None

    original, *rest = answers
    told = (
        ProbeAnswer(one, answer, _agreement(original, answer), truth_iou(one.phrase, answer))
        for one, answer in zip(probes, rest, strict=True)
    )
    return ProbeResult(phrase, original, tuple(told), truth_iou(phrase, original))


def _agreement(first: Prediction, second: Prediction) -> float:
    return set_iou(second.boxes_xyxy_px, first.boxes_xyxy_px)


def _shuffled(phrase: str, seed: int) -> str:
    """The words in another order; the phrase itself where there is no other."""
    words, dice = phrase.split(), random.Random(seed)
    for _ in range(_SHUFFLES_TRIED):
        dice.shuffle(words)
        if words != phrase.split():
            break
    return " ".join(words)


def _swap(phrase: str, words: Mapping[str, str]) -> str:
    """The phrase with each of these words replaced by its counterpart, its case kept."""

    def replaced(match: re.Match[str]) -> str:
        word = match[0]
        other = words.get(word.lower(), word)
        return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other

    return _WORD.sub(replaced, phrase)
