"""What Compare does, without a browser: picking, uploading, asking, and what the client may send."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from html import escape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from compared_samples import LEFT, keep, some_scenes
from compared_samples import answered as answered_sample
from grounding.boxes import Box
from grounding.errors import AdapterError, ModelError, PictureError, RecordError, SettingsError, StoreError
from grounding.evaluating.selection import Selection
from grounding.evaluating.worker import Evaluator, Work
from grounding.metrics import summarise
from grounding.reports import KeptReport
from grounding.ui.against_chance import NO_SIGNAL, NOT_EVALUATED, most_telling
from grounding.ui.browser import PAGE_SIZE, grid_html
from grounding.ui.chosen import BASE
from grounding.ui.compare import Handlers
from grounding.ui.desk import WRITE_A_PHRASE, Compare, Desk
from grounding.ui.model_service import ModelService
from grounding.ui.scoreboard import Scoreboard
from grounding.ui.sources import Parts
from grounding.workspace import Workspace


@pytest.fixture
def compare(parts: Parts) -> Compare:
    return Compare(parts, Scoreboard(parts))


@pytest.fixture
def handlers(compare: Compare) -> Handlers:
    return Handlers(compare)


def test_the_page_opens_on_the_first_test_sample(handlers: Handlers, add_adapter: Callable[..., None]) -> None:
    add_adapter("tools-v1")
    desk = Desk()
    splits, grid, adapters, phrase, results = handlers.open_page(desk)
    assert (desk.sample_id, phrase) == ("s0", "the red mug")
    assert splits.value == "test"
    assert adapters.value == [BASE, "tools-v1"]
    assert 'data-sample="s0"' in grid
    assert 'aria-busy="true"' in results


def test_an_empty_workspace_says_what_to_do(handlers: Handlers, source: Any) -> None:
    source.samples = []
    *_, phrase, results = handlers.open_page(Desk())
    assert phrase == ""
    assert "Upload a picture" in results


def test_asking_shows_the_answers_of_both(compare: Compare, predictor: Any, add_adapter: Callable[..., None]) -> None:
    add_adapter("tools-v1")
    desk = Desk()
    compare.pick(desk, "s0")
    *waiting, answers = compare.ask(desk, "the red mug", (None, "tools-v1"))
    assert all('aria-busy="true"' in html for html in waiting)
    assert "IoU 0.25" in answers
    assert "IoU 1.00" in answers
    assert "Adapter +0.75 IoU" in answers
    assert predictor.asked == [("the red mug", None), ("the red mug", "tools-v1")]


def test_an_answer_for_a_picture_that_is_gone_is_dropped(compare: Compare) -> None:
    desk = Desk()
    compare.pick(desk, "s0")
    answers = compare.ask(desk, "the red mug", (None,))
    next(answers)
    compare.pick(desk, "s1")
    assert list(answers) == []


def test_pictures_passed_over_quickly_are_not_asked_about(handlers: Handlers, compare: Compare, predictor: Any) -> None:
    desk = Desk()
    for sample_id in ("s0", "s1", "s3"):
        compare.pick(desk, sample_id)
    for _ in range(3):
        list(handlers.ask_picked(desk, "a phrase the page showed before", [BASE]))
    assert predictor.asked == [("left mug", None)]


def test_an_error_of_the_model_stands_in_the_cards(compare: Compare, predictor: Any) -> None:
    predictor.error = ModelError("Out of memory: choose --quantize 4bit.")
    desk = Desk()
    compare.pick(desk, "s0")
    *_, last = compare.ask(desk, "the red mug", (None,))
    assert "choose --quantize 4bit" in last
    assert 'aria-busy="false"' in last


def test_an_unforeseen_error_does_not_leave_the_page_waiting(compare: Compare, predictor: Any) -> None:
    predictor.error = ZeroDivisionError("boom")
    desk = Desk()
    compare.pick(desk, "s0")
    seen = []
    with pytest.raises(ZeroDivisionError):
        for html in compare.ask(desk, "the red mug", (None,)):
            seen.append(html)
    assert 'aria-busy="false"' in seen[-1]


def test_the_first_answer_waits_for_the_model(parts: Parts, predictor: Any) -> None:
    service = ModelService("demo", "none", parts.workspace, load=lambda: predictor)
    late = Compare(Parts(parts.workspace, parts.source, service, parts.is_placeholder), Scoreboard(parts))
    desk = Desk()
    late.pick(desk, "s0")
    service.start()
    *_, last = late.ask(desk, "the red mug", (None,))
    assert "IoU" in last


@pytest.mark.parametrize("phrase", ["", "   "])
def test_without_a_phrase_nothing_is_asked(handlers: Handlers, compare: Compare, predictor: Any, phrase: str) -> None:
    desk = Desk()
    compare.pick(desk, "s0")
    (html,) = handlers.ask_typed(desk, phrase, [BASE])
    assert WRITE_A_PHRASE in html
    assert predictor.asked == []


def test_uploading_lays_the_picture_down_without_a_truth(compare: Compare, tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), "green").save(tmp_path / "mine.jpg")
    desk = Desk()
    compare.pick(desk, "s0")
    compare.upload(desk, tmp_path / "mine.jpg")
    scene = compare.scene(desk, "the red mug")
    assert scene.image_size_wh == (300, 200)
    assert scene.truth.boxes_xyxy_px is None
    assert compare.phrase_of_sample(desk) is None


def bomb(path: Path) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def cut_short(path: Path) -> None:
    Image.effect_noise((200, 200), 50).save(path)
    path.write_bytes(path.read_bytes()[:4000])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.write_text("hello"), "not a picture"),
        (lambda path: path.write_bytes(b""), "not a picture"),
        (bomb, "megapixels"),
        (cut_short, "damaged"),
        (lambda path: None, "no picture at"),
    ],
    ids=["text", "empty", "20,000 x 20,000", "cut short", "missing"],
)
def test_a_bad_upload_is_a_sentence_and_changes_nothing(
    compare: Compare, tmp_path: Path, make: Callable[[Path], object], said: str
) -> None:
    make(tmp_path / "bad.png")
    desk = Desk()
    compare.pick(desk, "s0")
    with pytest.raises(PictureError, match=said):
        compare.upload(desk, tmp_path / "bad.png")
    assert desk.sample_id == "s0"
    assert not list(compare.parts.workspace.uploads.folder.rglob("*.png"))


@pytest.mark.parametrize(("typed", "kept"), [("the red mug", ""), ("my own words", "my own words")])
def test_after_an_upload_ones_own_words_stay(
    handlers: Handlers, compare: Compare, tmp_path: Path, typed: str, kept: str
) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "mine.png")
    desk = Desk()
    compare.pick(desk, "s0")
    grid, phrase, _ = handlers.upload(str(tmp_path / "mine.png"), desk, "test", typed, [BASE])
    assert phrase == kept
    assert 'aria-pressed="true"' not in grid


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (lambda c: c.pick(Desk(), "../../etc/passwd"), StoreError),
        (lambda c: c.pick(Desk(), None), StoreError),
        (lambda c: c.check_split("secret"), StoreError),
        (lambda c: c.check_split({"a": 1}), StoreError),
        (lambda c: c.check_models("../../etc"), AdapterError),
        (lambda c: c.check_models(["../../etc"]), AdapterError),
        (lambda c: c.check_models([BASE, {"a": 1}]), AdapterError),
        (lambda c: c.scene(Desk(), "a phrase"), PictureError),
    ],
)
def test_what_the_client_sends_is_looked_up(compare: Compare, action: Callable[[Compare], object], error: type) -> None:
    with pytest.raises(error):
        action(compare)


def test_a_phrase_beyond_the_limit_is_refused(handlers: Handlers, compare: Compare) -> None:
    desk = Desk()
    compare.pick(desk, "s0")
    with pytest.raises(gr.Error, match="limit is 500"):
        list(handlers.ask_typed(desk, "x" * 501, [BASE]))
    with pytest.raises(RecordError):
        from grounding.records import check_phrase

        check_phrase(" ")


def test_the_grid_pages_and_marks_the_chosen_one(source: Any) -> None:
    source.samples = [source.samples[0]] * 30
    html = grid_html(source, "test", 0, None)
    assert html.count("bw-thumb") == PAGE_SIZE
    assert "1–12 of 30" in html
    assert "25–30 of 30" in grid_html(source, "test", 9999, None), "beyond the end: the last page"
    assert "1–12 of 30" in grid_html(source, "test", -5, None)
    assert grid_html(source, "test", 0, "s0").count('aria-pressed="true"') == PAGE_SIZE
    assert "No samples" in grid_html(source, "val", 0, None)


def test_the_grid_escapes_ids_and_phrases(source: Any) -> None:
    from dataclasses import replace

    source.samples = [replace(source.samples[0], id='"><b>', phrase="<img src=x>")]
    html = grid_html(source, None, 0, None)
    assert "<b>" not in html
    assert "<img src=x>" not in html


def test_the_newest_adapter_comes_when_the_tab_is_opened(handlers: Handlers, add_adapter: Callable[..., None]) -> None:
    desk = Desk()
    assert handlers.refresh_models(desk, [BASE]).value == [BASE]
    add_adapter("first", "2026-01-01T00:00:00+00:00")
    assert handlers.refresh_models(desk, [BASE]).value == [BASE, "first"], "the first one to choose from is chosen"
    add_adapter("second", "2026-02-01T00:00:00+00:00")
    assert handlers.refresh_models(desk, ["first"]).value == ["first"]
    assert handlers.refresh_models(desk, ["second", BASE, "first"]).value == ["second", BASE, "first"]
    assert handlers.refresh_models(desk, [BASE]).value == [BASE], "the base alone was a choice"
    assert handlers.refresh_models(desk, [BASE, "gone"]).value == [BASE, "second"]
    for nothing in ([], None):
        assert handlers.refresh_models(desk, nothing).value == [BASE, "second"], "before the page has filled the list"


def test_another_adapter_asks_again_but_the_first_fill_does_not(
    handlers: Handlers, compare: Compare, predictor: Any, add_adapter: Callable[..., None]
) -> None:
    add_adapter("tools-v1")
    desk = Desk()
    compare.pick(desk, "s0")
    list(handlers.ask_models(desk, "the red mug", [BASE, "tools-v1"]))
    assert predictor.asked == [], "nothing was asked yet: the picture asks for itself"
    list(handlers.ask_picked(desk, "", [BASE]))
    list(handlers.ask_models(desk, "the red mug", [BASE]))
    assert len(predictor.asked) == 1, "the same question is not asked twice"
    list(handlers.ask_models(desk, "the red mug", [BASE, "tools-v1"]))
    assert predictor.asked[1:] == [("the red mug", None), ("the red mug", "tools-v1")]


def test_the_summary_shows_what_was_evaluated(
    handlers: Handlers, parts: Parts, add_adapter: Callable[..., None]
) -> None:
    add_adapter("tools-v1")
    assert "Not computed yet" in handlers.show_newest_summary()
    evaluator = Evaluator(Work(parts.workspace, parts.source, parts.models, parts.is_placeholder))
    for adapter in (None, "tools-v1"):
        evaluator.queue.add("demo", "none", adapter, Selection("test"), total=2)
        assert evaluator.look()
    summary = handlers.show_summary([BASE, "tools-v1"])
    assert "+0.750" in summary
    assert summary == handlers.show_newest_summary()


def test_several_models_answer_in_the_order_chosen(
    compare: Compare, predictor: Any, add_adapter: Callable[..., None]
) -> None:
    for name in ("one", "two", "three"):
        add_adapter(name)
    desk = Desk()
    compare.pick(desk, "s0")
    models = compare.check_models(["two", BASE, "one", "two"])
    assert models == ("two", None, "one")
    *_, html = compare.ask(desk, "the red mug", models)
    assert [adapter for _, adapter in predictor.asked] == ["two", None, "one"]
    assert 'data-count="3"' in html
    assert "Best: two, one (1.00 IoU)" in html


def test_more_models_than_there_is_room_for_are_refused(compare: Compare, add_adapter: Callable[..., None]) -> None:
    names = [f"a{number}" for number in range(5)]
    for name in names:
        add_adapter(name)
    assert compare.check_models(names[:4]) == tuple(names[:4])
    with pytest.raises(SettingsError, match="room for 4"):
        compare.check_models(names)
    assert compare.check_models([]) == (None,), "nothing chosen: the base alone"


def answered(compare: Compare, models: tuple[str | None, ...] = (None,)) -> Desk:
    desk = Desk()
    compare.pick(desk, "s0")
    list(compare.ask(desk, "the red mug", models))
    return desk


@pytest.mark.parametrize("part", ["heats", "probes", "prompt"])
def test_a_part_joins_the_answers_and_the_others_stay(compare: Compare, part: str) -> None:
    desk = answered(compare)
    before = compare.more(desk, "prompt")
    html = compare.more(desk, part)
    assert before is not None and html is not None
    assert f'data-{part}="yes"' in html
    assert 'data-prompt="yes"' in html
    assert "IoU 0.25" in html, "the answers themselves stay"


def test_probes_ask_with_another_samples_phrase(compare: Compare, predictor: Any) -> None:
    desk = answered(compare)
    html = compare.more(desk, "probes") or ""
    asked = [phrase for phrase, _ in predictor.asked[1:]]
    assert asked[:2] == ["the red mug", "the object"]
    assert asked[-1] == "the absent dog", "the only other usable phrase of this split"
    assert "The box does not follow the words: it stays (mean IoU 1.00 over 3 probes)." in html


def test_the_probes_say_whether_a_model_is_better_than_chance(
    compare: Compare, workspace: Workspace, add_adapter: Callable[..., None]
) -> None:
    add_adapter("deaf")
    rows = [answered_sample(sample, [LEFT]) for sample in some_scenes(20)]
    keep(workspace.evaluations / "deaf-on-test", rows, "deaf")
    html = compare.more(answered(compare, (None, "deaf")), "probes") or ""
    assert 'data-better="no">In the test split. No better than chance: Acc@0.5 33.3%, and 33.3% with its' in html
    assert f'data-better="unknown">{NOT_EVALUATED}' in html, "the base"
    kept = workspace.evaluations / "deaf-on-test" / "report.json"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"settings": {"conditions": {"quantize": "4bit"}}}))
    assert f'data-better="unknown">{NOT_EVALUATED}' in (compare.more(answered(compare, ("deaf",)), "probes") or "")
    assert 'data-better="no"' not in (compare.more(answered(compare, ("deaf",)), "probes") or "")
    info = next(info for info in compare.board.adapters() if info.name == "deaf")
    assert compare.against_chance.of("demo", info, quantize="4bit").is_better is False
    untaught = replace(info, phrase_signal={"verdict": "none"})
    assert compare.against_chance.of("demo", untaught, quantize="4bit").sentence.startswith(f"{NO_SIGNAL}In the test")
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"settings": {}}))
    (workspace.evaluations / "deaf-on-test" / "samples.parquet").write_bytes(b"")
    again = Compare(compare.parts, compare.board)
    assert "can&#x27;t be read" in (again.more(answered(again, ("deaf",)), "probes") or "")


@pytest.mark.parametrize(
    ("base_answers", "says"),
    [
        (LEFT, "It adds nothing worth having to its base: Acc@0.5 33.3% → 33.3% (0.0 to 0.0 points). In"),
        (Box(1, 1, 3, 3), "It is better than its base all the same: Acc@0.5 0.0% → 33.3% (+33.3 to +33.3 points). In"),
        (None, "In the test split."),
    ],
)
def test_of_phrases_that_taught_nothing_it_is_said_what_the_training_added(
    compare: Compare, workspace: Workspace, add_adapter: Callable[..., None], base_answers: Box | None, says: str
) -> None:
    add_adapter("deaf", phrase_signal={"verdict": "none"})
    keep(workspace.evaluations / "deaf", [answered_sample(sample, [LEFT]) for sample in some_scenes(20)], "deaf")
    if base_answers is not None:
        rows = [answered_sample(sample, [base_answers]) for sample in some_scenes(20)]
        keep(workspace.evaluations / "base", rows, None)
    html = compare.more(answered(compare, ("deaf",)), "probes") or ""
    assert f"{escape(NO_SIGNAL)}{says}" in html


def kept_report(name: str, split: str, count: int, state: str = "") -> KeptReport:
    scores = replace(summarise([]), count=count)
    settings = {"adapter_sha256": state} if state else {}
    return KeptReport(name, Path(name), "", "demo", "tools", split, "", scores, settings=settings)


def test_chance_is_that_of_the_largest_evaluation_that_nothing_narrowed() -> None:
    """Newest first: a narrow one doesn't stand for all, nor does one of an earlier state of the adapter."""
    narrow, small = kept_report("1", "test: “left”", 500, "now"), kept_report("2", "test", 5, "now")
    large, equal = kept_report("3", "all", 90, "now"), kept_report("4", "val", 90, "now")
    before, silent = kept_report("5", "all", 900, "before"), kept_report("6", "test", 95)
    assert most_telling([narrow, small, large, equal, before]) is large
    assert most_telling([narrow, small, large, silent]) is silent
    assert most_telling([narrow, before]) is narrow
    assert most_telling([kept_report("7", "samples.jsonl", 1), narrow]).id == "7"


def test_a_picture_that_was_deleted_is_said_in_place(
    handlers: Handlers, compare: Compare, source: Any, predictor: Any
) -> None:
    source.samples[0].image.unlink()
    desk = Desk()
    *_, phrase, html = handlers.open_page(desk)
    assert phrase == "the red mug" and "There is no picture with the id" in html and "another sample" in html
    assert list(handlers.ask_picked(desk, "", [BASE])) == [html], "no toast, and no answers of the picture before"
    assert predictor.asked == [] and compare.more(desk, "probes") is None


def test_a_sample_that_goes_while_it_is_picked_leaves_no_card_that_waits(
    compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the store can't be read: the page says "Asking the model" by then."""

    def gone(sample_id: str) -> None:
        raise StoreError("There is no sample 's0' any more.")

    handlers, desk = Handlers(compare), Desk()
    compare.pick(desk, "s0")
    monkeypatch.setattr(compare.parts.source, "get_sample", gone)
    (html,) = handlers.ask_picked(desk, "the red mug", [BASE])
    assert "There is no sample &#x27;s0&#x27; any more." in html
    assert list(compare.ask(desk, "the red mug", (None,))) == [html]
    assert compare.waiting_html(desk, "the red mug", (None,)) == html


def test_what_comes_late_for_other_answers_is_dropped(compare: Compare) -> None:
    desk = answered(compare)
    fake: Any = compare.parts.models.predictor()
    prompt = fake.prompt

    def slowly(image: object, phrase: str) -> Any:
        list(compare.ask(desk, "another phrase", (None,)))
        return prompt(image, phrase)

    fake.prompt = slowly
    assert compare.more(desk, "prompt") is None
    compare.pick(desk, "s1")
    assert compare.more(desk, "heats") is None, "nothing is answered yet"


@pytest.mark.parametrize("part", ["heats", "probes", "prompt"])
def test_a_part_that_fails_says_why_and_leaves_the_answers(compare: Compare, predictor: Any, part: str) -> None:
    desk = answered(compare)
    predictor.error = ModelError("Out of <memory>.")
    html = compare.more(desk, part) or ""
    assert "Out of &lt;memory&gt;." in html
    assert f'data-{part}="failed"' in html
    assert "IoU 0.25" in html
    predictor.error = None
    assert f'data-{part}="yes"' in (compare.more(desk, part) or ""), "asked once more it comes"


@pytest.mark.parametrize("part", ["heats", "probes", "prompt"])
def test_an_unforeseen_error_leaves_no_part_waiting(compare: Compare, predictor: Any, part: str) -> None:
    """The page asks for a part once: without an answer, its mark would stay, and its button be dead."""
    desk = answered(compare)
    predictor.error = RuntimeError("CUDA out of memory")
    html = compare.more(desk, part) or ""
    assert f'data-{part}="failed"' in html and "did not foresee" in html and "IoU 0.25" in html
    predictor.error = None
    assert f'data-{part}="yes"' in (compare.more(desk, part) or "")


def test_what_nobody_offers_is_not_given(compare: Compare) -> None:
    desk = answered(compare)
    for part in (None, "html", {"a": 1}):
        assert compare.more(desk, part) is None


def test_nothing_is_laid_down_for_models_that_are_gone(handlers: Handlers, compare: Compare) -> None:
    desk = Desk()
    compare.pick(desk, "s0")
    event: Any = SimpleNamespace(id="s1")
    with pytest.raises(gr.Error, match="There is no adapter"):
        handlers.pick(event, desk, [BASE, "gone"])
    assert desk.sample_id == "s0", "picture and phrase stay together"
    assert "There is no adapter" in handlers.show_summary([BASE, "gone"])
