"""The whole-set comparison: lists, every change, the same figures as `compared`, and no text that becomes markup."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest

from compared_samples import LEFT, answered, keep, some_rows, some_samples, some_scenes
from grounding import compared
from grounding.boxes import Box
from grounding.compared import Filter
from grounding.compared.figures import Outcomes
from grounding.compared.wording import headline_rows
from grounding.errors import RecordError
from grounding.metrics import ScoredSample
from grounding.records import Sample, Status
from grounding.ui.arena import default_pair
from grounding.ui.chosen import BASE
from grounding.ui.sources import Parts
from grounding.ui.whole import NOTHING_YET, Handlers
from grounding.ui.whole_figures import chance_sentence, half_range, whisker_html
from grounding.ui.whole_kept import ALONE, Shelf, first_pair, report_choices
from grounding.ui.whole_look import Looking

NASTY = '<img src=x onerror=alert(1)> "quoted"'
FOUND = re.compile(r'<tr data-figure="(\w+)".*?</tr>')
CELL = re.compile(r"<td[^>]*>(.*?)</td>")


@pytest.fixture
def keep_rows(parts: Parts) -> Callable[..., str]:
    """Keep rows as an evaluation of the workspace; returns its id."""

    def kept(name: str, rows: list[ScoredSample], adapter: str | None = None, model_id: str = "demo") -> str:
        return keep(parts.workspace.evaluations / name, rows, adapter, model_id).name

    return kept


@pytest.fixture
def two(parts: Parts, keep_rows: Callable[..., str]) -> Handlers:
    """An adapter's and the base's evaluation of 90 samples."""
    samples = some_samples(90)
    keep_rows("base-1", some_rows(samples, 1))
    keep_rows("tools-1", some_rows(samples, 2), "tools")
    return Handlers(parts)


def look_at(handlers: Handlers) -> Looking:
    look = Looking()
    next(iter(handlers.show(look)))
    return look


def change(handlers: Handlers, look: Looking, **asked: str) -> list[tuple[Any, ...]]:
    """What is filled at once; the intervals that would follow are not waited for."""
    return [next(iter(handlers.ask(SimpleNamespace(change=asked), look)))]  # type: ignore[arg-type,call-overload]


def shown_rows(html: str) -> dict[str, list[str]]:
    """{figure: its cells but for the drawing} of the table."""
    return {match[1]: CELL.findall(match[0])[:-1] for match in FOUND.finditer(html)}


def test_without_an_evaluation_it_says_what_to_do(parts: Parts) -> None:
    (filled,) = list(Handlers(parts).show(Looking()))
    assert NOTHING_YET in filled[3] and filled[0].value is None
    with pytest.raises(gr.Error, match="Nothing is evaluated yet"):
        Handlers(parts).export(Looking(), "csv")


def test_the_newest_adapter_opens_against_its_base_on_the_same_samples(
    keep_rows: Callable[..., str], parts: Parts
) -> None:
    samples, others = some_samples(20), some_samples(20, seed=5)
    keep_rows("1", some_rows(samples, 1))
    keep_rows("2", some_rows(samples, 2), "tools")
    assert first_pair(Shelf(parts.workspace).list()) == ("1", "2")
    keep_rows("3", some_rows(others, 3), "other")  # the base was never asked these
    keep_rows("4", some_rows(samples, 3), "tools", "another model")
    assert first_pair(Shelf(parts.workspace).list()) == ("1", "2")
    assert first_pair([]) == ("", ALONE)
    labels = [label for label, _ in report_choices(Shelf(parts.workspace).list())]
    assert len(set(labels)) == 4
    assert sum("tools on demo · test · 20 samples · Acc@0.5" in label for label in labels) == 1


def test_only_what_was_asked_alike_is_paired_and_labels_say_how(keep_rows: Callable[..., str], parts: Parts) -> None:
    samples = some_samples(20)
    settings = {"conditions": {"quantize": "4bit"}, "decoding": {"mode": "free"}}
    for name, adapter, asked in (("1", None, {}), ("2", "tools", {}), ("3", None, settings)):
        path = parts.workspace.evaluations / keep_rows(name, some_rows(samples, 1), adapter) / "report.json"
        path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"settings": asked}), "utf-8")
    reports = Shelf(parts.workspace).list()
    assert [report.path.name for report in reports] == ["3", "2", "1"], "the 4-bit base is the newest"
    assert first_pair(reports) == default_pair(reports) == ("1", "2")
    labels = {name: label for label, name in report_choices(reports)}
    assert labels["3"].startswith("base demo · 4-bit · free mode · test · 20 samples · ")
    assert labels["1"].startswith("base demo · test · 20 samples · ")
    path = parts.workspace.evaluations / keep_rows("4", some_rows(samples, 2), "tools") / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"settings": settings}), "utf-8")
    reports = Shelf(parts.workspace).list()
    assert first_pair(reports) == default_pair(reports) == ("3", "4")


@pytest.mark.parametrize(
    "asked", [{}, {"spatial": "spatial"}, {"outcome": "loss"}, {"words": "mug", "box_size": "large"}]
)
def test_the_figures_are_those_of_compared(two: Handlers, asked: dict[str, str]) -> None:
    look = look_at(two)
    look.change(asked)
    html = list(two._everything(look))[-1][1]
    folders = [two.shelf.kept.workspace.evaluations / name for name in ("base-1", "tools-1")]
    expected = headline_rows(compared.open(*folders, workspace=two.shelf.kept.workspace).only(**asked).headline)
    assert list(shown_rows(html).values()) == [[*values, told, interval] for _, values, told, interval in expected]


def test_figures_come_first_without_intervals_and_nothing_else_changes(two: Handlers) -> None:
    quick, exact = list(two.show(Looking()))
    assert 'data-exact="false"' in quick[3] and 'data-exact="true"' in exact[3]
    before, after = shown_rows(quick[3]), shown_rows(exact[3])
    assert {name: cells[:-1] for name, cells in before.items()} == {name: cells[:-1] for name, cells in after.items()}
    assert all(cells[-1] == "…" for cells in before.values())


def test_a_late_look_says_nothing_any_more(two: Handlers) -> None:
    look = look_at(two)
    late = two.ask(SimpleNamespace(change={"spatial": "plain"}), look)  # type: ignore[arg-type]
    next(late)
    change(two, look, spatial="spatial")
    assert list(late) == []


def test_intervals_come_though_order_and_page_were_changed_meanwhile(two: Handlers) -> None:
    look = look_at(two)
    figures = two.ask(SimpleNamespace(change={"spatial": "plain"}), look)  # type: ignore[arg-type]
    assert 'data-exact="false"' in next(figures)[1]
    ordered = list(two.ask(SimpleNamespace(change={"order": "gain"}), look))  # type: ignore[arg-type]
    assert len(ordered) == 1 and isinstance(ordered[0][3], str)
    (rest,) = list(figures)
    assert 'data-exact="true"' in rest[1] and not isinstance(rest[3], str), "the list stays in its new order"


def test_the_same_evaluation_twice_is_that_one_alone(two: Handlers) -> None:
    look = look_at(two)
    change(two, look, order="gain")
    shown = list(two.choose(look, "tools-1", "tools-1"))
    assert (look.a, look.b, look.order) == ("tools-1", ALONE, "worst")
    assert [part.value for part in shown[0][:2]] == ["tools-1", ALONE] and "data-figure" in shown[0][3]


def test_an_evaluation_made_anew_under_its_old_name_has_its_new_figures(
    two: Handlers, keep_rows: Callable[..., str]
) -> None:
    look = look_at(two)
    before = list(two._everything(look))[-1][1]
    folder = two.shelf.kept.workspace.evaluations / "tools-1"
    shutil.rmtree(folder)
    rows = [answered(sample, sample.boxes_xyxy_px) for sample in some_samples(90) if sample.boxes_xyxy_px]
    keep_rows("tools-1", rows, "tools")
    path = folder / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"created_at": "2999-01-01T00:00:00+00:00"}))
    after = list(two._everything(look))[-1][1]
    assert "100.0%" in shown_rows(after)["accuracy_50"][1] and "100.0%" not in shown_rows(before)["accuracy_50"][1]


def test_what_was_written_is_not_taken_for_another_look(two: Handlers) -> None:
    button = two.forget_export()
    assert button.value is None and not button.interactive


def test_every_number_opens_as_many_samples_as_it_says(two: Handlers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of samples that were seen in training, of phrases that refer to nothing, too."""
    look = look_at(two)
    comparison = two.shelf.open("base-1", "tools-1").comparison
    seen = comparison.seen.copy()
    seen[:25] = True
    monkeypatch.setitem(vars(comparison), "seen", seen)
    for kept in (two.shelf.open("base-1", "tools-1")._figures, two.shelf.open("base-1", "tools-1")._breakdowns):
        kept.clear()
    shown = next(iter(two._everything(look)))
    assert "<b>65</b> of 90 samples" in shown[0]
    outcomes = re.findall(r'data-set="([^"]*)"[^>]*><i></i>[^<]*<b>([0-9,]+)</b>', shown[1])
    rows = re.findall(
        r'data-set="([^"]*)"[^>]*class="bw-open-row"[^>]*>[^<]*</button></th><td[^>]*>([0-9,]+)</td>', shown[2]
    )
    assert len(outcomes) == 4 and len(rows) > 8
    for asked, count in outcomes + rows:
        fresh = Looking(a=look.a, b=look.b, shown=True)
        assert f"<b>{count}</b> of 90" in change(two, fresh, **json.loads(unescape(asked)))[0][0], asked


def test_where_all_samples_were_seen_in_training_it_says_so(two: Handlers, monkeypatch: pytest.MonkeyPatch) -> None:
    """No filter is on that could be taken away."""
    look = look_at(two)
    monkeypatch.setitem(vars(two.shelf.open("base-1", "tools-1").comparison), "seen", np.ones(90, dtype=bool))
    two.shelf.open("base-1", "tools-1")._figures.clear()
    shown: Any = next(iter(two._everything(look)))
    assert (
        "All of these samples were seen in training" in shown[1] and "All 90 samples were seen in training" in shown[3]
    )
    assert "these filters" not in shown[1] + shown[3]
    pressed = re.search(r'data-set="([^"]*)" class="bw-link"', shown[3])
    assert pressed is not None
    assert "<b>90</b> of 90 samples" in change(two, look, **json.loads(unescape(pressed[1])))[0][0]


def test_where_nothing_is_left_no_empty_tables_stand(two: Handlers) -> None:
    shown = change(two, look_at(two), words="zzzz", category="mug")[0]
    assert "No sample passes these filters" in shown[1] and "<table" not in shown[1] + shown[2]


def test_a_click_on_a_breakdown_opens_its_samples_and_the_others_stay_to_be_chosen(two: Handlers) -> None:
    look = look_at(two)
    shown = change(two, look, phrase_words="1")[0]
    comparison = two.shelf.open("base-1", "tools-1").comparison
    count = int(Filter(phrase_words="1").mask(comparison).sum())
    assert f"<b>{count}</b> of 90 samples" in shown[0]
    assert "Length: 1 word" in shown[0] and "Remove the filter: length" in shown[0]
    table = shown[2].split('data-dimension="phrase_words"')[1].split("</section>")[0]
    assert table.count("<tr data-chosen") == 4 and table.count('data-chosen="true"') == 1
    assert '{"phrase_words":"","target":""}' in unescape(table)  # the chosen row takes its filter away
    assert shown[3].count('role="listitem"') == min(24, count)


def test_a_row_that_is_pressed_again_opens_all_samples(two: Handlers) -> None:
    """Those without a target too, which it had left out as its figures are not over them."""
    look = look_at(two)
    row = re.compile(r'data-dimension="phrase_words">.*?data-set="([^"]*)" class="bw-open-row"')
    shown: Any = next(iter(two._everything(look)))
    for asked in ({"phrase_words": "1", "target": "some"}, {"phrase_words": "", "target": ""}):
        pressed = row.search(shown[2])
        assert pressed is not None and json.loads(unescape(pressed[1])) == asked
        shown = change(two, look, **asked)[0]
    assert look.filter == Filter() and "<b>90</b> of 90 samples" in shown[0]


def test_outcomes_are_buttons_that_stay_while_one_is_chosen(two: Handlers) -> None:
    look = look_at(two)
    told = two.shelf.open("base-1", "tools-1").report(Filter(), False).headline.outcomes
    assert told is not None
    html = change(two, look, outcome="win", target="some")[0][1]
    assert f"Wins <b>{told.wins}</b>" in html and f"Losses <b>{told.losses}</b>" in html
    assert "only describe them" in html  # chosen by the answers: no verdict


def test_pages_orders_and_lists(two: Handlers) -> None:
    look = look_at(two)
    (shown,) = change(two, look, page="4")
    assert "Page 4 of 4" in shown[3] and shown[3].count('role="listitem"') == 90 - 3 * 24
    shown = change(two, look, order="gain", target="some")[0]
    comparison = two.shelf.open("base-1", "tools-1").comparison
    measures, before = comparison.sides[1].answers.measures, comparison.a.answers.measures
    assert (
        f"+{(measures.iou - before.iou)[measures.has_target].max():.2f}" in shown[3].split("</article>")[0]
        and look.page == 1
    )
    change(two, look, words="nowhere")
    assert "No sample passes these filters" in next(iter(two._everything(look)))[3]
    change(two, look, clear="yes")
    assert look.filter == Filter()


@pytest.mark.parametrize(
    "asked", [{"outcome": "draw"}, {"order": "best"}, {"page": "-1"}, {"page": "x"}, {"nonsense": "1"}, {"list": "x"}]
)
def test_what_no_page_asks_for_changes_nothing(asked: dict[str, str]) -> None:
    look = Looking()
    with pytest.raises(RecordError):
        look.change(asked)
    assert look == Looking()
    for wrong in (None, "text", {"words": 3}):
        with pytest.raises(RecordError, match="Reload the page"):
            look.change(wrong)


def test_one_alone_and_the_other_way_round(two: Handlers) -> None:
    look = look_at(two)
    shown = list(two.choose(look, "base-1", ALONE))[-1][2:]
    assert "base: " in shown[1] and "bw-outcomes" not in shown[1] and "Outcome" not in shown[0]
    rows = headline_rows(two.shelf.open("base-1", ALONE).report(Filter(), False).headline)
    assert list(shown_rows(shown[1]).values()) == [[*values, interval] for _, values, _, interval in rows]
    with pytest.raises(gr.Error, match="alone"):
        list(two.swap(look))
    list(two.choose(look, "base-1", "tools-1"))
    list(two.swap(look))
    assert (look.a, look.b) == ("tools-1", "base-1")


def test_what_can_not_be_compared_is_said_in_its_place(two: Handlers, keep_rows: Callable[..., str]) -> None:
    keep_rows("else", some_rows(some_samples(9, seed=8), 3))
    look = look_at(two)
    (shown,) = (filled[2:] for filled in two.choose(look, "base-1", "else"))
    assert "no sample in common" in shown[1] and shown[0] == shown[3] == ""
    (filled,) = list(two.choose(look, "../base-1", ALONE))
    assert filled[0].value is None
    shown = filled[2:]
    assert "name an evaluation" in shown[1]
    (shown,) = (filled[2:] for filled in two.choose(look, "gone", ALONE))
    assert "There is no evaluation" in shown[1]


def test_a_new_evaluation_opens_unless_somebody_has_chosen(two: Handlers, keep_rows: Callable[..., str]) -> None:
    look = look_at(two)
    (same,) = list(two.refresh(look))
    assert len(same[0].choices) == 2 and not isinstance(same[3], str)
    keep_rows("tools-2", some_rows(some_samples(90), 3), "tools")
    list(two.refresh(look))
    assert look.b == "tools-2"
    list(two.choose(look, "base-1", "tools-1"))
    keep_rows("tools-3", some_rows(some_samples(90), 4), "tools")
    (same,) = list(two.refresh(look))
    assert look.b == "tools-1" and len(same[0].choices) == 4
    assert len(list(two.refresh(Looking()))) == 1  # not in view yet: nothing is read


def test_cards_show_pictures_by_id_and_escape_everything(parts: Parts, keep_rows: Callable[..., str]) -> None:
    here = parts.source.get_sample("s0")
    edited = replace(parts.source.get_sample("s1"), phrase=NASTY, category=NASTY)
    gone = Sample(NASTY, Path("/elsewhere/x.png"), NASTY, (Box(1, 1, 9, 9),), category=NASTY)
    for name, adapter in (("a", None), ("b", NASTY)):
        keep_rows(
            name, [answered(one, one.boxes_xyxy_px or (Box(0, 0, 5, 5),)) for one in (here, edited, gone)], adapter
        )
    handlers = Handlers(parts)
    everything = "".join(part for part in list(handlers.show(Looking()))[-2] if isinstance(part, str))
    assert "<img src=x" not in everything and NASTY not in everything
    assert f"pictures/{here.image.stem}?side=320" in everything and str(parts.workspace.root) not in everything
    assert everything.count(">edited</b>") == 1
    assert everything.count("Not in this workspace any more") == 1
    assert everything.count("The picture is not in this workspace") == 1
    assert everything.count("data-annotate=") == 2


def test_labels_that_may_be_wrong(parts: Parts, keep_rows: Callable[..., str]) -> None:
    sample = parts.source.get_sample("s0")
    for name, adapter in (("a", None), ("b", "tools")):
        keep_rows(name, [answered(sample, (Box(70, 50, 90, 70),))], adapter)
    handlers = Handlers(parts)
    look = look_at(handlers)
    (shown,) = change(handlers, look, list="suspects")
    (suspect,) = handlers.shelf.open("a", "b").report(Filter(), False).suspects()
    assert suspect.sentence in unescape(shown[3]) and shown[3].count("<figure") == 1
    assert 'data-annotate="s0"' in shown[3]
    (shown,) = change(handlers, look, words="nowhere")[:1]
    assert "No label stands against" in shown[3]


def test_the_samples_models_are_shown_above(two: Handlers, add_adapter: Callable[..., None]) -> None:
    look = look_at(two)
    add_adapter("tools")
    assert two.to_models(look, [BASE]).value == [BASE, "tools"]
    assert not isinstance(two.to_models(look, [BASE, "tools"]), gr.Dropdown)
    offering = Handlers(two.parts, lambda: ["model: tiny"])
    choices = offering.to_models(look, [BASE]).choices
    assert ("tiny", "model: tiny") in [tuple(one) for one in choices], "what else the list offers stays in it"


def test_an_export_is_a_zip_of_the_filtered_samples(two: Handlers) -> None:
    look = look_at(two)
    change(two, look, spatial="spatial")
    count = int(Filter(spatial="spatial").mask(two.shelf.open("base-1", "tools-1").comparison).sum())
    button = two.export(look, "csv")
    with zipfile.ZipFile(button.value["path"] if isinstance(button.value, dict) else button.value) as archive:
        lines = archive.read("samples.csv").decode().splitlines()
        assert sorted(archive.namelist())[-2:] == ["figures.csv", "samples.csv"]
    assert len(lines) == count + 1
    with pytest.raises(gr.Error, match="no export"):
        two.export(look, "../x")


def test_seen_samples_are_left_out_until_they_are_asked_for(two: Handlers, monkeypatch: pytest.MonkeyPatch) -> None:
    look = look_at(two)
    comparison = two.shelf.open("base-1", "tools-1").comparison
    seen = comparison.seen.copy()
    seen[:30] = True
    monkeypatch.setitem(vars(comparison), "seen", seen)
    list(two.choose(look, "base-1", "tools-1"))
    opened = two.shelf.open("base-1", "tools-1")
    opened._figures.clear()
    opened._breakdowns.clear()
    (shown, _) = list(two._everything(look))
    assert (
        "Count the 30 samples that were seen in training too" in shown[1]
        and "30 seen in training are left out" in shown[1]
    )
    shown = change(two, look, with_seen="yes")[0]
    assert "left out;" not in shown[1] and " checked>" in shown[1]
    assert "<h3" in shown[1] and "Some were seen in training: these figures don’t say which is better" in shown[1]


def test_over_seen_samples_nothing_is_green(
    parts: Parts, keep_rows: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = mugs(24)
    keep_rows("a", right_on(samples, set()))
    keep_rows("b", right_on(samples, set(range(24))), "tools")
    handlers = Handlers(parts)
    look = look_at(handlers)
    monkeypatch.setitem(vars(handlers.shelf.open("a", "b").comparison), "seen", np.arange(24) < 12)
    handlers.shelf.open("a", "b")._figures.clear()
    handlers.shelf.open("a", "b")._breakdowns.clear()
    assert 'data-sign="up"' in "".join(list(handlers._everything(look))[-1][1:3])
    for asked in ({"with_seen": "yes"}, {"with_seen": "", "seen": "seen"}):
        look.change(asked)
        assert 'data-sign="up"' not in "".join(list(handlers._everything(look))[-1][1:3])


@pytest.mark.parametrize(
    ("wins", "losses", "p", "said"),
    [
        (0, 0, 1.0, "the very same samples"),
        (9, 1, 0.021, "9 wins to 1 loss would come in 2.1% of all cases: probably not chance"),
        (30, 1, 1e-7, "less than 0.1% of all cases: hardly chance"),
        (5, 4, 1.0, "it may well be chance"),
    ],
)
def test_chance_in_words(wins: int, losses: int, p: float, said: str) -> None:
    assert said in chance_sentence(Outcomes(wins, losses, 3, 2, p))


def test_whiskers_stay_on_their_axis() -> None:
    assert [half_range(reach) for reach in (0.0, 0.05, 0.06, 7.0)] == [0.02, 0.05, 0.1, 1.0]
    assert whisker_html(0.05, 0.0, 9.0, 0.1) == '<i style="left:50.00%;width:50.00%"></i><b style="left:75.00%"></b>'
    assert whisker_html(0.0, None, None, 0.1) == '<b style="left:50.00%"></b>'


def right_on(samples: list[Sample], rights: set[int]) -> list[ScoredSample]:
    """Answers that are right on these samples and nowhere near on the others."""
    far = Box(5000, 5000, 5010, 5010)
    return [answered(one, one.boxes_xyxy_px if k in rights else (far,)) for k, one in enumerate(samples)]


def mugs(count: int, per_picture: int = 1) -> list[Sample]:
    return [
        Sample(f"m{k}", Path(f"/p/{k // per_picture}.png"), "mug", (Box(0, 0, 9, 9),), category="ab"[k % 2])
        for k in range(count)
    ]


@pytest.mark.parametrize(
    ("samples", "rights", "sign", "said"),
    [
        (mugs(3), 3, "same", "Too few samples to tell tools from base: <b>+100.0 pts</b>"),
        (mugs(20), 8, "up", "tools is better than base: <b>+40.0 pts</b>"),
        (mugs(60, 10), 30, "same", "Too few samples to tell tools from base"),
        (mugs(20), 1, "same", "No difference between tools and base that these samples could show"),
    ],
)
def test_a_verdict_says_what_the_samples_bear_out(
    parts: Parts, keep_rows: Callable[..., str], samples: list[Sample], rights: int, sign: str, said: str
) -> None:
    keep_rows("a", right_on(samples, set()))
    keep_rows("b", right_on(samples, set(range(rights))), "tools")
    html = list(Handlers(parts).show(Looking()))[-1][1 + 2]
    assert f'<h3 class="bw-whole-verdict" data-sign="{sign}">{said}' in html
    assert re.search(r'data-figure="accuracy_50" data-sign="(\w+)"', html)[1] == sign  # type: ignore[index]
    hardly = "hardly chance" in html or "probably not chance" in html
    assert hardly == (sign == "up"), "the line beneath says the same"


def test_the_row_of_chance_says_over_what_and_how_sure(parts: Parts, keep_rows: Callable[..., str]) -> None:
    lone = [replace(one, id=f"lone{k}", image=Path(f"/p/lone{k}.png")) for k, one in enumerate(some_scenes(5, 1))]
    samples = [*some_scenes(12), *lone]
    keep_rows("a", [answered(sample, [LEFT]) for sample in samples])
    keep_rows("b", [answered(sample, sample.boxes_xyxy_px) for sample in samples], "tools")
    quick, exact = (shown[3] for shown in Handlers(parts).show(Looking()))
    for html in (quick, exact):
        assert "Acc@0.5 by chance<small>, n = 36</small>" in html and "36 of 41 samples" in html
    row = exact.split('data-figure="chance"')[1].split("</tr>")[0]
    assert 'title="No better than chance: ' in row and 'title="Better than chance: ' in row
    assert "better than chance" not in quick.lower()


def test_the_errors_of_calibration_say_over_how_many_answers(two: Handlers) -> None:
    look = look_at(two)
    html = list(two._everything(look))[-1][1]
    a, b = two.shelf.open("base-1", "tools-1").report(Filter(), False).headline.scores
    for scores in (a, b):
        assert (
            f'title="Over {scores.calibration_count} answers with a confidence">{scores.calibration_error:.3f}' in html
        )
        over = f'title="Over {scores.box_calibration_count} boxes with a confidence"'
        assert f"{over}>{scores.box_calibration_error:.3f}" in html
    assert html.count("answers</title>") + html.count("answer</title>") > 4


def test_rows_of_a_breakdown_are_coloured_under_the_same_rule(parts: Parts, keep_rows: Callable[..., str]) -> None:
    samples = mugs(24)
    keep_rows("a", right_on(samples, set()))
    keep_rows("b", right_on(samples, {0, 1, 2, 4, 6, 8, 10, 12, 14}), "tools")  # eight of category a, one of b
    html = list(Handlers(parts).show(Looking()))[-1][4]
    rows = html.split('data-dimension="category"')[1].split("</section>")[0]
    assert re.findall(r'<tr data-chosen="false" data-sign="(\w+)"', rows) == ["up", "same"]
    assert "by luck alone about one in twenty would be" in html
    alone = Handlers(parts)
    assert "one in twenty" not in list(alone.choose(look_at(alone), "a", ALONE))[-1][2]


def test_statuses_are_told(parts: Parts, keep_rows: Callable[..., str]) -> None:
    sample = parts.source.get_sample("s0")
    keep_rows("a", [answered(sample, (), Status.NO_BOX)])
    html = next(iter(Handlers(parts).show(Looking())))[5]
    assert "nothing there · 90% sure" in html
