"""What leaves the workspace: a card with measured figures and code that runs, folders, merged models, pushes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from grounding.adapters import AdapterInfo, AdapterRegistry, changes, merge
from grounding.adapters.card import model_card, weakest_buckets
from grounding.adapters.evaluations import adapter_of, evaluations_of, standing
from grounding.adapters.export import export_folder, export_zip
from grounding.adapters.hub import push, push_merged
from grounding.adapters.usage import Source, with_boxwright, without_boxwright
from grounding.boxes import Box
from grounding.errors import AdapterError
from grounding.evaluation import Report
from grounding.families import all_profiles
from grounding.journal import adapter_digest
from grounding.metrics import ScoredSample, score, summarise
from grounding.models import DEMO_MODEL_FOLDER
from grounding.records import Prediction, Sample, Status
from grounding.reports import KeptReport, ReportStore
from grounding.workspace import Workspace

ROOT = Path(__file__).resolve().parent.parent.parent
MakeAdapter = Callable[..., Path]
TRUTH, MISS = Box(10, 10, 60, 60), Box(200, 200, 240, 240)


@pytest.fixture
def workspace(own_workspace: Path) -> Workspace:
    return Workspace(own_workspace)


@pytest.fixture
def adapter(workspace: Workspace, adapters: Path, make_adapter: MakeAdapter) -> AdapterInfo:
    """An adapter of random weights in the workspace."""
    made = make_adapter("mugs", seed=3)
    workspace.adapters.mkdir(parents=True)
    made.rename(workspace.adapters / "mugs")
    info = replace(
        AdapterRegistry(workspace.adapters).find("mugs"),
        created_at="2026-01-01T00:00:00+00:00",
        snapshot="tiny",
        snapshot_sha256="ab" * 32,
        steps=470,
        settings=MappingProxyType({"seed": 7, "digit_weights": (3.0, 2.0, 0.4)}),
        data=MappingProxyType({"train": 1234, "val": 56, "test": 0, "pictures": 321}),
        versions=MappingProxyType({"torch": "2.14.1"}),
    )
    info.save()
    return info


def keep(
    workspace: Workspace, adapter: str | None, hits: int, count: int, created_at: str = "", **settings: Any
) -> KeptReport:
    """A kept evaluation in which `hits` of `count` phrases are answered with the true box."""
    rows: list[ScoredSample] = []
    for number in range(count):
        sample = Sample(f"s{number}", Path(f"/pictures/{number // 2}.png"), f"the mug {number}", (TRUTH,), "test")
        box = TRUTH if number < hits else MISS
        rows.append(score(sample, Prediction((box,), Status.OK, "text", 0.5, 0.1, adapter)))
    kept = ReportStore(workspace.evaluations).keep(Report("demo", adapter, summarise(rows), tuple(rows)), split="test")
    other = {key: value for key, value in {"created_at": created_at, "settings": settings}.items() if value}
    path = kept.path / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | other))
    return kept


def results_of(card: str) -> str:
    found = re.search(r"## Results\n(.*?)\n## ", card, re.DOTALL)
    assert found is not None
    return found[1]


def code_of(card: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card, re.DOTALL)


def test_the_figures_of_the_card_are_those_of_the_kept_evaluation(workspace: Workspace, adapter: AdapterInfo) -> None:
    keep(workspace, None, 6, 24)
    kept = keep(workspace, "mugs", 15, 24)
    results = results_of(model_card(workspace, adapter, Source("mugs")))
    assert "| Acc@0.5 | 25.0% | 62.5% | +37.5 points |" in results
    assert "on `test`: 24 phrases" in results
    assert "9 that the base missed at IoU 0.5 are found and 0 that it found are missed" in results
    assert re.search(r"Acc@0\.5: \+37\.5 points \(95% interval \+\d+\.\d to \+\d+\.\d points\)", results)
    # Another figure in the report is another figure on the card, in the front matter too.
    path = kept.path / "report.json"
    values = json.loads(path.read_text())
    values["scores"]["accuracy"]["0.5"] = 0.123
    path.write_text(json.dumps(values))
    card = model_card(workspace, adapter, Source("mugs"))
    assert "| Acc@0.5 | 25.0% | 12.3% | −12.7 points |" in results_of(card)
    assert "value: 0.123" in card and "**It is not better than its base**" in card


def test_a_card_without_an_evaluation_says_so(workspace: Workspace, adapter: AdapterInfo) -> None:
    card = model_card(workspace, adapter, Source("mugs"))
    assert "It was never evaluated" in card and "%" not in results_of(card) and "value:" not in card
    scores = {"mean_iou": 0.5, "accuracy_50": 0.61, "accuracy_75": 0.4, "detection_rate": 0.9, "count": 100}
    trained = replace(
        adapter, scores=MappingProxyType(scores), base_scores=MappingProxyType(scores | {"accuracy_50": 0.05})
    )
    results = results_of(model_card(workspace, trained, Source("mugs")))
    assert "Not evaluated on its own yet" in results and "100 validation phrases" in results
    assert "| Acc@0.5 | 5.0% | 61.0% | +56.0 points |" in results


def test_an_evaluation_on_weights_as_in_training_is_one(workspace: Workspace, adapter: AdapterInfo) -> None:
    smaller = replace(adapter, quantize="4bit")
    keep(workspace, "mugs", 6, 10, conditions={"quantize": "4bit"})
    assert "It was never evaluated" in results_of(model_card(workspace, adapter, Source("mugs")))
    results = results_of(model_card(workspace, smaller, Source("mugs")))
    assert "| Acc@0.5 | 60.0% |" in results and "weights were quantised (4bit)" in results
    keep(workspace, "mugs", 7, 10, conditions={"quantize": "none"})
    assert "| Acc@0.5 | 60.0% |" in results_of(model_card(workspace, smaller, Source("mugs")))
    merged = results_of(model_card(workspace, smaller, Source("mugs", merged=True)))
    assert "| Acc@0.5 | 70.0% |" in merged and "quantised" not in merged


def test_an_adapter_of_smaller_weights_may_be_evaluated_on_full_ones_alone(
    workspace: Workspace, adapter: AdapterInfo
) -> None:
    keep(workspace, "mugs", 7, 10, conditions={"quantize": "none"})
    card = model_card(workspace, replace(adapter, quantize="4bit"), Source("mugs"))
    assert "| Acc@0.5 | 70.0% |" in results_of(card)


def test_the_card_says_what_it_is_of(workspace: Workspace, adapter: AdapterInfo) -> None:
    changes.set_note(workspace, "mugs", "for the kitchen\nsecond line")
    card = model_card(workspace, adapter, Source("mugs"), license="apache-2.0")
    for words in (
        "> for the kitchen\n> second line",
        "license: apache-2.0",
        f"Snapshot `tiny`, SHA-256 `{'ab' * 32}`",
        "1,234 train, 56 val; the train ones on 321 pictures",
        "The licence of the data is not known.",
        "seed: 7",
        "whole numbers from 0 to 1000",
        all_profiles()["qwen3-vl-demo"].prompt,
        "How it answers a phrase that refers to nothing was not measured.",
    ):
        assert words in card
    assert "Boxwright's embedded demo model" in card and "base_model:" not in card, "demo is nothing on the Hub"


def test_the_manifest_of_the_snapshot_is_asked_when_it_is_the_same(workspace: Workspace, adapter: AdapterInfo) -> None:
    folder = workspace.snapshots / "tiny"
    folder.mkdir(parents=True)
    manifest = {"samples_sha256": adapter.snapshot_sha256, "license": "CC-BY-4.0", "left_out": {"placeholder": 9}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    card = model_card(workspace, adapter, Source("mugs"))
    assert "Licence of the data: CC-BY-4.0." in card and "9 placeholder" in card
    (folder / "manifest.json").write_text(json.dumps(manifest | {"samples_sha256": "other"}))
    assert "CC-BY-4.0" not in model_card(workspace, adapter, Source("mugs"))


def test_evaluations_follow_an_adapter_through_its_names(workspace: Workspace, adapter: AdapterInfo) -> None:
    before = keep(workspace, "mugs", 5, 10, "2026-02-01T00:00:00+00:00")
    too_old = keep(workspace, "mugs", 9, 10, "2025-12-31T23:59:59+00:00")
    renamed = changes.rename(workspace, "mugs", "cups")
    stranger = keep(workspace, "mugs", 10, 10, "2099-01-01T00:00:00+00:00")  # of a later adapter under the old name
    after = keep(workspace, "cups", 6, 10, "2099-01-02T00:00:00+00:00")
    reports = ReportStore(workspace.evaluations).list()
    assert [r.id for r in evaluations_of(renamed, reports)] == [after.id, before.id]
    assert {stranger.id, too_old.id}.isdisjoint(r.id for r in evaluations_of(renamed, reports))
    found = standing(workspace, renamed)
    assert found is not None and found.scores["accuracy_50"] == 0.6


def test_what_another_adapter_of_the_same_name_answered_is_not_inherited(
    workspace: Workspace, adapter: AdapterInfo, make_adapter: MakeAdapter
) -> None:
    own = keep(workspace, "mugs", 5, 10, "2026-02-01T00:00:00+00:00", adapter_sha256=adapter_digest(adapter.path))
    unsaid = keep(workspace, "mugs", 6, 10, "2026-02-02T00:00:00+00:00")
    entry = changes.delete(workspace, "mugs")
    other = make_adapter("other", seed=4).rename(workspace.adapters / "mugs")
    for name in ("mugs", str(workspace.adapters / "mugs")):
        keep(workspace, name, 9, 10, "2099-01-01T00:00:00+00:00", adapter_sha256=adapter_digest(other))
    changes.rename(workspace, "mugs", "cups")
    back = changes.restore(workspace, entry.id)
    reports = ReportStore(workspace.evaluations).list()
    assert [r.id for r in evaluations_of(back, reports)] == [unsaid.id, own.id]
    assert [adapter_of(report, [back]) for report in reports] == [None, None, back, back]
    found = standing(workspace, back)
    assert found is not None and found.scores["accuracy_50"] == 0.6


def test_an_evaluation_with_its_base_is_preferred(workspace: Workspace, adapter: AdapterInfo) -> None:
    keep(workspace, None, 2, 10, "2026-03-01T00:00:00+00:00")
    keep(workspace, "mugs", 5, 10, "2026-03-02T00:00:00+00:00")
    keep(workspace, "mugs", 3, 4, "2026-03-03T00:00:00+00:00")  # newer, but nobody asked the base the same
    found = standing(workspace, adapter)
    assert found is not None and found.base_scores is not None
    assert (found.count, found.scores["accuracy_50"], found.base_scores["accuracy_50"]) == (10, 0.5, 0.2)


def test_an_evaluation_over_no_sample_says_nothing_of_an_adapter(workspace: Workspace, adapter: AdapterInfo) -> None:
    """Such as of phrases that refer to nothing, or that were all seen in training."""
    for name in (None, "mugs"):
        nothing = score(Sample("n", Path("n.png"), "the cat", ()), Prediction((), Status.NO_BOX, "", 0.5, 0.1, name))
        report = Report("demo", name, summarise([nothing]), (nothing,))
        ReportStore(workspace.evaluations).keep(report, split="train")
    assert standing(workspace, adapter) is None
    assert "It was never evaluated" in model_card(workspace, adapter, Source("mugs"))
    trained = replace(adapter, scores=MappingProxyType({"mean_iou": 0.0, "accuracy_50": 0.0, "count": 0}))
    assert standing(workspace, trained) is None, "nor do figures over no validation sample with a target"
    keep(workspace, None, 2, 10, "2026-03-01T00:00:00+00:00")
    keep(workspace, "mugs", 5, 10, "2026-03-02T00:00:00+00:00")
    found = standing(workspace, adapter)
    assert found is not None and (found.split, found.count, found.scores["accuracy_50"]) == ("test", 10, 0.5)
    assert "It is not better than its base" not in model_card(workspace, adapter, Source("mugs"))


def test_small_buckets_are_not_called_weak() -> None:
    class Of:
        def __init__(self, accuracy: float, count: int) -> None:
            self.accuracy, self.count = {0.5: accuracy}, count

    buckets = {"iou": {"0": Of(0, 50)}, "box_size": {"small": Of(0.2, 10), "large": Of(0.9, 10), "medium": Of(0, 9)}}
    assert weakest_buckets(buckets) == [("box size small", 0.2, 10), ("box size large", 0.9, 10)]


@pytest.mark.parametrize("profile", sorted(name for name, p in all_profiles().items() if p.lora_targets))
@pytest.mark.parametrize("source", [Source("a"), Source("me/a", on_hub=True), Source("a", merged=True)])
def test_the_code_of_every_profile_is_python(adapter: AdapterInfo, profile: str, source: Source) -> None:
    info = replace(adapter, profile=profile, base='/models/a "b"')
    for code in (with_boxwright(info, source), without_boxwright(info, source)):
        if code is not None:
            compile(code, "card", "exec")
            assert "/models" not in code or not source.on_hub


def run_code(code: str, folder: Path, before: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-c", before + code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def reader(tmp_path: Path, questions: list[tuple[Path, str]]) -> Path:
    """The folder of somebody who reads a card: a picture, and Boxwright's data beside it."""
    folder = tmp_path / "reader"
    (folder / "data" / "demo").mkdir(parents=True)
    (folder / "data" / "demo" / "base-model").symlink_to(DEMO_MODEL_FOLDER)
    (folder / "picture.png").symlink_to(questions[0][0])
    return folder


@pytest.mark.slow
def test_the_code_of_a_card_runs_and_both_ways_find_the_same_box(
    workspace: Workspace, adapter: AdapterInfo, reader: Path, questions: list[tuple[Path, str]]
) -> None:
    # Random weights answer nonsense: next to none of them leaves the base's answer, which is to be read.
    _scale(adapter, 1e-6)
    export_folder(workspace, adapter, reader / "mugs")
    boxwright, plain = code_of((reader / "mugs" / "README.md").read_text())
    phrase = questions[0][1]
    told = run_code(boxwright.replace("the left mug", phrase), reader)
    told_plainly = run_code(plain.replace("the left mug", phrase), reader)
    numbers = [float(number) for number in re.findall(r"\d+\.\d+", told.partition(" ")[2])]
    plain_numbers = [float(number) for number in re.findall(r"\d+\.\d+", told_plainly.partition("]}]")[2] or "")]
    assert len(numbers) == 4 and numbers == pytest.approx(plain_numbers, abs=0.01)


def _scale(info: AdapterInfo, factor: float) -> None:
    from safetensors.torch import load_file, save_file

    path = info.path / "adapter_model.safetensors"
    save_file({name: weight * factor for name, weight in load_file(path).items()}, path, metadata={"format": "pt"})


def test_a_folder_and_a_zip_hold_the_whole_adapter(workspace: Workspace, adapter: AdapterInfo, tmp_path: Path) -> None:
    changes.set_note(workspace, "mugs", "mine")
    folder = export_folder(workspace, adapter, tmp_path / "out" / "mugs")
    own = {"adapter.json", "adapter_config.json", "adapter_model.safetensors", "README.md"}
    assert {path.name for path in folder.iterdir()} == own
    assert AdapterInfo.load(folder).snapshot == "tiny"
    packed = export_zip(workspace, adapter, tmp_path / "out" / "mugs.zip")
    with zipfile.ZipFile(packed) as archive:
        assert archive.testzip() is None
        assert set(archive.namelist()) == {f"mugs/{name}" for name in own}
        assert archive.read("mugs/adapter.json") == (folder / "adapter.json").read_bytes()
    for write, place in ((export_folder, folder), (export_zip, packed)):
        with pytest.raises(AdapterError, match="stands already"):
            write(workspace, adapter, place)


def test_an_export_that_fails_leaves_nothing(
    workspace: Workspace, adapter: AdapterInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", refuse)
    monkeypatch.setattr(zipfile.ZipFile, "writestr", refuse)
    for write, name in ((export_folder, "mugs"), (export_zip, "mugs.zip")):
        with pytest.raises(AdapterError, match=r"No space left on device.*nothing of it was left behind"):
            write(workspace, adapter, tmp_path / "out" / name)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.slow
def test_a_merged_model_answers_as_base_and_adapter_do(
    workspace: Workspace, adapter: AdapterInfo, questions: list[tuple[Path, str]], tmp_path: Path
) -> None:
    from grounding.models import load_model
    from grounding.predict import Predictor

    _scale(adapter, 0.5)
    samples = [Sample(f"q{n}", image, phrase, (TRUTH,), "val") for n, (image, phrase) in enumerate(questions)]
    told: list[str] = []
    info = replace(adapter, quantize="4bit")  # merged into the full-precision base all the same
    agreement = merge.merge(workspace, info, tmp_path / "merged", samples=samples, numbers="float32", tell=told.append)
    assert (agreement.count, agreement.agreeing) == (8, 8) and agreement.numbers == "float32"
    assert told == ["Asking the base with the adapter", "Merging", "Asking the merged model"]
    files = {path.name for path in (tmp_path / "merged").iterdir()}
    assert {
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "boxwright.json",
        "README.md",
        "merged_from.json",
    } <= files
    assert agreement.sentence in (tmp_path / "merged" / "README.md").read_text()
    model = Predictor(load_model(str(tmp_path / "merged")), workspace.adapters)
    assert model.profile.name == "qwen3-vl-demo"
    base = Predictor(load_model("demo"), workspace.adapters)
    merged_texts = [p.raw_text for p in model.predict_many(questions)]
    assert merged_texts == [p.raw_text for p in base.predict_many(questions, "mugs")]
    assert merged_texts != [p.raw_text for p in base.predict_many(questions)], "the adapter does change answers"
    assert not list(tmp_path.glob(".partial-*"))
    with pytest.raises(AdapterError, match="stands already"):
        merge.merge(workspace, adapter, tmp_path / "merged", samples=samples)


def test_a_merged_model_that_answers_otherwise_is_not_written(
    workspace: Workspace, adapter: AdapterInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([[Prediction((TRUTH,), Status.OK, "a", 0.5, 0.1)], [Prediction((MISS,), Status.OK, "b", 0.5, 0.1)]])
    monkeypatch.setattr(merge, "_answers", lambda *arguments, **options: next(answers))

    def write(info: AdapterInfo, folder: Path, numbers: str | None) -> str:
        folder.mkdir()
        (folder / "model.safetensors").touch()
        return "float16"

    monkeypatch.setattr(merge, "_write", write)
    sample = Sample("a", Path("/a.png"), "the mug", (TRUTH,), "val")
    with pytest.raises(AdapterError, match=r"agree on 0 .*Nothing was written"):
        merge.merge(workspace, adapter, tmp_path / "merged", samples=[sample])
    assert not (tmp_path / "merged").exists() and not list(tmp_path.glob(".partial-*"))


def test_a_merge_into_a_base_that_changed_is_refused(
    workspace: Workspace, adapter: AdapterInfo, tmp_path: Path
) -> None:
    sample = Sample("a", Path("/a.png"), "the mug", (TRUTH,), "val")
    with pytest.raises(AdapterError, match="was changed since the adapter was trained"):
        merge.merge(workspace, replace(adapter, base_sha256="0" * 64), tmp_path / "merged", samples=[sample])
    with pytest.raises(AdapterError, match="no sample to hold the merged model against"):
        merge.merge(workspace, adapter, tmp_path / "merged")
    with pytest.raises(AdapterError, match="expected one of float32"):
        merge.merge(workspace, adapter, tmp_path / "merged", numbers="int8")


def test_agreement_counts_status_and_overlap() -> None:
    box = Box(0, 0, 100, 100)

    def says(boxes: tuple[Box, ...], status: Status, text: str) -> Prediction:
        return Prediction(boxes, status, text, 0.5, 0.1)

    before = [says((box,), Status.OK, "a"), says((), Status.NO_BOX, "[]"), says((box,), Status.OK, "c")]
    after = [says((Box(0, 0, 97, 100),), Status.OK, "b"), says((), Status.NO_BOX, "[]"), says((), Status.NO_BOX, "[]")]
    found = merge.held_against(before, after, "float32")
    assert (found.count, found.identical, found.agreeing, found.lowest_iou) == (3, 1, 2, 0.0)
    assert found.mean_iou == pytest.approx((0.97 + 1 + 0) / 3)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a made-up Hub got: the repositories asked for, and the files of each commit."""
    got: dict[str, Any] = {"repos": [], "commits": []}

    class FakeApi:
        def create_repo(self, repo_id: str, *, repo_type: str, private: bool, exist_ok: bool) -> None:
            assert repo_type == "model"
            assert exist_ok
            got["repos"].append((repo_id, private))

        def repo_info(self, repo_id: str, *, repo_type: str) -> SimpleNamespace:
            return SimpleNamespace(private=got.get("stands_private", got["repos"][-1][1]))

        def create_commit(self, repo_id: str, *, operations: list[Any], commit_message: str) -> None:
            files = {}
            for operation in operations:
                with operation.as_file() as file:
                    files[operation.path_in_repo] = file.read()
            got["commits"].append((repo_id, files))

    monkeypatch.setattr(huggingface_hub, "HfApi", FakeApi)
    return got


def _searching(folder: str) -> dict[str, Any]:
    """What adapter.json says of a sweep over snapshots to rehearse."""
    searched = {"rehearse_snapshot": f"{folder}, new"}
    return {"name": "s", "run": 1, "of": 2, "searched": searched, "values": {"rehearse_snapshot": folder}}


def test_a_push_is_one_commit_with_the_card_and_no_path_of_this_machine(
    workspace: Workspace, adapter: AdapterInfo, hub: dict[str, Any]
) -> None:
    local = replace(
        adapter,
        base=str(DEMO_MODEL_FOLDER),
        settings=MappingProxyType({"rehearse_snapshot": "/home/me/old/", "seed": 7}),
        sweep=MappingProxyType(_searching("/home/me/old")),
    )
    local.save()
    (adapter.path / "training_samples.jsonl").write_text("phrases of people")
    keep(workspace, "mugs", 15, 24)
    told: list[tuple[int, int]] = []
    url = push(workspace, local, "me/mugs", license="mit", tell=lambda *what: told.append(what))
    assert url == "https://huggingface.co/me/mugs"
    assert hub["repos"] == [("me/mugs", True)], "private unless said otherwise"
    ((repo_id, files),) = hub["commits"]
    assert repo_id == "me/mugs"
    assert told == [(len(files), sum(map(len, files.values())))]
    assert set(files) == {"README.md", "adapter.json", "adapter_config.json", "adapter_model.safetensors"}
    for folder in (str(DEMO_MODEL_FOLDER.parent), "/home/me"):
        assert not [name for name, content in files.items() if folder.encode() in content]
    assert json.loads(files["adapter.json"])["settings"] == {"rehearse_snapshot": "old", "seed": 7}
    assert "rehearse_snapshot: old, new" in files["README.md"].decode(), "what the sweep searched"
    assert json.loads(files["adapter.json"])["base"] == "base-model"
    assert json.loads((adapter.path / "adapter.json").read_text())["base"] == str(DEMO_MODEL_FOLDER), "here it stays"
    assert files["adapter_model.safetensors"] == (adapter.path / "adapter_model.safetensors").read_bytes()
    assert "license: mit" in files["README.md"].decode() and "me/mugs" in files["README.md"].decode()


@pytest.mark.slow
@pytest.mark.thorough
def test_the_code_of_a_pushed_card_runs(
    workspace: Workspace, adapter: AdapterInfo, hub: dict[str, Any], reader: Path
) -> None:
    push(workspace, adapter, "me/mugs")
    ((_, files),) = hub["commits"]
    (reader / "me" / "mugs").mkdir(parents=True)
    for name, content in files.items():
        (reader / "me" / "mugs" / name).write_bytes(content)
    # The download is the only part that needs the Hub.
    download = "import huggingface_hub\nhuggingface_hub.snapshot_download = lambda repo_id: repo_id\n"
    for code in code_of(files["README.md"].decode()):
        assert run_code(code, reader, download).strip()


def test_a_merged_model_goes_up_with_its_own_card(
    workspace: Workspace, adapter: AdapterInfo, hub: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(AdapterError, match="is no merged model"):
        push_merged(workspace, tmp_path, "me/mugs")
    settings = MappingProxyType({"rehearse_snapshot": "/home/me/old"})
    sweep = MappingProxyType(_searching("/home/me/old"))
    local = replace(adapter, base="/home/me/base", settings=settings, sweep=sweep)
    made_of = {"adapter": local.to_json(), "sentence": "They agree on 20."}
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "merged_from.json").write_text(json.dumps(made_of))
    (tmp_path / "merged" / "README.md").write_text("of the folder")
    push_merged(workspace, tmp_path / "merged", "me/mugs", private=False)
    assert hub["repos"] == [("me/mugs", False)]
    files = hub["commits"][0][1]
    assert "They agree on 20." in files["README.md"].decode() and "me/mugs" in files["README.md"].decode()
    assert b"/home/me" not in files["merged_from.json"] + files["README.md"]


def test_nothing_private_goes_up_into_a_repository_that_is_public(
    workspace: Workspace, adapter: AdapterInfo, hub: dict[str, Any]
) -> None:
    hub["stands_private"] = False
    with pytest.raises(AdapterError, match=r"is public, so what goes up would not be private. Nothing was uploaded"):
        push(workspace, adapter, "me/mugs")
    assert hub["commits"] == []
    push(workspace, adapter, "me/mugs", private=False)
    assert len(hub["commits"]) == 1


@pytest.mark.parametrize("repo_id", ["", "mugs", "a/b/c", "me/", "../x", "me/mugs\n", "me/my mugs"])
def test_a_name_that_is_none_is_refused(
    workspace: Workspace, adapter: AdapterInfo, hub: dict[str, Any], repo_id: str
) -> None:
    with pytest.raises(AdapterError, match="is no name on the Hub"):
        push(workspace, adapter, repo_id)
    assert hub == {"repos": [], "commits": []}


@pytest.mark.parametrize("error", [LocalTokenNotFoundError("no token"), ConnectionError("offline"), ValueError("bad")])
def test_a_refusal_of_the_hub_says_the_way_out(
    workspace: Workspace, adapter: AdapterInfo, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing:
        def create_repo(self, *arguments: Any, **options: Any) -> None:
            raise error

    monkeypatch.setattr(huggingface_hub, "HfApi", Refusing)
    with pytest.raises(AdapterError, match=r"can't be written on the Hub: .*hf auth login"):
        push(workspace, adapter, "me/mugs")


def test_without_a_network_a_push_is_a_sentence(
    workspace: Workspace, adapter: AdapterInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Hub's own client and a port of this machine where nobody listens."""
    api = huggingface_hub.HfApi
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api(endpoint="http://127.0.0.1:9", token="hf_none"))
    with pytest.raises(AdapterError, match=r"refused.*Check the network"):
        push(workspace, adapter, "me/mugs")


@pytest.mark.parametrize(("status", "sentence"), [(401, "nobody is signed in"), (403, "may not write for 'me'")])
def test_what_the_hub_answers_is_put_into_words(
    workspace: Workspace, adapter: AdapterInfo, status: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing:
        def create_repo(self, *arguments: Any, **options: Any) -> None:
            raise HfHubHTTPError("no", response=SimpleNamespace(status_code=status, headers={}, request=None))  # type: ignore[arg-type]

    monkeypatch.setattr(huggingface_hub, "HfApi", Refusing)
    with pytest.raises(AdapterError, match=sentence):
        push(workspace, adapter, "me/mugs")
