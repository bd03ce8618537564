"""How models were asked: only what was asked alike is paired, and what differs is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compared_samples import keep, some_rows, some_samples
from grounding.adapters.evaluations import is_base
from grounding.arena import Pair, pair_of
from grounding.compared import open as open_report
from grounding.compared import open_comparison
from grounding.compared.conditions import asked_alike, condition_words, differing_conditions
from grounding.decoding.settings import Decoding
from grounding.reports import KeptReport, ReportStore, read_report


def asked(folder: Path, adapter: str | None = None, model_id: str = "demo", **settings: Any) -> KeptReport:
    """A kept evaluation of twelve samples that was asked so."""
    keep(folder, some_rows(some_samples(12), len(folder.name)), adapter, model_id)
    path = folder / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"settings": settings}), "utf-8")
    report = read_report(folder)
    assert report is not None
    return report


PLAIN = {"profile": "usual", "decoding": Decoding().to_json(), "conditions": {"quantize": "none", "weights": "none"}}


@pytest.mark.parametrize(
    ("settings", "words", "differing"),
    [
        ({"conditions": {"quantize": "4bit"}}, ("4-bit",), ["the weights ('none', '4bit')"]),
        ({"conditions": {"weights": "8bit"}}, ("8-bit",), ["the weights ('none', '8bit')"]),
        ({"decoding": Decoding(mode="free").to_json()}, ("free mode",), ["the mode of decoding ('forced', 'free')"]),
        ({"decoding": {"samples": 8}}, ("8 votes",), ["the number of votes (1, 8)"]),
        (
            {"decoding": {"coordinates": "expected"}},
            ("expected coordinates",),
            ["the kind of coordinates ('likeliest', 'expected')"],
        ),
        ({"conditions": {"rerank": "clip"}}, ("reranked",), ["the model that chooses ('none', 'clip')"]),
        ({"conditions": {"profile": "mine"}}, ("profile mine",), ["the profile ('usual', 'mine')"]),
        ({"profile": "another"}, (), ["the profile ('usual', 'another')"]),
        ({"conditions": {"device": "cuda:0", "calibration": "ab"}}, (), []),
        ({}, (), []),
    ],
)
def test_what_was_asked_otherwise_is_named(
    tmp_path: Path, settings: dict[str, Any], words: tuple[str, ...], differing: list[str]
) -> None:
    plain, other = asked(tmp_path / "a", **PLAIN), asked(tmp_path / "b", "tools", **settings)
    assert condition_words(plain) == () and condition_words(other) == words
    assert differing_conditions(plain, other) == differing
    assert asked_alike(plain, other) == (not differing)


@pytest.mark.parametrize("conditions", [{"quantize": "4bit", "weights": "4bit"}, {"weights": "4bit"}])
def test_quantised_weights_are_never_taken_for_full_ones(tmp_path: Path, conditions: dict[str, str]) -> None:
    """In an evaluation from Python nobody but the model says how it was loaded."""
    plain, other = asked(tmp_path / "a", **PLAIN), asked(tmp_path / "b", conditions=conditions)
    assert (is_base(plain), is_base(other), is_base(other, "4bit")) == (True, False, True)
    assert ReportStore(tmp_path).find("demo", None, plain.samples_sha256) == plain
    pair = pair_of(open_comparison([plain.path, other.path]))
    assert pair == Pair("base of demo", "base of demo (quantize=4bit)")


def test_other_files_under_one_name_are_another_model(tmp_path: Path) -> None:
    one, other = (asked(tmp_path / name, conditions={"model_files": name}) for name in ("a", "b"))
    assert differing_conditions(one, other) == ["the content of the model"]
    another = asked(tmp_path / "c", model_id="bigger", conditions={"model_files": "c"})
    assert asked_alike(one, another), "two models have other files of course"


def test_a_comparison_says_what_differs_before_all_else(tmp_path: Path) -> None:
    a, b = asked(tmp_path / "a", **PLAIN), asked(tmp_path / "b", "tools", conditions={"quantize": "4bit"})
    assert open_report(a.path, b.path).notes[0] == (
        "base and tools were not asked in the same way: the weights ('none', '4bit'). What differs between them may "
        "come from that. Evaluate both alike."
    )
    alike = asked(tmp_path / "c", "tools", **PLAIN)
    assert not any("same way" in note for note in open_report(a.path, alike.path).notes)
    with_seen = open_report(a.path, b.path, with_seen=True).notes
    assert "same way" in with_seen[0]
