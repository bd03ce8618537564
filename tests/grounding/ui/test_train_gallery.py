"""The gallery: boxes on their pictures, the way on to Compare and Annotate, and no text that becomes markup."""

from __future__ import annotations

import pytest

from grounding.adapters import AdapterInfo
from grounding.jobs.store import RunState
from grounding.training.gallery import Change, Gallery
from grounding.training.history import SampleRow
from grounding.ui import train_gallery
from grounding.ui.chosen import BASE
from grounding.ui.train_gallery import GalleryParts, Handlers, gallery_html
from grounding.workspace import Workspace

NASTY = '<img src=x onerror=alert(1)> "quoted"'


def change(before: float, after: float, phrase: str = "the dog", name: str = "s1") -> Change:
    truth = ((1.0, 1.0, 20.0, 20.0),)
    rows = [
        SampleRow(0, name, "/x/abc.png", phrase, truth, ((2.0, 2.0, 9.0, 9.0),), "ok", iou) for iou in (before, after)
    ]
    return Change(rows[0], rows[1])


def gallery(*gains: Change, losses: tuple[Change, ...] = ()) -> Gallery:
    return Gallery(gains, losses, len(gains), len(losses), 10, 4)


def test_a_card_shows_boxes_figures_and_the_way_on() -> None:
    html = gallery_html(gallery(change(0.2, 0.9)), "mugs", lambda image: ("pictures/abc", (64, 64)))
    assert "1 better, 0 worse, 9 about the same, of 10 samples, by IoU" in html
    assert "+0.70" in html and "0.20 → 0.90" in html
    assert 'data-go="compare" data-sample="s1"' in html and 'data-annotate="s1"' in html
    assert html.count("<figure") == 1
    assert "None by 0.05 IoU or more" in html


def test_a_loss_has_a_minus_sign_and_its_colour() -> None:
    html = gallery_html(gallery(losses=(change(0.9, 0.2),)), "mugs", lambda image: None)
    assert 'data-sign="down">−0.70' in html
    assert "not in this workspace" in html


def test_nothing_is_shown_without_answers() -> None:
    assert gallery_html(None, "mugs", lambda image: None) == ""


def test_text_from_people_is_escaped() -> None:
    html = gallery_html(gallery(change(0.1, 0.9, NASTY, NASTY)), NASTY, lambda image: ("pictures/abc", (64, 64)))
    assert "<img src=x" not in html
    assert NASTY not in html


@pytest.fixture
def handlers(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Handlers:
    workspace.check_writable()
    monkeypatch.setattr(train_gallery, "read_gallery", lambda folder: gallery(change(0.2, 0.9)))
    return Handlers(GalleryParts(workspace, lambda: "demo"))


def add_run(handlers: Handlers, name: str, *, made_by: str = "") -> str:
    """A run that is done, with an adapter under its name."""
    run = handlers.store.add(name=name, model_id="demo", quantize="none", snapshot="/s", settings={})
    handlers.store.finish(run.id, RunState.DONE, "")
    folder = handlers.parts.workspace.adapters / name
    folder.mkdir(parents=True)
    AdapterInfo(name, folder, "demo", "fake", "2026-01-01T00:00:00+00:00", run_id=made_by or run.id).save()
    return run.id


def test_it_stays_while_others_wait_in_the_queue(handlers: Handlers) -> None:
    add_run(handlers, "mugs")
    handlers.store.enqueue(name="cups", model_id="demo", quantize="none", snapshot="/s", settings={})
    assert "Where mugs differs" in handlers.show("")[0]
    assert handlers.to_compare()[1].value == [BASE, "mugs"]


def test_it_follows_an_adapter_that_was_renamed(handlers: Handlers) -> None:
    add_run(handlers, "mugs")
    adapters = handlers.parts.workspace.adapters
    (adapters / "mugs").rename(adapters / "cups")
    html, key = handlers.show("")
    assert "Where cups differs" in html
    assert handlers.to_compare()[1].value == [BASE, "cups"]
    (adapters / "cups").rename(adapters / "jars")
    assert "Where jars differs" in handlers.show(key)[0], "a name that changes is shown"


def test_it_is_that_of_the_run_on_the_page(handlers: Handlers) -> None:
    first = add_run(handlers, "mugs")
    add_run(handlers, "cups")
    assert "Where cups differs" in handlers.show("")[0]
    html, key = handlers.show("", first)
    assert "Where mugs differs" in html and handlers.to_compare(first)[1].value == [BASE, "mugs"]
    assert "Where cups differs" in handlers.show(key, "")[0]
    handlers.store.add(name="next", model_id="demo", quantize="none", snapshot="/s", settings={})
    assert handlers.show(key, "") == ("", "none") and "Where mugs differs" in handlers.show("", first)[0]


def test_an_adapter_that_another_run_made_is_not_taken_for_its_own(handlers: Handlers) -> None:
    add_run(handlers, "mugs", made_by="another-run")
    assert handlers.show("") == ("", "none")
