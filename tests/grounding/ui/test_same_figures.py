"""What an adapter saw in training counts nowhere: every place that shows a figure shows the same one."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pyarrow import parquet

from grounding import compared
from grounding.__main__ import main
from grounding.adapters import AdapterInfo, AdapterRegistry
from grounding.adapters.card import compared as card_compared
from grounding.adapters.evaluations import standing
from grounding.adapters.merge import MERGED
from grounding.boxes import Box
from grounding.compared.figures import figure_of
from grounding.compared.wording import ERRORS, figure_text, headline_rows
from grounding.counted import counted_report
from grounding.evaluating.selection import Selection
from grounding.evaluating.worker import Evaluator, Work
from grounding.metrics import summarise
from grounding.records import Sample, write_samples
from grounding.reports import KeptReport, read_report, read_rows, scores_json
from grounding.ui.api import Api
from grounding.ui.chosen import BASE
from grounding.ui.compare import Handlers as CompareHandlers
from grounding.ui.desk import Compare
from grounding.ui.evaluations_panel import EvaluationHandlers
from grounding.ui.scoreboard import Scoreboard
from grounding.ui.sources import Parts
from grounding.ui.whole import Handlers
from grounding.ui.whole_kept import Shelf, report_choices
from grounding.ui.whole_look import Looking

BASE_BOX, ADAPTER_BOX = Box(0, 0, 20, 20), Box(0, 0, 40, 40)  # what the stand-in answers
Capture = pytest.CaptureFixture[str]
CELL = re.compile(r"<td[^>]*>(.*?)</td>")
ROW = re.compile(r'<tr data-figure="(\w+)".*?</tr>')


@pytest.fixture
def asked(parts: Parts, source: Any, tmp_path: Path, make_snapshot: Callable[..., Path]) -> list[Sample]:
    """Twelve test samples, two a picture, of which "tools" saw the first, the picture of the second, and two more."""
    samples = []
    for number in range(12):
        drawn = tmp_path / f"p{number // 2}.png"
        Image.new("RGB", (100, 80), (number // 2 * 40, 10, 200)).save(drawn)
        sha256, _ = parts.workspace.pictures.add(drawn)
        box = BASE_BOX if number in (2, 5, 8) else ADAPTER_BOX
        boxes = () if number == 11 else (box,)
        samples.append(Sample(f"t{number}", parts.workspace.pictures.path(sha256), f"the mug {number}", boxes, "test"))
    source.samples = samples
    snapshot = make_snapshot([replace(samples[0], split="train"), replace(samples[3], split="train")], name="first")
    folder = parts.workspace.adapters / "tools"
    folder.mkdir(parents=True)
    digest = hashlib.sha256((snapshot / "samples.jsonl").read_bytes()).hexdigest()
    info = AdapterInfo("tools", folder, "demo", "fake", "2020-01-01T00:00:00+00:00")
    replace(info, snapshot="first", snapshot_sha256=digest).save()
    return samples


@pytest.fixture
def kept(parts: Parts, asked: list[Sample]) -> dict[str | None, KeptReport]:
    """The page's own evaluations of the base and the adapter, by adapter."""
    evaluator = Evaluator(Work(parts.workspace, parts.source, parts.models, parts.is_placeholder))
    for adapter in (None, "tools"):
        evaluator.queue.add("demo", "none", adapter, Selection("test"), total=len(asked))
        assert evaluator.look()
    return {report.adapter: report for report in evaluator.reports.list()}


def as_an_earlier_version_kept_it(kept: KeptReport) -> KeptReport:
    """The same evaluation with figures over all samples and without a word on what was seen."""
    path = kept.path / "report.json"
    values = json.loads(path.read_text("utf-8"))
    del values["seen"]
    values["scores"] = scores_json(summarise(read_rows(kept.path)))
    path.write_text(json.dumps(values), "utf-8")
    table = parquet.read_table(kept.path / "samples.parquet")
    parquet.write_table(table.drop_columns(["seen"]), kept.path / "samples.parquet")
    found = read_report(kept.path)
    assert found is not None and found.seen is None
    return found


def cells(html: str) -> dict[str, list[str]]:
    return {match[1]: CELL.findall(match[0]) for match in ROW.finditer(html)}


def test_the_report_leaves_out_what_was_seen_and_keeps_its_rows(kept: dict[str | None, KeptReport]) -> None:
    report = kept["tools"]
    table = parquet.read_table(report.path / "samples.parquet").to_pylist()
    assert [row["seen"] for row in table] == ["sample", "picture", "picture", "sample", *[""] * 8]
    rows = read_rows(report.path)
    assert len(rows) == 12 and report.scores == summarise(rows[4:]) != summarise(rows)
    assert report.total == 12 and report.buckets["phrase_words"]["2-3"].count == 7
    assert report.seen is not None and (report.seen.samples, report.seen.pictures) == (2, 2)
    sentence = (
        "tools saw 4 of 12 samples in training: 2 themselves, of 2 more the picture. The figures are over the other 8."
    )
    assert report.seen.sentence == sentence
    assert sentence.replace(".", r"\.").replace(":", r"\:") in (report.path / "report.md").read_text("utf-8")
    assert kept[None].seen is None and kept[None].scores.count == 11


@pytest.mark.parametrize("version", ["this", "an earlier one"])
def test_every_place_shows_the_same_figures(
    parts: Parts,
    asked: list[Sample],
    kept: dict[str | None, KeptReport],
    capsys: Capture,
    version: str,
) -> None:
    if version != "this":
        kept = {adapter: as_an_earlier_version_kept_it(report) for adapter, report in kept.items()}
    base, tools = kept[None], kept["tools"]
    headline = compared.open(base.path, tools.path, workspace=parts.workspace).headline
    assert (headline.count, headline.no_target_count, headline.left_out) == (7, 1, 4)
    assert headline.scores[1] != summarise(read_rows(tools.path))
    # The page's whole-set part.
    handlers, look = Handlers(parts), Looking()
    shown = cells(list(handlers.show(look))[-1][3])
    assert [row[:-1] for row in shown.values()] == [[*v, told, i] for _, v, told, i in headline_rows(headline)]
    # The table above it.
    summary = CompareHandlers(Compare(parts, Scoreboard(parts))).show_summary([BASE, "tools"])
    summary_cells = cells(summary)
    assert {name: row[:4] for name, row in summary_cells.items()} == {
        name: row[:4] for name, row in shown.items() if name not in ("chance", *ERRORS)
    }
    assert "4 seen in training are left out" in summary
    # Programs.
    api = Api(parts)
    told = api.report(base.path.name, tools.path.name)["headline"]
    assert told["scores"] == [scores_json(scores) for scores in headline.scores]
    # The command line, in pairs.
    assert main(["compare", str(base.path), str(tools.path), "--json"]) == 0
    printed = capsys.readouterr()
    pairs = json.loads(printed.out)
    assert pairs["accuracy_50"] == asdict(headline.differences["accuracy_50"]) == told["differences"]["accuracy_50"]
    assert pairs["count"] == headline.count and "The 4 seen samples are left out" in printed.err
    # One alone: as its report has it.
    counted = counted_report(tools, parts.workspace)
    assert counted.scores == headline.scores[1] and counted.total == tools.total == 12
    alone = api.report(tools.path.name)["headline"]["scores"]
    assert alone == [scores_json(counted.scores)]
    # The list of evaluations, and the adapter's standing.
    accuracy = figure_text("accuracy_50", figure_of(headline.scores[1], "accuracy_50"))
    assert f"Acc@0.5 {accuracy} · 4 seen left out" in EvaluationHandlers(Scoreboard(parts)).tick("", "")[0]
    info = AdapterRegistry(parts.workspace.adapters).find("tools")
    found = standing(parts.workspace, info)
    assert found is not None and found.base_scores is not None and (found.count, found.left_out) == (7, 4)
    assert found.scores["accuracy_50"] == headline.scores[1].accuracy[0.5]
    assert found.base_scores["accuracy_50"] == headline.scores[0].accuracy[0.5]
    on_the_card = card_compared(found, parts.workspace)
    assert on_the_card is not None and on_the_card.accuracy_50 == headline.differences["accuracy_50"]


def test_evaluate_prints_what_the_page_shows(
    parts: Parts,
    asked: list[Sample],
    predictor: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.setattr("grounding.commands.evaluate.load", lambda *_: predictor)
    file, out = parts.workspace.root / "asked.jsonl", parts.workspace.evaluations / "mine"
    write_samples(file, asked)
    command = ["evaluate", str(file), "--adapter", "tools", "--out", str(out)]
    assert main([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / "report.json").read_text("utf-8"))
    assert printed["scores"] == Api(parts).report("mine")["headline"]["scores"][0]
    assert printed["scores"]["count"] == 7 and printed["seen"]["samples"] == printed["seen"]["pictures"] == 2
    assert main(command) == 0
    assert "tools saw 4 of 12 samples in training" in capsys.readouterr().out
    # Kept by an earlier version, and asked for again: its answers stand, the figures are counted anew.
    read = read_report(out)
    assert read is not None
    as_an_earlier_version_kept_it(read)
    assert main([*command, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again == printed


def test_an_adapter_in_the_folder_one_stands_in_has_its_name(
    parts: Parts, asked: list[Sample], predictor: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("grounding.commands.evaluate.load", lambda *_: predictor)
    monkeypatch.chdir(parts.workspace.adapters / "tools")
    file, out = parts.workspace.root / "asked.jsonl", parts.workspace.evaluations / "mine"
    write_samples(file, asked)
    assert main(["evaluate", str(file), "--adapter", ".", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seen"]["known"]
    assert compared.open(out, workspace=parts.workspace).comparison.a.name == "tools"


def test_a_merged_model_alone_has_the_figures_of_its_comparison(
    parts: Parts, asked: list[Sample], predictor: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path
) -> None:
    """What was merged into it had seen some of the samples, whoever asks."""
    info = AdapterInfo.load(parts.workspace.adapters / "tools")
    (tmp_path / MERGED).write_text(json.dumps({"adapter": info.to_json()}))
    monkeypatch.setattr(predictor, "model_id", str(tmp_path))
    monkeypatch.setattr("grounding.commands.evaluate.load", lambda *_: predictor)
    file, out = parts.workspace.root / "asked.jsonl", parts.workspace.evaluations / "mine"
    write_samples(file, asked)
    command = ["evaluate", str(file), "--out", str(out), "--json"]
    assert main(command) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["scores"] == Api(parts).report("mine")["headline"]["scores"][0]
    assert printed["scores"]["count"] == 7 and printed["seen"]["samples"] == printed["seen"]["pictures"] == 2
    ((label, _),) = report_choices(Shelf(parts.workspace).list())
    assert "12 samples · Acc@0.5" in label and "· 4 seen left out ·" in label
    read = read_report(out)
    assert read is not None
    as_an_earlier_version_kept_it(read)
    assert main(command) == 0 and json.loads(capsys.readouterr().out) == printed


def test_lists_open_no_samples_and_mark_what_may_be_counted(parts: Parts, kept: dict[str | None, KeptReport]) -> None:
    (label, _), (of_base, _) = report_choices([kept["tools"], kept[None]])
    assert "12 samples · Acc@0.5" in label and "· 4 seen left out ·" in label and "seen" not in of_base
    old = as_an_earlier_version_kept_it(kept["tools"])
    ((label, _),) = report_choices([old])
    assert "· may count seen samples ·" in label
    by_adapter = {entry["adapter"]: entry["seen_left_out"] for entry in Api(parts).evaluations()}
    assert by_adapter == {None: 0, "tools": None}


def test_what_an_adapter_saw_is_not_known_without_its_snapshot(
    parts: Parts,
    asked: list[Sample],
    predictor: Any,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    info = AdapterInfo.load(parts.workspace.adapters / "tools")
    replace(info, snapshot="").save()
    monkeypatch.setattr("grounding.commands.evaluate.load", lambda *_: predictor)
    file, out = parts.workspace.root / "asked.jsonl", parts.workspace.evaluations / "mine"
    write_samples(file, asked)
    assert main(["evaluate", str(file), "--adapter", "tools", "--out", str(out)]) == 0
    assert "What tools saw in training is not known, so no sample is left out" in capsys.readouterr().out
    report = read_report(out)
    assert report is not None and report.seen_left_out is None and report.scores.count == 11
    assert {row["seen"] for row in parquet.read_table(out / "samples.parquet").to_pylist()} == {None}
    info.save()  # known again: counted anew where its samples are opened
    assert counted_report(report, parts.workspace).scores.count == 7


def test_an_adapter_that_comes_back_is_known_on_a_page_that_stayed_open(
    parts: Parts, kept: dict[str | None, KeptReport]
) -> None:
    folder, away = parts.workspace.adapters / "tools", parts.workspace.root / "away"
    folder.rename(away)
    handlers, look, api = Handlers(parts), Looking(), Api(parts)
    a, b = kept[None].path.name, kept["tools"].path.name
    look.choose(a, b)
    assert "no longer stands in the workspace" in list(handlers._everything(look))[-1][1]
    assert api.report(a, b)["headline"]["left_out"] == 0
    away.rename(folder)
    assert "The 4 seen samples are left out of the figures of all" in list(handlers._everything(look))[-1][1]
    assert api.report(a, b)["headline"]["left_out"] == 4


def test_all_seen_is_a_sentence_with_a_way_out(
    parts: Parts, kept: dict[str | None, KeptReport], make_snapshot: Callable[..., Path], asked: list[Sample]
) -> None:
    from grounding.counted import opened, paired
    from grounding.errors import RecordError

    snapshot = make_snapshot([replace(sample, split="train") for sample in asked], name="first")
    info = AdapterInfo.load(parts.workspace.adapters / "tools")
    replace(info, snapshot_sha256=hashlib.sha256((snapshot / "samples.jsonl").read_bytes()).hexdigest()).save()
    with pytest.raises(RecordError, match=r"All 12 samples were seen in training.*--with-seen"):
        paired(opened(parts.workspace, kept[None], kept["tools"]))
