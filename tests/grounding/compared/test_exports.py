"""What is exported comes back as it was; a folder is written whole or not at all."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from PIL import Image
from pyarrow import parquet

from compared_samples import answered, keep, keep_two, on_pictures, some_rows, some_samples
from grounding.boxes import Box, iou
from grounding.compared import Report, exports
from grounding.compared import open as open_report
from grounding.compared.exports import FORMATS
from grounding.errors import WorkspaceError
from grounding.records import Sample


@pytest.fixture
def report(tmp_path: Path) -> Report:
    return open_report(*keep_two(tmp_path, count=40))


@pytest.fixture
def with_pictures(tmp_path: Path) -> Report:
    images = [tmp_path / f"p{k}.png" for k in range(3)]
    for k, image in enumerate(images):
        Image.new("RGB", (400, 300), (k, 0, 0)).save(image)
    samples = on_pictures(some_samples(12), images)
    return open_report(
        keep(tmp_path / "a", some_rows(samples, 1)), keep(tmp_path / "b", some_rows(samples, 2), "tools")
    )


def check_samples(found: list[dict[str, Any]], report: Report) -> None:
    assert len(found) == len(report.comparison)
    for k, row in enumerate(found):
        record = report.comparison.record(k)
        assert (row["id"], row["phrase"], row["category"]) == (record.id, record.phrase, record.category)
        assert row["truth_xyxy_px"] == [list(box) for box in record.truth_xyxy_px]
        for answer in record.answers:
            of_side = {name[2:]: value for name, value in row.items() if name.startswith(f"{answer.letter}_")}
            assert of_side == {
                "status": str(answer.status),
                "iou": answer.iou,
                "confidence": answer.confidence,
                "answer_xyxy_px": [list(box) for box in answer.boxes_xyxy_px],
                "box_confidences": list(answer.box_confidences),
                "seconds": answer.seconds,
                "raw_text": answer.raw_text,
            }
        a, b = (answer.is_right for answer in record.answers)
        assert row["outcome"] == {(0, 1): "win", (1, 0): "loss", (1, 1): "both_right", (0, 0): "both_wrong"}[(a, b)]


def check_figures(rows: list[dict[str, Any]], report: Report) -> None:
    of_all = {row["figure"]: row for row in rows if row["dimension"] == "all"}
    for name, difference in report.headline.differences.items():
        for key, value in asdict(difference).items():
            assert of_all[name][key] == value
    counts = {
        row["bucket"]: row["samples"] for row in rows if (row["dimension"], row["figure"]) == ("spatial", "mean_iou")
    }
    assert counts == {bucket.name: bucket.count for bucket in report.breakdown("spatial")}


def test_parquet_comes_back(report: Report, tmp_path: Path) -> None:
    written = report.export(tmp_path / "out", "parquet")
    assert written.files == ("figures.parquet", "samples.parquet")
    check_samples(parquet.read_table(tmp_path / "out" / "samples.parquet").to_pylist(), report)
    check_figures(parquet.read_table(tmp_path / "out" / "figures.parquet").to_pylist(), report)


def test_csv_comes_back(report: Report, tmp_path: Path) -> None:
    report.export(tmp_path / "out", "csv")

    def read(name: str) -> list[dict[str, Any]]:
        with (tmp_path / "out" / name).open(encoding="utf-8", newline="") as file:
            return [{key: value_of(key, text) for key, text in row.items()} for row in csv.DictReader(file)]

    def value_of(key: str, text: str) -> Any:
        if key.endswith(("_px", "confidences", "iou", "confidence", "seconds")):
            return json.loads(text) if text else None
        if key in ("a", "b", "difference", "low", "high", "p", "samples"):
            return float(text) if text else None
        return text

    check_samples(read("samples.csv"), report)
    check_figures(read("figures.csv"), report)


def test_json_comes_back(report: Report, tmp_path: Path) -> None:
    report.export(tmp_path / "out", "json")
    found = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    check_samples(found["samples"], report)
    assert found["format"] == "boxwright-comparison/1"
    assert [side["name"] for side in found["sides"]] == ["base", "tools"]
    accuracy = asdict(report.headline.differences["accuracy_50"])
    assert found["headline"]["differences"]["accuracy_50"] == accuracy
    assert found["headline"]["scores"][1]["mean_iou"] == report.headline.scores[1].mean_iou
    assert found["curves"][0]["accuracy"] == list(report.curves()[0].accuracy)
    assert [bucket["name"] for bucket in found["breakdowns"]["spatial"]] == ["spatial", "plain"]
    assert found["notes"] == list(report.notes)


def test_only_what_passes_the_filter_is_exported(report: Report, tmp_path: Path) -> None:
    losses = report.only(outcome="loss")
    losses.export(tmp_path / "out", "parquet")
    found = parquet.read_table(tmp_path / "out" / "samples.parquet")
    assert set(found["outcome"].to_pylist()) == {"loss"}
    assert len(found) == losses.listed.sum() > 0


def test_markdown_holds_the_figures_and_its_plots(report: Report, tmp_path: Path) -> None:
    written = report.export(tmp_path / "out", "markdown")
    assert written.files == ("accuracy.svg", "calibration.svg", "report.md")
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    images = [child.attrs["src"] for token in tokens for child in token.children or [] if child.type == "image"]
    assert images == ["accuracy.svg", "calibration.svg"]
    assert f"{report.headline.scores[1].accuracy[0.5]:.1%}" in text
    assert "## The worst 10 samples" in text
    for name in images:
        assert ET.parse(tmp_path / "out" / str(name)).getroot().tag.endswith("svg")


def test_phrases_are_no_markup_in_markdown(tmp_path: Path) -> None:
    sample = Sample("x|y", Path("/p/a.png"), "<script>alert(1)</script> [a](b) |", (Box(0, 0, 9, 9),), category="<b>")
    folders = [keep(tmp_path / name, [answered(sample, [Box(20, 20, 30, 30)])]) for name in "ab"]
    open_report(*folders, names=("<i>", "*x*")).export(tmp_path / "out", "markdown")
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    kinds = {child.type for t in MarkdownIt("commonmark").parse(text) for child in t.children or []}
    assert not kinds & {"html_inline", "link_open", "em_open"}
    ET.parse(tmp_path / "out" / "accuracy.svg")


def test_a_folder_whose_name_is_no_utf8_stands_in_markdown_and_its_plots(tmp_path: Path) -> None:
    folder = keep(tmp_path / "a", some_rows(some_samples(9)), "/adapters/t\udcff")
    open_report(folder).export(tmp_path / "out", "markdown")
    for name in ("report.md", "accuracy.svg", "calibration.svg"):
        assert "udcff" in (tmp_path / "out" / name).read_text(encoding="utf-8"), name


# --- COCO ---


def test_coco_is_the_truth_and_the_answers(report: Report, tmp_path: Path) -> None:
    written = report.export(tmp_path / "out", "coco")
    assert written.files == ("annotations.json", "results_a.json", "results_b.json")
    truth = json.loads((tmp_path / "out" / "annotations.json").read_text(encoding="utf-8"))
    assert [image["sample_id"] for image in truth["images"]] == list(report.comparison.samples.id)
    categories = {entry["id"]: entry["name"] for entry in truth["categories"]}
    assert sorted(categories.values()) == ["(none)", "dog", "drum", "mug"]
    assert [entry["id"] for entry in truth["annotations"]] == list(range(1, len(truth["annotations"]) + 1))
    for k, name in enumerate("ab"):
        results = json.loads((tmp_path / "out" / f"results_{name}.json").read_text(encoding="utf-8"))
        for image in truth["images"]:
            record = report.comparison.record(image["id"] - 1)
            mine = [entry for entry in truth["annotations"] if entry["image_id"] == image["id"]]
            found = [entry for entry in results if entry["image_id"] == image["id"]]
            close([entry["bbox"] for entry in mine], record.truth_xyxy_px)
            answer = record.answers[k]
            close([entry["bbox"] for entry in found], answer.boxes_xyxy_px)
            assert all(categories[e["category_id"]] == (record.category or "(none)") for e in mine + found)
            sure = 1.0 if answer.confidence is None else answer.confidence
            assert [e["score"] for e in found] == list(answer.box_confidences or (sure,) * len(found))
            assert all(e["area"] == pytest.approx(e["bbox"][2] * e["bbox"][3]) and e["iscrowd"] == 0 for e in mine)


def close(xywh: list[list[float]], boxes: tuple[Box, ...]) -> None:
    for (x, y, width, height), box in zip(xywh, boxes, strict=True):
        assert (x, y, x + width, y + height) == pytest.approx(tuple(box))


# --- FiftyOne ---


def test_fiftyone_holds_pictures_and_boxes_as_shares(with_pictures: Report, tmp_path: Path) -> None:
    written = with_pictures.export(tmp_path / "out", "fiftyone")
    out = tmp_path / "out"
    assert written.notes == ()
    assert "version" not in json.loads((out / "metadata.json").read_text(encoding="utf-8"))
    samples = json.loads((out / "samples.json").read_text(encoding="utf-8"))["samples"]
    assert len(samples) == 12
    assert {sample["filepath"] for sample in samples} == {f"data/{path.name}" for path in (out / "data").iterdir()}
    for k, sample in enumerate(samples):
        record = with_pictures.comparison.record(k)
        assert (out / sample["filepath"]).read_bytes() == record.image.read_bytes()
        for field, boxes in (("ground_truth", record.truth_xyxy_px), ("b", record.answers[1].boxes_xyxy_px)):
            assert sample[field]["_cls"] == "Detections"
            found = [entry["bounding_box"] for entry in sample[field]["detections"]]
            for (x, y, width, height), box in zip(found, boxes, strict=True):
                back = Box(x * 400, y * 300, (x + width) * 400, (y + height) * 300)
                assert iou(back, box) > 0.999999
        assert (sample["a_iou"], sample["a_status"]) == (record.answers[0].iou, str(record.answers[0].status))


def test_samples_without_their_picture_are_left_out_and_counted(with_pictures: Report, tmp_path: Path) -> None:
    (tmp_path / "p1.png").unlink()
    written = with_pictures.export(tmp_path / "out", "fiftyone")
    assert written.notes == ("4 samples are left out, as their picture can't be read any more.",)
    assert len(json.loads((tmp_path / "out" / "samples.json").read_text(encoding="utf-8"))["samples"]) == 8


def test_without_any_picture_there_is_no_fiftyone(report: Report, tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"None of the 40 pictures can be read any more.*need no picture"):
        report.export(tmp_path / "out", "fiftyone")
    assert not [path for path in tmp_path.iterdir() if path.name not in ("a", "b")]


# --- whole or not at all ---


@pytest.mark.parametrize("format", FORMATS)
def test_a_folder_that_stands_is_left_alone(with_pictures: Report, tmp_path: Path, format: str) -> None:
    (tmp_path / "out").mkdir()
    assert with_pictures.export(tmp_path / "out", format).folder == tmp_path / "out", "an empty one is taken"
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(WorkspaceError, match=r"Something stands in .*out already"):
        with_pictures.export(tmp_path / "out", format)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_what_breaks_off_leaves_nothing(report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(path: Path, rows: object) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exports, "_csv", break_off)
    with pytest.raises(WorkspaceError, match=r"No space left on device.*nothing of it was left behind"):
        report.export(tmp_path / "deep" / "out", "csv")
    assert list((tmp_path / "deep").iterdir()) == []


def test_a_place_that_can_not_be(report: Report, tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="exported as 'xml': expected one of csv, parquet, json"):
        report.export(tmp_path / "out", "xml")
    (tmp_path / "file").touch()
    with pytest.raises(WorkspaceError, match=r"can't be written to .*file/out"):
        report.export(tmp_path / "file" / "out", "csv")
    with pytest.raises(WorkspaceError, match="Choose another folder"):
        report.export(tmp_path / "a\0b", "csv")


def test_no_sample_passes(report: Report, tmp_path: Path) -> None:
    empty = report.only(words="nowhere")
    for format in FORMATS:
        empty.export(tmp_path / format, format)
    assert json.loads((tmp_path / "coco" / "results_a.json").read_text()) == []


def test_one_alone(tmp_path: Path) -> None:
    one = open_report(keep(tmp_path / "a", some_rows(some_samples(12))))
    for format in ("csv", "parquet", "json", "markdown", "coco"):
        one.export(tmp_path / format, format)
    assert "outcome" not in parquet.read_schema(tmp_path / "parquet" / "samples.parquet").names


def test_one_alone_has_its_intervals_in_the_tables(tmp_path: Path) -> None:
    one = open_report(keep(tmp_path / "a", some_rows(some_samples(90))))
    one.export(tmp_path / "out", "parquet")
    rows = parquet.read_table(tmp_path / "out" / "figures.parquet").to_pylist()
    of_all = {row["figure"]: row for row in rows if row["dimension"] == "all"}
    for name, estimate in one.headline.estimates.items():
        assert (of_all[name]["a"], of_all[name]["low"], of_all[name]["high"]) == estimate
        assert estimate.low is not None
    buckets = {bucket.name: bucket.estimates for bucket in one.breakdown("spatial")}
    found = {row["bucket"]: row for row in rows if (row["dimension"], row["figure"]) == ("spatial", "accuracy_50")}
    for name, row in found.items():
        low, high = row["low"], row["high"]
        assert (row["a"], low, high) == buckets[name]["accuracy_50"] and 0.0 <= low <= row["a"] <= high <= 1.0
    one.export(tmp_path / "csv", "csv")
    with (tmp_path / "csv" / "figures.csv").open(encoding="utf-8", newline="") as file:
        assert [float(row["low"]) if row["low"] else None for row in csv.DictReader(file)] == [r["low"] for r in rows]


def test_the_errors_of_calibration_stand_beside_the_figures(report: Report, tmp_path: Path) -> None:
    report.export(tmp_path / "out", "markdown")
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    page = report._repr_html_()
    a, b = report.headline.scores
    for title, name in (
        ("Calibration error", "calibration_error"),
        ("Calibration error, boxes", "box_calibration_error"),
    ):
        shown = [f"{getattr(scores, name):.3f}" for scores in (a, b)]
        assert f"| {title} | {shown[0]} | {shown[1]} |" in text
        assert f"<tr><th>{title}</th><td>{shown[0]}</td><td>{shown[1]}</td>" in page
    plot = (tmp_path / "out" / "calibration.svg").read_text(encoding="utf-8")
    counts = [one.count for calibration in report.calibrations() for one in calibration.bins if one.count]
    told = [int(n) for n in re.findall(r": \d+%, of (\d+) answers?</title>", plot)]
    assert told == counts and len(counts) > 4


def test_without_confidence_there_is_no_error_of_calibration(tmp_path: Path) -> None:
    sample = Sample("s", Path("/p/a.png"), "mug", (Box(0, 0, 9, 9),))
    page = open_report(keep(tmp_path / "a", [answered(sample, [Box(0, 0, 9, 9)], sure=None)]))._repr_html_()
    assert "Calibration error" not in page
