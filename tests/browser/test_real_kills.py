"""`kill -9` of the worker, the app and the browser while the embedded model really trains.

Real steps with dropout and fresh views, real checkpoints, a real adapter: what a run that was killed again and again
ends up with is compared to the bit with a run that nobody touched. Each seed chooses other moments and other victims.
`BOXWRIGHT_KILL_SEEDS=20` plays more of them.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Browser, Error, expect

from annotate.snapshot import freeze
from annotate.store import Store
from chromium import NONE_FOUND, launch, visit
from grounding.adapters import AdapterInfo, AdapterRegistry
from grounding.demo.dataset import DemoSize
from grounding.jobs.launch import RunRequest, is_alive, queue_run
from grounding.jobs.queue import RunQueue
from grounding.jobs.store import RunRecord, RunState, RunStore
from grounding.training.history import read_history
from grounding.training.settings import TrainSettings
from grounding.workspace import Workspace
from job_workers import wait_for, workers_of
from served import ServedApp, free_port, small_workspace

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.thorough]

SEEDS = range(int(os.environ.get("BOXWRIGHT_KILL_SEEDS", "1")))
STEPS = 10
# Everything random takes part, and there is a checkpoint or a scoring at every other step.
SETTINGS = TrainSettings(
    steps=STEPS,
    images_per_step=1,
    phrases_per_image=2,
    score_samples=1,
    score_every_steps=5,
    checkpoint_every_steps=2,
    lora_dropout=0.2,
    augment=True,
    learning_rate=3e-3,
)
VICTIMS = ("worker", "watcher", "app", "browser")


class Window:
    """A Chromium with the Train tab open, in processes of its own that can be killed."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.kind, self.url = browser.browser_type, url
        self.open()

    def open(self) -> None:
        before = _family()
        browser = launch(self.kind)
        if browser is None:
            pytest.skip(NONE_FOUND)
        self.browser, self.processes = browser, _family() - before
        self.page = browser.new_page(viewport={"width": 1280, "height": 720})
        self.page.set_default_timeout(60_000)
        self.visit()

    def visit(self) -> None:
        visit(self.page, self.url)
        self.page.get_by_role("tab", name="Train").click()

    def kill(self) -> None:
        for process in self.processes:
            _kill(process)
        with pytest.raises(Error, match="closed"):  # Playwright hears of the death only while it is listened to
            self.page.wait_for_timeout(20_000)

    def close(self) -> None:
        if self.browser.is_connected():
            self.browser.close()


class Scene:
    """A workspace, its app and a browser, and the run that nobody touches."""

    def __init__(self, app: ServedApp, window: Window, whole: RunRecord) -> None:
        self.app, self.window, self.whole = app, window, whole
        self.workspace, self.store = app.workspace, RunStore(app.workspace.runs_db)

    def row(self, run: RunRecord) -> Any:
        return self.window.page.locator(f'#train-queue li[data-run="{run.id}"]')


def _family() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


@pytest.fixture(scope="module")
def scene(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("kills")
    workspace = small_workspace(folder, DemoSize(4, 1, 1))
    phrases = Store(workspace.annotations_db, workspace.pictures)
    freeze(phrases, workspace.snapshots, "first", who="tester", placeholders=True)
    app = ServedApp(workspace, free_port())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        whole = queue_run(workspace, request("whole"), force=True)
        app.start()
        window = Window(browser, app.url)
        scene = Scene(app, window, whole)
        wait_for(lambda: scene.store.get(whole.id).state is RunState.DONE)
        yield scene
        window.close()
        app.stop()
        RunQueue(scene.store).pause()
        for process in workers_of(workspace):
            _kill(process)


def request(name: str) -> RunRequest:
    return RunRequest(name, "first", "demo", SETTINGS)


def check_adapters(workspace: Workspace) -> None:
    """Whatever stands among the adapters can be loaded whole."""
    from safetensors.numpy import load_file

    for folder in workspace.adapters.glob("[!.]*"):
        info = AdapterInfo.load(folder)
        assert info.steps == STEPS
        assert load_file(folder / "adapter_model.safetensors")
        assert len(read_history(folder)["steps"]["step"]) == STEPS


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def await_moment(dice: random.Random, scene: Scene, run: RunRecord, moment: str) -> None:
    """Wait for something to begin, and then a little, so that the blow falls within it or just beside it.

    A step and a checkpoint are such that one checkpoint stands already.
    """
    checkpoints = scene.workspace.runs / run.id / "checkpoints"
    adapters, step = scene.workspace.adapters, dice.randint(3, STEPS - 2)
    begun: dict[str, tuple[Callable[[], Any], float]] = {
        "any time": (lambda: True, 6.0),
        "a step": (lambda: len(scene.store.progress(run.id).steps) > step, 0.3),
        "a checkpoint": (lambda: {name[:5] for name in names_in(checkpoints)} >= {".part", "step-"}, 0.02),
        "the adapter": (lambda: names_in(adapters) - known, 0.04),
    }
    known = names_in(adapters)
    what, spread = begun[moment]
    deadline = time.monotonic() + 150
    while not what() and not scene.store.get(run.id).state.ended:
        assert time.monotonic() < deadline, f"{moment} never began"
        time.sleep(0.001)
    time.sleep(dice.uniform(0, spread))


def both_of(scene: Scene, run: RunRecord) -> list[psutil.Process]:
    """The run's watcher and its worker, once there are both."""
    found = [process for process in workers_of(scene.workspace) if run.id in process.info["cmdline"]]
    return found if len(found) == 2 else []


def strike(dice: random.Random, scene: Scene, run: RunRecord, moment: str) -> str:
    """Kill some of the four at the moment; returns what was done."""
    victims = sorted(dice.sample(VICTIMS, dice.randint(1, len(VICTIMS))))
    if moment != "any time" and "worker" not in victims:
        victims.append("worker")
    watcher, worker = wait_for(lambda: both_of(scene, run), 30)
    await_moment(dice, scene, run, moment)
    for process, name in ((worker, "worker"), (watcher, "watcher")):
        if name in victims:
            _kill(process)
    if "app" in victims and scene.app.process is not None:
        scene.app.process.kill()
        scene.app.process.wait()
    if "browser" in victims:
        scene.window.kill()
    return f"{moment}: {', '.join(victims)}"


def bring_back(scene: Scene) -> None:
    """What a person does who finds the app or the browser gone."""
    if scene.app.process is not None and scene.app.process.poll() is not None:
        scene.app.start()
    if scene.window.browser.is_connected():
        scene.window.visit()
    else:
        scene.window.open()


def check_truth(scene: Scene, run: RunRecord) -> RunRecord:
    """Within seconds nothing runs that isn't there, and the page says what the record says; returns the record."""

    def is_true() -> bool:
        active = scene.store.active()
        return active is None or active.state is RunState.STARTING or is_alive(active)

    def is_shown() -> bool:
        shown = scene.row(run).evaluate_all("rows => rows.map(row => row.dataset.state)")
        return bool(shown == [scene.store.get(run.id).state])

    wait_for(is_true, 15)
    wait_for(is_shown, 30)
    return scene.store.get(run.id)


def press_resume(scene: Scene, run: RunRecord) -> None:
    expect(scene.row(run)).to_contain_text("Press Resume")
    scene.row(run).locator("[data-action=resume]").click()
    wait_for(lambda: scene.store.get(run.id).state is not RunState.FAILED, 20)


def learned(scene: Scene, run: RunRecord) -> dict[str, Any]:
    """What a run is judged by: the loss and learning rate of every step, its scorings, and the weights' bytes."""
    told = scene.store.progress(run.id)
    folder = scene.workspace.adapters / run.name
    history = read_history(folder)
    return {
        "told": [(step.step, step.loss, step.learning_rate, step.phrases) for step in told.steps],
        "scores": [(score.step, score.mean_iou, score.loss) for score in told.scores],
        "losses": history["steps"]["loss"],
        "kept": (history["kept_step"], history["ended"]),
        "weights": (folder / "adapter_model.safetensors").read_bytes(),
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_that_is_killed_learns_what_one_learns_that_is_not(scene: Scene, seed: int) -> None:
    dice = random.Random(seed)
    run = queue_run(scene.workspace, request(f"seed-{seed}"), force=True)
    story: list[str] = []
    for moment in (("a step", "a checkpoint", "any time")[seed % 3], "the adapter"):
        if scene.store.get(run.id).state.ended:
            break  # the first blow didn't hit the worker, and the run ended meanwhile
        story.append(strike(dice, scene, run, moment))
        check_adapters(scene.workspace)
        bring_back(scene)
        state = check_truth(scene, run).state
        assert state not in (RunState.STOPPED, RunState.DISCARDED), (story, "nobody asked for that")
        if state is RunState.FAILED:
            press_resume(scene, run)
    wait_for(lambda: scene.store.get(run.id).state.ended)
    assert check_truth(scene, run).state is RunState.DONE, (story, scene.store.get(run.id).sentence)
    assert learned(scene, run) == learned(scene, scene.whole), story
    assert run.name in {info.name for info in AdapterRegistry(scene.workspace.adapters).list()}
    assert not [name for name in names_in(scene.workspace.adapters) if name.startswith(".")], story
    assert not (scene.workspace.runs / run.id / "checkpoints").exists()
