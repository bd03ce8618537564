"""The arena's page: blind until the vote, counted once, taken back, and what it says where there is nothing to ask."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from compared_samples import answered, keep
from grounding.arena import Question, Tally
from grounding.boxes import Box
from grounding.compared import open_comparison
from grounding.records import Sample, Status
from grounding.ui.arena import ArenaHandlers, default_pair
from grounding.ui.arena_view import question_html, tally_sentence
from grounding.ui.kept import Kept
from grounding.ui.sources import Parts
from grounding.ui.whole_kept import report_choices
from grounding.workspace import Workspace

NEAR, FAR = Box(0, 0, 40, 40), Box(50, 40, 90, 70)
ANN = SimpleNamespace(username=None)


@pytest.fixture
def samples(parts: Parts) -> list[Sample]:
    """Eight questions on the pictures of the workspace."""
    found = [*parts.source.iterate(None)]
    return [replace(found[k % 4], id=f"q{k}", phrase=f"thing {k} <b>&", boxes_xyxy_px=(NEAR,)) for k in range(8)]


@pytest.fixture
def handlers(workspace: Workspace, samples: list[Sample]) -> ArenaHandlers:
    keep(workspace.evaluations / "base", [answered(sample, [FAR], sure=0.31) for sample in samples])
    keep(workspace.evaluations / "tools", [answered(sample, [NEAR], sure=0.87) for sample in samples], "tools")
    return ArenaHandlers(workspace)


def show(handlers: ArenaHandlers, who: str = "ann") -> str:
    return handlers.show("base", "tools", who, ANN)  # type: ignore[arg-type]


def pick(handlers: ArenaHandlers, html: str, choice: Any = "left", who: str = "ann") -> str:
    event = SimpleNamespace(question=token(html), choice=choice)
    return handlers.pick(event, "base", "tools", who, ANN)  # type: ignore[arg-type]


def token(html: str) -> str:
    found = re.search(r'data-question="([0-9a-f]{32})"', html)
    assert found is not None, html
    return found[1]


def question_part(html: str) -> str:
    return html.split('<div class="bw-arena-after">')[0]


def test_nothing_before_the_vote_tells_who_is_who(workspace: Workspace, samples: list[Sample]) -> None:
    """The same drawing under the other's name, on the same side, is the same to the byte."""
    ways = [[FAR], [NEAR], [NEAR, FAR], []]
    for first, second in [(one, other) for one in ways for other in ways]:
        htmls = []
        for run, (a, b) in enumerate([(first, second), (second, first)]):
            folder = workspace.evaluations / f"{len(first)}{first}{len(second)}{second}{run}".replace(" ", "")
            kept = [
                keep(folder / name, [answered(samples[0], boxes, Status.OK if boxes else Status.NO_BOX, sure)], name)
                for name, boxes, sure in (("secret1", a, 0.31), ("secret2", b, 0.87))
            ]
            comparison = open_comparison(kept, workspace=workspace)
            question = Question("0" * 32, 0, "ab"[run], None, ("", "", ""), ("x", "y"))  # type: ignore[arg-type]
            htmls.append(question_html(question, comparison.record(0)))
        assert htmls[0] == htmls[1]
        assert not re.search(r"secret|base|adapter|0\.31|0\.87|31%|87%|IoU", htmls[0])


def test_the_page_of_a_question_holds_its_token_and_both_boxes(handlers: ArenaHandlers) -> None:
    part = question_part(show(handlers))
    assert part.count('data-kind="target"') == 2 and "truth" not in part
    assert set(re.findall(r'data-choice="(\w+)"', part)) == {"left", "right", "both", "neither"}
    assert "&lt;b&gt;&amp;" in part and "<b>&" not in part
    assert not re.search("tools|base|adapter", part)


def test_a_vote_reveals_the_last_and_asks_the_next(handlers: ArenaHandlers) -> None:
    before = show(handlers)
    html = pick(handlers, before)
    assert token(html) != token(before)
    assert "You took <b>left</b>" in html and "No votes yet" in before
    last = handlers.votes.last(handlers._opened("base", "tools").pair, "ann")
    assert last is not None and last.preferred == last.left
    order = re.findall(r'<span>(Left|Right)</span><i class="bw-key" data-kind="(\w+)"', html)
    assert order == [
        ("Left", {"a": "base", "b": "adapter"}[last.left]),
        ("Right", {"a": "adapter", "b": "base"}[last.left]),
    ]
    assert question_part(html) == question_part(show(handlers)), "a reload asks the same"
    assert not re.search("tools|base|adapter", question_part(html))


def test_a_vote_on_a_sample_that_was_edited_since_is_not_told_of_the_new_one(
    handlers: ArenaHandlers, workspace: Workspace, samples: list[Sample]
) -> None:
    """The same two models were evaluated again, and answered the new words otherwise."""
    pick(handlers, show(handlers))
    edited = [replace(sample, phrase=f"{sample.phrase} here") for sample in samples]
    keep(workspace.evaluations / "base-2", [answered(sample, [NEAR]) for sample in edited])
    keep(workspace.evaluations / "tools-2", [answered(sample, [FAR]) for sample in edited], "tools")
    html = handlers.show("base-2", "tools-2", "ann", ANN)  # type: ignore[arg-type]
    assert "You took" not in html and "8 of 8 left for you" in html
    assert "You took" in show(handlers), "where it was given it is told"


def test_a_second_click_and_a_second_window_count_nothing(
    handlers: ArenaHandlers, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(gr, "Info", lambda text, **_: told.append(text))
    first, other_window = show(handlers), show(ArenaHandlers(workspace))
    assert first == other_window
    html = pick(handlers, first)
    assert not told
    assert pick(handlers, first, "right") == html and len(told) == 1
    assert pick(ArenaHandlers(workspace), other_window, "both") == html and len(told) == 2
    assert handlers.votes.tally(handlers._opened("base", "tools").pair).votes == 1
    assert token(show(handlers, "ben")) and pick(handlers, show(handlers, "ben"), who="ben")
    assert handlers.votes.tally(handlers._opened("base", "tools").pair).votes == 2


def test_the_log_in_signs_and_not_the_name_that_was_sent(handlers: ArenaHandlers) -> None:
    request: Any = SimpleNamespace(username="carl")
    event: Any = SimpleNamespace(question=token(handlers.show("base", "tools", "ann", request)), choice="left")
    handlers.pick(event, "base", "tools", "ann", request)
    pair = handlers._opened("base", "tools").pair
    assert handlers.votes.last(pair, "carl") and handlers.votes.last(pair, "ann") is None


def test_a_vote_is_taken_back_once(handlers: ArenaHandlers) -> None:
    html = pick(handlers, pick(handlers, show(handlers)), "neither")
    pair = handlers._opened("base", "tools").pair
    last = handlers.votes.last(pair, "ann")
    assert last is not None and f'data-undo="{last.id}"' in html
    event: Any = SimpleNamespace(vote=last.id)
    html = handlers.undo(event, "base", "tools", "ann", ANN)  # type: ignore[arg-type]
    assert handlers.undo(event, "base", "tools", "ann", ANN) == html  # type: ignore[arg-type]
    assert handlers.votes.tally(pair).votes == 1 and "You took <b>left</b>" in html


def test_all_judged_says_so(handlers: ArenaHandlers) -> None:
    html = show(handlers)
    for _ in range(8):
        html = pick(handlers, html, "both")
    assert "All judged" in html and "8 both good" in html and "0 of 8 left for you" in html
    assert "No vote for one of the two yet" in html


@pytest.mark.parametrize("choice", ["a", None, "", "LEFT", 3])
def test_a_choice_that_is_none_is_refused(handlers: ArenaHandlers, choice: Any) -> None:
    with pytest.raises(gr.Error, match="is no choice"):
        pick(handlers, show(handlers), choice)


def test_without_two_evaluations_it_says_what_to_do(parts: Parts, samples: list[Sample]) -> None:
    handlers = ArenaHandlers(parts.workspace)
    a, b, html = handlers.open(None, None, "", ANN)  # type: ignore[arg-type]
    assert (a.value, b.value) == (None, None) and "score the base and an adapter above" in html
    assert not parts.workspace.arena_db.exists()
    keep(parts.workspace.evaluations / "one", [answered(samples[0], [NEAR])])
    keep(parts.workspace.evaluations / "two", [answered(samples[0], [NEAR])])
    assert "same model" in handlers.show("one", "two", "", ANN)  # type: ignore[arg-type]


def test_pictures_that_are_not_here_are_counted(
    handlers: ArenaHandlers, workspace: Workspace, samples: list[Sample]
) -> None:
    samples[0].image.unlink()
    html = show(handlers)
    assert "2 left out, as their pictures are not in this workspace" in html and "6 of 6 left for you" in html


def test_the_newest_adapter_stands_against_the_base(
    handlers: ArenaHandlers, workspace: Workspace, samples: list[Sample]
) -> None:
    keep(workspace.evaluations / "other", [answered(one, [NEAR]) for one in samples[:3]], "other")
    kept = Kept(workspace).list()
    assert default_pair(kept) == ("base", "tools")
    assert default_pair(kept[:1]) == (None, None)
    a, b, html = handlers.open("gone", None, "ann", ANN)  # type: ignore[arg-type]
    assert (a.value, b.value) == ("base", "tools") and token(html)
    choices = a._constructor_args[0]["choices"]
    assert choices == report_choices(kept), "the words of the whole-set part"
    assert ("base", True) in {
        (id_, label.startswith("base demo · test · 8 samples · Acc@0.5 0.0%")) for label, id_ in choices
    }


def test_the_tally_in_words() -> None:
    names = {"a": "base", "b": "tools"}
    assert tally_sentence(Tally(2, 7, 3, 2, 2), names) == (
        "tools is preferred in 7 of 9 decisive votes: 78% (95% interval 45% to 94%). "
        "Not decided: the interval holds 50%. 3 both good, 2 neither by 2 people."
    )
    assert "More than chance: base." in tally_sentence(Tally(12, 1), names)
