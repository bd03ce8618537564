"""The command line: one JSON document, exit statuses, and a sentence for each failure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from test_import_refs import pictures_in, ref, refer_folder

import annotate
from annotate import batches
from annotate.__main__ import main
from annotate.snapshot import SnapshotInfo
from annotate.store import Store
from annotate_samples import PLACEHOLDER, MakeSample
from grounding.records import write_samples
from grounding.workspace import Workspace

REPOSITORY = Path(__file__).resolve().parents[2]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def imported(source_folder: Path, workspace: Workspace, capsys: Capture) -> Workspace:
    assert main(["import", str(source_folder)]) == 0
    capsys.readouterr()
    return workspace


def document(capsys: Capture, *arguments: str) -> dict[str, Any]:
    """The one JSON document that the command prints; its exit status must be 0."""
    assert main([*arguments, "--json"]) == 0
    output = capsys.readouterr().out
    assert output.count("\n") == 1
    return json.loads(output)


def failure(capsys: Capture, *arguments: str) -> str:
    """The last line on standard error; the exit status must be 1 and standard output empty."""
    assert main(list(arguments)) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err.strip().splitlines()[-1]


def test_the_whole_way_from_import_to_export(source_folder: Path, workspace: Workspace, capsys: Capture) -> None:
    report = document(capsys, "import", str(source_folder), "--who", "ann")
    assert (report["imported"], report["errors"], report["format"]) == (6, [], "jsonl")
    assert document(capsys, "stats")["placeholders"] == 2
    preview = document(capsys, "repair", "--dry-run")
    assert preview["examples"] == [["t3", PLACEHOLDER, "red cup"]]
    assert (preview["total"], preview["left_for_people"], preview["dry_run"]) == (1, 1, True)
    assert document(capsys, "stats")["placeholders"] == 2
    repaired = document(capsys, "repair", "--who", "ann")
    assert (repaired["count"], repaired["left"]) == (1, 1)
    stats = document(capsys, "stats")
    assert (stats["placeholders"], stats["repaired"]) == (1, 1)
    assert stats["per_split"] == {"train": 4, "val": 1, "test": 1}
    assert document(capsys, "lint")["placeholders"] == ["t4"]
    snapshot = document(capsys, "snapshot", "one")
    assert snapshot["counts"] == {"train": 3, "val": 1, "test": 1}
    assert snapshot["path"] == str(workspace.snapshots / "one")
    out = workspace.root / "out"
    assert document(capsys, "export", "one", "--format", "jsonl", "--out", str(out))["samples"] == 5
    assert json.loads((out / "train.jsonl").read_text().splitlines()[1])["my_key"] == [1, "x"]
    (batch,) = document(capsys, "batches")["batches"]
    assert (batch["name"], batch["action"], batch["who"], batch["count"]) == (repaired["batch"], "repair", "ann", 1)
    assert document(capsys, "repair", "--undo", repaired["batch"])["count"] == 1
    assert document(capsys, "stats")["placeholders"] == 2
    assert main(["batches"]) == 0
    assert "1 samples, was put back" in capsys.readouterr().out


def test_a_repair_that_is_stopped_names_its_undo(
    source_folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*arguments: object) -> None:
        raise KeyboardInterrupt

    document(capsys, "import", str(source_folder))
    with monkeypatch.context() as pressed:
        pressed.setattr(batches, "apply", stopped)
        assert main(["repair"]) == 1
    name = capsys.readouterr().err.strip().rpartition("repair --undo ")[2]
    assert document(capsys, "repair", "--undo", name)["count"] == 0


def test_a_dry_run_never_takes_a_repair_back(source_folder: Path, capsys: Capture) -> None:
    document(capsys, "import", str(source_folder))
    name = document(capsys, "repair")["batch"]
    with pytest.raises(SystemExit):
        main(["repair", "--undo", name, "--dry-run"])
    assert document(capsys, "stats")["repaired"] == 1


def test_lint_tells_ids_by_code_for_a_profile(
    source_folder: Path, workspace: Workspace, capsys: Capture, make_sample: MakeSample
) -> None:
    write_samples(source_folder / "test.jsonl", [make_sample("s1", 4, phrase="the brwon dog on the left")])
    document(capsys, "import", str(source_folder))
    report = document(capsys, "lint", "--profile", "refcoco+")
    assert (report["profile"], report["findings"]["location"], report["findings"]["typo"]) == (
        "refcoco+",
        ["s1"],
        ["s1"],
    )
    assert report["counts"]["placeholders"] == 2
    assert "location" not in document(capsys, "lint")["counts"]
    assert main(["lint", "--profile", "refcoco+"]) == 0
    assert "(refcoco+): empty 0, placeholders 2, duplicates 0, location 1, typo 1." in capsys.readouterr().out


COMMANDS = [["stats"], ["batches"], ["checks"], ["lint"], ["repair", "--dry-run"], ["repair"], ["snapshot", "one"]]


def test_an_import_tells_at_once_what_leaks(tmp_path: Path, workspace: Workspace, capsys: Capture) -> None:
    pictures_in(tmp_path / "data" / "images" / "mscoco" / "images" / "train2014")
    refer_folder(
        tmp_path / "data" / "refcoco", [ref(1, "train", "left"), ref(4, "train", "cup"), ref(2, "train", "man")]
    )
    refer_folder(tmp_path / "data" / "refcoco+", [ref(1, "testA", "red cup"), ref(5, "train", "blue one")])
    assert document(capsys, "import", str(tmp_path / "data" / "refcoco"))["leaks"]["pictures"] == 0
    assert "leaks" not in document(capsys, "import", str(tmp_path / "data" / "refcoco+"), "--dry-run")
    assert main(["import", str(tmp_path / "data" / "refcoco+")]) == 0
    assert "1 picture stands in train and also in val or test: snapshots leave the 2 train samples on it out" in (
        capsys.readouterr().out
    )
    leaks = document(capsys, "import", str(tmp_path / "data" / "refcoco+"))["leaks"]
    counts = {"same_picture": 2, "same_image_id": 0, "near_duplicate": 0}
    assert leaks == {"pictures": 1, "samples": 2, "counts": counts}
    snapshot = document(capsys, "snapshot", "one")
    assert snapshot["left_out"]["leak"] == 2 and snapshot["counts"]["train"] == 2


def test_the_checks_of_a_profile_are_chosen_for_the_workspace(
    source_folder: Path, workspace: Workspace, capsys: Capture, make_sample: MakeSample
) -> None:
    write_samples(source_folder / "test.jsonl", [make_sample("s1", 4, phrase="the brown dog on the left")])
    document(capsys, "import", str(source_folder))
    before = document(capsys, "checks")
    assert before == {"profile": "free", "problems": before["problems"], "samples": 6}
    chosen = document(capsys, "checks", "--profile", "refcoco+")
    assert (chosen["profile"], chosen["problems"]) == ("refcoco+", before["problems"] + 1)
    assert "location" in Store(workspace.annotations_db, workspace.pictures).get("s1").problems
    assert document(capsys, "checks") == chosen
    assert document(capsys, "lint")["profile"] == "refcoco+"
    assert document(capsys, "lint", "--profile", "free")["profile"] == "free"
    assert main(["checks", "--profile", "free"]) == 0
    assert f"{before['problems']} of 6 samples fail the checks of free." in capsys.readouterr().out


@pytest.mark.parametrize("public", [False, True])
def test_a_snapshot_is_pushed_to_the_hub(
    public: bool, imported: Workspace, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed: list[tuple[str, str, bool]] = []

    def push(snapshot: SnapshotInfo, repo_id: str, private: bool = True) -> str:
        print("Uploading the data set shards")
        pushed.append((snapshot.name, repo_id, private))
        return f"https://huggingface.co/datasets/{repo_id}"

    monkeypatch.setattr("annotate.exporters.hub.push_to_hub", push)
    document(capsys, "snapshot", "one")
    told = document(
        capsys, "export", "one", "--format", "datasets", "--push-to-hub", "ann/mugs", *["--public"] * public
    )
    assert pushed == [("one", "ann/mugs", not public)]
    assert told["address"] == "https://huggingface.co/datasets/ann/mugs"
    assert (told["public"], told["samples"]) == (public, 4)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_without_json_a_person_reads_a_sentence(command: list[str], imported: Workspace, capsys: Capture) -> None:
    assert main(command) == 0
    output = capsys.readouterr().out
    assert output.strip() and not output.startswith("{")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_missing_workspace_is_not_made(command: list[str], tmp_path: Path, capsys: Capture) -> None:
    assert "Import a data set first" in failure(capsys, *command, "--workspace", str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_a_dry_run_import_makes_no_workspace(source_folder: Path, workspace: Workspace, capsys: Capture) -> None:
    report = document(capsys, "import", str(source_folder), "--dry-run")
    assert (report["imported"], report["dry_run"]) == (6, True)
    assert not workspace.root.exists()


def test_bad_rows_are_told_and_the_others_taken(source_folder: Path, workspace: Workspace, capsys: Capture) -> None:
    (source_folder / "source").mkdir()
    with (source_folder / "test.jsonl").open("a") as lines:
        lines.write("{oops\n")
        lines.write('{"id": "x", "image": "none.png", "phrase": "mug", "boxes_xyxy_px": []}\n')
    assert main(["import", str(source_folder), "--json"]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert report["imported"] == 6
    assert [error in captured.err for error in report["errors"]] == [True, True]
    assert report["errors"][0].startswith("test.jsonl, line 2: ")
    assert report["errors"][1].startswith("x: There is no picture at")


def test_an_import_of_bad_rows_alone_fails(tmp_path: Path, capsys: Capture) -> None:
    source = tmp_path / "bad.jsonl"
    source.write_text('{"id": "x", "image": "none.png", "phrase": "mug", "boxes_xyxy_px": []}\n')
    assert "Nothing could be imported: all 1 rows have errors. x: There is no" in failure(capsys, "import", str(source))


@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=["import", "dry run"])
def test_as_json_bad_rows_alone_are_all_listed_too(more: list[str], tmp_path: Path, capsys: Capture) -> None:
    source = tmp_path / "bad.jsonl"
    source.write_text('{"id": "x"}\n' * 50)
    assert main(["import", str(source), "--format", "jsonl", "--json", *more]) == 1
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert (len(report["errors"]), report["imported"], report["ok"]) == (50, 0, False)
    assert captured.err.strip().splitlines()[-1].startswith("annotate: Nothing could be imported: all 50 rows")


FAILURES = {
    "no such source": (["import", "nowhere.jsonl"], "There is nothing at"),
    "no such snapshot": (["export", "two", "--format", "jsonl", "--out", "o"], "no snapshot 'two'"),
    "bad snapshot name": (["snapshot", "../up"], "can't name a snapshot"),
    "nothing approved": (["snapshot", "one", "--approved-only"], "no train sample"),
    "no such repair": (["repair", "--undo", "repair-x"], "no repair or bulk edit named"),
}


@pytest.mark.parametrize(("command", "message"), FAILURES.values(), ids=FAILURES)
def test_a_failure_is_one_sentence_and_status_1(
    command: list[str], message: str, imported: Workspace, capsys: Capture
) -> None:
    assert message in failure(capsys, *command)
    assert message in failure(capsys, *command, "--json")


def test_a_command_that_is_stopped_is_a_sentence(
    source_folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "import_samples", stopped)
    assert failure(capsys, "import", str(source_folder)) == "annotate: stopped."


def test_output_that_cannot_be_written_is_a_sentence(imported: Workspace) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "annotate", "stats", "--workspace", str(imported.root)]
        done = subprocess.run(command, cwd=REPOSITORY, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "annotate: the output can't be written (No space left on device). Free some space, or send it elsewhere.\n"
    )


USAGE = [
    [],
    ["fly"],
    ["import"],
    ["import", "x", "--format", "voc"],
    ["export", "one"],
    ["snapshot"],
    ["stats", "x"],
    ["lint", "--profile", "coco"],
    ["checks", "--profile", "coco"],
    ["export", "one", "--format", "jsonl"],
    ["export", "one", "--format", "jsonl", "--push-to-hub", "ann/mugs"],
    ["export", "one", "--format", "datasets", "--push-to-hub", "ann/mugs", "--out", "o"],
    ["export", "one", "--format", "datasets", "--out", "o", "--public"],
]


@pytest.mark.parametrize("command", USAGE, ids=lambda words: " ".join(words) or "nothing")
def test_wrong_usage_is_status_2(command: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 2
    assert capsys.readouterr().out == ""


def test_who_comes_from_the_environment(
    source_folder: Path, workspace: Workspace, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOXWRIGHT_USER", "Ann Example")
    document(capsys, "import", str(source_folder))
    store = Store(workspace.annotations_db, workspace.pictures)
    assert store.history("t1")[0].who == "Ann Example"


def test_who_is_unknown_where_the_system_knows_no_name(
    source_folder: Path, workspace: Workspace, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.delenv("BOXWRIGHT_USER", raising=False)
    monkeypatch.setattr("getpass.getuser", nobody)
    document(capsys, "import", str(source_folder))
    assert Store(workspace.annotations_db, workspace.pictures).history("t1")[0].who == "unknown"


def test_the_real_command_keeps_standard_output_pure_and_loads_no_heavy_package(source_folder: Path) -> None:
    code = (
        "import runpy, sys; sys.argv = ['annotate', *sys.argv[1:]]\n"
        "try: runpy.run_module('annotate', run_name='__main__')\n"
        "finally: print(sorted({'torch', 'gradio', 'transformers'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, "import", str(source_folder), "--json"],
        cwd=REPOSITORY,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["imported"] == 6
    assert done.stderr.splitlines()[-1] == "[]"


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert annotate.__version__ == project["version"]
