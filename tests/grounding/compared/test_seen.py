"""What an adapter saw in training is marked and left out; where that isn't known, it is said."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from compared_samples import keep, some_rows, some_samples
from grounding.adapters import AdapterInfo
from grounding.adapters.merge import MERGED
from grounding.compared import Filter, open_comparison
from grounding.compared import open as open_report
from grounding.counted import counted_pair, counted_report
from grounding.metrics import summarise
from grounding.records import Sample
from grounding.reports import read_report, read_rows
from grounding.workspace import Workspace


def named(k: int) -> Path:
    """A picture as a workspace names it."""
    return Path(f"/images/{hashlib.sha256(str(k).encode()).hexdigest()}.png")


@pytest.fixture
def trained(tmp_path: Path, make_snapshot) -> list[Path]:  # type: ignore[no-untyped-def]
    """Evaluations of a base and of an adapter on 12 samples, two a picture: the first was learned from, the second is
    on its picture, and the third has an id that was learned on another picture."""
    samples = [replace(sample, image=named(k // 2)) for k, sample in enumerate(some_samples(12))]
    learned = [replace(samples[0], split="train"), replace(samples[2], split="train", image=named(99))]
    snapshot = make_snapshot([*learned, replace(samples[9], split="val")], name="first")
    digest = hashlib.sha256((snapshot / "samples.jsonl").read_bytes()).hexdigest()
    folder = tmp_path / "workspace" / "adapters" / "tools"
    folder.mkdir(parents=True)
    info = AdapterInfo("tools", folder, "demo", "qwen3-vl-demo", created_at="2020-01-01T00:00:00+00:00")
    replace(info, snapshot="first", snapshot_sha256=digest).save()
    return [keep(tmp_path / "a", some_rows(samples, 1)), keep(tmp_path / "b", some_rows(samples, 2), "tools")]


def test_the_sample_and_its_picture_are_marked(trained: list[Path]) -> None:
    comparison = open_comparison(trained)
    assert comparison.a.seen is None
    seen = comparison.sides[1].seen
    assert seen is not None and seen.known
    assert seen.sample.tolist() == [True] + [False] * 11
    assert seen.picture.tolist() == [True, True] + [False] * 10
    assert comparison.notes == ("tools saw 2 of 12 samples in training: 1 itself, of 1 more the picture.",)
    assert open_report(*trained).notes == (*comparison.notes, "The 2 seen samples are left out of the figures of all.")
    assert comparison.record(1).seen == ("tools",)
    assert comparison.record(2).seen == ()
    marks = {name: Filter(seen=name).mask(comparison).tolist() for name in ("seen", "sample_seen", "picture_seen")}
    assert [marks[name][:3] for name in marks] == [[True, True, False], [True, False, False], [False, True, False]]
    assert Filter(seen="unseen").mask(comparison).sum() == 10


def test_they_are_left_out_of_the_figures_unless_asked_for(trained: list[Path]) -> None:
    rows = read_rows(trained[1])
    report = open_report(*trained)
    assert report.headline.scores[1] == summarise(rows[2:])
    assert report.headline.left_out == 2
    assert len(report.samples("sample", most=99)) == 12, "they are listed all the same"
    everything = open_report(*trained, with_seen=True)
    assert everything.headline.scores[1] == summarise(rows)
    assert everything.headline.left_out == 0
    assert everything.notes[-1].startswith("The figures are over the seen samples too, as was asked: ")
    assert report.only(seen="seen").headline.scores[1] == summarise(rows[:2])


def test_the_note_says_what_the_figures_are_over(trained: list[Path]) -> None:
    report = open_report(*trained)
    for asked in ("seen", "sample_seen", "picture_seen"):
        narrowed = report.only(seen=asked)
        assert narrowed.is_contaminated and narrowed.headline.left_out == 0
        assert narrowed.notes[-1].startswith("The figures are over seen samples alone, as was asked: ")
        assert "left out" not in " ".join(narrowed.notes)
    for clean in (report, report.only(seen="unseen")):
        assert not clean.is_contaminated and clean.notes[-1].endswith("are left out of the figures of all.")
    everything = open_report(*trained, with_seen=True)
    assert everything.is_contaminated
    assert everything.only(seen="unseen").notes[-1] == "No seen sample passes the filter."


def test_one_sample_is_told_as_one(trained: list[Path], tmp_path: Path) -> None:
    rows = read_rows(trained[1])
    one = open_report(keep(tmp_path / "c", rows[1:], "tools"), keep(tmp_path / "d", rows[1:-1]))
    assert one.notes == (
        "1 sample stands only in tools ('s11'); 10 stand in all.",
        "tools saw 1 of 10 samples in training: 0 themselves, of 1 more the picture.",
        "The 1 seen sample is left out of the figures of all.",
    )


def test_a_learned_picture_stays_learned_where_its_id_was_rehearsed_on_another(  # type: ignore[no-untyped-def]
    trained: list[Path], tmp_path: Path, make_snapshot
) -> None:
    info = AdapterInfo.load(tmp_path / "workspace" / "adapters" / "tools")
    rehearsing = {"rehearsal_share": 0.5, "rehearse_snapshot": "old"}
    replace(info, settings=MappingProxyType(rehearsing)).save()
    make_snapshot([Sample("s0", named(99), "mug", (), split="train")], name="old")
    comparison = open_comparison(trained)
    assert comparison.sample_seen.tolist() == [True] + [False] * 11
    assert comparison.seen.tolist() == [True, True] + [False] * 10


@pytest.mark.parametrize(("name", "more"), [(None, None), ("tools", "tools")])
def test_a_merged_adapter_has_seen_what_it_learned_from(
    trained: list[Path], tmp_path: Path, name: str | None, more: str | None
) -> None:
    """Alone, and below another adapter that was trained on the merged model."""
    info = AdapterInfo.load(tmp_path / "workspace" / "adapters" / "tools")
    folder = tmp_path / "merged"
    folder.mkdir()
    (folder / MERGED).write_text(json.dumps({"adapter": info.to_json()}))
    if more:
        replace(info, base=str(folder)).save()
    merged = open_comparison([keep(tmp_path / "c", read_rows(trained[1]), name, str(folder))])
    assert merged.a.seen is not None and merged.a.seen.known
    assert merged.a.seen.adapter == (name or "merged")
    assert merged.seen.tolist() == [True, True] + [False] * 10
    (folder / MERGED).write_text("{}")
    damaged = open_comparison([keep(tmp_path / "d", read_rows(trained[1]), name, str(folder))])
    assert "merged_from.json is damaged" in damaged.notes[0] and damaged.counted.all()


def test_a_merged_base_and_an_adapter_of_which_nothing_is_known_are_paired_over_the_same_samples(
    trained: list[Path], tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path / "workspace")
    info = AdapterInfo.load(workspace.adapters / "tools")
    (tmp_path / MERGED).write_text(json.dumps({"adapter": info.to_json()}))
    rows = read_rows(trained[1])
    found = [
        read_report(keep(tmp_path / name, rows, adapter, str(tmp_path))) for name, adapter in (("c", None), ("d", "x"))
    ]
    base, adapter = (counted_report(report, workspace) for report in found if report is not None)
    assert base.scores == summarise(rows[2:]) and adapter.scores == summarise(rows)
    assert counted_pair(base, adapter, workspace) == (summarise(rows), summarise(rows))


@pytest.mark.parametrize("keep_best", [True, False])
def test_a_step_chosen_on_val_is_said_to_do_well_there(trained: list[Path], tmp_path: Path, keep_best: bool) -> None:
    info = AdapterInfo.load(tmp_path / "workspace" / "adapters" / "tools")
    replace(info, settings=MappingProxyType({"keep_best": keep_best})).save()
    told = [note for note in open_report(*trained).notes if "val split" in note]
    expected = (
        "The step of tools that was kept is the one that scored best on the val split, in which 1 of these samples "
        "stands: over it its figures are better than over new ones."
    )
    assert told == ([expected] if keep_best else [])
    rows = read_rows(trained[1])
    assert "val split" not in " ".join(open_report(keep(tmp_path / "c", rows[:9], "tools")).notes)


def test_seen_samples_are_marked_wherever_samples_are_shown(trained: list[Path], tmp_path: Path) -> None:
    report = open_report(*trained)
    report.export(tmp_path / "coco", "coco")
    images = json.loads((tmp_path / "coco" / "annotations.json").read_text(encoding="utf-8"))["images"]
    assert [image["seen_by"] for image in images] == [["tools"], ["tools"], *([[]] * 10)]
    seen = report.only(seen="sample_seen")
    assert "<small>s0, seen in training by tools</small>" in seen._repr_html_()
    assert "seen in training by" not in report.only(seen="unseen")._repr_html_().split("The worst samples")[1]
    seen.export(tmp_path / "seen", "markdown")
    assert "Seen in training by |" in (tmp_path / "seen" / "report.md").read_text(encoding="utf-8")
    report.only(seen="unseen").export(tmp_path / "unseen", "markdown")
    assert "Seen in training by" not in (tmp_path / "unseen" / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("no adapter", "the adapter that was evaluated as 'tools' no longer stands in the workspace"),
        ("no snapshot", "no complete snapshot 'first'"),
        ("another snapshot", "the snapshot 'first' here is another one than it learned from"),
        ("a nameless snapshot", "names no snapshot"),
        ("trained since", "no longer stands in the workspace"),
        ("no rehearsed snapshot", "no complete snapshot 'old'"),
    ],
)
def test_what_is_not_known_is_said(trained: list[Path], tmp_path: Path, make_snapshot, case: str, told: str) -> None:  # type: ignore[no-untyped-def]
    workspace = tmp_path / "workspace"
    info = AdapterInfo.load(workspace / "adapters" / "tools")
    if case == "no adapter":
        shutil.rmtree(info.path)
    elif case == "no snapshot":
        shutil.rmtree(workspace / "snapshots" / "first")
    elif case == "another snapshot":
        make_snapshot([replace(sample, split="train") for sample in some_samples(3)], name="first")
    elif case == "a nameless snapshot":
        replace(info, snapshot="").save()
    elif case == "trained since":
        replace(info, created_at="2099-01-01T00:00:00+00:00").save()
    else:
        rehearsing = {"rehearsal_share": 0.5, "rehearse_snapshot": "old"}
        replace(info, settings=MappingProxyType(rehearsing)).save()
    comparison = open_comparison(trained)
    assert comparison.sides[1].seen is not None and not comparison.sides[1].seen.known
    assert comparison.notes[0].startswith("What tools saw in training is not known, so no sample is left out: ")
    assert told in comparison.notes[0]
    assert comparison.counted.all()


def test_what_was_rehearsed_was_seen_too(trained: list[Path], tmp_path: Path, make_snapshot) -> None:  # type: ignore[no-untyped-def]
    info = AdapterInfo.load(tmp_path / "workspace" / "adapters" / "tools")
    rehearsing = {"rehearsal_share": 0.5, "rehearse_snapshot": "old"}
    replace(info, settings=MappingProxyType(rehearsing)).save()
    old = Sample("old", named(3), "mug", (), split="train")
    make_snapshot([old], name="old")
    assert open_comparison(trained).seen.tolist() == [True, True, *[False] * 4, True, True, *[False] * 4]


def test_an_adapter_by_its_folder(trained: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere" / "tools"
    shutil.copytree(tmp_path / "workspace" / "adapters" / "tools", folder)
    c = keep(tmp_path / "c", read_rows(trained[1]), str(folder))
    assert open_comparison([c]).seen.sum() == 2
