"""The commands that look after a workspace: one JSON document, sentences, and exit statuses."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from annotate.__main__ import main
from annotate.snapshot import freeze
from annotate.store import Store
from annotate.upkeep import tell_progress
from grounding.passwords import read_passwords
from grounding.workspace import Workspace

Fill = Callable[..., Store]
Capture = pytest.CaptureFixture[str]


def document(capsys: Capture, *arguments: str, status: int = 0) -> dict[str, Any]:
    """The one JSON document that the command prints."""
    capsys.readouterr()
    assert main([*arguments, "--json"]) == status
    output = capsys.readouterr().out
    assert output.count("\n") == 1
    return json.loads(output)


def typed(monkeypatch: pytest.MonkeyPatch, *passwords: str) -> None:
    """A person at a terminal types these, one after the other."""
    answers = iter(passwords)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(answers))


def test_backup_and_restore_are_one_command_each(fill: Fill, tmp_path: Path, capsys: Capture) -> None:
    fill("a", "b")
    zipped = tmp_path / "b.zip"
    made = document(capsys, "backup", str(zipped))
    assert (made["path"], made["files"], made["left_out"]) == (str(zipped), 2, [])
    there = tmp_path / "there"
    back = document(capsys, "restore", str(zipped), "--workspace", str(there))
    assert (back["files"], back["moved_aside"]) == (2, "")
    assert document(capsys, "stats", "--workspace", str(there))["total"] == 2
    assert main(["restore", str(zipped)]) == 1
    assert "--replace" in capsys.readouterr().err
    again = document(capsys, "restore", str(zipped), "--replace")
    assert Path(again["moved_aside"]).is_dir()
    assert main(["backup", str(tmp_path / "small.zip"), "--no-pictures"]) == 0
    captured = capsys.readouterr()
    assert "1 files" in captured.out
    assert "Files: 1 of 1" in captured.err


def test_check_finds_what_is_wrong_and_says_so_by_its_status(fill: Fill, workspace: Workspace, capsys: Capture) -> None:
    fill("a", picture=1)
    store = fill("b", picture=2)
    freeze(store, workspace.snapshots, "one", who="ann")
    assert document(capsys, "check") == {"pictures": 2, "problems": [], "ok": True}
    picture = store.get("a").sample.image
    whole = picture.read_bytes()
    picture.write_bytes(whole + b"more")
    store.get("b").sample.image.unlink()
    samples = workspace.snapshots / "one" / "samples.jsonl"
    samples.write_text(samples.read_text().replace("the a thing", "the b thing"))
    found = document(capsys, "check", status=1)
    assert not found["ok"]
    assert len(found["problems"]) == 3
    assert "snapshot one was changed" in found["problems"][0]
    assert any("was changed: its hash" in problem for problem in found["problems"][1:])
    assert any("no readable picture" in problem for problem in found["problems"][1:])
    assert main(["check"]) == 1
    assert "3 problems: restore a backup" in capsys.readouterr().out


def test_leaks_are_told(fill: Fill, capsys: Capture) -> None:
    fill("a", "b", picture=1)
    fill("t", split="test", picture=1)
    told = document(capsys, "leaks")
    assert told["counts"] == {"same_picture": 2, "same_image_id": 0, "near_duplicate": 0}
    (leak,) = told["leaks"]
    assert (leak["train_samples"], leak["held_out_samples"]) == (["a", "b"], ["t"])
    assert main(["leaks"]) == 0
    assert "same_picture: a, b of train, t held out" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["check"], ["leaks"], ["backup", "b.zip"]], ids=" ".join)
def test_a_missing_workspace_is_not_made(command: list[str], tmp_path: Path, capsys: Capture) -> None:
    assert main([*command, "--workspace", str(tmp_path / "none")]) == 1
    assert "Import a data set first" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_password_is_typed_twice(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "people"
    typed(monkeypatch, "correct horse", "correct house")
    assert main(["password", str(path), "ann"]) == 1
    assert "The two passwords differ" in capsys.readouterr().err
    assert not path.exists()
    typed(monkeypatch, "correct horse", "correct horse")
    assert document(capsys, "password", str(path), "ann")["replaced"] is False
    assert read_passwords(path)["ann"].matches("correct horse")


def test_a_password_is_read_as_one_line_where_nobody_types(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "people"
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse\nmore\n"))
    assert main(["password", str(path), "ann"]) == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("battery staple"))
    assert document(capsys, "password", str(path), "ann")["replaced"] is True
    assert read_passwords(path)["ann"].matches("battery staple")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["password", str(path), "ann"]) == 1
    assert "has 0 characters" in capsys.readouterr().err


def test_progress_is_told_a_few_times_a_second(capsys: Capture) -> None:
    tell = tell_progress("Files")
    for done in range(1, 5001):
        tell(done, 5000)
    told = capsys.readouterr().err
    assert told.endswith("Files: 5000 of 5000\n")
    assert told.count("\r") < 20
