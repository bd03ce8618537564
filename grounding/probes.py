"""Does the box follow the words? The same picture asked again with the phrase changed in a few telling ways.

A model that looks at the picture alone keeps its box whatever is asked. Each probe changes one thing: only "the object"
is asked for, or the words are in disorder, name the other side or size, or are those of another sample. A box that only
moves follows nothing yet: it must lead to what a wording means, and where nobody knows that, the verdict says so.
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

from grounding.boxes import Box
from grounding.metrics import answer_iou
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

    BLANK = f"“{NEUTRAL_PHRASE}” instead"
    SHUFFLED = "words shuffled"
    SIDES = "left and right swapped"
    HEIGHTS = "top and bottom swapped"
    SIZES = "big and small swapped"
    OTHER = "another sample's phrase"


class Verdict(StrEnum):
    """Whether an answer follows the words."""

    FOLLOWS = "follows"
    MOVES = "moves"
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
_SAME_THING = frozenset({ProbeKind.BLANK, ProbeKind.SHUFFLED})
"""What may rightly lead to the same thing as the phrase itself ("mug left"): it decides nothing."""
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class Probe:
    """One changed wording."""

    kind: ProbeKind
    phrase: str


@dataclass(frozen=True)
class ProbeAnswer:
    """What a model answers to a probe. `iou`, 0.0 to 1.0, is the overlap with its answer to the phrase itself: two
    answers "nothing there" overlap fully, one that can't be read with nothing. `truth_iou`, as `metrics.answer_iou`, is
    the overlap with what the wording means, None where nobody knows."""

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

        Where words are shuffled or "the object" stands in their place, a good model may point to the same thing all the
        same ("mug left"), so only swapped and foreign words decide; without any of them nothing is known. An answer
        follows in full when it moves with all of these, and hits whatever is known: what the phrase means, and what at
        least one of these wordings means. Where the latter is not known of any, it moves, to where nobody can say. An
        answer that moves and misses whatever is known strays: the words disturb it, they don't lead it.
        """
        if self.original.status not in (Status.OK, Status.NO_BOX) or not self._deciding:
            return Verdict.UNKNOWN
        if not any(answer.moved for answer in self.answers):
            return Verdict.STAYS
        hits = [overlap >= MOVED_BELOW_IOU for overlap in self._known]
        if hits and not any(hits):
            return Verdict.STRAYS
        if not all(hits) or not all(answer.moved for answer in self._deciding):
            return Verdict.IN_PART
        is_led = any(answer.truth_iou is not None for answer in self._deciding)
        return Verdict.FOLLOWS if is_led else Verdict.MOVES

    @property
    def _deciding(self) -> list[ProbeAnswer]:
        return [answer for answer in self.answers if answer.probe.kind not in _SAME_THING]

    @property
    def _known(self) -> list[float]:
        """The overlaps with what is known to be meant, by the phrase itself and by the probes."""
        overlaps = [self.truth_iou, *(answer.truth_iou for answer in self.answers)]
        return [overlap for overlap in overlaps if overlap is not None]

    @property
    def sentence(self) -> str:
        """The verdict with its figures, for people."""
        if self.original.status not in (Status.OK, Status.NO_BOX):
            return "Nothing can be said: this answer holds no box to compare with."
        what = "box" if self.original.status is Status.OK else "answer “nothing there”"
        if self.verdict is Verdict.UNKNOWN:
            told = f" ({self._moves})" if self.answers else ""
            return (
                f"Whether the {what} follows the words can't be told: no wording was asked that means something "
                f"else{told}."
            )
        if self.verdict is Verdict.STAYS:
            return f"The {what} does not follow the words: it stays ({self._figures})."
        if self.verdict is Verdict.STRAYS:
            known = len(self._known)
            return (
                f"The {what} does not follow the words: {self._moves}, but not to what they "
                f"name (best IoU {max(self._known):.2f} with the {known} true box{'es' * (known != 1)} known here)."
            )
        stayed = [answer.probe.kind.value for answer in self.answers if not answer.moved]
        rest = f" It stays with: {', '.join(stayed)}." if stayed else ""
        share = {
            Verdict.FOLLOWS: "follows the words",
            Verdict.MOVES: "moves with the words, but whether to what the other words name isn't known",
        }.get(self.verdict, "follows the words in part")
        return f"The {what} {share}: {self._moves} ({self._figures}){self._hits}.{rest}"

    @property
    def _figures(self) -> str:
        count = len(self.answers)
        return f"mean IoU {self.mean_iou:.2f} over {count} probe{'s' * (count != 1)}"

    @property
    def _moves(self) -> str:
        return f"it moved in {sum(answer.moved for answer in self.answers)} of {len(self.answers)} probes"

    @property
    def _hits(self) -> str:
        """How many of the known truths are hit; "" where none is known."""
        known = len(self._known)
        hits = sum(overlap >= MOVED_BELOW_IOU for overlap in self._known)
        return f", right for {hits} of {known} wording{'s' * (known != 1)} of which the truth is known" if known else ""


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
        return answer_iou(answer, truths[wording]) if wording in truths else None

    original, *rest = answers
    told = (
        ProbeAnswer(one, answer, _agreement(original, answer), truth_iou(one.phrase, answer))
        for one, answer in zip(probes, rest, strict=True)
    )
    return ProbeResult(phrase, original, tuple(told), truth_iou(phrase, original))


def _agreement(first: Prediction, second: Prediction) -> float:
    readable = first.status in (Status.OK, Status.NO_BOX)
    return answer_iou(second, first.boxes_xyxy_px) if readable else 0.0


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
