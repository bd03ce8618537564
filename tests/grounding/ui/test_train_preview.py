"""The panel "What the run will show": what it sends to the page."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from grounding.boxes import Box
from grounding.errors import SettingsError
from grounding.records import Sample
from grounding.training.preview import PreviewPhrase, PreviewPicture
from grounding.training.settings import TrainSettings
from grounding.ui.preview_view import nothing_html, step_html
from grounding.ui.train_preview import PreviewHandlers

SETTINGS = TrainSettings(steps=20, images_per_step=2)
BOX = Box(5, 5, 30, 30)


class Curated:
    def __init__(self, samples: list[Sample]) -> None:
        self.samples = samples
        self.now = "1"
        self.asked = 0

    def version(self) -> str:
        return self.now

    def would_be_frozen(self) -> tuple[list[Sample], dict[str, int]]:
        self.asked += 1
        return self.samples, {}


@pytest.fixture
def curated(tmp_path: Path) -> Curated:
    samples = []
    for name in ("mug", "dog", "car"):
        Image.new("RGB", (60, 50), "teal").save(tmp_path / f"{name}.png")
        samples.append(Sample(name, tmp_path / f"{name}.png", f"left {name}", (BOX,), "train", name))
    return Curated(samples)


@pytest.fixture
def handlers(curated: Curated, tmp_path: Path) -> PreviewHandlers:
    widgets: Any = SimpleNamespace(step="step", is_open="open")
    return PreviewHandlers(widgets, curated, tmp_path / "snapshots", lambda values: values.get("settings", SETTINGS))


def sent(answer: tuple[Any, ...]) -> tuple[int, str]:
    slider, html = answer
    return slider.value, html


def test_a_step_is_shown_and_the_buttons_lead_on(handlers: PreviewHandlers) -> None:
    step, html = sent(handlers.show({"step": 3}))
    assert step == 3 and "Step <b>3</b> of 20: 2 pictures, 2 phrases" in html
    assert html.count("data:image/webp;base64,") == 2
    assert sent(handlers.on({"step": 3}))[0] == 4
    assert sent(handlers.back({"step": 3}))[0] == 2
    assert sent(handlers.back({"step": 1}))[0] == 1
    assert sent(handlers.on({"step": 20}))[0] == 20
    assert 1 <= sent(handlers.other({"step": 3}))[0] <= 20
    assert sent(handlers.show({"step": 3})) == (step, html)


def test_an_open_panel_follows_the_settings(handlers: PreviewHandlers, monkeypatch: pytest.MonkeyPatch) -> None:
    assert handlers.follow({"step": 3, "open": False}) == (gr.skip(), gr.skip())
    plain = TrainSettings(steps=20, images_per_step=2, augment=False)
    assert 'data-mark="mirrored"' not in sent(handlers.follow({"step": 3, "open": True, "settings": plain}))[1]
    turned = TrainSettings(steps=20, images_per_step=2, mirrored_share=1.0)
    step, html = sent(handlers.follow({"step": 3, "open": True, "settings": turned}))
    assert step == 3 and "2 mirrored" in html
    assert "other colours" not in html
    tinted = TrainSettings(steps=20, images_per_step=2, mirrored_share=0.0, farther_share=0.0, colour_change=0.3)
    html = sent(handlers.follow({"step": 3, "open": True, "settings": tinted}))[1]
    assert "2 in other colours" in html and html.count('data-mark="other-colours"') == 2
    assert 'data-mark="as-it-is"' not in html

    def half_typed(values: Any) -> TrainSettings:
        raise SettingsError("steps='<x' is no number")

    monkeypatch.setattr(handlers, "read", half_typed)
    assert handlers.follow({"step": 3, "open": True}) == (gr.skip(), nothing_html("steps='<x' is no number"))
    with pytest.raises(gr.Error, match="no number"):
        handlers.show({"step": 3})


def test_a_curriculum_says_how_far_it_is(handlers: PreviewHandlers) -> None:
    settings = TrainSettings(steps=30, images_per_step=2, curriculum_share=1.0)
    told = [sent(handlers.show({"step": step, "settings": settings}))[1] for step in (1, 15, 30)]
    assert "brings nouns, and" in told[0] and "nouns and attributes" in told[1] and "curriculum" not in told[2]


def test_the_data_is_read_again_only_when_it_changed(handlers: PreviewHandlers, curated: Curated) -> None:
    handlers.show({"step": 1})
    handlers.show({"step": 2})
    assert curated.asked == 1
    curated.now = "2"
    handlers.show({"step": 2})
    handlers.show({"step": 2, "settings": TrainSettings(steps=5)})
    assert curated.asked == 3


def test_nothing_to_learn_is_told_in_the_panel(handlers: PreviewHandlers, curated: Curated) -> None:
    curated.samples = []
    assert "nothing to learn" in sent(handlers.show({"step": 1}))[1]


def test_a_setting_out_of_range_is_told(handlers: PreviewHandlers) -> None:
    def refuse(values: dict[Any, Any]) -> TrainSettings:
        raise SettingsError("steps='<b>' is out of range")

    handlers.read = refuse
    with pytest.raises(gr.Error, match=r"steps=.*&lt;b&gt;.* is out of range"):
        handlers.show({"step": 1})


def test_everything_is_marked_and_escaped() -> None:
    phrases = (
        PreviewPhrase("left <mug>", "right <mug>", (BOX,), jittered=True),
        PreviewPhrase("big dog", "large dog", (BOX,), reworded=True),
        PreviewPhrase("<i>", "<i>", (), negative=True),
    )
    image = Image.new("RGB", (60, 50), "teal")
    pictures = [
        PreviewPicture(Path("<a>.png"), image, phrases, ("mirrored", "cropped"), rehearsed=True),
        PreviewPicture(Path("b.png"), None, phrases[:1], problem="<b>.png is gone"),
        PreviewPicture(Path("c.png"), image, phrases[:1]),
    ]
    html = step_html(2, 9, pictures, 5)
    for mark in ("mirrored", "cropped", "rehearsed", "jittered", "template", "negative", "as-it-is"):
        assert f'data-mark="{mark}"' in html
    assert '<s>left &lt;mug&gt;</s> <span aria-label="becomes">→</span> <b>right &lt;mug&gt;</b>' in html
    assert "nothing there" in html and "&lt;b&gt;.png is gone" in html and "5 more pictures" in html
    assert not any(raw in html for raw in ("<mug>", "<a>", "<i>&", "<b>.png"))
    assert "&lt;x&gt;" in nothing_html("<x>")


def test_phrases_of_one_box_share_its_label() -> None:
    phrases = (PreviewPhrase("a", "a", (BOX,)), PreviewPhrase("b", "b", (BOX,)), PreviewPhrase("c", "c", ()))
    html = step_html(1, 9, [PreviewPicture(Path("a.png"), Image.new("RGB", (60, 50)), phrases)], 0)
    assert html.count('<g class="bw-label"') == 1 and ">1, 2</text>" in html
