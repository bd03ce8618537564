"""The assembled app: it starts without torch, fills a new workspace, and serves the page and its pictures."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

import app
from annotate import intake
from annotate.store import Store
from grounding.demo.dataset import DemoSize, write_demo
from grounding.errors import WorkspaceError
from grounding.passwords import set_password
from grounding.workspace import Workspace
from served import free_port

ROOT = Path(__file__).resolve().parent.parent


def test_nothing_heavy_is_imported_before_the_page_stands() -> None:
    code = "import app, sys; print([m for m in ('torch', 'transformers', 'datasets', 'peft') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def small_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "write_demo", lambda folder, **rest: write_demo(folder, size=DemoSize(2, 1, 2), **rest))


@pytest.mark.usefixtures("small_demo")
class TestFirstStart:
    def test_a_new_workspace_gets_the_demo_data(self, own_workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
        workspace = Workspace(own_workspace)
        store = app.open_workspace(workspace)
        assert store.splits() == {"train": 4, "val": 2, "test": 4}
        assert all(sample.image.is_file() for sample in store.iterate())
        assert "5 of 5" in capsys.readouterr().err
        assert not list(own_workspace.glob(".partial*"))

    def test_the_first_start_waits_for_no_disk(self, own_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """After an installation the disk has gigabytes to write; the demo can be drawn again."""
        monkeypatch.setattr(intake, "sync_disk", lambda: pytest.fail("it waits"))
        assert app.open_workspace(Workspace(own_workspace)).splits()

    def test_the_second_start_touches_nothing(self, own_workspace: Path) -> None:
        workspace = Workspace(own_workspace)
        store = app.open_workspace(workspace)
        item = store.get("demo-test-0000")
        store.save("demo-test-0000", "my phrase", who="ann", expected_revision=item.revision)
        assert app.open_workspace(workspace).get_sample("demo-test-0000").phrase == "my phrase"

    def test_an_interrupted_start_is_simply_repeated(
        self, own_workspace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        workspace = Workspace(own_workspace)
        monkeypatch.setattr(Store, "import_samples", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            app.open_workspace(workspace)
        assert not workspace.exists
        monkeypatch.undo()
        monkeypatch.setattr(app, "write_demo", lambda folder, **rest: write_demo(folder, size=DemoSize(1, 1, 1)))
        assert app.open_workspace(workspace).splits() == {"train": 2, "val": 2, "test": 2}

    def test_a_slower_start_beside_it_takes_nothing_away(
        self, own_workspace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        workspace = Workspace(own_workspace)
        publish = app._publish

        def late(made: Path, place: Path) -> None:
            # Just before this start is done, another one is, and somebody saves there.
            monkeypatch.setattr(app, "_publish", publish)
            quicker = app.open_workspace(workspace)
            item = quicker.get("demo-test-0000")
            quicker.save("demo-test-0000", "acknowledged", who="ann", expected_revision=item.revision)
            publish(made, place)

        monkeypatch.setattr(app, "_publish", late)
        assert app.open_workspace(workspace).get_sample("demo-test-0000").phrase == "acknowledged"
        assert all(sample.image.is_file() for sample in app.open_workspace(workspace).iterate())

    def test_what_was_made_on_the_command_line_stays(self, own_workspace: Path) -> None:
        """Whatever else a workspace may hold, it is no folder of somebody else."""
        workspace = Workspace(own_workspace)
        paths = {name: getattr(workspace, name) for name, kind in vars(Workspace).items() if isinstance(kind, property)}
        kept = [path for path in paths.values() if isinstance(path, Path) and path.suffix != ".db"]
        assert {"adapters", "features", "calibrations.json"} <= {path.name for path in kept}
        for path in kept:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}") if path.suffix else path.mkdir()
        app.open_workspace(workspace)
        assert all(path.exists() for path in kept)

    def test_a_folder_of_somebody_else_is_left_alone(self, own_workspace: Path) -> None:
        own_workspace.mkdir(parents=True)
        (own_workspace / "thesis.docx").write_text("years of work")
        with pytest.raises(WorkspaceError, match=r"thesis\.docx.*--workspace"):
            app.open_workspace(Workspace(own_workspace))
        assert [path.name for path in own_workspace.iterdir()] == ["thesis.docx"]

    def test_without_the_demo_it_is_empty(self, own_workspace: Path) -> None:
        assert app.open_workspace(Workspace(own_workspace), demo=False).splits() == {"train": 0, "val": 0, "test": 0}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "99999999"], "port number"),
        (["--auth", "/nonexistent"], "log-in file"),
        (["--workspace", "/proc/nothing"], "can't be written"),
    ],
)
def test_a_failing_start_is_one_sentence_and_status_1(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main([*arguments, *(["--port", str(free_port())] if "--port" not in arguments else [])]) == 1
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


def test_a_taken_port_is_one_sentence_and_makes_no_workspace(
    own_workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert app.main(["--port", str(taken.getsockname()[1])]) == 1
    assert "--port" in capsys.readouterr().err
    assert not own_workspace.exists()


@dataclass(frozen=True)
class Served:
    """The app in a process of its own, as people run it."""

    url: str
    workspace: Workspace
    store: Store


@pytest.fixture(params=[False, True], ids=["open", "with a log-in"])
def served(request: pytest.FixtureRequest, own_workspace: Path, tmp_path: Path, small_demo: None) -> Iterator[Served]:
    workspace, port = Workspace(own_workspace), free_port()
    store = app.open_workspace(workspace)
    set_password(tmp_path / "people", "ann", "correct horse")
    # The page must stand whatever becomes of the model.
    command = [sys.executable, "app.py", "--port", str(port), "--model", "/no/such/model"]
    command += ["--auth", str(tmp_path / "people")] if request.param else []
    with (tmp_path / "log.txt").open("w+") as log:
        process = subprocess.Popen(command, cwd=ROOT, stderr=log, stdout=log)
        try:
            deadline = time.monotonic() + 60
            while "Boxwright is at" not in (said := (tmp_path / "log.txt").read_text()):
                assert process.poll() is None, said
                assert time.monotonic() < deadline, said
                time.sleep(0.1)
            yield Served(f"http://127.0.0.1:{port}", workspace, store)
        finally:
            process.terminate()
            process.wait(20)


def log_in(client: httpx.Client) -> None:
    client.post("/login", data={"username": "ann", "password": "correct horse"})


def test_the_running_app_guards_its_pictures(served: Served, request: pytest.FixtureRequest) -> None:
    locked = "with a log-in" in request.node.name
    sha256 = next(iter(served.store.iterate("test"))).image.stem
    with httpx.Client(base_url=served.url) as client:
        assert client.get("/").status_code == 200
        assert client.get(f"/pictures/{sha256}").status_code == (401 if locked else 200)
        if locked:
            log_in(client)
        picture = client.get(f"/pictures/{sha256}", params={"side": 160})
        assert picture.status_code == 200
        assert picture.headers["content-type"].startswith("image/")
        page = client.get("/").text
        assert "Boxwright" in page
        assert "fonts.googleapis.com" not in page
        # gradio's own file route must not hand out the workspace.
        for path in (served.workspace.annotations_db, served.workspace.pictures.path(sha256)):
            assert client.get(f"/gradio_api/file={path}").status_code in (403, 404)
        crossed = client.post("/gradio_api/queue/join", json={}, headers={"sec-fetch-site": "cross-site"})
        assert crossed.status_code == 403
        config = client.get("/config").json()
        no_two_keep_each_other_going(config["dependencies"])
        no_press_in_a_list_is_dropped(config["dependencies"])
        no_choice_of_models_is_dropped(config)


def no_two_keep_each_other_going(dependencies: list[dict[str, Any]]) -> None:
    """gradio sends an event anew when an "always_last" that waits is done: two of them on one event never end."""
    deferred = Counter(
        tuple(target)
        for dependency in dependencies
        if dependency["trigger_mode"] == "always_last" and dependency["backend_fn"]
        for target in dependency["targets"]
    )
    assert deferred, "there are some"
    assert {target: count for target, count in deferred.items() if count > 1} == {}


def no_press_in_a_list_is_dropped(dependencies: list[dict[str, Any]]) -> None:
    """By default gradio drops an event while the same one is under way: a note that was kept while an adapter was being
    packed would be gone without a word."""
    modes = [one["trigger_mode"] for one in dependencies for _, event in one["targets"] if event == "act"]
    assert modes == ["multiple"] * 5, "evaluations, queue, its log, sweeps, adapters"


def no_choice_of_models_is_dropped(config: dict[str, Any]) -> None:
    """What hangs on the models of Compare follows the last choice, however quickly it is made."""
    (others,) = (one["id"] for one in config["components"] if one["props"].get("elem_id") == "compare-models-others")
    modes = {
        one["trigger_mode"]
        for one in config["dependencies"]
        if one["backend_fn"] and [others, "click"] in map(list, one["targets"])
    }
    assert modes == {"multiple", "always_last"}
