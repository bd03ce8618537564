"""An evaluation as columns holds what its rows hold, and what is damaged is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from compared_samples import keep, some_rows, some_samples
from grounding.buckets import bucket_of
from grounding.compared.columns import DIMENSIONS, read_columns
from grounding.errors import WorkspaceError
from grounding.measures import STATUSES, measures_of
from grounding.reports import read_report, read_rows


def test_the_columns_are_the_rows(tmp_path: Path) -> None:
    folder = keep(tmp_path / "a", some_rows(some_samples(80)))
    columns, rows = read_columns(folder), read_rows(folder)
    samples, answers = columns.samples, columns.answers
    assert list(samples.id) == [row.sample.id for row in rows]
    assert list(samples.image_file) == [str(row.sample.image) for row in rows]
    assert list(samples.phrase) == [row.sample.phrase for row in rows]
    for k, row in enumerate(rows):
        assert samples.truth.row(k).tolist() == [list(box) for box in row.sample.boxes_xyxy_px]
        assert answers.boxes.row(k).tolist() == [list(box) for box in row.prediction.boxes_xyxy_px]
        assert STATUSES[answers.measures.status[k]] is row.prediction.status
        assert answers.measures.iou[k] == row.iou
        assert answers.raw_text[k] == row.prediction.raw_text
    expected = measures_of(rows)
    for name, values in vars(answers.measures).items():
        np.testing.assert_array_equal(values, getattr(expected, name), err_msg=name)


def test_some_of_the_rows_in_another_order(tmp_path: Path) -> None:
    columns = read_columns(keep(tmp_path / "a", some_rows(some_samples(40))))
    rows = np.array([7, 3, 30, 0])
    taken = columns.take(rows)
    assert list(taken.samples.id) == ["s7", "s3", "s30", "s0"]
    for k, row in enumerate(rows):
        assert taken.samples.truth.row(k).tolist() == columns.samples.truth.row(row).tolist()
        assert taken.answers.boxes.row(k).tolist() == columns.answers.boxes.row(row).tolist()
        assert taken.answers.measures.matched_boxes[k] == columns.answers.measures.matched_boxes[row]
    confident = [b for k in rows for b in columns.answers.box_confidences[slice(*columns.answers.boxes.starts[k:][:2])]]
    np.testing.assert_array_equal(taken.answers.box_confidences, confident)


def test_the_buckets_are_those_of_the_report(tmp_path: Path) -> None:
    folder = keep(tmp_path / "a", some_rows(some_samples(80)))
    samples, rows = read_columns(folder).samples, read_rows(folder)
    for dimension in DIMENSIONS:
        if dimension != "source":
            assert list(samples.buckets[dimension]) == [bucket_of(dimension, row) for row in rows], dimension
    assert list(samples.buckets["source"][:3]) == ["(none)", samples.source[1], samples.source[2]]
    assert set(samples.source) == {"", "coco", "mine"}


def test_names_of_buckets_stand_as_in_a_report(tmp_path: Path) -> None:
    samples = read_columns(keep(tmp_path / "a", some_rows(some_samples(80)))).samples
    assert samples.bucket_names("spatial") == ("spatial", "plain")
    counts = {name: int((samples.buckets["category"] == name).sum()) for name in samples.bucket_names("category")}
    assert list(counts.values()) == sorted(counts.values(), reverse=True)
    assert set(counts) == {"(none)", "mug", "drum", "dog"}


def test_no_sample_falls_out_of_a_breakdown_by_an_odd_category(tmp_path: Path) -> None:
    """A NUL at its end is a part of a text, though not to an array of texts."""
    odd = [replace(sample, category="mug\0" if k % 2 else "mug") for k, sample in enumerate(some_samples(9))]
    folder = keep(tmp_path / "a", some_rows(odd))
    kept = read_report(folder)
    assert kept is not None
    assert read_columns(folder).samples.bucket_names("category") == tuple(kept.buckets["category"]) == ("mug", "mug\0")


def test_reports_of_earlier_versions_are_opened(tmp_path: Path) -> None:
    folder = keep(tmp_path / "a", some_rows(some_samples(10)))
    young = ["image_file", "image_sha256", "image_id", "image_width_px", "image_height_px", "box_confidences", "source"]
    path = folder / "samples.parquet"
    parquet.write_table(parquet.read_table(path).drop(young), path)
    columns = read_columns(folder)
    assert list(columns.samples.image_file) == list(columns.samples.image)
    assert set(columns.samples.source) == {""}
    assert columns.samples.image_size_wh.tolist() == [[0, 0]] * 10
    assert len(columns.answers.measures.box_confidence) == 0


def test_an_evaluation_of_nothing(tmp_path: Path) -> None:
    columns = read_columns(keep(tmp_path / "a", []))
    assert (len(columns.samples), len(columns.answers)) == (0, 0)


def _with(name: str, value: Any) -> Any:
    def change(table: pyarrow.Table) -> pyarrow.Table:
        records = table.to_pylist()
        records[0][name] = value
        return pyarrow.Table.from_pylist(records, schema=table.schema)

    return change


@pytest.mark.parametrize(
    ("case", "damage"),
    [
        ("no phrase", lambda table: table.drop(["phrase"])),
        ("a phrase that is none", _with("phrase", None)),
        ("an empty id", _with("id", "")),
        ("a split that is none", _with("split", "later")),
        ("an unknown status", _with("status", "fine")),
        ("no status", _with("status", None)),
        ("no IoU", _with("iou", None)),
        ("a box of three numbers", _with("truth_xyxy_px", [[1.0, 2.0, 3.0]])),
        ("a box that is none", _with("truth_xyxy_px", [None])),
        ("a box that is turned round", _with("answer_xyxy_px", [[5.0, 5.0, 1.0, 9.0]])),
        ("a box that is not finite", _with("answer_xyxy_px", [[0.0, 0.0, float("nan"), 9.0]])),
        ("a number too much", _with("box_confidences", [0.5, 0.5, 0.5, 0.5, 0.5])),
        ("numbers for a phrase", lambda t: t.set_column(t.schema.get_field_index("phrase"), "phrase", [[1] * len(t)])),
    ],
)
def test_what_is_damaged_is_named(tmp_path: Path, case: str, damage: Any) -> None:
    folder = keep(tmp_path / "a", some_rows(some_samples(5)))
    path = folder / "samples.parquet"
    parquet.write_table(damage(parquet.read_table(path)), path)
    with pytest.raises(WorkspaceError, match=r"can't be read as a report's samples .*Evaluate anew"):
        read_columns(folder)


def test_what_is_no_evaluation(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"no samples\.parquet in"):
        read_columns(tmp_path)
    (tmp_path / "samples.parquet").write_bytes(b"PAR1 half")
    with pytest.raises(WorkspaceError, match="can't be read"):
        read_columns(tmp_path)
