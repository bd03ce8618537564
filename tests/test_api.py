"""The app asked by programs: the README's examples against the running app behind its log-in."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError, AuthenticationError

from annotate.store import Store
from compared_samples import answered, keep
from grounding.boxes import Box
from grounding.demo.dataset import DemoSize
from grounding.passwords import set_password
from grounding.workspace import Workspace
from random_adapters import write_random_adapter
from served import ROOT, ServedApp, free_port, small_workspace

pytestmark = pytest.mark.slow
WHO = ("ann", "correct horse")
HOW = {"auth": WHO, "verbose": False, "httpx_kwargs": {"timeout": 60}}  # other tests may have the processor
EXAMPLES = re.findall(r"^```py\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a workspace that has an adapter and two evaluations, and the demo's files where the README has them."""
    folder = tmp_path_factory.mktemp("api")
    workspace = small_workspace(folder, DemoSize(3, 1, 4))
    (folder / "build").mkdir()
    (folder / "build" / "demo").symlink_to(folder / "demo")
    write_random_adapter(workspace.adapters / "short")
    samples = [one for one in Store(workspace.annotations_db, workspace.pictures).iterate("test") if one.boxes_xyxy_px]
    rows = [answered(one, one.boxes_xyxy_px) for one in samples]
    keep(workspace.evaluations / "first", [answered(samples[0], [Box(0, 0, 9, 9)]), *rows[1:]])
    keep(workspace.evaluations / "second", rows, "short")
    return folder


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[ServedApp]:
    set_password(folder / "people", *WHO)
    app = ServedApp(Workspace(folder / "workspace"), free_port(), flags=("--auth", str(folder / "people")))
    app.start()
    yield app
    app.stop()


@pytest.fixture(scope="module")
def client(served: ServedApp) -> Client:
    return Client(served.url, **HOW)


def test_the_examples_of_the_readme_run(
    served: ServedApp, client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (example,) = EXAMPLES
    assert '"http://127.0.0.1:7860"' in example
    monkeypatch.chdir(folder)
    found: dict[str, Any] = {}
    exec(example.replace('"http://127.0.0.1:7860"', f"{served.url!r}, **{HOW!r}"), found)
    by_sample = client.predict("demo-test-0000", "the ship", api_name="/predict")
    assert found["answer"] | {"seconds": 0} == by_sample | {"seconds": 0}, "the file is the sample's picture"
    assert "left" in found["sample"]["phrase"]
    for x1, y1, x2, y2 in (box for one in found["both"] for box in one["boxes_xyxy_px"]):
        assert 0 <= x1 < x2 <= 256 and 0 <= y1 < y2 <= 256
    assert [one["adapter"] for one in found["both"]] == [None, "short"]
    assert found["probed"]["original"]["boxes_xyxy_px"] == found["both"][0]["boxes_xyxy_px"]
    assert [side["evaluation"] for side in found["report"]["sides"]] == ["first", "second"]
    assert found["worst"][0]["answers"][1]["iou"] == 1.0
    assert httpx.get(served.url + found["sample"]["image_url"]).status_code == 401, "the picture is for who logged in"


def test_the_report_has_the_figures_of_the_command(client: Client, folder: Path) -> None:
    kept = [str(folder / "workspace" / "evaluations" / name) for name in ("first", "second")]
    command = [sys.executable, "-m", "grounding", "compare", *kept, "--json", "--workspace", str(folder / "workspace")]
    told = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    headline = client.predict("first", "second", api_name="/report")["headline"]
    assert headline["differences"]["accuracy_50"] == told["accuracy_50"]
    assert headline["differences"]["mean_iou"] == told["mean_iou"]
    assert headline["outcomes"]["wins"] == told["wins"] == 1
    assert headline["outcomes"]["mcnemar_p"] == told["mcnemar_p"]
    assert (headline["count"], headline["target_pictures"]) == (told["count"], told["pictures"])


def test_the_endpoints_are_those_of_the_document_each_described(client: Client) -> None:
    named = client.view_api(return_format="dict")["named_endpoints"]
    listed = re.findall(r"^\| `(/\w+)\(([^)]*)\)`", (ROOT / "docs" / "api.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(
        (name, ", ".join(one["parameter_name"] for one in told["parameters"])) for name, told in named.items()
    )
    for told in named.values():
        assert told["description"]
        assert all(one["python_type"]["description"] for one in told["parameters"])
        assert all(one["python_type"]["description"] and one["python_type"]["type"] for one in told["returns"])


def test_what_cannot_be_done_is_one_sentence(client: Client, folder: Path) -> None:
    with pytest.raises(AppError, match=r"There is no adapter 'none' for this model\. Adapters here: short"):
        client.predict(handle_file(folder / "demo" / "images" / "test-0000.png"), "ship", "none", api_name="/predict")
    with pytest.raises(AppError, match=r"app\.log is not a picture"):
        client.predict(handle_file(folder / "app.log"), "ship", api_name="/predict")
    with pytest.raises(AppError, match="neither a file that was sent nor an id"):
        client.predict({"path": str(folder / "workspace" / "annotations.db")}, "ship", api_name="/predict")
    with pytest.raises(AppError, match=re.escape("'../../second' can't name an evaluation")):
        client.predict("../../second", api_name="/report")


def test_nobody_comes_in_without_the_password(served: ServedApp, client: Client) -> None:
    with pytest.raises((AuthenticationError, httpx.HTTPStatusError, ValueError)):
        Client(served.url, **{**HOW, "auth": ("ann", "wrong horse")})
    refused = httpx.post(f"{served.url}gradio_api/call/adapters", json={"data": []})
    assert refused.status_code == 401
    assert httpx.get(f"{served.url}gradio_api/info").status_code == 401
