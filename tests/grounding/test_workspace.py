"""Where things stand in a workspace, how one is found, and what may name a folder in it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import grounding
from grounding.errors import WorkspaceError
from grounding.workspace import ENVIRONMENT_VARIABLE, Workspace, check_name, find_workspace


def test_an_argument_wins_over_the_environment(tmp_path: Path, own_workspace: Path) -> None:
    assert find_workspace(tmp_path / "mine").root == tmp_path.resolve() / "mine"
    assert find_workspace(str(tmp_path / "mine")).root == tmp_path.resolve() / "mine"
    assert find_workspace().root == own_workspace.resolve()
    assert find_workspace("").root == own_workspace.resolve(), "an empty argument is none"


@pytest.mark.parametrize("value", [None, ""])
def test_without_both_it_is_the_one_of_the_repository(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv(ENVIRONMENT_VARIABLE)
    if value is not None:
        monkeypatch.setenv(ENVIRONMENT_VARIABLE, value)
    repository = Path(grounding.__file__).resolve().parent.parent
    assert find_workspace().root == repository / "data" / "workspace"


def test_a_relative_path_and_a_home_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert find_workspace("work").root == tmp_path.resolve() / "work"
    assert find_workspace("~/work").root == tmp_path.resolve() / "home" / "work"


@pytest.mark.parametrize("path", ["~nobody-of-this-name/work", "nul\0character"])
def test_a_path_that_no_folder_can_have_is_a_sentence(path: str) -> None:
    with pytest.raises(WorkspaceError, match=re.escape(repr(path))) as caught:
        find_workspace(path)
    assert "--workspace DIR" in str(caught.value)


def test_finding_a_workspace_makes_nothing(tmp_path: Path) -> None:
    workspace = find_workspace(tmp_path / "new")
    assert not workspace.exists
    assert list(tmp_path.iterdir()) == []


def test_the_layout(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert (workspace.annotations_db, workspace.runs_db) == (tmp_path / "annotations.db", tmp_path / "runs.db")
    assert (workspace.pictures.folder, workspace.uploads.folder) == (tmp_path / "images", tmp_path / "uploads")
    assert (workspace.snapshots, workspace.runs) == (tmp_path / "snapshots", tmp_path / "runs")
    assert (workspace.adapters, workspace.evaluations) == (tmp_path / "adapters", tmp_path / "evaluations")


def test_a_workspace_exists_when_its_annotations_do(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert not workspace.exists
    workspace.annotations_db.mkdir()
    assert not workspace.exists, "a folder of that name holds no annotations"
    workspace.annotations_db.rmdir()
    workspace.annotations_db.touch()
    assert workspace.exists


def test_a_writable_workspace_is_made_and_left_clean(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "a" / "b")
    workspace.check_writable()
    workspace.check_writable()
    assert list(workspace.root.iterdir()) == []


@pytest.mark.parametrize(
    ("case", "inside"), [("its parent is a file", "work"), ("it is a file", ""), ("far below a file", "a/b/c")]
)
def test_a_workspace_that_can_not_be_written_says_the_way_out(tmp_path: Path, case: str, inside: str) -> None:
    (tmp_path / "file").write_text("mine")
    workspace = Workspace(tmp_path / "file" / inside)
    with pytest.raises(WorkspaceError) as caught:
        workspace.check_writable()
    message = str(caught.value)
    assert str(workspace.root) in message
    assert ("is a file: expected a folder. " if case == "it is a file" else "can't be written (Not a dir") in message
    assert f"--workspace DIR or {ENVIRONMENT_VARIABLE}" in message
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="the rights of a folder don't hold root back")
def test_a_folder_without_rights_says_the_way_out(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(WorkspaceError, match="--workspace DIR"):
        Workspace(tmp_path).check_writable()


@pytest.mark.parametrize("name", ["a", "7", "tools-v1", "A.b_c-9", "x" * 64, "20260101T120000-ab12cd", "a..b"])
def test_names_fit_for_a_folder(name: str) -> None:
    assert check_name(name, "an adapter") == name


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("empty", ""),
        ("65 characters", "x" * 65),
        ("a blank", "my adapter"),
        ("a slash", "a/b"),
        ("a backslash", "a\\b"),
        ("the folder itself", "."),
        ("the folder above", ".."),
        ("a traversal", "../x"),
        ("hidden", ".hidden"),
        ("an option", "-rf"),
        ("a line end behind it", "name\n"),
        ("a null character", "a\0b"),
        ("markup", "<b>"),
        ("an accent", "é"),
        ("another script's digit", "٣"),
        ("a colon", "C:"),
    ],
)
def test_names_unfit_for_a_folder(case: str, name: str) -> None:
    with pytest.raises(WorkspaceError) as caught:
        check_name(name, "a snapshot")
    assert str(caught.value).startswith(f"{name!r} can't name a snapshot: use 1 to 64 letters, digits")
