"""Kept evaluations: found again, read by another reader, and the figures recomputed from the log by hand."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pyarrow import parquet

from grounding import reports
from grounding.boxes import Box
from grounding.buckets import bucket_scores
from grounding.errors import WorkspaceError
from grounding.evaluation import Report
from grounding.journal import JOURNAL, EvaluationSettings, Journal
from grounding.metrics import ScoredSample, score, summarise
from grounding.records import Prediction, Sample, Status
from grounding.reports import (
    KeptReport,
    ReportStore,
    finished_report,
    read_report,
    read_rows,
    report_json,
    samples_digest,
    write_parquet,
)

A, HALF_A, B = Box(0, 0, 10, 10), Box(0, 0, 5, 10), Box(20, 20, 30, 30)
DIGEST = "samples_sha256"


def sample(number: int, boxes: Sequence[Box] = (A,), **changes: Any) -> Sample:
    return replace(Sample(f"s{number}", Path(f"/p/{number}.png"), f"mug {number}", tuple(boxes), "val"), **changes)


def some_rows() -> list[ScoredSample]:
    return [
        score(sample(0), Prediction((A,), Status.OK, "[...]", 0.9, 0.25)),
        score(sample(1), Prediction((HALF_A,), Status.OK, 'wide "text" · é', 0.5, 0.25, None, (0.75,))),
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
    assert kept.buckets == bucket_scores(rows)
    assert list(kept.buckets) == list(bucket_scores(rows))
    assert (kept.model_id, kept.adapter, kept.split) == ("demo", "tools-v1", "val")
    assert kept.samples_sha256 == samples_digest(row.sample for row in rows)
    assert datetime.fromisoformat(kept.created_at).utcoffset() is not None
    assert {path.name for path in kept.path.iterdir()} == {"samples.parquet", "report.md", "report.json"}
    assert json.loads((kept.path / "report.json").read_text(encoding="utf-8")) == report_json(kept)


def test_another_reader_finds_every_answer_in_the_log(store: ReportStore) -> None:
    kept = store.keep(make_report(some_rows()), split="val")
    rows = parquet.read_table(kept.path / "samples.parquet").to_pylist()
    assert [row["id"] for row in rows] == ["s0", "s1", "s2", "s3", "s4", "s5"]
    assert rows[1] == {
        "id": "s1",
        "image": "1.png",
        "image_file": "/p/1.png",
        "image_sha256": None,
        "image_id": "",
        "image_width_px": None,
        "image_height_px": None,
        "phrase": "mug 1",
        "category": "",
        "split": "val",
        "source": "",
        "truth_xyxy_px": [[0.0, 0.0, 10.0, 10.0]],
        "answer_xyxy_px": [[0.0, 0.0, 5.0, 10.0]],
        "iou": 0.5,
        "status": "ok",
        "raw_text": 'wide "text" · é',
        "confidence": 0.5,
        "box_confidences": [0.75],
        "seconds": 0.25,
        "seen": "",
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
    assert figures["statuses"] == {"ok": 4, "no_box": 1, "unreadable": 1, "degenerate": 0}
    assert {name: figures[name] for name in list(figures)[:7]} == {
        "count": len(asked),
        "detection_rate": sum(row["status"] == "ok" for row in asked) / len(asked),
        "mean_iou": sum(row["iou"] for row in asked) / len(asked),
        "median_iou": statistics.median(row["iou"] for row in asked),
        "accuracy": {
            text: sum(row["iou"] >= float(text) for row in asked) / len(asked)
            for text in ("0.25", "0.5", "0.75", "0.9")
        },
        "no_target_count": len(nothing),
        "no_target_accuracy": sum(row["status"] == "no_box" for row in nothing) / len(nothing),
    }
    assert figures["accuracy"] == {"0.25": 0.75, "0.5": 0.75, "0.75": 0.5, "0.9": 0.5}
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
        **dict.fromkeys(("id", "image", "image_file", "image_sha256", "image_id"), "string"),
        **dict.fromkeys(("image_width_px", "image_height_px"), "int32"),
        **dict.fromkeys(("phrase", "category", "split", "source"), "string"),
        **dict.fromkeys(("truth_xyxy_px", "answer_xyxy_px"), boxes),
        "iou": "double",
        **dict.fromkeys(("status", "raw_text"), "string"),
        **dict.fromkeys(("confidence", "seconds"), "double"),
        "box_confidences": "list<element: double>",
        "seen": "string",
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


def test_a_report_that_is_removed_while_the_others_are_read_is_left_out(
    store: ReportStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stays, goes = (store.keep(make_report(some_rows()), split="val") for _ in range(2))
    read = reports._read

    def read_and_remove(path: Path) -> reports.KeptReport:
        found = read(path)
        if found.id == goes.id:
            shutil.rmtree(goes.path)
        return found

    monkeypatch.setattr(reports, "_read", read_and_remove)
    assert [report.id for report in store.list()] == [stays.id]


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
        ("another category", [sample(0, category="cup"), sample(1)], False),
        ("another split", [sample(0, split="train"), sample(1)], False),
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
        ("scores with too much", lambda values: values | {"scores": values["scores"] | {"f9": 1.0}}),
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
    def break_off(path: Path, rows: object, seen: object) -> None:
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


# --- read again ---


def test_the_rows_come_back_as_they_were(store: ReportStore) -> None:
    rows = some_rows()
    assert read_rows(store.keep(make_report(rows), split="val").path) == tuple(rows)


def test_boxes_come_back_to_the_last_digit_and_half_characters_as_backslashes(tmp_path: Path) -> None:
    odd = sample(0, (Box(0.123456, 0, 10, 10),), category="cup \ud800", id="\udfff")
    write_parquet(tmp_path / "samples.parquet", [score(odd, Prediction((A,), Status.OK, "\ud800", None, 1.0))])
    (row,) = read_rows(tmp_path)
    assert row.sample.boxes_xyxy_px == (Box(0.123456, 0, 10, 10),)
    assert (row.sample.id, row.sample.category, row.prediction.raw_text) == ("\\udfff", "cup \\ud800", "\\ud800")


def test_rows_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    """Before pictures had a path, content, size and id in the log, and boxes a confidence."""
    write_parquet(tmp_path / "samples.parquet", some_rows())
    young = ("image_file", "image_sha256", "image_id", "image_width_px", "image_height_px", "box_confidences")
    parquet.write_table(
        parquet.read_table(tmp_path / "samples.parquet").drop(list(young)), tmp_path / "samples.parquet"
    )
    rows = read_rows(tmp_path)
    assert [row.iou for row in rows] == [row.iou for row in some_rows()]
    assert (rows[1].sample.image, rows[1].prediction.box_confidences) == (Path("1.png"), ())


def test_figures_of_an_earlier_version_are_read(store: ReportStore) -> None:
    kept = store.keep(make_report(some_rows()), split="val")
    values = json.loads((kept.path / "report.json").read_text(encoding="utf-8"))
    scores = {name: values["scores"][name] for name in list(values["scores"])[:7]}
    scores["accuracy"] = {"0.5": 0.75, "0.75": 0.5}
    old = {name: value for name, value in values.items() if name not in ("buckets", "settings")} | {"scores": scores}
    (kept.path / "report.json").write_text(json.dumps(old), encoding="utf-8")
    (read,) = store.list()
    assert (dict(read.scores.accuracy), read.scores.box_f1, dict(read.buckets)) == ({0.5: 0.75, 0.75: 0.5}, None, {})


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "There is no samples.parquet in"), (b"PAR1 half", "can't be read as a report's samples")],
)
def test_rows_that_can_not_be_read(tmp_path: Path, content: bytes | None, told: str) -> None:
    if content is not None:
        (tmp_path / "samples.parquet").write_bytes(content)
    with pytest.raises(WorkspaceError, match=told):
        read_rows(tmp_path)


def test_the_log_knows_content_and_size_of_the_pictures(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    (tmp_path / "no picture.png").write_text("words")
    images = [tmp_path / "a.png", tmp_path / "a.png", tmp_path / "no picture.png"]
    answer = Prediction((A,), Status.OK, "", None, 1.0)
    write_parquet(tmp_path / "log", [score(sample(i, image=image), answer) for i, image in enumerate(images)])
    rows = parquet.read_table(tmp_path / "log").to_pylist()
    assert [row["image_sha256"] for row in rows] == [hashlib.sha256(p.read_bytes()).hexdigest() for p in images]
    assert [(row["image_width_px"], row["image_height_px"]) for row in rows] == [(30, 20), (30, 20), (None, None)]
    assert [row["image_file"] for row in rows] == [str(image) for image in images]


# --- into a folder of one's own ---

SETTINGS = EvaluationSettings("demo", "plain", None, "", samples_digest([]), "p")


def test_a_report_goes_straight_into_the_folder_that_is_given(store: ReportStore, tmp_path: Path) -> None:
    report = replace(make_report(some_rows()), settings=SETTINGS)
    kept = store.keep(report, split="val", folder=tmp_path / "mine")
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"samples.parquet", "report.md", "report.json"}
    assert (kept.id, kept.path) == ("mine", tmp_path / "mine")
    assert read_report(tmp_path / "mine") == finished_report(tmp_path / "mine", SETTINGS) == kept
    with pytest.raises(WorkspaceError, match=r"holds a report already.*--out"):
        store.keep(report, split="val", folder=tmp_path / "mine")
    with pytest.raises(WorkspaceError, match=r"the model is 'demo' there, 'other' here\. Choose another --out"):
        finished_report(tmp_path / "mine", replace(SETTINGS, model_id="other"))


def test_no_report_and_a_damaged_one(tmp_path: Path) -> None:
    assert read_report(tmp_path) is None
    assert read_report(tmp_path / "gone") is None
    (tmp_path / "report.json").write_text("{")
    with pytest.raises(WorkspaceError, match=r"report\.json is damaged"):
        read_report(tmp_path)


def test_the_answers_are_removed_once_the_report_holds_them(store: ReportStore, tmp_path: Path) -> None:
    Journal(tmp_path / JOURNAL, SETTINGS).append({0: Prediction((), Status.NO_BOX, "", None, 1.0)})
    store.keep(replace(make_report([]), settings=SETTINGS), split="val", folder=tmp_path)
    assert not (tmp_path / JOURNAL).exists()


def test_the_unfinished_evaluation_of_the_same_settings_is_found(store: ReportStore) -> None:
    answer = {0: Prediction((), Status.NO_BOX, "", None, 1.0)}
    assert store.unfinished(SETTINGS) is None
    Journal(store.folder / "2-mine" / JOURNAL, SETTINGS).append(answer)
    Journal(store.folder / "3-other" / JOURNAL, replace(SETTINGS, adapter="a")).append(answer)
    Journal(store.folder / "4-done" / JOURNAL, SETTINGS).append(answer)
    (store.folder / "4-done" / "report.json").write_text("{}")
    (store.folder / "5-damaged").mkdir()
    (store.folder / "5-damaged" / JOURNAL).write_text("{}\n")
    assert store.unfinished(SETTINGS) == store.folder / "2-mine"
    assert store.unfinished(replace(SETTINGS, profile="x")) is None


def test_the_log_names_the_source_as_the_data_set_does(tmp_path: Path) -> None:
    answer = Prediction((A,), Status.OK, "", None, 1.0)
    given: list[dict[str, Any]] = [{"source": "mine"}, {"dataset": "refcoco"}, {}, {"source": 5, "dataset": ""}]
    write_parquet(tmp_path / "log", [score(sample(i, extra=extra), answer) for i, extra in enumerate(given)])
    assert parquet.read_table(tmp_path / "log")["source"].to_pylist() == ["mine", "refcoco", "", ""]
