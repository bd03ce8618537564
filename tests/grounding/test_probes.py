"""Whether the box follows the words: the wordings, the overlaps, the verdict, and one call for all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from grounding.boxes import Box
from grounding.errors import RecordError
from grounding.probes import Probe, ProbeAnswer, ProbeKind, ProbeResult, Verdict, probe, probes_of
from grounding.records import Prediction, Sample, Status

HERE, THERE = Box(0, 0, 10, 10), Box(50, 50, 60, 60)


def wordings(phrase: str, **how: Any) -> dict[ProbeKind, str]:
    return {one.kind: one.phrase for one in probes_of(phrase, **how)}


@pytest.mark.parametrize(
    ("phrase", "kind", "wording"),
    [
        ("the left mug", ProbeKind.SIDES, "the right mug"),
        ("Left of the RIGHT car", ProbeKind.SIDES, "Right of the LEFT car"),
        ("the leftmost mug", ProbeKind.SIDES, "the rightmost mug"),
        ("cup at the top", ProbeKind.HEIGHTS, "cup at the bottom"),
        ("the mug below the lamp", ProbeKind.HEIGHTS, "the mug above the lamp"),
        ("the little dog", ProbeKind.SIZES, "the big dog"),
        ("the LARGEST dog", ProbeKind.SIZES, "the SMALLEST dog"),
        ("the mug", ProbeKind.BLANK, "the object"),
    ],
)
def test_a_probe_changes_one_thing(phrase: str, kind: ProbeKind, wording: str) -> None:
    assert wordings(phrase)[kind] == wording


def test_words_that_only_hold_a_side_are_left_alone() -> None:
    found = wordings("the bright biggish topping")
    assert not {ProbeKind.SIDES, ProbeKind.HEIGHTS, ProbeKind.SIZES} & found.keys()


def test_shuffled_words_are_the_same_words_in_another_order() -> None:
    phrase = "the big mug left of the lamp"
    shuffled = wordings(phrase, seed=3)[ProbeKind.SHUFFLED]
    assert shuffled != phrase
    assert sorted(shuffled.split()) == sorted(phrase.split())
    assert wordings(phrase, seed=3)[ProbeKind.SHUFFLED] == shuffled
    assert len({wordings(phrase, seed=seed)[ProbeKind.SHUFFLED] for seed in range(9)}) > 3


@pytest.mark.parametrize(
    ("phrase", "other", "kinds"),
    [
        ("mug", None, [ProbeKind.BLANK]),
        ("the object", None, [ProbeKind.SHUFFLED]),
        ("mug", "MUG", [ProbeKind.BLANK]),
        ("mug", "  ", [ProbeKind.BLANK]),
        ("mug mug", None, [ProbeKind.BLANK]),
        ("mug", "the lamp", [ProbeKind.BLANK, ProbeKind.OTHER]),
        # shuffled it is the same as with the sides swapped: asked once
        ("left right", None, [ProbeKind.BLANK, ProbeKind.SHUFFLED]),
    ],
)
def test_only_wordings_that_differ_are_asked(phrase: str, other: str | None, kinds: list[ProbeKind]) -> None:
    assert [one.kind for one in probes_of(phrase, other=other)] == kinds


def test_an_empty_phrase_is_refused() -> None:
    with pytest.raises(RecordError, match="empty"):
        probes_of("  ")


def result(
    moved: dict[ProbeKind, bool],
    status: Status = Status.OK,
    *,
    of_phrase: float | None = None,
    of_last: float | None = None,
) -> ProbeResult:
    """What a model answers; the overlaps with what the phrase and the last wording mean, where they are known."""
    original = Prediction((HERE,) if status is Status.OK else (), status, "", None, 0.0)
    answers = [
        ProbeAnswer(Probe(kind, "x"), Prediction((THERE,), Status.OK, "", None, 0.0), 0.1 if away else 0.9)
        for kind, away in moved.items()
    ]
    if answers:
        answers[-1] = replace(answers[-1], truth_iou=of_last)
    return ProbeResult("left mug", original, tuple(answers), of_phrase)


@pytest.mark.parametrize(
    ("moved", "verdict"),
    [
        ({ProbeKind.BLANK: False, ProbeKind.OTHER: False}, Verdict.STAYS),
        ({ProbeKind.BLANK: True, ProbeKind.OTHER: True}, Verdict.MOVES),
        # "mug left" is the left mug too, and the thing that one would point to anyway may be it
        ({ProbeKind.BLANK: False, ProbeKind.SHUFFLED: False, ProbeKind.SIDES: True}, Verdict.MOVES),
        ({ProbeKind.SIDES: False, ProbeKind.OTHER: True}, Verdict.IN_PART),
        ({ProbeKind.SHUFFLED: True, ProbeKind.OTHER: False}, Verdict.IN_PART),
        # without a swapped or foreign wording nothing decides
        ({ProbeKind.BLANK: True}, Verdict.UNKNOWN),
        ({ProbeKind.BLANK: False}, Verdict.UNKNOWN),
        ({ProbeKind.SHUFFLED: True}, Verdict.UNKNOWN),
        ({ProbeKind.BLANK: True, ProbeKind.SHUFFLED: True}, Verdict.UNKNOWN),
        ({}, Verdict.UNKNOWN),
    ],
)
def test_the_verdict(moved: dict[ProbeKind, bool], verdict: Verdict) -> None:
    assert result(moved).verdict is verdict


@pytest.mark.parametrize(
    ("of_phrase", "of_other", "verdict"),
    [
        (0.0, None, Verdict.STRAYS),
        (0.1, 0.2, Verdict.STRAYS),
        (0.9, 0.2, Verdict.IN_PART),
        (0.1, 0.9, Verdict.IN_PART),
        (0.9, 0.9, Verdict.FOLLOWS),
        (None, 0.9, Verdict.FOLLOWS),
        (0.9, None, Verdict.MOVES),
        (None, None, Verdict.MOVES),
    ],
)
def test_a_box_follows_only_to_what_is_meant(of_phrase: float | None, of_other: float | None, verdict: Verdict) -> None:
    told = result({ProbeKind.BLANK: True, ProbeKind.OTHER: True}, of_phrase=of_phrase, of_last=of_other)
    assert told.verdict is verdict
    if of_other == 0.2 and verdict is Verdict.STRAYS:
        assert told.sentence == (
            "The box does not follow the words: it moved in 2 of 2 probes, but not to what they name "
            "(best IoU 0.20 with the 2 true boxes known here)."
        )


@pytest.mark.parametrize("status", [Status.UNREADABLE, Status.DEGENERATE])
def test_without_an_answer_there_is_no_verdict(status: Status) -> None:
    silent = result({ProbeKind.OTHER: True}, status)
    assert silent.verdict is Verdict.UNKNOWN
    assert "no box to compare" in silent.sentence


def test_the_sentences_name_the_figures() -> None:
    stays = result({ProbeKind.BLANK: False, ProbeKind.SHUFFLED: False, ProbeKind.SIDES: False, ProbeKind.OTHER: False})
    assert stays.sentence == "The box does not follow the words: it stays (mean IoU 0.90 over 4 probes)."
    part = result({ProbeKind.SIDES: False, ProbeKind.OTHER: True})
    assert part.sentence == (
        "The box follows the words in part: it moved in 1 of 2 probes (mean IoU 0.50 over 2 probes). "
        "It stays with: left and right swapped."
    )
    follows = result({ProbeKind.OTHER: True}, of_phrase=0.9, of_last=0.8)
    assert follows.sentence == (
        "The box follows the words: it moved in 1 of 1 probes (mean IoU 0.10 over 1 probe), "
        "right for 2 of 2 wordings of which the truth is known."
    )
    moves = result({ProbeKind.SIDES: True}, of_phrase=0.9)
    assert moves.sentence == (
        "The box moves with the words, but whether to what the other words name isn't known: it moved in 1 of 1 probes "
        "(mean IoU 0.10 over 1 probe), right for 1 of 1 wording of which the truth is known."
    )
    undecided = result({ProbeKind.BLANK: True})
    assert undecided.sentence == (
        "Whether the box follows the words can't be told: no wording was asked that means something else "
        "(it moved in 1 of 1 probes)."
    )
    nothing = result({ProbeKind.OTHER: False}, Status.NO_BOX)
    assert "“nothing there” does not follow" in nothing.sentence


class Scripted:
    """A predictor whose base listens and whose adapter does not; remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def compare_many(
        self, pairs: Sequence[tuple[object, str]], adapters: Sequence[str | None], *, cancelled: object = None
    ) -> list[list[Prediction]]:
        self.calls.append([phrase for _, phrase in pairs])
        return [[self.answer(phrase, adapter) for adapter in adapters] for _, phrase in pairs]

    def answer(self, phrase: str, adapter: str | None) -> Prediction:
        if phrase == "gibberish":
            return Prediction((), Status.UNREADABLE, "?", None, 0.0, adapter)
        if phrase == "absent":
            return Prediction((), Status.NO_BOX, "", None, 0.0, adapter)
        return Prediction((HERE if adapter or "left" in phrase else THERE,), Status.OK, "", None, 0.0, adapter)


def test_one_call_answers_all_probes_for_all_models() -> None:
    scripted = Scripted()
    base, deaf = probe(scripted, "a.png", "left mug", [None, "deaf"], other="lamp")  # type: ignore[arg-type]
    assert scripted.calls == [["left mug", "the object", "mug left", "right mug", "lamp"]]
    assert [answer.iou for answer in base.answers] == [0.0, 1.0, 0.0, 0.0]
    assert base.verdict is Verdict.MOVES, "nobody said what the wordings mean"
    assert deaf.verdict is Verdict.STAYS
    assert deaf.original.adapter == "deaf"
    assert deaf.mean_iou == 1.0


def test_answers_are_held_against_what_the_wordings_mean() -> None:
    truths = {"left mug": (HERE,), "lamp": (HERE,)}
    base, deaf = probe(Scripted(), "a.png", "left mug", [None, "deaf"], other="lamp", truths=truths)  # type: ignore[arg-type]
    assert (base.truth_iou, deaf.truth_iou) == (1.0, 1.0)
    assert [answer.truth_iou for answer in base.answers] == [None, None, None, 0.0]
    assert deaf.answers[-1].truth_iou == 1.0


def test_nothing_there_both_times_is_the_same_answer() -> None:
    (told,) = probe(Scripted(), "a.png", "absent", other="left lamp")  # type: ignore[arg-type]
    assert [answer.moved for answer in told.answers] == [True, True]


def test_what_cannot_be_read_is_no_nothing_there() -> None:
    (told,) = probe(Scripted(), "a.png", "absent", other="gibberish", truths={"absent": (), "gibberish": ()})  # type: ignore[arg-type]
    assert told.truth_iou == 1.0
    assert (told.answers[-1].iou, told.answers[-1].truth_iou) == (0.0, 0.0)
    (unread,) = probe(Scripted(), "a.png", "gibberish", other="absent")  # type: ignore[arg-type]
    assert unread.original.status is Status.UNREADABLE
    assert [answer.iou for answer in unread.answers] == [0.0, 0.0]


def test_the_embedded_model_follows_the_words(predictor: Any, demo_samples: dict[str, list[Sample]]) -> None:
    from grounding.demo.sprites import known_nouns

    known = [s for s in demo_samples["train"] if s.boxes_xyxy_px and s.category in known_nouns()]
    by_picture: dict[object, list[Sample]] = {}
    for sample in known:
        by_picture.setdefault(sample.image, []).append(sample)
    one, two, *_ = next(group for group in by_picture.values() if len({s.category for s in group}) > 1)
    (told,) = probe(predictor, one.image, f"the {one.category}", other=f"the {two.category}")
    assert told.answers[-1].probe.kind is ProbeKind.OTHER
    assert told.answers[-1].moved
    assert told.original.boxes == predictor.predict(one.image, f"the {one.category}").boxes
