"""The public contract of docs and README, line by line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import grounding
from grounding.__main__ import main
from grounding.boxes import Box
from grounding.demo.dataset import DemoSize, write_demo
from grounding.demo.sprites import known_nouns

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder, size=DemoSize(2, 2, 4))
    return folder


@pytest.fixture(scope="module")
def predictor() -> Any:
    import torch

    torch.set_num_threads(1)
    return grounding.load("demo")


def known_sample(demo: Path) -> grounding.Sample:
    samples = grounding.read_samples(demo / "test.jsonl")
    return next(s for s in samples if s.boxes_xyxy_px and s.category in known_nouns())


def test_predict_answers_with_everything_the_contract_names(demo: Path, predictor: Any) -> None:
    sample = known_sample(demo)
    prediction = predictor.predict(sample.image, sample.phrase)
    assert isinstance(prediction, grounding.Prediction)
    (box,) = prediction.boxes
    x1, y1, x2, y2 = box
    assert 0 <= x1 < x2 <= 256
    assert 0 <= y1 < y2 <= 256
    assert prediction.status == "ok"
    assert prediction.raw_text.startswith('[{"bbox_2d": [')
    assert 0 < prediction.confidence <= 1
    assert prediction.seconds > 0
    assert prediction.adapter is None
    with Image.open(sample.image) as picture:
        assert predictor.predict(picture, sample.phrase).boxes == prediction.boxes


def test_predict_many_answers_in_order(demo: Path, predictor: Any) -> None:
    samples = list(grounding.read_samples(demo / "test.jsonl"))[:4]
    pairs = [(sample.image, sample.phrase) for sample in samples]
    together = predictor.predict_many(pairs)
    assert [p.raw_text for p in together] == [predictor.predict(*pair).raw_text for pair in pairs]


def test_compare_gives_one_answer_per_adapter(demo: Path, predictor: Any) -> None:
    sample = known_sample(demo)
    first, second = predictor.compare(sample.image, sample.phrase, adapters=[None, None])
    assert first.boxes == second.boxes == predictor.predict(sample.image, sample.phrase).boxes


def test_evaluate_returns_a_report(demo: Path, predictor: Any) -> None:
    samples = list(grounding.read_samples(demo / "test.jsonl"))
    report = grounding.evaluate(samples, predictor, adapter=None)
    assert [row.sample.id for row in report.rows] == [sample.id for sample in samples]
    assert set(report.scores.accuracy) == {0.25, 0.5, 0.75, 0.9}
    # A module of the same name would take the function's place once it is imported.
    import_module("grounding.evaluation")
    assert callable(grounding.evaluate)


def test_a_sample_line_of_the_contract_is_read_and_written_unchanged(tmp_path: Path) -> None:
    line = {
        "source_key": 7,
        "id": "demo-test-0007",
        "image": "images/0007.png",
        "phrase": "drum on the left",
        "boxes_xyxy_px": [[12.0, 80.5, 77.0, 140.0]],
        "split": "test",
        "category": "drum",
        "image_id": "0007",
        "alternatives": [],
    }
    (tmp_path / "in.jsonl").write_text(json.dumps(line) + "\n")
    (sample,) = grounding.read_samples(tmp_path / "in.jsonl")
    assert sample.boxes_xyxy_px == (Box(12.0, 80.5, 77.0, 140.0),)
    grounding.write_samples(tmp_path / "out.jsonl", [sample])
    assert json.loads((tmp_path / "out.jsonl").read_text()) == line


def test_the_package_imports_without_torch() -> None:
    code = "import grounding, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def run_cli(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-m", "grounding", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_json_is_one_document_on_standard_output_and_nothing_else(demo: Path, tmp_path: Path) -> None:
    sample = known_sample(demo)
    done = run_cli("predict", sample.image, sample.phrase, "--json", "--out", "boxed.png", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert set(answer) == {
        "boxes_xyxy_px",
        "status",
        "raw_text",
        "confidence",
        "box_confidences",
        "seconds",
        "adapter",
    }
    with Image.open(tmp_path / "boxed.png") as boxed, Image.open(sample.image) as plain:
        assert boxed.size == plain.size
        assert boxed.convert("RGB").tobytes() != plain.convert("RGB").tobytes()

    done = run_cli("evaluate", demo / "test.jsonl", "--json", "--out", "kept", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    written = tmp_path / "kept" / "report.json"
    assert json.loads(written.read_text()) == document
    assert (written.parent / "samples.parquet").is_file()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["predict", "none.png", "dog"], "no picture at none.png"),
        (["predict", "notes.png", "dog"], "notes.png is not a picture"),
        (["predict", "white.png", "   "], "The phrase is empty"),
        (["predict", "white.png", "dog", "--model", "nowhere/at/all"], "no model folder nowhere/at/all"),
        (["predict", "white.png", "dog", "--model", "empty"], "holds no config.json"),
        (["evaluate", "none.jsonl"], "none.jsonl can't be read"),
        (["evaluate", "bad.jsonl"], "bad.jsonl, line 1"),
        (["train", "nothing", "--name", "mugs"], "no complete snapshot 'nothing'"),
        (["train", "nothing", "--name", "../mugs"], "can't name an adapter"),
        (["train", "nothing", "--name", "mugs", "--set", "steps"], "expected KEY=VALUE"),
        (["train", "nothing", "--name", "mugs", "--set", "stepz=3"], "no setting 'stepz'"),
    ],
)
def test_failed_work_is_one_sentence_and_status_1(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.png").write_text("these are notes")
    (tmp_path / "bad.jsonl").write_text("{]\n")
    Image.new("RGB", (64, 64), "white").save(tmp_path / "white.png")
    assert main(arguments) == 1
    shown = capsys.readouterr()
    assert sentence in shown.err
    assert len(shown.err.strip().splitlines()) == 1
    assert shown.out == ""


@pytest.mark.parametrize(
    "arguments", [[], ["predict"], ["train", "x"], ["fly"], ["predict", "a", "b", "--quantize", "2bit"]]
)
def test_wrong_usage_is_status_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_the_demo_command_writes_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from grounding.demo import dataset

    monkeypatch.setattr(
        dataset, "write_demo", lambda folder, **rest: write_demo(folder, size=DemoSize(2, 1, 1), **rest)
    )
    assert main(["demo", str(tmp_path / "data"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["samples"] == {"train": 4, "val": 2, "test": 2}
    assert sum(1 for _ in grounding.read_samples(tmp_path / "data" / "train.jsonl")) == 4
