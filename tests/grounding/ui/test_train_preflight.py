"""The panel "Check before training": what it says in each state, and that a look in a process of its own comes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from grounding.boxes import Box
from grounding.errors import JobError
from grounding.records import Sample
from grounding.training.preflight import Cost, Finding, Piece, Preflight, Probe, Rounding, Seen
from grounding.training.settings import TrainSettings
from grounding.ui.model_service import ModelService
from grounding.ui.preflight_desk import DeskState, PreflightDesk, with_left_out
from grounding.ui.preflight_view import blocked, panel_html
from grounding.ui.train_preflight import PreflightHandlers
from grounding.workspace import Workspace, find_workspace

EVIL = '<img src=x onerror="alert(1)">'
PLAIN = Preflight("now", "", {"train": 1234, "val": 56, "train_pictures": 400}, (), cost=Cost(7520, 6.1))
BLOCKING = Finding("duplicate", True, "3 train samples stand twice.", ("a/1", "b", EVIL), 3, "#queue=all&split=train")


class Data:
    """Samples in a workspace of their own."""

    def __init__(self, folder: Path) -> None:
        self.revision = 0
        self.asked = 0
        self.samples = []
        for name, split, colour in (("a", "train", "teal"), ("b", "train", "olive"), ("v", "val", "navy")):
            Image.new("RGB", (64, 64 + len(self.samples)), colour).save(folder / f"{name}.png")
            self.samples.append(Sample(name, folder / f"{name}.png", f"the {colour} cup", (Box(4, 4, 40, 40),), split))

    def version(self) -> str:
        return str(self.revision)

    def would_be_frozen(self) -> tuple[list[Sample], dict[str, int]]:
        self.asked += 1
        return list(self.samples), {"placeholder": 2}


@pytest.fixture
def workspace() -> Workspace:
    workspace = find_workspace()
    workspace.check_writable()
    return workspace


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(tmp_path)


@pytest.fixture
def desk(workspace: Workspace, data: Data) -> PreflightDesk:
    models = ModelService("demo", "none", workspace, load=lambda: SimpleNamespace(device="cpu"))  # type: ignore[arg-type, return-value]
    return PreflightDesk(workspace, models, data)


def wait(done: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_cheap_part_runs_by_itself_and_again_when_the_data_changes(desk: PreflightDesk, data: Data) -> None:
    settings = TrainSettings()
    desk.refresh(settings, opened=True)
    wait(lambda: desk.state.rows is not None and not desk.state.busy)
    assert not blocked(desk.state)
    desk.refresh(settings, opened=True)
    assert data.asked == 1
    data.samples.append(replace(data.samples[0], id="again"))
    data.revision += 1
    desk.refresh(settings)  # looked at a moment ago: not yet
    assert data.asked == 1
    desk.refresh(settings, opened=True)
    wait(lambda: blocked(desk.state))
    assert "count twice" in panel_html(desk.state)


def test_a_check_that_fails_says_so(desk: PreflightDesk, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "would_be_frozen", lambda: 1 / 0)
    desk.refresh(TrainSettings(), opened=True)
    wait(lambda: bool(desk.state.trouble) and not desk.state.busy)
    assert "ZeroDivisionError" in panel_html(desk.state)


def test_what_is_left_out_is_told_and_only_placeholders_block() -> None:
    told = with_left_out(PLAIN, {"placeholder": 12, "leak": 3})
    (finding,) = told.findings
    assert not finding.blocking
    assert "12 because a placeholder" in finding.sentence and "3 because their picture" in finding.sentence
    empty = replace(PLAIN, counts={"train": 0, "val": 5, "train_pictures": 0})
    (finding,) = with_left_out(
        replace(empty, findings=(Finding("nothing_to_learn", True, "x"),)), {"placeholder": 9}
    ).findings
    assert finding.blocking and finding.sentence.startswith("All 9 train samples have a placeholder")
    assert finding.queue == "#queue=placeholders&split=train"


def test_a_ready_panel_is_one_line() -> None:
    html = panel_html(DeskState("1", PLAIN))
    assert "Ready" in html and "1,234 train samples on 400 pictures, 56 to score on" in html
    assert "about 6 times" in html
    assert "<li" not in html


def test_findings_are_listed_with_links_and_escaped() -> None:
    state = DeskState("1", replace(PLAIN, findings=(BLOCKING,)))
    html = panel_html(state)
    assert blocked(state)
    assert "Stops training" in html
    assert 'href="#queue=all&amp;split=train" data-annotate="">Show them in Annotate' in html
    assert 'href="#queue=all&amp;sample=a%2F1" data-annotate="a/1">a/1' in html
    assert EVIL not in html and "&lt;img src=x" in html


def test_what_the_model_sees_is_drawn_and_escaped() -> None:
    pieces = (
        Piece("<|im_start|>user\n", "prompt", 3),
        Piece("<|image_pad|>", "image", 64),
        Piece(f"Locate {EVIL}", "prompt", 9),
        Piece("[5", "answer", 2, 3.0),
        Piece("]", "answer", 1, 1.0),
    )
    seen = Seen("a", EVIL, "the first", "data:image/webp;base64,AAAA", (320, 160), (640, 320), "[5]",
                ((64.0, 32.0, 128.0, 64.0),), ((64.0, 32.0, 128.0, 64.0),), 0.987, pieces, 64, 12, 3, 4)  # fmt: skip
    probe = Probe(True, {}, 2 * 2**30, 24 * 2**30, 0.25, 412, ("a",))
    model = replace(
        PLAIN, seen=(seen,), probes=(probe,), cost=Cost(7520, 6, 130.0, 2**21), rounding=Rounding(9, 0.004, 1, ())
    )
    html = panel_html(DeskState("1", PLAIN, model=model, model_version="1"))
    assert EVIL not in html
    assert "64 image tokens" in html and "<b>3 learned</b>" in html
    assert 'data-part="answer" title="loss weight 3" data-heavy="true">[5<' in html
    assert 'x="32.00" y="16.00" width="32.00" height="16.00"' in html  # in pixels of the processed picture
    assert "2.0 GiB" in html and "about 2 min 10 s" in html and "2 MiB" in html
    assert "have changed since" not in html
    assert "have changed since" in panel_html(DeskState("2", PLAIN, model=model, model_version="1"))
    wrong = replace(model, findings=(Finding("masking", True, "prompts are learned"),))
    assert blocked(DeskState("1", PLAIN, model=wrong, model_version="1"))
    assert not blocked(DeskState("2", PLAIN, model=wrong, model_version="1"))


def test_memory_that_does_not_fit_names_what_does() -> None:
    probes = (
        Probe(False, {}, 30 * 2**30, 24 * 2**30, None, 0, ("a",)),
        Probe(True, {"images_per_step": 2}, 15 * 2**30, 24 * 2**30, 0.2, 300, ("a",)),
    )
    html = panel_html(DeskState("1", PLAIN, model=replace(PLAIN, probes=probes), model_version="1"))
    assert "does not fit" in html and "fits with images per step 2" in html


def test_what_is_said_of_memory_goes_once_its_advice_is_taken(desk: PreflightDesk) -> None:
    asked, advised = TrainSettings(), TrainSettings(accumulation=4)
    found = (Finding("memory", True, "It fits with accumulation=4."), Finding("long_row", False, "Two are long."))
    probes = (Probe(False, {}, 30 * 2**30, 24 * 2**30, None, 0, ("a",)),)
    model = replace(PLAIN, findings=found, probes=probes, cost=Cost(9, 1.0, 130.0, 2**21))
    version = desk.curation.version()
    desk._state = DeskState(version, PLAIN, asked, model=model, model_version=version, model_settings=asked)
    now = asked
    handlers = PreflightHandlers(desk, lambda values: now)
    handlers.shown = "shown"
    html, _, force, shown = handlers.tick({"shown": ""})
    assert "Stops training" in html and "accumulation=4" in html and force.visible and "2 min 10 s" in html
    now = advised
    html, _, force, _ = handlers.tick({"shown": shown})
    assert "Stops training" not in html and "accumulation=4" not in html and "does not fit" not in html
    assert "The settings have changed since this look." in html and "Two are long." in html
    assert "2 min 10 s" not in html, "another number of steps takes another time"
    assert not force.visible


def test_a_tick_sends_nothing_until_something_changes(desk: PreflightDesk) -> None:
    handlers = PreflightHandlers(desk, lambda values: TrainSettings())
    handlers.shown = "shown"
    shown = handlers.open({})
    wait(lambda: desk.state.rows is not None and not desk.state.busy)
    fingerprint = handlers.tick({"shown": shown[-1]})[-1]
    assert fingerprint.startswith(desk.state.fingerprint)
    assert all(part["__type__"] == "update" for part in handlers.tick({"shown": fingerprint}))


@pytest.mark.slow
def test_the_look_comes_back_from_its_own_process(desk: PreflightDesk, workspace: Workspace, data: Data) -> None:
    desk.look(TrainSettings(steps=3, images_per_step=2))
    with pytest.raises(JobError, match="already"):
        desk.look(TrainSettings())
    assert "bw-waiting" in panel_html(desk.state)
    wait(lambda: not desk.state.looking, 200)
    assert desk.state.trouble == ""
    model = desk.state.model
    assert model is not None and len(model.seen) == 2
    assert model.seen[0].picture.startswith("data:image/webp")
    assert model.probes[0].fits
    assert not list(workspace.runs.glob(".preflight-*"))


@pytest.mark.slow
def test_a_look_that_dies_says_what_it_said(desk: PreflightDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.models.model = "/no/such/model"
    desk.look(TrainSettings())
    wait(lambda: not desk.state.looking, 60)
    assert "no model folder" in desk.state.trouble


def test_how_often_each_phrase_is_shown_follows_the_settings_on_the_page() -> None:
    checked = TrainSettings(steps=900, images_per_step=4)
    rows = replace(PLAIN, counts={"train": 30, "val": 1, "train_pictures": 25}, cost=Cost(9000, 300.0))
    state = DeskState("1", rows, checked)
    for settings, told in (
        (checked, "about 300 times"),
        (replace(checked, steps=3), "about 1 time<"),
        (replace(checked, images_per_step=8), "about 600 times"),
        (replace(checked, images_per_step=900), "about 1,875 times"),
        (replace(checked, rehearsal_share=0.4), "about 180 times"),
    ):
        assert f"{told}" in panel_html(state, settings).replace("</p>", "<")
    assert "each phrase" not in panel_html(state, replace(checked, phrases_per_image=1)), "not known without a look"


def test_any_state_has_a_fingerprint_of_its_own() -> None:
    states: list[Any] = [DeskState(), DeskState("1", PLAIN), DeskState("1", PLAIN, trouble="x"), DeskState("2", PLAIN)]
    assert len({state.fingerprint for state in states}) == len(states)


def test_the_cards_of_a_look_are_folded_when_a_run_begins(desk: PreflightDesk) -> None:
    """What a person wants to see then is the run under them."""
    seen = Seen("a", "mug", "the first", "", (8, 8), (8, 8), "[]", (), (), 1.0, (), 1, 1, 1, 1)
    version = desk.curation.version()
    desk._state = DeskState(version, PLAIN, model=replace(PLAIN, seen=(seen,)), model_version=version, unfolded=True)
    before = desk.state.fingerprint
    assert "<details open><summary>What the model sees" in panel_html(desk.state)
    desk.clear(TrainSettings(), force=True)
    assert "<details><summary>What the model sees" in panel_html(desk.state)
    assert desk.state.fingerprint != before
