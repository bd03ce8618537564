"""`sweep` and `sweeps` of the command line, by the same core as the page."""

from __future__ import annotations

import json
from typing import Any

import pytest

from grounding.__main__ import main
from grounding.adapters import AdapterRegistry
from grounding.jobs.queue import RunQueue
from grounding.jobs.store import RunStore
from grounding.sweeps.record import SweepStore
from grounding.workspace import Workspace

SEARCH = (
    "--set",
    "learning_rate=1e-3",
    "--search",
    "lora_rank=4,16",
    "--set",
    "steps=8",
    "--set",
    "score_every_steps=2",
)


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in has no model whose steps could be timed."""
    from grounding.commands import sweeps

    monkeypatch.setattr(sweeps, "_measured", lambda *unused: 90.0)


def told(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_a_sweep_is_followed_shown_and_its_winner_kept(stand_in: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "first", "--runs", "2", *SEARCH]) == 0
    said = capsys.readouterr().err
    assert "2 runs of 8 steps, about 3 min: 2 min a run, estimated from the pace that the check" in said
    assert "Pruning may shorten it" in said
    assert "run   1  done      lora_rank 16  mean IoU 0.900, Acc@0.5 90.0%" in said
    assert "The best is run 1" in said and "sweeps keep sweep-1" in said
    assert main(["sweeps", "show", "sweep-1", "--json"]) == 0
    shown = told(capsys)
    assert (shown["state"], shown["best_run"], len(shown["runs"])) == ("done", 1, 2)
    assert main(["sweeps", "keep", "sweep-1", "--as", "winner", "--json"]) == 0
    assert told(capsys) == {"adapter": "winner", "sweep": "sweep-1", "run": 1}
    assert AdapterRegistry(stand_in.adapters).find("winner").sweep["best"] is True
    assert main(["sweep", "first", "--runs", "2", *SEARCH, "--check", "--json"]) == 0
    plan = told(capsys)
    assert "estimated from the run sweep-1-run-2" in plan["plan"][0], "a former run tells now"
    assert main(["sweeps", "remove", "sweep-1"]) == 0
    assert main(["sweeps", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_sweep_is_queued_stopped_and_resumed(stand_in: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    RunQueue(RunStore(stand_in.runs_db)).pause()
    assert main(["sweep", "first", "--name", "mugs", "--runs", "2", *SEARCH, "--queue", "--no-prune", "--json"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out) == {"sweep": "mugs", "state": "going"}
    assert "No run is pruned: each takes all of its steps." in output.err
    assert main(["sweeps", "stop", "mugs"]) == 0
    assert main(["sweeps", "list"]) == 0
    assert "mugs                      stopped   Stopped by a person." in capsys.readouterr().out
    assert main(["sweeps", "resume", "mugs"]) == 0
    assert [run.name for run in RunQueue(RunStore(stand_in.runs_db)).waiting()] == ["mugs-run-1"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sweep", "first"], "Nothing is searched"),
        (["sweep", "first", "--search", "lora_rank"], "expected KEY=VALUES"),
        (["sweep", "first", "--search", "steps=1,2"], "'steps' can't be searched"),
        (["sweep", "nowhere", "--search", "lora_rank=4,8", "--runs", "2"], "nowhere"),
        (["sweeps", "show", "none"], "There is no sweep 'none'. Sweeps here: none yet."),
        (["sweeps", "keep", "none"], "There is no sweep 'none'."),
        (["sweeps", "stop", "none"], "There is no sweep 'none'."),
    ],
)
def test_what_can_not_be_done_is_one_sentence(
    stand_in: Workspace, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(arguments) == 1
    assert said in capsys.readouterr().err
    assert SweepStore(stand_in.runs_db).list() == []
