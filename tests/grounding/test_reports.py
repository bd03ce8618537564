"""Kept evaluations: found again, read by another reader, and the figures recomputed from the log by hand."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from grounding import reports
from grounding.boxes import Box
from grounding.errors import WorkspaceError
from grounding.evaluation import Report
from grounding.metrics import ScoredSample, score, summarise
from grounding.records import Prediction, Sample, Status
from grounding.reports import KeptReport, ReportStore, report_json, samples_digest, write_parquet

A, HALF_A, B = Box(0, 0, 10, 10), Box(0, 0, 5, 10), Box(20, 20, 30, 30)
DIGEST = "samples_sha256"


def sample(number: int, boxes: Sequence[Box] = (A,), **changes: Any) -> Sample:
    return replace(Sample(f"s{number}", Path(f"/p/{number}.png"), f"mug {number}", tuple(boxes), "val"), **changes)


def some_rows() -> list[ScoredSample]:
    return [
        score(sample(0), Prediction((A,), Status.OK, "[...]", 0.9, 0.25)),
        score(sample(1), Prediction((HALF_A,), Status.OK, 'wide "text" · é', 0.5, 0.25)),
        score(sample(2), Prediction((), Status.UNREADABLE, "hm", None, 0.5)),
        score(sample(3, (A, B)), Prediction((B, A), Status.OK, "[..]", 0.7, 0.5)),
        score(sample(4, ()), Prediction((), Status.NO_BOX, "[]", 1.0, 0.5)),
        score(sample(5, (), category="cup"), Prediction((A,), Status.OK, "[.]", 0.2, 0.5)),
    ]


def make_report(rows: Sequence[ScoredSample], model_id: str = "demo", adapter: str | None = None) -> Report:
    return Report(model_id, adapter, summarise(rows), tuple(rows))


@pytest.fixture
def store(tmp_path: Path) -> ReportStore:
    return ReportStore(tmp_path / "evaluations")


def backdate(kept: KeptReport, created_at: str) -> None:
    values = json.loads((kept.path / "report.json").read_text(encoding="utf-8"))
    (kept.path / "report.json").write_text(json.dumps(values | {"created_at": created_at}), encoding="utf-8")


def test_what_is_kept_comes_back_as_it_was(store: ReportStore) -> None:
    rows = some_rows()
    kept = store.keep(make_report(rows, adapter="tools-v1"), split="val")
    assert ReportStore(store.folder).list() == [kept]
    assert kept.scores == summarise(rows)
    assert (kept.model_id, kept.adapter, kept.split) == ("demo", "tools-v1", "val")
    assert kept.samples_sha256 == samples_digest(row.sample for row in rows)
    assert datetime.fromisoformat(kept.created_at).utcoffset() is not None
    assert {path.name for path in kept.path.iterdir()} == {"samples.parquet", "report.json"}
    assert json.loads((kept.path / "report.json").read_text(encoding="utf-8")) == report_json(kept)


def test_another_reader_finds_every_answer_in_the_log(store: ReportStore) -> None:
    kept = store.keep(make_report(some_rows()), split="val")
    rows = parquet.read_table(kept.path / "samples.parquet").to_pylist()
    assert [row["id"] for row in rows] == ["s0", "s1", "s2", "s3", "s4", "s5"]
    assert rows[1] == {
        "id": "s1",
        "image": "1.png",
        "phrase": "mug 1",
        "category": "",
        "split": "val",
        "truth_xyxy_px": [[0.0, 0.0, 10.0, 10.0]],
        "answer_xyxy_px": [[0.0, 0.0, 5.0, 10.0]],
        "iou": 0.5,
        "status": "ok",
        "raw_text": 'wide "text" · é',
        "confidence": 0.5,
        "seconds": 0.25,
    }
    assert rows[2]["confidence"] is None
    assert rows[3]["answer_xyxy_px"] == [[20.0, 20.0, 30.0, 30.0], [0.0, 0.0, 10.0, 10.0]]
    assert rows[5]["category"] == "cup"


def test_the_figures_follow_from_the_log(store: ReportStore) -> None:
    kept = store.keep(make_report(some_rows()), split="val")
    rows = parquet.read_table(kept.path / "samples.parquet").to_pylist()
    asked = [row for row in rows if row["truth_xyxy_px"]]
    nothing = [row for row in rows if not row["truth_xyxy_px"]]
    figures = json.loads((kept.path / "report.json").read_text(encoding="utf-8"))["scores"]
    assert figures == {
        "count": len(asked),
        "detection_rate": sum(row["status"] == "ok" for row in asked) / len(asked),
        "mean_iou": sum(row["iou"] for row in asked) / len(asked),
        "median_iou": statistics.median(row["iou"] for row in asked),
        "accuracy": {
            "0.5": sum(row["iou"] >= 0.5 for row in asked) / len(asked),
            "0.75": sum(row["iou"] >= 0.75 for row in asked) / len(asked),
        },
        "no_target_count": len(nothing),
        "no_target_accuracy": sum(row["status"] == "no_box" for row in nothing) / len(nothing),
    }
    assert figures["accuracy"] == {"0.5": 0.75, "0.75": 0.5}
    assert figures["mean_iou"] == pytest.approx(2.5 / 4)


@pytest.mark.parametrize(
    ("case", "rows"),
    [
        ("no rows", []),
        ("nothing found anywhere", [score(sample(0, ()), Prediction((), Status.UNREADABLE, "", None, 1.0))]),
        ("every kind of row", some_rows()),
    ],
)
def test_the_log_has_the_same_columns_whatever_stands_in_it(
    tmp_path: Path, case: str, rows: list[ScoredSample]
) -> None:
    write_parquet(tmp_path / "log.parquet", rows)
    schema = parquet.read_schema(tmp_path / "log.parquet")
    types = {name: str(schema.field(name).type) for name in schema.names}
    boxes = "list<element: list<element: double>>"
    assert types == {
        **dict.fromkeys(("id", "image", "phrase", "category", "split"), "string"),
        **dict.fromkeys(("truth_xyxy_px", "answer_xyxy_px"), boxes),
        "iou": "double",
        **dict.fromkeys(("status", "raw_text"), "string"),
        **dict.fromkeys(("confidence", "seconds"), "double"),
    }
    assert parquet.read_table(tmp_path / "log.parquet").num_rows == len(rows)


def test_the_newest_comes_first_and_the_latest_is_of_the_model_and_split(store: ReportStore) -> None:
    old = store.keep(make_report(some_rows()), split="val")
    new = store.keep(make_report(some_rows()), split="test")
    with_adapter = store.keep(make_report(some_rows(), adapter="tools-v1"), split="val")
    other_model = store.keep(make_report(some_rows(), model_id="other"), split="val")
    for day, kept in enumerate((old, new, with_adapter, other_model), start=1):
        backdate(kept, f"2026-01-0{day}T00:00:00+00:00")
    assert [kept.id for kept in store.list()] == [other_model.id, with_adapter.id, new.id, old.id]

    def latest(*asked: Any, **more: Any) -> str | None:
        found = store.latest(*asked, **more)
        return found.id if found else None

    assert latest("demo", None) == new.id
    assert latest("demo", None, split="val") == old.id
    assert latest("demo", "tools-v1") == with_adapter.id
    assert latest("other", None) == other_model.id
    assert latest("demo", None, split="train") is None
    assert latest("demo", "gone") is None
    assert latest("nobody", None) is None


def test_reports_of_the_same_second_stand_in_the_order_of_their_writing(store: ReportStore) -> None:
    kept = [store.keep(make_report(some_rows()), split="val") for _ in range(3)]
    for second, report in enumerate(kept):
        backdate(report, "2026-01-01T00:00:00+00:00")
        os.utime(report.path, (second, second))
    assert [report.id for report in store.list()] == [report.id for report in reversed(kept)]


def test_the_same_questions_are_found_by_their_digest(store: ReportStore) -> None:
    rows = some_rows()
    store.keep(make_report(rows), split="val")
    newest = store.keep(make_report(rows), split="val")
    digest = samples_digest(row.sample for row in rows)
    assert store.find("demo", None, digest) == newest
    assert store.find("demo", "tools-v1", digest) is None
    assert store.find("other", None, digest) is None
    assert store.find("demo", None, samples_digest([])) is None


@pytest.mark.parametrize(
    ("case", "changed", "same"),
    [
        ("the same", [sample(0), sample(1)], True),
        ("another folder of the picture", [sample(0, image=Path("/elsewhere/0.png")), sample(1)], True),
        ("another category", [sample(0, category="cup"), sample(1)], True),
        ("another order", [sample(1), sample(0)], False),
        ("one left out", [sample(0)], False),
        ("another phrase", [sample(0, phrase="cup"), sample(1)], False),
        ("another box", [sample(0, (B,)), sample(1)], False),
        ("another picture", [sample(0, image=Path("/p/9.png")), sample(1)], False),
        ("another id", [sample(0, id="x"), sample(1)], False),
    ],
)
def test_when_the_same_questions_were_asked(case: str, changed: list[Sample], same: bool) -> None:
    assert (samples_digest(changed) == samples_digest([sample(0), sample(1)])) == same


def test_an_empty_store_lists_nothing(store: ReportStore) -> None:
    assert store.list() == []
    assert store.latest("demo", None) is None
    assert not store.folder.exists(), "reading makes nothing"


def without(key: str) -> Any:
    return lambda values: {name: value for name, value in values.items() if name != key}


@pytest.mark.parametrize(
    ("case", "damage"),
    [
        ("cut short", "half"),
        ("not UTF-8", b"\xff\xfe"),
        ("a list", lambda values: [values]),
        ("null", lambda values: None),
        ("no scores", without("scores")),
        ("no id", without("id")),
        ("no time", without("created_at")),
        ("a time that is a number", lambda values: values | {"created_at": 5}),
        ("a time that is none", lambda values: values | {"created_at": "yesterday"}),
        ("scores that are a text", lambda values: values | {"scores": "good"}),
        ("scores with too much", lambda values: values | {"scores": values["scores"] | {"f1": 1.0}}),
        ("scores with too little", lambda values: values | {"scores": {"accuracy": {}}}),
        ("an accuracy that is a list", lambda values: values | {"scores": values["scores"] | {"accuracy": []}}),
        ("an accuracy at no threshold", lambda values: values | {"scores": values["scores"] | {"accuracy": {"x": 1}}}),
    ],
)
def test_a_damaged_report_is_left_out(store: ReportStore, case: str, damage: Any) -> None:
    good = store.keep(make_report(some_rows()), split="val")
    path = store.keep(make_report(some_rows()), split="val").path / "report.json"
    content = path.read_bytes()
    if damage == "half":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(damage if isinstance(damage, bytes) else json.dumps(damage(json.loads(content))).encode())
    assert store.list() == [good]
    assert store.latest("demo", None) == good


def test_a_report_that_broke_off_is_left_out(store: ReportStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(path: Path, rows: object) -> None:
        path.write_bytes(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(reports, "write_parquet", break_off)
    with pytest.raises(WorkspaceError, match=r"can't be kept in .*the disk is full.*Free space or rights there"):
        store.keep(make_report(some_rows()), split="val")
    assert store.list() == []


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorkspaceError, match="file/evaluations"):
        ReportStore(tmp_path / "file" / "evaluations").keep(make_report([]), split="val")
