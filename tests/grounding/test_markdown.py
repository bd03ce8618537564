"""The Markdown of a report, rendered by a Markdown reader: tables with the figures, phrases as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from grounding.boxes import Box
from grounding.buckets import bucket_scores
from grounding.markdown import MOST_CATEGORIES, escape, report_markdown
from grounding.metrics import ScoredSample, score, summarise
from grounding.records import Prediction, Sample, Status

BOX = Box(0, 0, 10, 10)
Table = list[list[str]]


def row(number: int, iou: float, **changes: Any) -> ScoredSample:
    confidence = changes.pop("confidence", None)
    sample = replace(Sample(f"s{number}", Path("a.png"), f"mug {number}", (BOX,)), **changes)
    return ScoredSample(sample, Prediction((BOX,), Status.OK, "", confidence, 0.1), iou)


def tables(text: str) -> list[Table]:
    """The cells' texts of each table; fails where a cell holds anything but text."""
    found: list[Table] = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and token.level == 4:
            kinds = {child.type for child in token.children or []}
            assert kinds <= {"text", "text_special"}, f"{token.content!r} has {kinds}"
            found[-1][-1].append("".join(child.content for child in token.children or []))
    return found


def rendered(rows: list[ScoredSample], title: str = "base demo, val") -> list[Table]:
    return tables(report_markdown(title, summarise(rows), bucket_scores(rows), rows))


def test_the_figures_stand_in_the_tables() -> None:
    truth = (BOX,)
    hit = score(
        Sample("a", Path("a.png"), "the left mug", truth, category="cup"), Prediction(truth, Status.OK, "", 0.75, 1)
    )
    miss = score(
        Sample("b", Path("b.png"), "mug", truth, category="cup"), Prediction((), Status.UNREADABLE, "", None, 1)
    )
    nothing = score(Sample("c", Path("c.png"), "dog", ()), Prediction((), Status.NO_BOX, "", None, 1))
    headline, words, spatial, sizes, ious, categories, worst = rendered([hit, miss, nothing])
    assert dict(tuple(line) for line in headline) == {
        "Measure": "Value",
        "Samples with a target": "2",
        "Detection rate": "50.0%",
        "Mean IoU": "0.500",
        "Median IoU": "0.500",
        "Acc@0.25": "50.0%",
        "Acc@0.5": "50.0%",
        "Acc@0.75": "50.0%",
        "Acc@0.9": "50.0%",
        "No-target accuracy": "100.0% of 1",
        "F1, all boxes": "0.667",
        "Calibration error": "0.250 over 1",
        "Answers: ok": "1",
        "Answers: no_box": "1",
        "Answers: unreadable": "1",
        "Answers: degenerate": "0",
    }
    assert words[1:] == [
        ["1", "1", "0.0%", "0.000", "0.0%", "0.0%", "100.0%"],
        ["2-3", "1", "100.0%", "1.000", "100.0%", "100.0%", "–"],
    ]
    assert [line[0] for line in spatial] == ["Says where", "spatial", "plain"]
    assert sizes[1:] == [["small", "2", "50.0%", "0.500", "50.0%", "50.0%", "–"], ["none", "0", *"––––", "100.0%"]]
    assert ious[1:] == [["0", "1", "50.0%"], *([name, "0", "0.0%"] for name in NO_IOUS), ["0.9-1.0", "1", "50.0%"]]
    assert [line[0] for line in categories] == ["Category", "cup", "(none)"]
    assert worst[1:] == [
        ["b", "mug", "unreadable", "0.000"],
        ["a", "the left mug", "ok", "1.000"],
        ["c", "dog", "no_box", "1.000"],
    ]


NO_IOUS = ("0-0.25", "0.25-0.5", "0.5-0.75", "0.75-0.9")


def test_the_worst_ten_the_surest_first() -> None:
    rows = [row(i, 0.9) for i in range(3)] + [row(10 + i, 0.0, confidence=i / 10) for i in range(9)] + [row(20, 0.5)]
    (*_, worst) = rendered(rows)
    assert [line[0] for line in worst[1:]] == ["s18", "s17", "s16", "s15", "s14", "s13", "s12", "s11", "s10", "s20"]


def test_many_categories_are_cut_and_counted() -> None:
    rows = [row(i, 1.0, category=f"c{i:02}") for i in range(MOST_CATEGORIES + 2)]
    text = report_markdown("x", summarise(rows), bucket_scores(rows), rows)
    assert "\n\n2 more stand in report.json.\n" in text
    assert [line[0] for line in tables(text)[5][1:]] == [f"c{i:02}" for i in range(MOST_CATEGORIES)]


def test_no_figure_stands_over_no_samples() -> None:
    nothing = score(Sample("c", Path("c.png"), "dog", ()), Prediction((), Status.NO_BOX, "", None, 1))
    headline = {line[0]: line[1] for line in rendered([nothing])[0]}
    told = ("Detection rate", "Mean IoU", "Median IoU", "Acc@0.25", "Acc@0.5", "Acc@0.75", "Acc@0.9")
    assert [headline[name] for name in told] == ["–"] * 7
    assert headline["No-target accuracy"] == "100.0% of 1"


def test_a_report_of_nothing() -> None:
    text = report_markdown("x", summarise([]), bucket_scores([]), [])
    assert "Samples with a target | 0" in text and "worst" not in text


@settings(deadline=None, max_examples=80)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40))
@example("a | b | **c** _d_ `e` [f](http://g) <b>h</b> &amp; # ~~i~~ \\ ! $x$ \\|")
@example("| --- |\n# title\n\n```")
@example("http://example.com www.example.com a@b.c")
def test_a_phrase_is_read_as_it_is(phrase: str) -> None:
    (*_, worst) = rendered([row(1, 0.0, phrase=phrase, category=phrase)])
    assert worst[1][1] == " ".join(phrase.split())
    assert "\n" not in escape(phrase)


def test_the_title_is_read_as_it_is() -> None:
    text = report_markdown("adapter *x* on <demo>\n# y", summarise([]), bucket_scores([]), [])
    assert "<h1>Evaluation: adapter *x* on &lt;demo&gt; # y</h1>" in MarkdownIt("commonmark").render(text)
