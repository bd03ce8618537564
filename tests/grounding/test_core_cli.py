"""`python -m grounding`: what each command prints and where, what it hands to the worker, and how it ends.

Subprocesses, wrong usage and wrong files stand in tests/test_public_api.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import grounding
from grounding import evaluation
from grounding.__main__ import main
from grounding.adapters import AdapterInfo
from grounding.boxes import Box
from grounding.errors import ModelError
from grounding.evaluation import Report
from grounding.jobs import launch
from grounding.jobs.launch import RunRequest
from grounding.jobs.store import RunRecord, RunState, RunStore
from grounding.metrics import score, summarise
from grounding.models import DEMO_MODEL_FOLDER
from grounding.predict import Predictor
from grounding.records import Prediction, Sample, Status, write_samples
from grounding.reports import ReportStore, read_rows, write_parquet
from grounding.snapshots import SNAPSHOT_FORMAT
from grounding.training.events import PhaseEvent, ScoreEvent, StepEvent
from grounding.training.settings import TrainSettings
from grounding.workspace import Workspace

Capture = pytest.CaptureFixture[str]
MakeAdapter = Callable[..., Path]
Question = tuple[Path, str]


@pytest.fixture
def workspace(own_workspace: Path) -> Workspace:
    return Workspace(own_workspace)


@pytest.fixture
def model_at_hand(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The commands get the model that is loaded already; returns what they asked for."""
    asked: list[Any] = []

    def load(model: str = "demo", **options: Any) -> Predictor:
        asked.append((model, options))
        return predictor

    monkeypatch.setattr(grounding, "load", load)
    return asked


def failure(capsys: Capture, *arguments: object) -> str:
    """The one sentence on standard error of a command that ends with status 1 and prints nothing else."""
    assert main([str(argument) for argument in arguments]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    last = shown.err.strip().splitlines()[-1]
    assert last.startswith("boxwright: ") and "Traceback" not in shown.err
    return last


# --- predict ---


def test_predict_prints_a_line_a_box(
    model_at_hand: list[Any], predictor: Predictor, questions: list[Question], capsys: Capture
) -> None:
    picture, phrase = questions[0]
    assert main(["predict", str(picture), phrase]) == 0
    (box,) = predictor.predict(picture, phrase).boxes
    shown = capsys.readouterr()
    assert shown.out == " ".join(f"{value:.1f}" for value in box) + "\n"
    assert shown.err == ""


def test_predict_says_when_nothing_is_there(
    model_at_hand: list[Any], questions: list[Question], capsys: Capture
) -> None:
    assert main(["predict", str(questions[7][0]), questions[7][1]]) == 0
    assert capsys.readouterr().out == "no_box: []\n"


def test_predict_json_is_the_prediction(
    model_at_hand: list[Any],
    predictor: Predictor,
    questions: list[Question],
    make_adapter: MakeAdapter,
    capsys: Capture,
) -> None:
    make_adapter("cli.v1", seed=31)
    for adapter in (None, "cli.v1"):
        options = [] if adapter is None else ["--adapter", adapter]
        assert main(["predict", str(questions[0][0]), questions[0][1], "--json", *options]) == 0
        shown = capsys.readouterr()
        document = json.loads(shown.out)
        expected = predictor.predict(*questions[0], adapter)
        assert document["boxes_xyxy_px"] == [list(box.rounded()) for box in expected.boxes]
        assert (document["status"], document["raw_text"]) == (expected.status, expected.raw_text)
        assert document["confidence"] == pytest.approx(expected.confidence, abs=1e-4)
        assert document["adapter"] == adapter
        assert shown.err == ""


def test_the_flags_reach_the_loader(
    model_at_hand: list[Any], questions: list[Question], tmp_path: Path, capsys: Capture
) -> None:
    given = ["--model", "some/model", "--quantize", "4bit", "--workspace", str(tmp_path / "team")]
    assert main(["predict", str(questions[0][0]), questions[0][1], *given]) == 0
    ((model, options),) = model_at_hand
    assert (model, options["quantize"], options["workspace"]) == ("some/model", "4bit", Workspace(tmp_path / "team"))


@pytest.mark.parametrize("name", ["boxed.png", "boxed.jpg", "boxed.webp"])
def test_out_writes_the_picture_with_its_boxes(
    model_at_hand: list[Any], questions: list[Question], tmp_path: Path, name: str
) -> None:
    assert main(["predict", str(questions[0][0]), questions[0][1], "--out", str(tmp_path / name)]) == 0
    with Image.open(tmp_path / name) as boxed, Image.open(questions[0][0]) as plain:
        assert boxed.size == plain.size
        assert boxed.convert("RGB").tobytes() != plain.convert("RGB").tobytes()


@pytest.mark.parametrize("name", ["boxed", "boxed.txt", "no-folder/boxed.png"])
def test_out_that_cannot_be_written(
    model_at_hand: list[Any], questions: list[Question], tmp_path: Path, capsys: Capture, name: str
) -> None:
    told = failure(capsys, "predict", *questions[0], "--json", "--out", tmp_path / name)
    assert str(tmp_path / name) in told and ".png" in told


def test_out_on_a_full_disk(
    model_at_hand: list[Any], questions: list[Question], tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "full.png").symlink_to("/dev/full")
    told = failure(capsys, "predict", *questions[0], "--out", tmp_path / "full.png")
    assert told.endswith("full.png (No space left on device). Free space or rights there.")


@pytest.mark.parametrize("command", ["predict", "evaluate", "calibrate"])
def test_a_workspace_that_is_a_file(
    model_at_hand: list[Any], questions: list[Question], tmp_path: Path, capsys: Capture, command: str
) -> None:
    (tmp_path / "file").write_text("mine")
    given = questions[0] if command == "predict" else ["some.jsonl"]
    told = failure(capsys, command, *given, "--workspace", tmp_path / "file")
    assert f"The workspace {tmp_path / 'file'} is a file: expected a folder." in told
    assert model_at_hand == []


def run_cli(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "grounding", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(grounding.__file__).parent.parent,
        **options,
    )


def test_output_that_cannot_be_written(two_reports: tuple[Path, Path]) -> None:
    with Path("/dev/full").open("w") as full, run_cli("compare", *two_reports, "--json", stdout=full) as running:
        told = running.communicate(timeout=60)[1]
    assert running.returncode == 1
    assert told.endswith(
        "boxwright: the output can't be written (No space left on device). Free some space, or send it elsewhere.\n"
    )


def test_ctrl_c_while_packages_are_imported_ends_with_status_1(tmp_path: Path) -> None:
    """Imports `exec` text here and there; that it is interrupted in there must not end the process by a signal."""
    # Another thread may get the signal first: the main one has to wait for it.
    stop = "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(30)"
    code = f"import grounding.pictures\ngrounding.pictures.open_picture = lambda path: exec({stop!r})\n"
    # Tests that a shell runs in the background ignore the signal, and hand that down to what they start.
    code += "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    (tmp_path / "sitecustomize.py").write_text(code)
    root = Path(grounding.__file__).parent.parent
    path = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"}
    with run_cli("predict", "a.png", "dog", env=os.environ | path, stdout=subprocess.PIPE) as running:
        told = running.communicate(timeout=60)
    assert (running.returncode, *told) == (1, "", "boxwright: stopped.\n")


def test_an_unknown_adapter_names_those_that_stand(
    model_at_hand: list[Any], questions: list[Question], make_adapter: MakeAdapter, capsys: Capture
) -> None:
    make_adapter("cli-known")
    told = failure(capsys, "predict", *questions[0], "--adapter", "unknown")
    assert "no adapter 'unknown'" in told and "cli-known" in told


# --- evaluate ---


@pytest.fixture
def samples_file(demo_samples: dict[str, list[Sample]], tmp_path: Path) -> Path:
    write_samples(tmp_path / "some.jsonl", demo_samples["val"][:2] + demo_samples["test"][:6])
    return tmp_path / "some.jsonl"


def test_evaluate_keeps_its_figures_in_the_workspace(
    model_at_hand: list[Any], samples_file: Path, workspace: Workspace, capsys: Capture
) -> None:
    assert main(["evaluate", str(samples_file), "--json"]) == 0
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    (report,) = workspace.evaluations.glob("*/report.json")
    assert json.loads(report.read_text()) == document
    assert {path.name for path in report.parent.iterdir()} == {"report.json", "report.md", "samples.parquet"}
    assert (document["model_id"], document["adapter"], document["split"]) == ("demo", None, "some.jsonl")
    assert "8 of 8" in shown.err


def test_evaluate_figures_are_those_of_the_report(
    model_at_hand: list[Any], predictor: Predictor, samples_file: Path, make_adapter: MakeAdapter, capsys: Capture
) -> None:
    make_adapter("cli-scored", seed=32)
    assert main(["evaluate", str(samples_file), "--adapter", "cli-scored", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    scores = grounding.evaluate(grounding.read_samples(samples_file), predictor, "cli-scored").scores
    assert document["adapter"] == "cli-scored"
    assert document["scores"]["count"] == scores.count
    assert document["scores"]["mean_iou"] == pytest.approx(scores.mean_iou)
    assert document["scores"]["accuracy"] == {str(threshold): share for threshold, share in scores.accuracy.items()}


def test_evaluate_takes_a_snapshot_by_its_name(
    model_at_hand: list[Any], demo_samples: dict[str, list[Sample]], workspace: Workspace, capsys: Capture
) -> None:
    folder = workspace.snapshots / "v1"
    folder.mkdir(parents=True)
    write_samples(folder / "samples.jsonl", demo_samples["val"][:2] + demo_samples["test"][:3])
    content = (folder / "samples.jsonl").read_bytes()
    manifest = {"format": SNAPSHOT_FORMAT, "name": "v1", "samples_sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for options, title, count in (((), "test of v1", 3), (("--split", "val"), "val of v1", 2)):
        assert main(["evaluate", "v1", "--json", *options]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["split"] == title
        (kept,) = [one for one in ReportStore(workspace.evaluations).list() if one.split == title]
        assert len(read_rows(kept.path)) == count
    assert "train of v1 holds no sample" in failure(capsys, "evaluate", "v1", "--split", "train")
    assert "Snapshots here: v1" in failure(capsys, "evaluate", "v2")


def test_evaluate_one_split_of_a_file(model_at_hand: list[Any], samples_file: Path, capsys: Capture) -> None:
    assert main(["evaluate", str(samples_file), "--split", "val", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["split"] == "val of some.jsonl" and "2 of 2" in shown.err


def test_evaluate_in_words(model_at_hand: list[Any], samples_file: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["evaluate", str(samples_file), "--out", str(tmp_path / "kept")]) == 0
    told = capsys.readouterr().out
    report = tmp_path / "kept" / "report.json"
    scores = json.loads(report.read_text())["scores"]
    assert told.startswith(f"base on {scores['count']} samples with a target\n")
    assert f"detection rate {scores['detection_rate']:7.1%}" in told
    assert f"{scores['accuracy']['0.5']:7.1%}" in told
    assert told.endswith(f"kept in {report.parent}\n")


def test_evaluate_nothing(model_at_hand: list[Any], tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    assert "empty.jsonl holds no sample" in failure(capsys, "evaluate", tmp_path / "empty.jsonl")
    assert model_at_hand == []


class Interrupted:
    """The predictor, but for its patience: raises KeyboardInterrupt at a call; counts what it was asked."""

    def __init__(self, predictor: Predictor, patience: int) -> None:
        self.predictor, self.patience = predictor, patience
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.predictor, name)

    def predict_many(self, pairs: Sequence[Any], *rest: Any, **options: Any) -> Any:
        if not self.patience:
            raise KeyboardInterrupt
        self.patience -= 1
        self.asked += len(pairs)
        return self.predictor.predict_many(pairs, *rest, **options)


@pytest.fixture
def impatient(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Interrupted]:
    """`impatient(calls)` puts a predictor that is interrupted after so many calls of 3 samples in the model's place."""
    monkeypatch.setattr(evaluation, "SAMPLES_PER_CALL", 3)

    def use(patience: int) -> Interrupted:
        used = Interrupted(predictor, patience)
        monkeypatch.setattr(grounding, "load", lambda model="demo", **options: used)
        return used

    return use


@pytest.mark.parametrize("out", [True, False], ids=["own folder", "workspace"])
def test_evaluate_goes_on_where_it_was_interrupted(
    impatient: Callable[[int], Interrupted],
    samples_file: Path,
    workspace: Workspace,
    tmp_path: Path,
    capsys: Capture,
    out: bool,
) -> None:
    command = ["evaluate", str(samples_file), "--json", *(["--out", str(tmp_path / "kept")] if out else [])]
    folders = tmp_path if out else workspace.evaluations
    impatient(2)
    assert main(command) == 1
    (log,) = folders.glob("*/answers.jsonl")
    assert capsys.readouterr().err.endswith(
        f"\r6 of 8\nboxwright: stopped: 6 of 8 answers are kept in {log}; the same command asks for the rest.\n"
    )
    assert len(log.read_text().splitlines()) == 1 + 6
    rest = impatient(9)
    assert main(command) == 0
    shown = capsys.readouterr()
    assert rest.asked == 2
    assert shown.err.startswith(f"6 of 8 answers were kept in {log}")
    (report,) = folders.glob("*/report.json")
    assert (report.parent, log.exists()) == (log.parent, False)
    assert json.loads(report.read_text()) == json.loads(shown.out)


def test_evaluate_again_into_the_same_folder(
    impatient: Callable[[int], Interrupted], samples_file: Path, tmp_path: Path, capsys: Capture
) -> None:
    """The same asks nothing; other settings are refused."""
    command = ["evaluate", str(samples_file), "--out", str(tmp_path / "kept")]
    impatient(9)
    assert main(command) == 0
    first = capsys.readouterr().out
    again = impatient(9)
    assert main(command) == 0
    shown = capsys.readouterr()
    assert (shown.out, again.asked) == (first, 0)
    assert "8 answers were kept" in shown.err
    told = failure(capsys, *command, "--limit", "5")
    assert "the list of samples differs" in told and "--out" in told
    told = failure(capsys, *command, "--quantize", "8bit")
    assert "--quantize is 'none' there, '8bit' here" in told
    assert again.asked == 0


@pytest.mark.parametrize("name", ["file", "file/inside"])
def test_evaluate_into_what_is_no_folder_is_refused_before_the_model_loads(
    model_at_hand: list[Any], samples_file: Path, tmp_path: Path, capsys: Capture, name: str
) -> None:
    (tmp_path / "file").write_text("mine")
    told = failure(capsys, "evaluate", samples_file, "--out", tmp_path / name)
    assert f"The folder {tmp_path / name} " in told and told.endswith("Choose another one (--out).")
    assert ("is a file: expected a folder" in told) == (name == "file")
    assert model_at_hand == []


def test_an_error_begins_a_line_of_its_own(
    impatient: Callable[[int], Interrupted], samples_file: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = impatient(9)

    def answer(pairs: Sequence[Any], *_: Any, progress: Callable[[int, int], None], **__: Any) -> None:
        progress(1, 8)
        raise ModelError("It broke.")

    monkeypatch.setattr(broken, "predict_many", answer, raising=False)
    assert main(["evaluate", str(samples_file)]) == 1
    assert capsys.readouterr().err.endswith("\r1 of 8\nboxwright: It broke.\n")


@pytest.mark.parametrize("command", ["predict", "evaluate"])
@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--free", "--expected"], "argument --expected: not allowed with argument --free"),
        (["--votes", "65"], "argument --votes: invalid count (a whole number from 1 to 64) value: '65'"),
        (["--votes", "0"], "argument --votes: invalid count (a whole number from 1 to 64) value: '0'"),
        (["--rerank", "clip"], "argument --rerank: there is nothing to choose from without --votes N, above 1"),
    ],
)
def test_flags_that_do_not_go_together_are_wrong_usage(
    model_at_hand: list[Any], capsys: Capture, command: str, flags: list[str], told: str
) -> None:
    given = ["a.png", "dog"] if command == "predict" else ["some.jsonl"]
    with pytest.raises(SystemExit) as ended:
        main([command, *given, *flags])
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"{told}\n")


def test_evaluate_a_few(model_at_hand: list[Any], samples_file: Path, capsys: Capture) -> None:
    assert main(["evaluate", str(samples_file), "--limit", "3", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert scores["count"] + scores["no_target_count"] == 3
    for wrong in ("0", "-1", "some"):
        with pytest.raises(SystemExit) as ended:
            main(["evaluate", str(samples_file), "--limit", wrong])
        assert ended.value.code == 2
        assert "a whole number from 1" in capsys.readouterr().err


# --- compare ---


@pytest.fixture
def two_reports(tmp_path: Path) -> tuple[Path, Path]:
    """Four samples on four pictures: A hits the first, B the first three."""
    truth, beside = Box(0, 0, 10, 10), Box(20, 20, 30, 30)
    samples = [Sample(f"s{i}", Path(f"/p/{i}.png"), "mug", (truth,)) for i in range(4)]
    for name, hits in (("a", 1), ("b", 3)):
        answers = [Prediction((truth if i < hits else beside,), Status.OK, "", None, 0.1) for i in range(4)]
        rows = tuple(score(sample, answer) for sample, answer in zip(samples, answers, strict=True))
        adapter = {"a": None, "b": "tools"}[name]
        ReportStore(tmp_path).keep(Report("demo", adapter, summarise(rows), rows), split="x", folder=tmp_path / name)
    return tmp_path / "a", tmp_path / "b"


def test_compare_in_words(two_reports: tuple[Path, Path], capsys: Capture) -> None:
    assert main(["compare", *map(str, two_reports)]) == 0
    shown = capsys.readouterr()
    assert shown.err.startswith("What tools saw in training is not known, so no sample is left out: ")
    lines = shown.out.splitlines()
    assert lines[:3] == [
        f"A: {two_reports[0]}: base demo",
        f"B: {two_reports[1]}: adapter tools on demo",
        "4 samples with a target on 4 pictures",
    ]
    assert lines[4].split() == ["Acc@0.5,", "%", "25.0", "75.0", "+50.0", "+0.0", "to", "+100.0"]
    assert lines[5].split() == ["mean", "IoU", "0.250", "0.750", "+0.500", "+0.000", "to", "+1.000"]
    assert lines[6] == "At IoU 0.5 B wins 2, loses 0, ties 2; McNemar p = 0.5"


def test_compare_json_is_the_comparison(two_reports: tuple[Path, Path], capsys: Capture) -> None:
    assert main(["compare", *map(str, two_reports), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["count"], document["wins"], document["losses"], document["mcnemar_p"]) == (4, 2, 0, 0.5)
    assert document["accuracy_50"] == {"a": 0.25, "b": 0.75, "difference": 0.5, "low": 0.0, "high": 1.0, "p": 0.5}


def test_compare_what_can_not_be(two_reports: tuple[Path, Path], tmp_path: Path, capsys: Capture) -> None:
    assert "There is no samples.parquet in" in failure(capsys, "compare", two_reports[0], tmp_path / "gone")
    rows = read_rows(two_reports[1])[:3]
    write_parquet(two_reports[1] / "samples.parquet", rows)
    assert "not of the same samples: 1 of 4" in failure(capsys, "compare", *two_reports)


def test_compare_what_stands_in_both(two_reports: tuple[Path, Path], capsys: Capture) -> None:
    rows = read_rows(two_reports[1])[:3]
    write_parquet(two_reports[1] / "samples.parquet", rows)
    assert main(["compare", *map(str, two_reports), "--common"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[2] == "3 samples with a target on 3 pictures"
    assert "1 sample stands only in base ('s3'); 3 stand in all." in shown.err


def test_compare_writes_an_export(two_reports: tuple[Path, Path], tmp_path: Path, capsys: Capture) -> None:
    arguments = ["compare", *map(str, two_reports), "--export", "markdown", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["wins"] == 2
    assert f"markdown written to {tmp_path / 'out'}: accuracy.svg, report.md" in shown.err
    assert (tmp_path / "out" / "report.md").is_file()
    assert "Something stands in" in failure(capsys, *arguments)


def test_compare_with_what_was_seen_has_to_be_asked_for(
    two_reports: tuple[Path, Path], capsys: Capture, own_workspace: Path, make_snapshot: Callable[..., Path]
) -> None:
    folder = own_workspace / "adapters" / "tools"
    folder.mkdir(parents=True)
    snapshot = make_snapshot([replace(read_rows(two_reports[1])[0].sample, split="train")], name="first")
    digest = hashlib.sha256((snapshot / "samples.jsonl").read_bytes()).hexdigest()
    info = AdapterInfo("tools", folder, "demo", "qwen3-vl-demo", created_at="2020-01-01T00:00:00+00:00")
    replace(info, snapshot="first", snapshot_sha256=digest).save()
    told = {}
    for flags in ((), ("--unseen",), ("--with-seen",)):
        assert main(["compare", *map(str, two_reports), "--json", *flags]) == 0
        shown = capsys.readouterr()
        assert "tools saw 1 of 4 samples in training" in shown.err, "whatever was asked"
        told[flags] = json.loads(shown.out)
    assert told[()] == told["--unseen",] and told[()]["count"] == 3
    assert told["--with-seen",]["count"] == 4 and told["--with-seen",]["accuracy_50"]["a"] == 0.25
    assert main(["compare", *map(str, two_reports), "--export", "json", "--out", str(own_workspace / "x")]) == 0
    exported = json.loads((own_workspace / "x" / "comparison.json").read_text("utf-8"))
    assert exported["headline"]["differences"]["accuracy_50"] == told[()]["accuracy_50"]
    with pytest.raises(SystemExit):
        main(["compare", *map(str, two_reports), "--unseen", "--with-seen"])


@pytest.mark.parametrize("flags", [["--export", "csv"], ["--out", "x"]])
def test_compare_an_export_needs_a_place(two_reports: tuple[Path, Path], flags: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["compare", *map(str, two_reports), *flags])
    assert stop.value.code == 2
    assert "--export and --out belong together" in capsys.readouterr().err


def test_compare_knows_every_format_of_exports() -> None:
    from grounding.commands.compare import FORMATS
    from grounding.compared import exports

    assert tuple(exports.FORMATS) == FORMATS


# --- train ---


class Worker:
    """Stands where the worker does: records the request and plays a run when it is followed."""

    def __init__(self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = RunStore(workspace.runs_db)
        self.requests: list[RunRequest] = []
        self.on_look: list[Callable[[str], None]] = []
        monkeypatch.setattr(launch, "start_run", self.start)
        monkeypatch.setattr(launch, "end_lost_run", lambda store: None)
        monkeypatch.setattr(time, "sleep", lambda seconds: self.look())

    def start(self, workspace: Workspace, request: RunRequest, *, force: bool = False) -> RunRecord:
        self.requests.append(request)
        self.run = self.store.add(
            name=request.name,
            model_id=request.model_id,
            quantize=request.quantize,
            snapshot=request.snapshot,
            settings={},
        )
        return self.run

    def look(self) -> None:
        self.on_look.pop(0)(self.run.id)

    def ends(self, state: RunState, sentence: str) -> None:
        self.on_look.append(lambda run_id: self.store.finish(run_id, state, sentence) and None)

    def interrupted(self) -> None:
        def interrupt(run_id: str) -> None:
            raise KeyboardInterrupt

        self.on_look.append(interrupt)


@pytest.fixture
def worker(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Worker:
    return Worker(workspace, monkeypatch)


@pytest.mark.parametrize(
    ("state", "status"), [(RunState.DONE, 0), (RunState.STOPPED, 0), (RunState.FAILED, 1)], ids=str
)
def test_train_ends_with_the_runs_own_words(worker: Worker, capsys: Capture, state: RunState, status: int) -> None:
    score = ScoreEvent(0, 2, 0.5, 0.5, 0.0, 1.0, 0.1)

    def tell(run_id: str) -> None:
        worker.store.tell(run_id, PhaseEvent("Looking", 1, 2))
        worker.store.tell(run_id, score)

    worker.on_look += [tell, lambda run_id: worker.store.tell(run_id, StepEvent(1, 3, 1.25, 1e-3, 4, 0.2))]
    worker.on_look.append(lambda run_id: None)
    worker.ends(state, "That is how it ended.")
    assert main(["train", "tiny", "--name", "mugs", "--json"]) == status
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert document == {
        "run": worker.run.id,
        "state": str(state),
        "adapter": "mugs",
        "scores": [vars(score)],
    }
    lines = shown.err.splitlines()
    assert "log.txt" in lines[0]
    assert lines[1:] == [
        "starting",
        "Looking 1 of 2 | step 0: mean IoU 0.500, Acc@0.5 50.0%",
        "step 1 of 3, loss 1.250 | step 0: mean IoU 0.500, Acc@0.5 50.0%",
        "That is how it ended.",
    ]


def test_train_hands_over_what_was_asked(worker: Worker, capsys: Capture) -> None:
    worker.ends(RunState.DONE, "Done.")
    given = ["--set", "steps=7", "--set", "learning_rate = 2e-3", "--set", "augment=false", "--quantize", "8bit"]
    assert main(["train", "tiny", "--name", "mugs", *given]) == 0
    (request,) = worker.requests
    assert (request.name, request.snapshot, request.model_id, request.quantize) == ("mugs", "tiny", "demo", "8bit")
    settings = request.settings
    assert (settings.steps, settings.learning_rate, settings.augment) == (7, 2e-3, False)
    assert capsys.readouterr().out == ""


def test_relative_folders_reach_the_worker_whole(
    worker: Worker, make_snapshot: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "model").symlink_to(DEMO_MODEL_FOLDER)
    make_snapshot([], "elsewhere").rename(tmp_path / "here" / "frozen")
    monkeypatch.chdir(tmp_path / "here")
    worker.ends(RunState.DONE, "Done.")
    assert main(["train", "frozen", "--name", "mugs", "--model", "./model"]) == 0
    (request,) = worker.requests
    assert (request.snapshot, request.model_id) == (str(tmp_path / "here" / "frozen"), str(DEMO_MODEL_FOLDER))


def test_a_snapshot_of_the_workspace_goes_before_a_folder_here(
    worker: Worker, make_snapshot: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_snapshot([], "tiny")
    (tmp_path / "here" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    worker.ends(RunState.DONE, "Done.")
    assert main(["train", "tiny", "--name", "mugs"]) == 0
    assert worker.requests[0].snapshot == "tiny"


def test_a_phase_without_an_end_to_count_to_is_told_as_it_is(worker: Worker, capsys: Capture) -> None:
    worker.on_look.append(lambda run_id: worker.store.tell(run_id, PhaseEvent("Loading the model", 0, 0)))
    worker.on_look.append(lambda run_id: None)
    worker.ends(RunState.DONE, "Done.")
    assert main(["train", "tiny", "--name", "mugs"]) == 0
    assert "Loading the model\n" in capsys.readouterr().err


def test_ctrl_c_asks_the_run_to_stop_and_waits(
    worker: Worker, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.interrupted()
    worker.ends(RunState.STOPPED, "Stopped after 2 steps.")
    assert main(["train", "tiny", "--name", "mugs"]) == 0
    assert worker.store.get(worker.run.id).stop_requested
    assert "press Ctrl-C again" in capsys.readouterr().err


def test_a_second_ctrl_c_leaves_the_run_to_itself(worker: Worker, capsys: Capture) -> None:
    worker.interrupted()
    worker.interrupted()
    assert main(["train", "tiny", "--name", "mugs"]) == 1
    assert worker.store.get(worker.run.id).state.active
    assert capsys.readouterr().err.endswith("boxwright: stopped.\n")


def test_ctrl_c_on_a_run_that_has_just_ended(worker: Worker, capsys: Capture) -> None:
    def end_and_interrupt(run_id: str) -> None:
        worker.store.finish(run_id, RunState.DONE, "Done meanwhile.")
        raise KeyboardInterrupt

    worker.on_look.append(end_and_interrupt)
    assert main(["train", "tiny", "--name", "mugs"]) == 0
    assert capsys.readouterr().err.endswith("Done meanwhile.\n")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        pytest.param(["--set", "steps=0"], "steps=0 is out of range: expected a whole number from 1", id="range"),
        pytest.param(["--set", "steps=many"], "steps='many': expected a whole number", id="words"),
        pytest.param(["--set", "digit_weights=1,2"], "expected 3 numbers", id="too few numbers"),
        pytest.param(["--set", "=3"], "no setting ''", id="no name"),
        pytest.param(["--model", "/nowhere"], "no model folder /nowhere", id="no model"),
        pytest.param(["--name", "taken"], "An adapter called 'taken' stands already", id="name taken"),
        pytest.param([], "no complete snapshot 'nothing'. Snapshots here: tiny", id="unknown snapshot"),
    ],
)
def test_train_refuses_before_anything_starts(
    workspace: Workspace,
    make_snapshot: Callable[..., Path],
    tiny_samples: list[Sample],
    capsys: Capture,
    options: list[str],
    told: str,
) -> None:
    make_snapshot(tiny_samples)
    folder = workspace.adapters / "taken"
    folder.mkdir(parents=True)
    AdapterInfo("taken", folder, "demo", "qwen3-vl-demo", created_at="2026-11-22T10:00:00+00:00").save()
    assert told in failure(capsys, "train", "nothing", "--name", "mugs", *options)
    assert not workspace.runs.exists()


def test_the_help_of_train_names_every_setting(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    for spec in fields(TrainSettings):
        assert f"  {spec.name} " in told and spec.metadata["meaning"] in told


# --- demo ---


def test_demo_in_words(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    from grounding.demo import dataset

    whole = dataset.write_demo
    monkeypatch.setattr(
        dataset, "write_demo", lambda folder, **rest: whole(folder, size=dataset.DemoSize(2, 1, 1), **rest)
    )
    assert main(["demo", str(tmp_path / "data"), "--seed", "3"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(f"{tmp_path / 'data'}: 4 pictures, ")
    assert shown.out.endswith("samples: 4 train, 2 val, 2 test\n")
    assert "4 of 4" in shown.err


def test_demo_into_a_file(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in failure(capsys, "demo", tmp_path / "file" / "data")
