"""Who may import whom: the layers of docs/design.md, read from the import statements."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED_WITH_ANNOTATE = {"errors", "boxes", "records", "pictures", "workspace", "database", "overlay"}
HEAVY = ("torch", "transformers", "peft", "datasets", "bitsandbytes", "accelerate")


def imported_modules(source: str) -> Iterator[str]:
    """Every module that the source names in an import, wherever it stands, `from a import b` as `a.b` too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def broken_rules(path: str, source: str) -> list[str]:
    """The rules that a module at this path, relative to the repository, breaks with its imports."""
    modules = set(imported_modules(source))
    broken = []
    if path.startswith("grounding/") and any(name.split(".")[0] == "annotate" for name in modules):
        broken.append("grounding imports annotate")
    if path.startswith("annotate/"):
        parts = {name.split(".")[1] for name in modules if name.startswith("grounding.")}
        broken += [f"annotate imports grounding.{part}" for part in sorted(parts - SHARED_WITH_ANNOTATE)]
    page = path == "app.py" or path.startswith(("grounding/ui/", "annotate/ui/"))
    if not page and any(name.split(".")[0] == "gradio" for name in modules):
        broken.append("gradio outside the user interface")
    return broken


def modules_of_the_app() -> list[str]:
    paths = [ROOT / "app.py", *(ROOT / "grounding").rglob("*.py"), *(ROOT / "annotate").rglob("*.py")]
    return [path.relative_to(ROOT).as_posix() for path in paths]


@pytest.mark.parametrize("path", modules_of_the_app())
def test_the_layers_hold(path: str) -> None:
    assert broken_rules(path, (ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("path", "source", "broken"),
    [
        ("grounding/predict.py", "from annotate.store import Store", ["grounding imports annotate"]),
        ("grounding/predict.py", "def f():\n    import annotate", ["grounding imports annotate"]),
        ("annotate/store.py", "from grounding import predict", ["annotate imports grounding.predict"]),
        ("annotate/store.py", "import grounding.models as m", ["annotate imports grounding.models"]),
        ("annotate/store.py", "from grounding.boxes import Box", []),
        ("annotate/store.py", "from gradio import State", ["gradio outside the user interface"]),
        ("grounding/jobs/store.py", "import gradio as gr", ["gradio outside the user interface"]),
        ("annotate/ui/tab.py", "import gradio as gr", []),
    ],
)
def test_a_broken_layer_would_be_seen(path: str, source: str, broken: list[str]) -> None:
    assert broken_rules(path, source) == broken


def test_the_page_stands_without_anything_heavy() -> None:
    code = (
        "import sys, tempfile, pathlib, app\n"
        "from annotate.store import Store\n"
        "from grounding.workspace import Workspace\n"
        "from grounding.ui.model_service import ModelService\n"
        "from grounding.ui.sources import Parts\n"
        "root = pathlib.Path(tempfile.mkdtemp())\n"
        "workspace = Workspace(root)\n"
        "store = Store(workspace.annotations_db, workspace.pictures)\n"
        "app.build_app(Parts(workspace, store, ModelService('demo', 'none', workspace), bool), store)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
