"""The report in a notebook: its figures, its pictures, and no text that becomes markup."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from compared_samples import answered, keep, keep_two, some_rows, some_samples
from grounding.boxes import Box
from grounding.compared import Filter
from grounding.compared import open as open_report
from grounding.errors import RecordError
from grounding.records import Sample


class Tags(HTMLParser):
    """The tags and the text of a page; fails where tags don't match."""

    VOID = ("br",)

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_figures_stand_in_the_page(tmp_path: Path) -> None:
    report = open_report(*keep_two(tmp_path))
    page = Tags(report._repr_html_())
    assert "tools against base" in page.text
    difference = report.headline.differences["accuracy_50"]
    assert f"{difference.a:.1%}" in page.text and f"{difference.b:.1%}" in page.text
    assert f"{100 * difference.difference:+.1f} pts".replace("-", "−") in page.text
    assert f"b wins {report.headline.outcomes.wins}" in page.text  # type: ignore[union-attr]
    assert page.seen.count("figure") == 6 and "polyline" in page.seen
    assert "IoU 0.00" in page.text, "the worst come first"
    assert repr(report).startswith("<Report of tools against base: ")


def test_a_picture_stands_small_in_the_page_with_boxes_over_it(tmp_path: Path) -> None:
    Image.new("RGB", (1000, 500), (200, 10, 10)).save(tmp_path / "big.png")
    sample = Sample("s", tmp_path / "big.png", "mug", (Box(10, 20, 110, 220),))
    html = open_report(keep(tmp_path / "a", [answered(sample, [Box(30, 20, 90, 220)])]))._repr_html_()
    assert 'viewBox="0 0 1000 500"' in html
    assert 'x="10.0" y="20.0" width="100.0" height="200.0"' in html
    assert 'x="30.0" y="20.0" width="60.0" height="200.0"' in html
    content = re.search(r"data:image/jpeg;base64,([^\"]+)", html)
    assert content is not None
    assert Image.open(io.BytesIO(base64.b64decode(content[1]))).size == (280, 140)


def test_no_text_becomes_markup(tmp_path: Path) -> None:
    evil = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
    sample = Sample(evil, Path("/p/a.png"), evil, (Box(0, 0, 9, 9),), category=evil)
    folders = [keep(tmp_path / name, [answered(sample, [Box(20, 20, 30, 30)])], adapter="x") for name in "ab"]
    page = Tags(open_report(*folders, names=(evil, f"{evil}2")).only(words="script")._repr_html_())
    assert not {"script", "img"} & set(page.seen)
    assert "<script>alert(1)</script>" in page.text


def test_one_alone_and_nothing_at_all(tmp_path: Path) -> None:
    one = open_report(keep(tmp_path / "a", some_rows(some_samples(20))))
    assert one.suspects() == ()
    page = Tags(one._repr_html_())
    assert "b − a" not in page.text and "95% interval" in page.text
    Tags(one.only(words="nowhere")._repr_html_())
    Tags(open_report(keep(tmp_path / "b", some_rows(some_samples(1))))._repr_html_())


def test_narrowing_goes_on_from_what_was_asked(tmp_path: Path) -> None:
    report = open_report(*keep_two(tmp_path))
    narrowed = report.only(spatial="spatial").only(target="some")
    assert narrowed.filter == Filter(spatial="spatial", target="some")
    assert "Only samples with target some, spatial spatial." in narrowed._repr_html_()
    assert narrowed.headline.no_target_count == 0
    with pytest.raises(RecordError, match="no filter 'colour': expected some of box_size, category"):
        report.only(colour="red")
