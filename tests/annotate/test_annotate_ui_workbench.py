"""The Annotate tab without a browser: requests in, replies and rows out."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from html import escape
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from annotate import batches, chunks
from annotate.store import Store
from annotate.ui import behind, workbench
from annotate.ui.asides import AsideParts, Asides
from annotate.ui.tab import AnnotateParts, login_name, server_function
from annotate.ui.workbench import Workbench
from grounding.boxes import Box
from grounding.errors import StoreError

PLACEHOLDER = "Provide a short description for this region."
Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def bench(fill: Callable[..., Store]) -> Workbench:
    """Placeholders a, b, c; b and c have words of the source; d has a phrase; v is a placeholder of val."""
    fill("a", phrase=PLACEHOLDER)
    fill("b", "c", phrase=PLACEHOLDER, alternatives=("red cup",))
    fill("v", phrase=PLACEHOLDER, split="val", picture=1)
    store = fill("d", phrase="blue cup", picture=2)
    return Workbench(store, lambda sha256: f"pictures/{sha256}", lambda sha256: f"pictures/{sha256}?side=160")


@pytest.fixture
def ask(bench: Workbench) -> Ask:
    """`ask("save", shown, text=...)` sends what the page sends when it shows that screen."""

    def send(do: str, shown: dict[str, Any] | None = None, login: str | None = None, **sent: Any) -> dict[str, Any]:
        screen = {name: shown[name] for name in ("id", "revision")} if shown else {}
        if shown:
            screen["place"] = list(shown["place"])
        return bench.answer({"do": do, "who": "ana", "split": "train", **screen, **sent}, login, "os-user")

    return send


def test_the_first_request_opens_the_train_placeholders(ask: Ask) -> None:
    reply = ask("start", split="")
    assert reply["screen"]["id"] == "a"
    assert (reply["counts"]["queue"], reply["counts"]["split"]) == ("placeholders", "train")
    assert "Placeholders (3)" in reply["counts"]["queues_html"] and "All splits (4)" in reply["counts"]["splits_html"]


def test_a_link_to_a_sample_that_is_not_here_says_so_and_opens_the_queue(ask: Ask) -> None:
    reply = ask("open", id="<i>gone")
    assert reply["screen"]["id"] == "a"
    assert "&lt;i&gt;gone" in reply["notice_html"] and "not in this workspace" in reply["notice_html"]
    assert "notice_html" not in ask("open", id="b")


def test_it_opens_all_splits_when_only_others_have_placeholders(ask: Ask, bench: Workbench) -> None:
    for sample_id in "abc":
        bench.store.save(sample_id, f"cup {sample_id}", who="ana", expected_revision=1)
    reply = ask("start", split="")
    assert (reply["screen"]["id"], reply["counts"]["split"]) == ("v", "")


def test_save_commits_and_goes_on(ask: Ask, bench: Workbench) -> None:
    reply = ask("save", ask("open")["screen"], text="  left   mug ")
    assert reply["screen"]["id"] == "b"
    assert bench.store.get("a").phrase == "left mug"
    assert "Saved" in reply["notice_html"] and "left mug" in reply["notice_html"] and "ana" in reply["notice_html"]
    assert (reply["counts"]["done"], reply["counts"]["total"]) == (1, 3)
    assert reply["did"] == {"id": "a", "revision": 2}


def test_the_next_picture_is_named_for_loading_ahead(ask: Ask, bench: Workbench) -> None:
    reply = ask("open", split="")
    assert reply["screen"]["id"] == "a"
    assert reply["preload_url"] == f"pictures/{bench.store.get('b').picture_sha256}"


def test_a_save_names_the_sample_that_the_page_showed(ask: Ask, bench: Workbench) -> None:
    """Not the one that another tab, or a restarted app, has come to meanwhile."""
    shown = ask("open")["screen"]
    ask("save", ask("open")["screen"] | {"id": "b"}, text="another tab")
    ask("save", shown, text="left mug")
    assert [bench.store.get(sample_id).phrase for sample_id in "ab"] == ["left mug", "another tab"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "empty", id="empty"),
        pytest.param(PLACEHOLDER, "placeholder", id="placeholder"),
        pytest.param("x" * 501, "501 characters", id="too long"),
    ],
)
def test_a_phrase_that_cannot_be_saved_changes_nothing(ask: Ask, bench: Workbench, text: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        ask("save", ask("open")["screen"], text=text)
    assert bench.store.get("a").revision == 1


def test_the_login_wins_over_the_name_and_the_name_over_the_system(ask: Ask, bench: Workbench) -> None:
    shown = ask("open")["screen"]
    ask("save", shown, text="one")
    ask("save", shown | {"revision": 2}, text="two", login="boss")
    ask("save", shown | {"revision": 3}, text="three", who="  ")
    assert [change.who for change in bench.store.history("a")][1:] == ["ana", "boss", "os-user"]


def test_a_stale_save_shows_both_versions_and_then_goes_over_it(ask: Ask, bench: Workbench) -> None:
    shown = ask("open")["screen"]
    bench.store.save("a", "theirs", who="bo", expected_revision=1)
    conflict = ask("save", shown, text="mine")["conflict"]
    assert "theirs" in conflict["html"] and "mine" in conflict["html"] and "bo" in conflict["html"]
    assert bench.store.get("a").phrase == "theirs"
    reply = ask("save", shown | {"revision": conflict["revision"]}, text="mine")
    assert bench.store.get("a").phrase == "mine" and reply["screen"]["id"] == "b"


def test_a_stale_save_of_the_same_words_is_no_conflict(ask: Ask, bench: Workbench) -> None:
    shown = ask("open")["screen"]
    bench.store.save("a", "left mug", who="bo", expected_revision=1)
    reply = ask("save", shown, text="left  mug")
    assert reply["screen"]["id"] == "b" and "Already saved" in reply["notice_html"] and "bo" in reply["notice_html"]
    assert bench.store.get("a").revision == 2


def test_a_stale_save_of_the_same_words_for_other_boxes_shows_both_and_loses_neither(
    ask: Ask, bench: Workbench
) -> None:
    shown = ask("show", id="d")["screen"]
    bench.store.save("d", "blue cup", who="bo", expected_revision=1, boxes_xyxy_px=[Box(5, 5, 9, 9)])
    mine = [[1.0, 2.0, 8.0, 9.0]]
    conflict = ask("save", shown, text="blue cup", boxes=mine)["conflict"]
    assert 'x="5.00" y="5.00" width="4.00" height="4.00"' in conflict["html"]
    assert 'x="1.00" y="2.00" width="7.00" height="7.00"' in conflict["html"]
    assert bench.store.get("d").sample.boxes_xyxy_px == (Box(5, 5, 9, 9),)
    ask("save", shown | {"revision": conflict["revision"]}, text="blue cup", boxes=mine)
    assert bench.store.get("d").sample.boxes_xyxy_px == (Box(1, 2, 8, 9),)
    again = ask("save", shown, text="blue cup", boxes=mine)
    assert "Already saved" in again["notice_html"], "sent twice, as its answer was lost on the way"


def test_a_save_sent_again_with_other_boxes_is_not_called_saved(ask: Ask, bench: Workbench) -> None:
    shown = ask("show", id="d")["screen"]
    ask("save", shown, text="blue cup", boxes=[[5.0, 5.0, 9.0, 9.0]])  # its answer was lost on the way
    for boxes in ({"boxes": [[1.0, 2.0, 8.0, 9.0]]}, {}):  # drawn anew, or put back as the page showed them
        reply = ask("save", shown, text="blue cup", **boxes)
        assert 'x="5.00" y="5.00" width="4.00" height="4.00"' in reply["conflict"]["html"]
    assert bench.store.get("d").revision == 2


def test_words_that_somebody_rejected_meanwhile_are_not_called_saved(ask: Ask, bench: Workbench) -> None:
    shown = ask("show", id="d")["screen"]
    bench.store.reject("d", "blurred", who="bo", expected_revision=1)
    reply = ask("save", shown, text="blue cup")
    assert "bo changed this sample" in reply["problem"] and "blurred" in reply["screen"]["stands_html"]
    assert bench.store.get("d").state == "rejected"


@pytest.mark.parametrize("do", ["skip", "flag", "undo", "note"])
def test_other_stale_edits_show_what_stands(ask: Ask, bench: Workbench, do: str) -> None:
    shown = ask("open")["screen"]
    bench.store.save("a", "theirs", who="bo", expected_revision=1)
    reply = ask(do, shown)
    assert "bo changed this sample" in reply["problem"]
    assert (reply["screen"]["phrase"], reply["screen"]["revision"]) == ("theirs", 2)
    assert bench.store.get("a").revision == 2


def test_a_phrase_left_as_it_stands_is_approved(ask: Ask, bench: Workbench) -> None:
    reply = ask("save", ask("show", id="d")["screen"], text="blue cup", queue="all")
    assert bench.store.get("d").state == "approved" and "Approved" in reply["notice_html"]


def test_skip_goes_on_from_where_the_page_was_and_comes_round(ask: Ask, bench: Workbench) -> None:
    shown, order = ask("open")["screen"], []
    for _ in range(4):
        order.append(shown["id"])
        shown = ask("skip", shown)["screen"]
    assert order == ["a", "b", "c", "a"]
    assert bench.store.get("a").skipped


def test_flag_stays_note_goes_on_unflag_takes_away(ask: Ask, bench: Workbench) -> None:
    shown = ask("flag", ask("open")["screen"])["screen"]
    assert (shown["id"], shown["flagged"]) == ("a", True)
    assert ask("note", shown, text="box is wrong")["screen"]["id"] == "b"
    assert bench.store.get("a").flag_note == "box is wrong"
    ask("unflag", ask("show", id="a")["screen"])
    assert not bench.store.get("a").flagged


def test_undo_puts_back_and_hands_the_words_over(ask: Ask, bench: Workbench) -> None:
    did = ask("save", ask("open")["screen"], text="lfet mug")["did"]
    reply = ask("undo", None, **did)
    assert reply["screen"]["id"] == "a" and reply["screen"]["placeholder"]
    assert reply["redo_text"] == "lfet mug"
    assert bench.store.get("a").phrase == PLACEHOLDER


def test_undo_with_nothing_to_undo_is_a_sentence(ask: Ask) -> None:
    with pytest.raises(StoreError, match="nothing to undo"):
        ask("undo", ask("open")["screen"])


def test_back_and_next_walk_without_changing(ask: Ask, bench: Workbench) -> None:
    second = ask("next", ask("open")["screen"])["screen"]
    assert second["id"] == "b"
    assert ask("back", second)["screen"]["id"] == "a"
    assert "first" in ask("back", ask("open")["screen"])["notice_html"]
    assert all(bench.store.get(sample_id).revision == 1 for sample_id in "abcd")


def test_after_a_visit_back_one_returns_to_where_one_was(ask: Ask) -> None:
    assert ask("save", ask("open")["screen"], text="mug", then="c")["screen"]["id"] == "c"


def test_the_end_of_everything_is_an_end(ask: Ask) -> None:
    last = ask("show", id="d")["screen"]
    reply = ask("next", last, queue="all")
    assert reply["screen"]["id"] == "" and "The end of train" in reply["screen"]["done_html"]


def test_an_unknown_sample_of_an_old_page_begins_at_the_front(ask: Ask) -> None:
    assert ask("open", id="gone")["screen"]["id"] == "a"


def test_looking_again_shows_only_what_changed(ask: Ask, bench: Workbench) -> None:
    shown = ask("open")["screen"]
    assert "screen" not in ask("look", shown)
    bench.store.save("a", "theirs", who="bo", expected_revision=1)
    assert ask("look", shown)["screen"]["phrase"] == "theirs"


def test_repair_shows_first_then_does_then_takes_back(ask: Ask, bench: Workbench) -> None:
    html = ask("repair_preview")["repair_html"]
    assert "Fill 2 placeholders" in html and "2 have no such phrase" in html and "?side=160" in html
    assert bench.store.counts().placeholders == 4
    reply = ask("repair", ask("open")["screen"])
    assert "2 placeholders filled" in reply["repaired"]["sentence"] and "ana" in reply["repaired"]["sentence"]
    assert bench.store.counts().repaired == 2 and bench.store.history("b")[-1].who == "ana"
    bench.store.save("b", "green cup", who="bo", expected_revision=2)
    undone = ask("undo_repair", batch=reply["repaired"]["batch"])
    assert "1 sample put back" in undone["notice_html"] and "1 stayed" in undone["notice_html"]
    assert bench.store.get("b").phrase == "green cup"


def test_a_repair_moves_the_page_on_when_its_sample_was_filled(ask: Ask) -> None:
    assert ask("repair", ask("show", id="b")["screen"])["screen"]["id"] == "a"


def test_a_repair_goes_by_the_preview_that_the_person_saw(ask: Ask, bench: Workbench) -> None:
    as_of = re.search(r'data-as-of="(\d+)"', ask("repair_preview")["repair_html"])
    assert as_of is not None
    bench.store.flag("b", "look", who="bo", expected_revision=1)
    sentence = ask("repair", as_of=int(as_of[1]))["repaired"]["sentence"]
    assert "1 placeholder filled" in sentence and "3 left" in sentence
    assert bench.store.get("b").phrase == PLACEHOLDER


def test_a_long_change_goes_on_behind_the_page_and_may_be_put_back(
    ask: Ask, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asides = Asides(AsideParts(bench.store, bench.picture_url))
    may_go_on, ended = threading.Event(), threading.Event()

    def wait(seconds: float) -> None:
        may_go_on.wait(20)

    def begin(work: Callable[[], object]) -> None:
        behind.begin(lambda: (work(), ended.set()))

    monkeypatch.setattr(behind, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(workbench, "begin", begin)
    monkeypatch.setattr(chunks, "MOST_IN_CHUNK", 2)
    monkeypatch.setattr(chunks, "time", SimpleNamespace(sleep=wait, monotonic=time.monotonic))
    repaired = ask("bulk", queue="all", split="", edit={"kind": "flag", "put": ""})["repaired"]
    assert repaired["going"] and repaired["sentence"] == "Changing many: 2 of 5 samples."
    question = {"do": "batch", "batch": repaired["batch"]}
    assert asides.answer(question, None, "ana")["repaired"] == repaired
    may_go_on.set()
    assert ended.wait(20)
    done = asides.answer(question, None, "ana")["repaired"]
    assert (done["going"], done["sentence"]) == (False, "5 samples changed by ana, 0 left as they were.")
    assert "5 samples put back" in ask("undo_repair", batch=repaired["batch"])["notice_html"]
    assert asides.answer(question, None, "ana")["repaired"]["undone"]
    assert asides.answer({"do": "batch", "batch": "unknown"}, None, "ana") == {}


def test_a_change_that_broke_off_is_told_and_offered_to_whoever_opens_the_page(
    ask: Ask, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*arguments: Any) -> None:
        connection, row, *rest = arguments
        if row["id"] == "v":
            raise StoreError("broken off")
        apply(connection, row, *rest)

    apply: Callable[..., None] = batches.apply
    monkeypatch.setattr(batches, "apply", breaks)
    monkeypatch.setattr(chunks, "MOST_IN_CHUNK", 2)
    assert "broken" not in ask("open")
    reply = ask("bulk", queue="all", split="", edit={"kind": "flag", "put": ""})
    assert reply["problem"].startswith("broken off It ended in the middle: 2 samples")
    offered = ask("open")["broken"]
    assert offered == reply["repaired"] and "by ana ended in the middle (2 of 5 samples)" in offered["sentence"]
    assert "2 samples put back" in ask("undo_repair", batch=offered["batch"])["notice_html"]
    assert "broken" not in ask("open")


def test_an_unknown_action_is_refused(ask: Ask) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        ask("drop_tables")


def test_errors_reach_the_page_as_plain_sentences(bench: Workbench) -> None:
    """A `tell` like the app's makes HTML of them; the page shows text."""

    def tell(handler: Callable[..., Any]) -> Any:
        def told(*arguments: Any) -> Any:
            try:
                return handler(*arguments)
            except StoreError as error:
                raise gr.Error(escape(str(error))) from error

        return told

    parts = AnnotateParts(bench.store, tell, bench.picture_url, bench.thumbnail_url, "os-user")
    answer = server_function(bench.answer, "annotate", parts)
    request: Any = SimpleNamespace(app=SimpleNamespace(cookie_id="1", tokens={}), cookies={})
    assert answer({"do": "open"}, request)["screen"]["id"] == "a"
    assert "no sample '<b>'" in answer({"do": "show", "id": "<b>"}, request)["problem"]


@pytest.mark.parametrize(
    ("cookies", "name"),
    [
        pytest.param({}, None, id="no cookie"),
        pytest.param({"access-token-7": "good"}, "ana", id="secure cookie"),
        pytest.param({"access-token-unsecure-7": "good"}, "ana", id="cookie without https"),
        pytest.param({"access-token-7": "forged"}, None, id="forged"),
        pytest.param({"access-token-8": "good"}, None, id="cookie of another app"),
    ],
)
def test_the_login_is_read_from_the_cookie(cookies: dict[str, str], name: str | None) -> None:
    request = SimpleNamespace(app=SimpleNamespace(cookie_id="7", tokens={"good": "ana"}), cookies=cookies)
    assert login_name(request) == name


def test_who_decides_goes_on_to_the_next_sample_on_which_people_disagree(ask: Ask, bench: Workbench) -> None:
    def propose(sample_id: str) -> None:
        ask("propose", ask("show", id=sample_id)["screen"], text=f"cup {sample_id}", who="bo", queue="all")

    for sample_id in "abd":
        propose(sample_id)
    reply = ask("undecided", ask("show", id="a")["screen"])
    assert (reply["screen"]["id"], reply["counts"]["undecided"]) == ("b", 3)
    reply = ask("decide_on", reply["screen"], opinion=bench.opinions.of("b")[0].id)
    assert (reply["screen"]["id"], reply["did"]["id"], reply["counts"]["undecided"]) == ("d", "b", 2)
    assert "Decided for" in reply["notice_html"] and bench.store.get("b").phrase == "cup b"
    reply = ask("decide_on", reply["screen"], opinion=0)
    assert reply["screen"]["id"] == "a"
    reply = ask("decide_on", reply["screen"], opinion=bench.opinions.of("a")[0].id)
    assert (reply["screen"]["id"], reply["counts"]["undecided"]) == ("a", 0)
