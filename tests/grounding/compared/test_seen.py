"""What an adapter saw in training is marked and left out; where that isn't known, it is said."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from compared_samples import keep, some_rows, some_samples
from grounding.adapters import AdapterInfo
from grounding.compared import Filter, open_comparison
from grounding.compared import open as open_report
from grounding.metrics import summarise
from grounding.records import Sample
from grounding.reports import read_rows


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
    assert comparison.notes == (
        "tools saw 2 of 12 samples in training: 1 themselves, of 1 more the picture.",
        "The 2 seen samples are left out of the figures of all.",
    )
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
    assert everything.notes[-1] == "The figures are over the seen samples too, as was asked."
    assert report.only(seen="seen").headline.scores[1] == summarise(rows[:2])


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
