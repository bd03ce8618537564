"""Who may import whom, read from the source; and what opening the page must not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted([ROOT / "app.py", *(ROOT / "grounding").rglob("*.py"), *(ROOT / "annotate").rglob("*.py")])
# What curation may use of the core.
CORE_OF_ANNOTATE = {
    "errors",
    "boxes",
    "records",
    "pictures",
    "progress",
    "who",
    "workspace",
    "overlay",
    "database",
    "write_ahead",
    "passwords",
    "placeholders",
    "hub",
}
HEAVY = ("torch", "torchvision", "transformers", "peft", "accelerate", "datasets", "bitsandbytes")


def imports(source: str, module: str, *, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything that the source imports, at any level, as seen from `module`.

    `from a import b` gives `a.b`, as b may be a module; relative imports are resolved; `importlib.import_module` and
    `__import__` count where they are given a text.
    """
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                yield node.lineno, str(node.args[0].value)


def breaches(source: str, path: str) -> list[str]:
    """The rules that a source breaks when it stands at this path of the repository, each with its line."""
    parts = path.removesuffix(".py").split("/")
    is_package = parts[-1] == "__init__"
    module = ".".join(parts[:-1] if is_package else parts)
    own = parts[0]
    may_use_gradio = path == "app.py" or (len(parts) > 2 and own in ("grounding", "annotate") and parts[1] == "ui")
    found = []
    for line, name in imports(source, module, is_package=is_package):
        root, _, rest = name.partition(".")
        if own == "grounding" and root == "annotate":
            found.append(f"{path}:{line} imports {name}: grounding never imports annotate")
        if own == "annotate" and root == "grounding" and rest.split(".")[0] not in CORE_OF_ANNOTATE:
            allowed = ", ".join(sorted(CORE_OF_ANNOTATE))
            found.append(f"{path}:{line} imports {name}: annotate imports from grounding only {allowed}")
        if own in ("grounding", "annotate") and root == "app":
            found.append(f"{path}:{line} imports {name}: nothing imports the app")
        if root.startswith("gradio") and not may_use_gradio:
            found.append(f"{path}:{line} imports {name}: gradio stays in app.py, grounding/ui and annotate/ui")
    return found


def loaded_by(statement: str, modules: tuple[str, ...]) -> list[str]:
    """Which of these modules a fresh interpreter has after the statement."""
    code = f"{statement}\nimport sys\nprint(*[name for name in {modules!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_a_file_keeps_the_rules(path: Path) -> None:
    assert breaches(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()) == []


def test_all_of_the_packages_is_read() -> None:
    read = {path.relative_to(ROOT).as_posix() for path in FILES}
    assert {"app.py", "grounding/boxes.py", "grounding/ui/train.py", "annotate/store.py", "annotate/ui/tab.py"} <= read
    assert len(read) > 60


@pytest.mark.parametrize(
    ("case", "path", "source"),
    [
        ("plain", "grounding/models.py", "import annotate"),
        ("a module of it", "grounding/models.py", "import json, annotate.store as kept"),
        ("a name of it", "grounding/ui/train.py", "from annotate.store import Store"),
        ("its package", "grounding/models.py", "from annotate import store"),
        ("inside a function", "grounding/models.py", "def f():\n    from annotate import store"),
        ("inside a method under a condition", "grounding/a.py", "class A:\n def f(self):\n  if 1:\n   import annotate"),
        ("in a try", "grounding/a.py", "try:\n    pass\nfinally:\n    import annotate"),
        ("for types only", "grounding/a.py", "if TYPE_CHECKING:\n    from annotate.items import Item"),
        ("by its text", "grounding/a.py", "import importlib\nimportlib.import_module('annotate.store')"),
        ("by the built-in", "grounding/a.py", "__import__('annotate')"),
        ("a model in the curation", "annotate/store.py", "from grounding.models import load_model"),
        ("the whole core", "annotate/store.py", "import grounding"),
        ("all names of the core", "annotate/store.py", "from grounding import *"),
        ("a name of the core's package", "annotate/store.py", "from grounding import load"),
        ("an allowed one beside another", "annotate/store.py", "from grounding import boxes, predict"),
        ("a module with an allowed beginning", "annotate/store.py", "from grounding.boxes_3d import Box"),
        ("the core's tabs", "annotate/ui/tab.py", "from grounding.ui.events import tell"),
        ("inside a function of a tab", "annotate/ui/tab.py", "def f():\n    import grounding.jobs.store"),
        ("the curation in training", "grounding/training/feed.py", "from annotate.store import Store"),
        ("the way up", "annotate/importers/jsonl.py", "from ...grounding import models"),
        ("gradio in the core", "grounding/models.py", "import gradio as gr"),
        ("a part of gradio", "grounding/jobs/launch.py", "def f():\n    from gradio.routes import App"),
        ("a companion of gradio", "annotate/store.py", "import gradio_client"),
        ("gradio in a file called ui", "grounding/ui.py", "import gradio"),
        ("gradio in another ui", "grounding/jobs/ui/a.py", "import gradio"),
        ("the app from below", "grounding/ui/shell.py", "import app"),
    ],
)
def test_the_checker_sees_a_breach(case: str, path: str, source: str) -> None:
    (found,) = breaches(source, path)
    assert found.startswith(f"{path}:{len(source.splitlines())} imports ")


@pytest.mark.parametrize(
    ("case", "path", "source"),
    [
        ("gradio in a tab", "grounding/ui/compare.py", "import gradio as gr"),
        ("gradio in the package of a tab", "annotate/ui/__init__.py", "from gradio import Blocks"),
        ("gradio in the app", "app.py", "import gradio as gr"),
        ("both in the app", "app.py", "from annotate.store import Store\nfrom grounding.models import load_model"),
        ("what curation may use", "annotate/store.py", "from grounding.records import Sample, SPLITS"),
        ("a module that curation may use", "annotate/store.py", "from grounding import boxes, errors"),
        ("its own", "annotate/ui/tab.py", "from annotate.store import Store"),
        ("its own, relative", "annotate/importers/jsonl.py", "from ..store import Store\nfrom . import coco"),
        (
            "its own, relative, from a package",
            "annotate/ui/__init__.py",
            "from .tab import build\nfrom .. import store",
        ),
        ("a name that only looks like it", "grounding/a.py", "import annotated_types, application, annotate_it"),
        ("the word in a text", "grounding/a.py", '"""import annotate"""\nx = "import gradio"'),
        ("another call with a text", "grounding/a.py", "find('annotate')"),
    ],
)
def test_the_checker_lets_pass(case: str, path: str, source: str) -> None:
    assert breaches(source, path) == []


def test_opening_the_page_loads_no_model_library() -> None:
    assert loaded_by("import app", ("gradio", *HEAVY)) == ["gradio"]


@pytest.mark.parametrize(
    "statement",
    [
        "import grounding, grounding.reports, grounding.adapters, grounding.snapshots, grounding.jobs.launch",
        "import grounding.compared.exports, grounding.compared.notebook, grounding.compared.suspects",
        "import grounding.training.preview, grounding.training.feeding",
        "import annotate.__main__, grounding.__main__, grounding.jobs.worker",
    ],
)
def test_the_core_and_the_commands_load_neither_a_model_library_nor_gradio(statement: str) -> None:
    assert loaded_by(statement, ("gradio", *HEAVY)) == []


def test_the_look_into_a_fresh_interpreter_sees_what_is_loaded() -> None:
    assert loaded_by("import colorsys", ("colorsys", "gradio")) == ["colorsys"]
    with pytest.raises(AssertionError, match="no_such_module"):
        loaded_by("import no_such_module", ())
