"""The gallery: boxes on their pictures, the way on to Compare and Annotate, and no text that becomes markup."""

from __future__ import annotations

from grounding.training.gallery import Change, Gallery
from grounding.training.history import SampleRow
from grounding.ui.train_gallery import gallery_html

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
    assert 'data-go="compare" data-sample="s1"' in html and 'data-go="annotate" data-sample="s1"' in html
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
