"""Labels that may be wrong: found where they were planted, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from compared_samples import answered, keep
from grounding.boxes import Box
from grounding.compared import Comparison, open_comparison
from grounding.compared.suspects import suspects
from grounding.errors import RecordError
from grounding.metrics import ScoredSample
from grounding.records import Sample, Status

TRUE, OTHER, NEAR_OTHER = Box(0, 0, 40, 40), Box(100, 100, 140, 140), Box(102, 100, 142, 140)
THIRD = Box(200, 0, 240, 40)


def asked(name: str, *boxes: Box) -> Sample:
    return Sample(name, Path(f"/p/{name}.png"), f"the {name}", boxes)


def nothing(sample: Sample, sure: float | None) -> ScoredSample:
    return answered(sample, [], Status.NO_BOX, sure)


def planted() -> list[tuple[ScoredSample, ScoredSample]]:
    label, none = [asked(name, TRUE) for name in "abcdefghi"], [asked(name) for name in "xyz"]
    return [
        (answered(label[0], [OTHER], sure=0.9), answered(label[0], [NEAR_OTHER], sure=0.7)),  # a: both elsewhere
        (answered(label[1], [OTHER]), answered(label[1], [THIRD])),  # they disagree
        (answered(label[2], [OTHER]), answered(label[2], [TRUE])),  # one says the truth
        (nothing(label[3], 0.9), nothing(label[3], 0.8)),  # d: both surely nothing
        (nothing(label[4], 0.9), nothing(label[4], 0.79)),  # one not sure
        (nothing(label[5], None), nothing(label[5], 1.0)),  # one doesn't say
        (answered(label[6], [], Status.UNREADABLE), answered(label[6], [], Status.UNREADABLE)),  # no answer at all
        (answered(label[7], [OTHER]), nothing(label[7], 0.9)),  # elsewhere and nothing
        (answered(label[8], [OTHER], sure=None), answered(label[8], [OTHER], sure=None)),  # i: nobody says how sure
        (answered(none[0], [OTHER], sure=1.0), answered(none[0], [OTHER], sure=1.0)),  # x: a box where none is
        (answered(none[1], [OTHER]), answered(none[1], [THIRD])),  # different ones
        (nothing(none[2], 0.9), nothing(none[2], 0.9)),  # rightly nothing
    ]


@pytest.fixture
def opened(tmp_path: Path) -> Comparison:
    rows_a, rows_b = zip(*planted(), strict=True)
    return open_comparison([keep(tmp_path / "a", rows_a), keep(tmp_path / "b", rows_b, "tools")])


def test_what_was_planted_is_found_in_its_order(opened: Comparison) -> None:
    found = suspects(opened)
    assert [(suspect.record.id, suspect.kind) for suspect in found] == [
        ("x", "box_where_none"),
        ("d", "nothing_there"),
        ("a", "box_elsewhere"),
        ("i", "box_elsewhere"),
    ]
    agreement = 38 * 40 / (2 * 40 * 40 - 38 * 40)
    assert [suspect.score for suspect in found] == pytest.approx([1.0, 0.85, agreement * 0.8, 0.5])
    assert [suspect.confidence for suspect in found] == [1.0, pytest.approx(0.85), pytest.approx(0.8), None]
    assert found[2].agreement == pytest.approx(agreement)
    assert found[2].suggested_xyxy_px == (OTHER,), "that of the surer one"
    assert [answer.boxes_xyxy_px for answer in found[2].record.answers] == [(OTHER,), (NEAR_OTHER,)]


def test_the_evidence_in_words(opened: Comparison) -> None:
    x, d, a, i = (suspect.sentence for suspect in suspects(opened))
    assert x == (
        "Both models find the same box (IoU 1.00 with each other, on average 100% sure), but the sample says that the "
        "phrase refers to nothing."
    )
    assert d == (
        "Both models say that the phrase refers to nothing here, on average 85% sure, but the sample has a box."
    )
    assert a == (
        "Both models find the same other box (IoU 0.90 with each other, on average 80% sure); with the true one they "
        "have IoU 0.00 at most."
    )
    assert "none says how sure it is" in i


def test_only_some_and_only_so_many(opened: Comparison) -> None:
    assert [suspect.record.id for suspect in suspects(opened, most=1)] == ["x"]
    assert [suspect.record.id for suspect in suspects(opened, opened.samples.id == "a")] == ["a"]


def test_a_third_model_that_disagrees_takes_the_doubt_away(tmp_path: Path) -> None:
    label = asked("a", TRUE)
    folders = [
        keep(tmp_path / name, [answered(label, [box])]) for name, box in (("a", OTHER), ("b", OTHER), ("c", THIRD))
    ]
    assert suspects(open_comparison(folders)) == ()
    (found,) = suspects(open_comparison(folders[:2] + folders[:1]))
    assert found.sentence.startswith("All 3 models find the same other box")


def test_several_targets_are_held_against_each_other_as_sets(tmp_path: Path) -> None:
    label = asked("a", TRUE, Box(50, 0, 90, 40))
    same = [answered(label, [OTHER, THIRD])] * 2
    less = [answered(label, [OTHER, THIRD]), answered(label, [OTHER])]
    for rows, expected in ((same, 1), (less, 0)):
        folders = [keep(tmp_path / f"{expected}{k}", [row]) for k, row in enumerate(rows)]
        assert len(suspects(open_comparison(folders))) == expected


def test_one_model_alone_casts_no_doubt(tmp_path: Path) -> None:
    comparison = open_comparison([keep(tmp_path / "a", [answered(asked("a", TRUE), [OTHER])])])
    with pytest.raises(RecordError, match="One model alone"):
        suspects(comparison)
