"""The documents are read as a stranger reads them: every path exists, every command runs, every figure is measured."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest

from grounding.families import all_profiles
from grounding.profiles import EMBEDDED_MODEL_PRESET, LARGE_MODEL_PRESET
from grounding.training.settings import TrainSettings
from grounding.ui.serving import read_flags

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = ["README.md", "CHANGELOG.md", *(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))]
FILES_WE_MAKE = {"annotations.db", "runs.db", "arena.db", "picture-sizes.db"}  # in a workspace, not in the repository


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands(language: str) -> list[str]:
    lines = [line.split("#")[0].strip() for block in blocks(language) for line in block.splitlines()]
    return [line for line in lines if line]


def paths_in(text: str) -> set[str]:
    linked = set(re.findall(r"\]\(([^)#:]+)\)", text))
    named = {word for word in re.findall(r"`([\w./-]+)`", text) if re.search(r"/|\.(py|md|txt|toml|db)$", word)}
    return {path for path in linked | named if not path.startswith("/")} - FILES_WE_MAKE


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_that_a_document_names_exists(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    folder = (ROOT / document).parent
    # Of the layout's own words, "evaluate", "data/workspace" is made at the first start.
    missing = [
        path
        for path in paths_in(re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
        if not any((base / path).exists() for base in (folder, ROOT, ROOT / "grounding", ROOT / "annotate"))
        and path != "data/workspace"
    ]
    assert not missing


def test_the_layout_in_the_design_is_the_layout_on_disk() -> None:
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    listed = re.search(r"## Layout\n\n```\n(.*?)```", text, re.DOTALL)
    assert listed is not None
    for package in ("grounding", "annotate"):
        part = re.search(rf"^{package}/.*\n((?:  .*\n)+)", listed[1], re.MULTILINE)
        assert part is not None
        names = re.findall(r"^  ((?:\w+(?:\.py|/)(?:, )?)+)", part[1], re.MULTILINE)
        inside = {name for line in names for name in line.split(", ")}
        here = {path.name + ("/" if path.is_dir() else "") for path in (ROOT / package).iterdir()}
        assert inside == {name for name in here if name.endswith((".py", "/")) and not name.startswith(("__", "."))}


def test_a_missing_path_would_be_seen() -> None:
    assert paths_in("see `grounding/nowhere.py` and [this](docs/none.md)") == {"grounding/nowhere.py", "docs/none.md"}


def test_the_readme_opens_with_a_sentence_a_picture_and_two_commands() -> None:
    first_screen = README.split("```sh")[0]
    assert re.search(r"^See where .*\.$", first_screen, re.MULTILINE)
    assert (ROOT / "docs" / "images" / "compare.png").stat().st_size > 50_000
    assert "](docs/images/compare.png)" in first_screen
    assert commands("sh")[:2] == ["make run", "make test"]


@pytest.mark.parametrize("command", [line for line in commands("sh") if line.startswith("make ")])
def test_make_knows_the_target(command: str) -> None:
    subprocess.run([*shlex.split(command), "--dry-run"], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("command", [line for line in commands("text") if "app.py" in line])
def test_the_app_knows_its_flags(command: str) -> None:
    read_flags(shlex.split(command)[2:], {})


def test_every_flag_of_the_app_is_documented() -> None:
    shown = subprocess.run([sys.executable, "app.py", "--help"], cwd=ROOT, check=True, capture_output=True, text=True)
    flags = set(re.findall(r"--[a-z-]+", shown.stdout)) - {"--help"}
    assert not [flag for flag in flags if f"`{flag}`" not in README]


@pytest.mark.parametrize("command", ["predict", "evaluate", "compare", "calibrate", "train", "demo"])
def test_every_flag_of_the_command_line_is_documented(command: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "grounding", command, "--help"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    flags = set(re.findall(r"--[a-z-]+", shown.stdout)) - {"--help", "--seed"}
    assert not [flag for flag in flags if not re.search(rf"{flag}(?![a-z-])", README)]


def test_the_table_of_models_holds_every_profile_with_its_format() -> None:
    table = re.search(r"## Models it knows\n\n(.*?)\n\n", README, re.DOTALL)
    assert table is not None
    rows = [line.strip("| ").split(" | ") for line in table[1].splitlines()[2:]]
    listed = [(name, re.findall(r"`(\w+)`", row[1])) for row in rows for name in re.findall(r"`([^`]+)`", row[2])]
    known = all_profiles().items()
    assert sorted(listed) == sorted((n, [type(p.box_format).__name__] if p.box_format else []) for n, p in known)


def test_every_training_setting_is_in_the_help() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "grounding", "train", "--help"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert not [spec.name for spec in fields(TrainSettings) if spec.name not in shown.stdout]


def preset_values() -> str:
    """What the balanced presets hold, as the table in docs/presets.md."""
    settings = [TrainSettings.from_mapping(dict(preset)) for preset in (EMBEDDED_MODEL_PRESET, LARGE_MODEL_PRESET)]
    rows = [
        f"| `{spec.name}` | " + " | ".join(said(getattr(one, spec.name)) for one in settings) + " |"
        for spec in fields(TrainSettings)
    ]
    return "\n".join(["| setting | the embedded model | Qwen, InternVL |", "| --- | --- | --- |", *rows])


def said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(said, value))
    return f"{value:g}" if isinstance(value, float) else str(value) or "–"


def test_the_values_of_the_presets_are_in_the_documentation() -> None:
    assert preset_values() in (ROOT / "docs" / "presets.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_command_and_example_of_the_readme_runs(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "BOXWRIGHT_WORKSPACE": str(tmp_path / "workspace"),
        "HF_HUB_OFFLINE": "1",
    }
    steps = [[sys.executable, *shlex.split(line)[1:]] for line in commands("sh") if line.startswith("python ")]
    steps += [[sys.executable, "-W", "error", "-c", block] for block in blocks("python")]
    assert len(steps) > 10
    for step in steps:
        threads = {"OMP_NUM_THREADS": "2"} if "train" in step else {}  # enough for its steps to run in lanes
        done = subprocess.run(
            step, cwd=tmp_path, env=environment | threads, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{shlex.join(step)}\n{done.stdout}\n{done.stderr}"
        if "--out" in step and "predict" in step:
            assert re.fullmatch(r"([\d.]+ ?){4}\n", done.stdout), "the first example finds what it is asked for"
    assert (tmp_path / "build" / "boxed.png").is_file()


def test_the_readme_imports_only_what_is_public() -> None:
    import grounding

    for block in blocks("python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "grounding":
                assert node.attr in grounding.__all__


def load_benchmark(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_figures_of_the_readme_are_those_that_were_measured() -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / "loop.json").read_text(encoding="utf-8"))
    assert result["steps"] == EMBEDDED_MODEL_PRESET["steps"], (
        "the defaults changed since: run python benchmarks/loop.py"
    )
    assert load_benchmark("loop").figures_markdown(result) in README


@pytest.mark.parametrize(
    ("script", "result", "document"),
    [
        ("pretrain_accuracy", "pretrain_accuracy-cpu-taught", "pretrain.md"),
        ("pretrain_accuracy", "pretrain_accuracy-cpu-taught-again", "pretrain.md"),
        ("worker_threads", "worker_threads", "train.md"),
    ],
)
def test_the_figures_of_other_documents_too(script: str, result: str, document: str) -> None:
    path = ROOT / "benchmarks" / "results" / f"{result}.json"
    told = load_benchmark(script).figures_markdown(json.loads(path.read_text(encoding="utf-8")))
    assert told in (ROOT / "docs" / document).read_text(encoding="utf-8")


@pytest.mark.parametrize("script", ["core_speed", "answers", "train_speed", "cpu_numbers"])
def test_the_other_figures_too(script: str) -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / f"{script}.json").read_text(encoding="utf-8"))
    assert load_benchmark(script).figures_markdown(result) in README
