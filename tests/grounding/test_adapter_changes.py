"""Renaming, notes, the bin: each change whole or not at all, and what is said of an adapter stays its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from grounding.adapters import AdapterInfo, AdapterRegistry, changes
from grounding.adapters.labels import LABEL, read_label
from grounding.errors import AdapterError, WorkspaceError
from grounding.jobs.store import RunState, RunStore
from grounding.workspace import Workspace

ROOT = Path(__file__).resolve().parent.parent.parent
Add = Callable[..., AdapterInfo]


@pytest.fixture
def workspace(own_workspace: Path) -> Workspace:
    return Workspace(own_workspace)


@pytest.fixture
def add(workspace: Workspace) -> Add:
    def make(name: str, content: str = "weights") -> AdapterInfo:
        folder = workspace.adapters / name
        folder.mkdir(parents=True)
        (folder / "adapter_model.safetensors").write_text(content)
        info = AdapterInfo(name, folder, "demo", "qwen3-vl-demo", "2026-01-01T00:00:00+00:00")
        info.save()
        return info

    return make


def names(workspace: Workspace) -> list[str]:
    return sorted(info.name for info in AdapterRegistry(workspace.adapters).list())


def start_run(workspace: Workspace, name: str) -> tuple[RunStore, str]:
    store = RunStore(workspace.runs_db)
    return store, store.add(name=name, model_id="demo", quantize="none", snapshot="s", settings={}).id


def test_a_renamed_adapter_keeps_all_but_its_name(workspace: Workspace, add: Add) -> None:
    add("a")
    before = (workspace.adapters / "a" / "adapter.json").read_bytes()
    assert changes.rename(workspace, "a", "mugs").name == "mugs"
    assert names(workspace) == ["mugs"]
    assert (workspace.adapters / "mugs" / "adapter.json").read_bytes() == before, "evaluations are tied to it"
    assert [name for name, _ in read_label(workspace.adapters / "mugs").names] == ["a"]


@pytest.mark.parametrize("new_name", ["", "../b", "b/c", ".b", "x" * 65])
def test_a_name_unfit_for_a_folder_is_refused(workspace: Workspace, add: Add, new_name: str) -> None:
    add("a")
    with pytest.raises(WorkspaceError, match=r"can't name an adapter"):
        changes.rename(workspace, "a", new_name)
    assert names(workspace) == ["a"]


def test_a_name_that_is_taken_is_refused(workspace: Workspace, add: Add) -> None:
    add("a", "one")
    add("b", "two")
    (workspace.adapters / "half").mkdir()
    for taken in ("b", "half"):
        with pytest.raises(AdapterError, match=rf"'{taken}' stands already"):
            changes.rename(workspace, "a", taken)
    assert (workspace.adapters / "b" / "adapter_model.safetensors").read_text() == "two"


def test_names_of_runs_that_go_on_are_left_alone(workspace: Workspace, add: Add) -> None:
    add("a")
    add("b")
    store, run_id = start_run(workspace, "b")
    for change in (
        lambda: changes.rename(workspace, "b", "c"),
        lambda: changes.delete(workspace, "b"),
    ):
        with pytest.raises(AdapterError, match=r"belongs to a run that has not ended"):
            change()
    assert names(workspace) == ["a", "b"]
    store.finish(run_id, RunState.DONE, "done")
    changes.rename(workspace, "b", "c")
    assert names(workspace) == ["a", "c"]


def test_no_adapter_takes_the_name_that_a_run_will_use(workspace: Workspace, add: Add) -> None:
    add("a")
    entry = changes.delete(workspace, "a")
    add("x")
    start_run(workspace, "a")
    with pytest.raises(AdapterError, match=r"A run that has not ended will call its adapter 'a'"):
        changes.rename(workspace, "x", "a")
    with pytest.raises(AdapterError, match=r"Restore it under another name"):
        changes.restore(workspace, entry.id)


def test_a_note_is_kept_beside_what_was_trained(workspace: Workspace, add: Add) -> None:
    info = add("a")
    before = (info.path / "adapter.json").read_bytes()
    assert changes.set_note(workspace, "a", "  good on <b>mugs</b> ü  ") == "good on <b>mugs</b> ü"
    changes.rename(workspace, "a", "b")
    assert changes.note_of(AdapterRegistry(workspace.adapters).find("b")) == "good on <b>mugs</b> ü"
    assert (workspace.adapters / "b" / "adapter.json").read_bytes() == before
    assert {path.name for path in (workspace.adapters / "b").iterdir()} == {
        "adapter.json",
        "adapter_model.safetensors",
        LABEL,
    }
    with pytest.raises(AdapterError, match=r"at most 4,000"):
        changes.set_note(workspace, "b", "x" * 4001)


def test_of_two_notes_written_at_once_the_second_replaces_nothing(workspace: Workspace, add: Add) -> None:
    info = add("a")
    changes.set_note(workspace, "a", "first\nline", read="")
    with pytest.raises(AdapterError, match=r'it reads "first\nline" now. Nothing was replaced'):
        changes.set_note(workspace, "a", "second", read="")
    assert changes.set_note(workspace, "a", "first\nline", read="") == "first\nline", "sent twice"
    assert changes.set_note(workspace, "a", "both", read="first\r\nline") == changes.note_of(info) == "both"


def test_a_damaged_label_costs_the_note_only(workspace: Workspace, add: Add) -> None:
    info = add("a")
    for damage in (b"", b"{", b"[]", b'{"note": 1}', b'{"note": "n", "names": [{"name": "a", "until": "x"}]}', b"\xff"):
        (info.path / LABEL).write_bytes(damage)
        assert changes.note_of(info) == ""
    changes.set_note(workspace, "a", "anew")
    assert changes.note_of(info) == "anew"


def test_what_is_deleted_comes_back_whole(workspace: Workspace, add: Add) -> None:
    info = add("a.b-1")
    changes.set_note(workspace, "a.b-1", "a note")
    before = {path.name: path.read_bytes() for path in info.path.iterdir()}
    entry = changes.delete(workspace, "a.b-1")
    assert names(workspace) == []
    assert (entry.name, changes.deleted(workspace)) == ("a.b-1", [entry])
    with pytest.raises(AdapterError, match=r"There is no adapter 'a.b-1' in this workspace"):
        changes.delete(workspace, "a.b-1")
    assert changes.restore(workspace, "a.b-1").name == "a.b-1"
    assert {path.name: path.read_bytes() for path in info.path.iterdir()} == before
    assert changes.deleted(workspace) == []


def test_the_bin_holds_several_of_one_name(workspace: Workspace, add: Add) -> None:
    add("a", "first")
    first = changes.delete(workspace, "a")
    first.path.rename(first.path.with_name("a.20260101T000000-abcdef"))  # long ago
    add("a", "second")
    second = changes.delete(workspace, "a")
    assert [entry.id for entry in changes.deleted(workspace)] == [second.id, "a.20260101T000000-abcdef"]
    changes.restore(workspace, "a")
    assert (workspace.adapters / "a" / "adapter_model.safetensors").read_text() == "second"
    with pytest.raises(AdapterError, match=r"stands already. Restore it under another name"):
        changes.restore(workspace, "a")
    changes.restore(workspace, "a", "older")
    assert (workspace.adapters / "older" / "adapter_model.safetensors").read_text() == "first"


def test_what_is_purged_is_gone(workspace: Workspace, add: Add) -> None:
    for name in ("a", "b", "c"):
        add(name)
        changes.delete(workspace, name)
    assert changes.purge(workspace, "b") == 1
    assert sorted(entry.name for entry in changes.deleted(workspace)) == ["a", "c"]
    (workspace.bin / "adapters" / ".purging-interrupted").mkdir()
    assert changes.purge(workspace) == 2
    assert list((workspace.bin / "adapters").iterdir()) == []
    with pytest.raises(AdapterError, match=r"It holds: nothing"):
        changes.purge(workspace, "a")


def test_a_full_disk_leaves_everything_where_it_was(
    workspace: Workspace, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = add("a")
    changes.set_note(workspace, "a", "old")

    def refuse(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(AdapterError, match=r"No space left on device"):
        changes.set_note(workspace, "a", "new")
    with pytest.raises(AdapterError, match=r"No space left on device"):
        changes.rename(workspace, "a", "b")
    monkeypatch.undo()
    assert changes.note_of(info) == "old"
    assert names(workspace) == ["a"]
    assert not [path for path in info.path.iterdir() if path.name.startswith(".")], "nothing half-written is left"
    # The new label takes the old one's place in one go: what fails there leaves the old one.
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(AdapterError, match="No space left on device"):
        changes.set_note(workspace, "a", "new")
    assert changes.note_of(info) == "old"
    monkeypatch.undo()
    monkeypatch.setattr(Path, "rename", refuse)
    for change in (lambda: changes.rename(workspace, "a", "b"), lambda: changes.delete(workspace, "a")):
        with pytest.raises(AdapterError, match=r"it stands where it was"):
            change()


_CHURN = """
import itertools, sys
from grounding.adapters import changes
from grounding.workspace import Workspace
w = Workspace(__import__("pathlib").Path(sys.argv[1]))
print("ready", flush=True)
for n in itertools.count():
    name = "a" if (w.adapters / "a").exists() else "b"
    other = "b" if name == "a" else "a"
    changes.set_note(w, name, str(n) * 500)
    changes.rename(w, name, other)
    changes.restore(w, changes.delete(w, other).id)
"""


@pytest.mark.slow
def test_killed_at_any_moment_no_adapter_is_lost_or_doubled(workspace: Workspace, add: Add) -> None:
    add("a", "the weights")
    for number in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", _CHURN, str(workspace.root)], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.013 * (number + 1))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if changes.deleted(workspace):
            changes.restore(workspace, changes.deleted(workspace)[0].id)
        (name,) = names(workspace)
        folder = workspace.adapters / name
        assert (folder / "adapter_model.safetensors").read_text() == "the weights"
        note = changes.note_of(AdapterRegistry(workspace.adapters).find(name))
        assert note == note[: len(note) // 500] * 500, "the note is one of those written"
