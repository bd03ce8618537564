"""Two evaluations side by side: paired by what was asked, the rest named and counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from compared_samples import keep, keep_two, some_rows, some_samples
from grounding.boxes import Box
from grounding.compared import open_comparison
from grounding.errors import RecordError, WorkspaceError
from grounding.records import Sample
from grounding.reports import read_rows


def test_the_answers_belong_to_the_same_samples(tmp_path: Path) -> None:
    folders = keep_two(tmp_path)
    comparison = open_comparison(folders)
    assert [side.name for side in comparison.sides] == ["base", "tools"]
    assert [side.letter for side in comparison.sides] == ["a", "b"]
    by_id = {row.sample.id: row for row in read_rows(folders[1])}
    for row, first in enumerate(read_rows(folders[0])):
        record, second = comparison.record(row), by_id[first.sample.id]
        assert (record.id, record.phrase, record.image) == (first.sample.id, first.sample.phrase, first.sample.image)
        assert record.truth_xyxy_px == first.sample.boxes_xyxy_px
        for answer, scored in zip(record.answers, (first, second), strict=True):
            assert answer.boxes_xyxy_px == scored.prediction.boxes_xyxy_px
            assert answer.box_confidences == scored.prediction.box_confidences
            assert (answer.iou, answer.confidence) == (scored.iou, scored.prediction.confidence)
            assert (answer.status, answer.raw_text) == (scored.prediction.status, scored.prediction.raw_text)
            assert answer.seconds == scored.prediction.seconds
    assert comparison.row_of("s3") == 3
    assert comparison.row_of("nobody") is None
    assert comparison.notes == (comparison.sides[1].seen.sentence,)  # type: ignore[union-attr]


def test_one_alone(tmp_path: Path) -> None:
    comparison = open_comparison([keep(tmp_path / "a", some_rows(some_samples(9)))])
    assert comparison.b is None
    assert comparison.newest is comparison.a
    assert len(comparison) == 9
    assert comparison.notes == ()


def test_samples_of_one_only_are_named_and_counted(tmp_path: Path) -> None:
    samples = some_samples(9)
    a, b = keep(tmp_path / "a", some_rows(samples[:8])), keep(tmp_path / "b", some_rows(samples[3:]))
    comparison = open_comparison([a, b])
    assert list(comparison.samples.id) == ["s3", "s4", "s5", "s6", "s7"]
    assert [side.only for side in comparison.sides] == [("s0", "s1", "s2"), ("s8",)]
    assert comparison.notes[0] == "3 samples stand only in demo, a ('s0', 's1', 's2'); 5 stand in all."


@pytest.mark.parametrize(
    ("case", "changes", "same"),
    [
        ("another folder", {"image": Path("/else/0.png")}, True),
        ("another category", {"category": "cup"}, True),
        ("a rounding", {"boxes_xyxy_px": (Box(0.001, 0, 10, 10),)}, True),
        ("another phrase", {"phrase": "cup"}, False),
        ("another box", {"boxes_xyxy_px": (Box(0.01, 0, 10, 10),)}, False),
        ("no box", {"boxes_xyxy_px": ()}, False),
        ("another picture", {"image": Path("/p/9.png")}, False),
        ("another id", {"id": "x"}, False),
    ],
)
def test_what_makes_a_sample_the_same(tmp_path: Path, case: str, changes: dict[str, object], same: bool) -> None:
    samples = [Sample(f"s{k}", Path(f"/p/{k}.png"), "mug", (Box(0, 0, 10, 10),)) for k in range(2)]
    others = [replace(samples[0], **changes), samples[1]]  # type: ignore[arg-type]
    folders = [keep(tmp_path / name, some_rows(rows)) for name, rows in (("a", samples), ("b", others))]
    assert len(open_comparison(folders)) == (2 if same else 1)


def test_a_sample_that_stands_twice_is_paired_twice(tmp_path: Path) -> None:
    first, second = some_samples(2)
    a = keep(tmp_path / "a", some_rows([first, second, first]))
    b = keep(tmp_path / "b", some_rows([first, first, first]))
    comparison = open_comparison([a, b])
    assert list(comparison.samples.id) == ["s0", "s0"]
    assert [side.only for side in comparison.sides] == [("s1",), ("s0",)]
    rows_a, rows_b = read_rows(a), read_rows(b)
    assert [comparison.record(1).answers[k].iou for k in (0, 1)] == [rows_a[2].iou, rows_b[1].iou]


def test_three_at_once_and_names_of_ones_own(tmp_path: Path) -> None:
    samples = some_samples(9)
    folders = [keep(tmp_path / f"r{k}", some_rows(samples[k:], k), adapter=f"/x/tools{k}") for k in range(3)]
    comparison = open_comparison(folders)
    assert [side.name for side in comparison.sides] == ["tools0", "tools1", "tools2"]
    assert len(comparison) == 7
    named = open_comparison(folders, names=["x", "y", "z"])
    assert named.side("c").name == "z"
    with pytest.raises(RecordError, match="no side 'd'"):
        named.side("d")


def test_names_tell_evaluations_apart(tmp_path: Path) -> None:
    rows = some_rows(some_samples(3))
    bases = [keep(tmp_path / "a", rows, model_id="demo"), keep(tmp_path / "b", rows, model_id="other")]
    assert [side.name for side in open_comparison(bases).sides] == ["demo", "other"]
    assert [side.name for side in open_comparison([bases[0], bases[0]]).sides] == ["demo, a (a)", "demo, a (b)"]


def test_what_can_not_be_opened(tmp_path: Path) -> None:
    a = keep(tmp_path / "a", some_rows(some_samples(3, 1)))
    b = keep(tmp_path / "b", some_rows([replace(s, id=f"x{s.id}") for s in some_samples(3, 1)]))
    with pytest.raises(RecordError, match=r"no sample in common \(3 in .*same file"):
        open_comparison([a, b])
    with pytest.raises(RecordError, match="give 1 to 10 folders"):
        open_comparison([])
    with pytest.raises(RecordError, match="1 names were given for 2"):
        open_comparison([a, a], names=["x"])
    with pytest.raises(WorkspaceError, match=r"no samples\.parquet"):
        open_comparison([tmp_path / "gone"])
    with pytest.raises(RecordError, match="no row 3: expected one from 0 to 2"):
        open_comparison([a]).record(3)
