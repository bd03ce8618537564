"""What the Train tab says of a run: the right words, a bar that never falls back, figures from the scores."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grounding.jobs.store import RunProgress, RunRecord, RunState, RunStore
from grounding.training.events import NoteEvent, PhaseEvent, ScoreEvent, StepEvent, TrainEvent
from grounding.training.preflight.text import in_minutes
from grounding.ui.run_view import run_html, seconds_left, share_done

NASTY = "<img src=x onerror=alert(1)> \"quoted\" 'single' & more"
RUN = RunRecord(
    id="20260101T100000-abcdef",
    name="tools-v1",
    state=RunState.RUNNING,
    model_id="demo",
    quantize="none",
    snapshot="/w/snapshots/first",
    settings={"steps": 1440},
    created_at="2026-01-01T10:00:00.000+00:00",
    finished_at=None,
    heartbeat_at=None,
    pid=None,
    process_started=None,
    stop_requested=False,
    sentence="",
)
NOTHING = RunProgress(None, None, (), ())
SCORES = (
    ScoreEvent(0, 100, 0.25, 0.1, 0.05, 0.99, 3.5),
    ScoreEvent(110, 100, 0.4, 0.4, 0.2, 0.99, 9.5),
    ScoreEvent(220, 100, 0.625, 0.5, 0.04, 0.99, 19.5),
)


def step(number: int, steps: int = 1440, seconds: float | None = None) -> StepEvent:
    return StepEvent(number, steps, 2.0, 1e-3, number * 16, number * 0.5 if seconds is None else seconds)


def at(number: int, **more: Any) -> RunProgress:
    """The progress of a run at a step."""
    return RunProgress(None, step(number), (step(number),), (), **more)


def message(run: RunRecord, progress: RunProgress) -> str:
    found = re.search(r'<p id="train-message">([^<]*)</p>', run_html(run, progress))
    assert found is not None
    return found.group(1)


def test_without_a_run_it_says_what_to_do() -> None:
    for html in (run_html(None, None), run_html(RUN, None), run_html(None, NOTHING)):
        assert "No run yet" in html
        assert "Press <b>Train</b>" in html


@pytest.mark.parametrize(
    ("state", "stop_requested", "word"),
    [
        (RunState.STARTING, False, "Starting"),
        (RunState.RUNNING, False, "Training"),
        (RunState.STARTING, True, "Stopping"),
        (RunState.RUNNING, True, "Stopping"),
        (RunState.DONE, False, "Done"),
        (RunState.STOPPED, True, "Stopped"),
        (RunState.FAILED, False, "Failed"),
        (RunState.FAILED, True, "Failed"),
    ],
)
def test_the_word_for_a_state(state: RunState, stop_requested: bool, word: str) -> None:
    run = replace(RUN, state=state, stop_requested=stop_requested)
    shown = f'<span class="bw-state" data-state="{state.value}">{word}</span>'
    assert shown in run_html(run, NOTHING)


@pytest.mark.parametrize(
    ("case", "changes", "progress", "says"),
    [
        ("nothing told yet", {}, NOTHING, "Starting the worker"),
        ("loading", {}, RunProgress(PhaseEvent("Loading the model"), None, (), ()), "Loading the model"),
        ("looking", {}, RunProgress(PhaseEvent("Looking", 20, 1440), None, (), ()), "Looking, 20 of 1,440"),
        ("the first step", {}, at(1), "Step 1 of 1,440 · 32 phrases a second"),
        ("the fifth step", {}, at(5), "Step 5 of 1,440 · 32 phrases a second · 11 min 58 s left"),
        ("the last step", {}, at(1440), "Step 1,440 of 1,440 · 32 phrases a second · 0 s left"),
        (
            "a step of no time",
            {},
            RunProgress(None, step(1, seconds=0.0), (), ()),
            "Step 1 of 1,440 · 0 phrases a second",
        ),
        (
            "asked to stop",
            {"stop_requested": True},
            at(5),
            "Stopping after this step and keeping what is learned.",
        ),
        (
            "ended",
            {"state": RunState.FAILED, "sentence": "The disk is full. Free some space.", "stop_requested": True},
            at(5),
            "The disk is full. Free some space.",
        ),
    ],
)
def test_the_message(case: str, changes: dict[str, Any], progress: RunProgress, says: str) -> None:
    assert message(replace(RUN, **changes), progress) == says


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (-5, "0 s"),
        (0.4, "0 s"),
        (40, "40 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3599, "59 min 59 s"),
        (3599.7, "1 h 00 min"),
        (12_000, "3 h 20 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_seconds_in_words(seconds: float, text: str) -> None:
    assert in_minutes(seconds) == text


@pytest.mark.parametrize(
    ("progress", "seconds"),
    [
        (NOTHING, None),
        (at(1), None),
        (at(4), None),
        (at(5), 0.5 * 1435),
        (at(720), 360.0),
        (at(1440), 0.0),
    ],
)
def test_seconds_left_at_the_pace_so_far(progress: RunProgress, seconds: float | None) -> None:
    assert seconds_left(progress) == (None if seconds is None else pytest.approx(seconds))


def told_by_a_run(train: int, val: int, steps: int) -> list[TrainEvent]:
    """The events of a run in the order in which `grounding.training.run` tells them; counts of batches of pictures."""
    events: list[TrainEvent] = [PhaseEvent("Loading the model"), PhaseEvent("bfloat16: the processor has it.")]
    events += [PhaseEvent("Looking at the train pictures", done, train) for done in range(1, train + 1)]
    events += [PhaseEvent("Looking at the validation pictures", done, val) for done in range(1, val + 1)]
    return [*events, SCORES[0], *(step(number, steps) for number in range(1, steps + 1)), SCORES[1]]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 5), st.integers(0, 5), st.integers(1, 6))
def test_the_bar_never_falls_back(train: int, val: int, steps: int) -> None:
    newest: dict[str, PhaseEvent] = {}
    last_step: StepEvent | None = None
    shares = [share_done(RUN, NOTHING)]
    for event in told_by_a_run(train, val, steps):
        if isinstance(event, PhaseEvent):
            newest[event.text] = event
        elif isinstance(event, StepEvent):
            last_step = event
        phase = next(reversed(newest.values()), None)
        shares.append(share_done(RUN, RunProgress(phase, last_step, (), (), tuple(newest.values()))))
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] == pytest.approx(1.0)
    assert share_done(replace(RUN, state=RunState.DONE), NOTHING) == 1.0


def test_the_bar_never_falls_back_as_the_store_tells_it(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs.db")
    run = store.add(name="a", model_id="demo", quantize="none", snapshot="s", settings={"steps": 3})
    shares = []
    for event in told_by_a_run(train=2, val=2, steps=3):
        store.tell(run.id, event)
        shares.append(share_done(run, store.progress(run.id)))
    assert shares == sorted(shares)
    assert len(set(shares)) >= 7, "it moves with every batch of pictures and every step"


def test_preparing_is_a_small_part_and_the_steps_the_rest() -> None:
    both = (PhaseEvent("train", 5, 5), PhaseEvent("val", 5, 5))
    prepared = share_done(RUN, RunProgress(both[1], None, (), (), both))
    assert 0.05 < prepared < 0.3
    assert share_done(RUN, at(720, phases=both)) == pytest.approx((1 + prepared) / 2)


@pytest.mark.parametrize("state", [RunState.STOPPED, RunState.FAILED])
def test_the_bar_of_a_run_that_broke_off_stays_where_it_was(state: RunState) -> None:
    run = replace(RUN, state=state)
    assert share_done(run, at(720)) == share_done(RUN, at(720)) < 1
    assert share_done(run, NOTHING) == 0.0


def test_the_bar_tells_its_share_to_everybody() -> None:
    html = run_html(replace(RUN, state=RunState.DONE), at(720))
    assert 'role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-valuenow="100"' in html
    assert "width:100.0%" in html


def test_the_figures_stand_beside_those_of_the_base() -> None:
    html = run_html(RUN, replace(at(220), scores=SCORES))
    tiles = re.findall(
        r"<dt>([^<]*)</dt><dd data-sign=\"(\w+)\">([^<]*)</dd><dd class='bw-was'>base ([^<]*)</dd>", html
    )
    assert tiles == [
        ("Mean IoU", "up", "0.625", "0.250"),
        ("Acc@0.5", "up", "50%", "10%"),
        ("Acc@0.75", "down", "4%", "5%"),
        ("Boxes found", "same", "99%", "99%"),
    ]
    assert "100 validation samples with a box" in html
    assert "Acc@0.5 of the base <b>10%</b>" in html
    assert html.count("bw-baseline") == 1


def test_the_figures_are_those_of_the_best_step_where_it_is_kept() -> None:
    best = replace(SCORES[1], best=True)
    progress = replace(at(220), scores=(SCORES[0], best, SCORES[2]))
    keeps = replace(RUN, settings={"steps": 1440, "keep_best": True})
    kept = run_html(keeps, progress)
    assert "Figures of step 110, the best so far by mean IoU, which is kept" in kept
    assert '<dt>Acc@0.5</dt><dd data-sign="up">40%</dd>' in kept
    for html in (
        run_html(replace(RUN, settings={"steps": 1440, "keep_best": False}), progress),
        run_html(
            replace(RUN, settings={"steps": 1440, "keep_best": True}), replace(progress, scores=(SCORES[0], best))
        ),
    ):
        assert "the best so far" not in html


def test_what_a_run_noted_is_shown_once_each(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs.db")
    run = store.add(name="a", model_id="demo", quantize="none", snapshot="s", settings={"steps": 3})
    assert "bw-run-notes" not in run_html(run, store.progress(run.id))
    for text in (NASTY, "The checkpoint of step 4 could not be written.", NASTY):
        store.tell(run.id, NoteEvent(text))
    html = run_html(run, store.progress(run.id))
    (notes,) = re.findall(r'<ul class="bw-run-notes">(.*?)</ul>', html)
    shown = re.findall(r"<li>(.*?)</li>", notes)
    assert [unescape(text) for text in shown] == [NASTY, "The checkpoint of step 4 could not be written."]
    assert "<img" not in html


def test_before_the_first_scoring_there_are_no_figures() -> None:
    html = run_html(RUN, NOTHING)
    assert "<dt>" not in html
    assert "bw-baseline" not in html
    assert "Boxes on the validation samples" in html


def test_a_resumed_run_says_what_it_does_before_its_first_step() -> None:
    loading = PhaseEvent("Looking at the train pictures", 3, 25)
    resumed = replace(RUN, started_at="2026-01-01T10:30:00.000+00:00")
    told = replace(at(165), phase=loading, phases=(loading,), last_step_at="2026-01-01T10:20:00.000+00:00")
    assert message(resumed, told) == "Looking at the train pictures, 3 of 25"
    assert message(resumed, replace(told, phase=None, phases=())) == "Starting the worker"
    assert message(resumed, replace(told, last_step_at="2026-01-01T10:31:00.000+00:00")).startswith("Step 165")


def test_what_the_closing_sentences_say_is_not_said_twice() -> None:
    told = replace(NOTHING, notes=(NoteEvent("The phrases carried no signal."), NoteEvent("The disk is full.")))
    done = replace(RUN, state=RunState.DONE, sentence="It is ready. The phrases carried no signal.")
    assert run_html(done, told).count("carried no signal") == 1
    assert "<li>The disk is full.</li>" in run_html(done, told)


def test_one_phrase_a_second_and_fewer() -> None:
    def paced(phrases: int, seconds: float) -> str:
        taken = StepEvent(2, 9, 2.0, 1e-3, phrases, seconds)
        return message(RUN, RunProgress(None, taken, (taken,), ()))

    assert [paced(n, s).partition("· ")[2] for n, s in ((32, 1), (10, 10), (4, 10))] == [
        *("32 phrases a second", "1 phrase a second", "0.4 phrases a second"),
    ]


def test_the_charts_run_over_all_the_steps() -> None:
    html = run_html(RUN, replace(at(720), scores=(ScoreEvent(720, 100, 1.0, 0.0, 0.0, 1.0, 1.0),)))
    assert html.count(">1,000</text>") == 2
    assert "296.0,14.0" in html, "half of the steps, all of the IoU: in the middle at the top"


def test_text_from_people_is_escaped_everywhere() -> None:
    for html in (
        run_html(replace(RUN, name=NASTY), NOTHING),
        run_html(replace(RUN, state=RunState.FAILED, sentence=NASTY), NOTHING),
        run_html(RUN, RunProgress(PhaseEvent(NASTY, 1, 2), None, (), ())),
    ):
        assert "<img" not in html
        assert "&lt;img src=x onerror=alert(1)&gt; &quot;quoted&quot;" in html
