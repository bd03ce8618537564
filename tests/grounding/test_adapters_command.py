"""`python -m grounding adapters`: each action, its JSON, its exit status."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType

import pytest

from grounding.__main__ import main
from grounding.adapters import AdapterInfo
from grounding.workspace import Workspace


@pytest.fixture
def workspace(own_workspace: Path) -> Workspace:
    found = Workspace(own_workspace)
    for name, accuracy in (("a", 0.25), ("b", 0.5)):
        folder = found.adapters / name
        folder.mkdir(parents=True)
        (folder / "adapter_model.safetensors").touch()
        (folder / "adapter_config.json").write_text("{}")
        scores = {"accuracy_50": accuracy, "accuracy_75": 0.1, "mean_iou": 0.3, "detection_rate": 0.9, "count": 8}
        info = AdapterInfo(name, folder, "demo", "qwen3-vl-demo", f"2026-01-0{len(name)}T00:00:00+00:00")
        AdapterInfo(**{**vars(info), "scores": MappingProxyType(scores)}).save()
    return found


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["adapters", *arguments])
    told = capsys.readouterr()
    return status, told.out, told.err


def test_the_whole_life_of_an_adapter(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys) == run(capsys, "list") and run(capsys, "--json") == run(capsys, "list", "--json")
    status, out, _ = run(capsys, "list")
    assert status == 0 and "Acc@0.5 0.500" in out and "(training, val, 8)" in out
    assert run(capsys, "note", "b", "on mugs")[0] == 0
    (listed,) = [entry for entry in json.loads(run(capsys, "list", "--json")[1]) if entry["name"] == "b"]
    assert listed["note"] == "on mugs" and listed["measured"]["scores"]["accuracy_50"] == 0.5
    assert json.loads(run(capsys, "rename", "b", "cups", "--json")[1])["name"] == "cups"
    assert run(capsys, "show", "cups")[1].count("# cups") == 1
    entry = json.loads(run(capsys, "delete", "cups", "--json")[1])
    assert "cups" not in run(capsys, "list")[1] and entry["id"] in run(capsys, "list", "--deleted")[1]
    assert run(capsys, "restore", "cups", "--as", "mugs")[0] == 0
    assert (workspace.adapters / "mugs" / "adapter.json").is_file()
    assert run(capsys, "delete", "mugs")[0] == 0
    assert json.loads(run(capsys, "purge", "--json")[1]) == {"purged": 1}
    path = Path(json.loads(run(capsys, "export", "a", "--json")[1])["path"])
    assert path == workspace.exports / "a" and (path / "README.md").is_file()
    assert run(capsys, "export", "a", "--zip")[0] == 0
    assert (workspace.exports / "a.zip").is_file()


def test_a_merged_model_of_another_adapter_is_not_pushed(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed: list[str] = []
    monkeypatch.setattr("grounding.adapters.hub._upload", lambda *given: pushed.append(given[2]) or "there")  # type: ignore[func-returns-value]
    made_of = {"adapter": AdapterInfo.load(workspace.adapters / "a").to_json(), "sentence": "They agree."}
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "merged_from.json").write_text(json.dumps(made_of))
    status, _, err = run(capsys, "push", "b", "me/mugs", "--merged", str(tmp_path / "merged"))
    assert status == 1 and "was made of the adapter 'a', not of 'b'" in err
    assert pushed == []
    assert run(capsys, "push", "a", "me/mugs", "--merged", str(tmp_path / "merged"))[0] == 0
    assert run(capsys, "rename", "a", "mugs")[0] == 0
    assert run(capsys, "push", "mugs", "me/mugs", "--merged", str(tmp_path / "merged"))[0] == 0, "by another name now"
    assert run(capsys, "delete", "mugs")[0] == 0
    assert run(capsys, "push", "a", "me/mugs", "--merged", str(tmp_path / "merged"))[0] == 0, "gone since"
    assert run(capsys, "push", "c", "me/mugs", "--merged", str(tmp_path / "merged"))[0] == 1
    assert pushed == ["me/mugs"] * 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("show", "gone"), "There is no adapter 'gone'"),
        (("rename", "a", "b"), "'b' stands already"),
        (("rename", "a", "../b"), "can't name an adapter"),
        (("delete", "gone"), "There is no adapter 'gone'"),
        (("restore", "a"), "It holds: nothing"),
        (("merge", "a"), "no sample to hold the merged model against"),
        (("push", "a", "mugs"), "is no name on the Hub"),
        (("push", "a", "me/mugs", "--merged", "."), "is no merged model"),
    ],
)
def test_what_can_t_be_done_is_a_sentence(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str
) -> None:
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (1, "") and sentence in err
    assert len(err.splitlines()) == 1


def test_wrong_usage_exits_with_2(workspace: Workspace) -> None:
    for arguments in (["adapters", "fly"], ["adapters", "rename", "a"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
