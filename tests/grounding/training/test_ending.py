"""The sentences under a run that ended, and the gallery picked from its answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grounding.adapters import AdapterInfo
from grounding.training.ending import ending
from grounding.training.events import ScoreEvent
from grounding.training.gallery import pick_changes, read_gallery
from grounding.training.history import HISTORY, SAMPLES, History, SampleRow, read_lines


def adapter(folder: Path, steps: int, **history: Any) -> AdapterInfo:
    if history:
        (folder / HISTORY).write_text(json.dumps({"format": "boxwright-history/1", **history}))
    return AdapterInfo("mugs", folder, "demo", "p", "2026-11-25T10:00:00+00:00", steps=steps)


@pytest.mark.parametrize(
    ("steps", "history", "done", "says"),
    [
        (10, {"ended": "finished", "kept_step": 10, "sentence": "Better."}, True, "ready in Compare. Better."),
        (10, {"ended": "finished", "kept_step": 6, "sentence": "Better."}, True, "The best step, 6, is kept. Better."),
        (4, {"ended": "early", "kept_step": 4}, True, "ended early, after 4 of 10 steps"),
        (4, {"ended": "stopped", "kept_step": 4}, False, "Stopped after 4 of 10 steps; the adapter so far is kept."),
        (4, {}, False, "Stopped after 4 of 10 steps"),
        (10, {}, True, "ready in Compare."),
        (9, {"ended": "finished", "kept_step": 9}, True, "The adapter mugs is ready in Compare."),
    ],
)
def test_how_a_run_ended(tmp_path: Path, steps: int, history: dict[str, Any], done: bool, says: str) -> None:
    ended, sentence = ending(adapter(tmp_path, steps, **history), 10)
    assert ended is done
    assert says in sentence


def row(name: str, iou: float) -> SampleRow:
    return SampleRow(0, name, f"/{name}.png", "the dog", ((0.0, 0.0, 9.0, 9.0),), (), "ok", iou)


def test_the_biggest_changes_come_first_and_small_ones_are_no_news() -> None:
    before = [row("a", 0.1), row("b", 0.9), row("c", 0.5), row("d", 0.2), row("e", 0.3)]
    after = [row("e", 0.0), row("d", 0.3), row("c", 0.52), row("b", 0.1), row("a", 0.9)]
    gains, losses, gained, lost, count = pick_changes(before, after, most=1)
    assert [change.after.id for change in gains] == ["a"]
    assert [change.after.id for change in losses] == ["b"]
    assert (gained, lost, count) == (2, 2, 5)


def test_no_history_no_gallery(tmp_path: Path) -> None:
    assert read_gallery(tmp_path) is None


def test_a_torn_line_costs_itself_alone(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n{"st')
    assert [line["step"] for line in read_lines(tmp_path / "log.jsonl")] == [1, 3]


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    def lines_until_full(count: int) -> Iterator[SampleRow]:
        yield from (row(f"s{i}", 0.5) for i in range(count))
        raise OSError("no space left")

    told: list[str] = []
    history = History(tmp_path, told.append)
    event = ScoreEvent(0, 0.5, 0.5, 0.5, 0.9, 1, 1.0)
    history.add_score(event, [row("first", 0.5)])
    history.add_score(event, lines_until_full(500))
    history.add_score(event, [row("last", 0.5)])
    assert [line["id"] for line in read_lines(tmp_path / SAMPLES)] == ["first", "last"]
    assert len(told) == 1 and "could not be written" in told[0]
