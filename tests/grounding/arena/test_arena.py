"""The arena without a page: what is asked, how sides are drawn, what counts, what the votes say."""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compared_samples import answered, keep, keep_two, some_samples
from grounding.arena import CHOICES, Pair, Question, Questions, Tally, VoteStore, pair_of
from grounding.arena.questions import same_answers
from grounding.boxes import Box
from grounding.compared import open_comparison
from grounding.compared.seen import Seen
from grounding.errors import RecordError
from grounding.paired import wilson_interval
from grounding.records import Sample, Status

BOX, MOVED, ELSEWHERE = Box(0, 0, 100, 100), Box(0, 0, 100, 96), Box(120, 0, 200, 90)


@pytest.fixture
def votes(tmp_path: Path) -> VoteStore:
    return VoteStore(tmp_path / "arena.db")


@pytest.fixture
def questions(tmp_path: Path, votes: VoteStore) -> Questions:
    a, b = keep_two(tmp_path, 60)
    return Questions(open_comparison([a, b]), votes.secret, lambda _: True)


@pytest.fixture(autouse=True)
def pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up samples have no picture; here each has a size, and the hash of its name."""
    monkeypatch.setattr("grounding.reports.picture_sha256", lambda path: path.stem)
    monkeypatch.setattr("grounding.reports.picture_size_wh", lambda path: (320, 240))


def ask(questions: Questions, votes: VoteStore, who: str = "ann") -> Question:
    question = questions.next(votes, who)
    assert question is not None
    return question


def test_each_sample_is_asked_once_in_an_order_of_its_own(questions: Questions, votes: VoteStore) -> None:
    rows, lefts = [], Counter[str]()
    for _ in range(len(questions.rows)):
        question = ask(questions, votes)
        rows.append(question.row)
        lefts[question.left] += 1
        assert votes.cast(question, "left", "ann") is not None
    assert questions.next(votes, "ann") is None
    assert sorted(rows) == sorted(questions.rows) and rows != sorted(rows)
    assert min(lefts.values()) > len(rows) / 5, "both stand on either side"
    assert questions.open_count(votes, "ben") == len(rows), "somebody else is asked too"


def test_the_sides_are_fixed_and_differ_between_people(questions: Questions, votes: VoteStore, tmp_path: Path) -> None:
    assert ask(questions, votes) == ask(questions, VoteStore(tmp_path / "arena.db")), "reloaded, restarted"
    lefts = {}
    for who in ("ann", "ben"):
        lefts[who] = [questions._question(row, who, 0).left for row in questions.rows]
    assert lefts["ann"] != lefts["ben"]
    other = Questions(questions.comparison, VoteStore(tmp_path / "other.db").secret, lambda _: True)
    assert other.rows != questions.rows, "nobody outside knows the order"


def test_the_order_of_choosing_changes_neither_question_nor_tally(tmp_path: Path, votes: VoteStore) -> None:
    a, b = keep_two(tmp_path, 30)
    there, back = (Questions(open_comparison(pair), votes.secret, lambda _: True) for pair in ((a, b), (b, a)))
    one, other = ask(there, votes), ask(back, votes)
    assert (one.token, one.left) == (other.token, other.right)
    vote = votes.cast(one, "left", "ann")
    assert vote is not None and vote.preferred == one.left
    assert votes.cast(other, "left", "ann") is None, "it counts once, whichever way round"
    tally = votes.tally(there.pair)
    assert (tally.a, tally.b) == ((1, 0) if one.left == "a" else (0, 1))
    assert votes.tally(back.pair) == Tally(tally.b, tally.a, people=1)
    last = votes.last(back.pair, "ann")
    assert last is not None and (last.left, last.preferred) == (other.left, other.left)


def test_two_windows_at_once_count_one_vote(questions: Questions, votes: VoteStore) -> None:
    question = ask(questions, votes)
    with ThreadPoolExecutor(8) as pool:
        cast = list(pool.map(lambda choice: votes.cast(question, choice, "ann"), [*CHOICES, *CHOICES]))
    assert sum(vote is not None for vote in cast) == 1
    assert votes.tally(questions.pair).votes == 1
    assert votes.cast(question, "left", " ann ") is None, "the same person"
    assert votes.cast(question, "left", "ben") is not None
    assert votes.tally(questions.pair).people == 2


def test_the_last_vote_is_taken_back_and_asked_again_last(questions: Questions, votes: VoteStore) -> None:
    first = ask(questions, votes)
    vote = votes.cast(first, "both", "ann")
    assert vote is not None
    assert votes.undo(questions.pair, "ben", vote.id) is None, "it is ann's"
    assert votes.undo(questions.pair, "ann", vote.id) is not None
    assert votes.undo(questions.pair, "ann", vote.id) is None, "a second click takes nothing more"
    assert votes.tally(questions.pair) == Tally()
    order = []
    while (question := questions.next(votes, "ann")) is not None:
        order.append(question)
        votes.cast(question, "right", "ann")
    assert order[-1].row == first.row and order[-1].token != first.token
    with closing(sqlite3.connect(votes.path)) as database:
        kept = database.execute("SELECT preferred, who FROM votes WHERE undone_at IS NOT NULL").fetchall()
    assert kept == [("both", "ann")], "who and what stays on record"


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ([BOX], [MOVED], True),
        ([BOX], [ELSEWHERE], False),
        ([BOX], [Box(0, 0, 100, 90)], False),  # IoU of 0.9 and no more
        ([BOX], [BOX, ELSEWHERE], False),  # one box more is to be seen
        ([BOX, ELSEWHERE], [ELSEWHERE, MOVED], True),  # in another order
        ([BOX, ELSEWHERE], [BOX, MOVED], False),
        ([], [], True),  # nothing is drawn on either side
        ([], [BOX], False),
    ],
)
def test_answers_that_look_the_same_are_skipped(
    first: list[Box], second: list[Box], same: bool, tmp_path: Path, votes: VoteStore
) -> None:
    (sample,) = some_samples(1)
    kept = [
        keep(tmp_path / name, [answered(sample, boxes, Status.OK if boxes else status)], adapter)
        for name, boxes, status, adapter in (("a", first, Status.NO_BOX, None), ("b", second, Status.UNREADABLE, "x"))
    ]
    comparison = open_comparison(kept)
    assert same_answers(comparison).tolist() == [same]
    questions = Questions(comparison, votes.secret, lambda _: True)
    assert (questions.skipped_same, len(questions.rows)) == (int(same), int(not same))


def test_what_the_page_cannot_show_is_not_asked(tmp_path: Path, votes: VoteStore) -> None:
    comparison = open_comparison(keep_two(tmp_path, 30))
    shown = comparison.samples.image_sha256[0]
    questions = Questions(comparison, votes.secret, lambda sha256: sha256 == shown)
    assert {questions.asked(row)[2] for row in questions.rows} <= {shown}
    assert questions.without_picture == 30 - comparison.samples.image_sha256.tolist().count(shown)


def test_what_an_adapter_saw_in_training_is_not_asked(questions: Questions) -> None:
    a, b = questions.comparison.sides
    marked = np.arange(len(questions.comparison)) == questions.rows[0]
    seen = Seen("tools", True, marked, marked, "")
    comparison = replace(questions.comparison, sides=(a, replace(b, seen=seen)))
    assert questions.rows[0] not in Questions(comparison, b"0" * 32, lambda _: True).rows


def test_one_model_cannot_stand_against_itself(tmp_path: Path) -> None:
    samples = some_samples(5)
    rows = [answered(sample, [BOX]) for sample in samples]
    kept = [keep(tmp_path / name, rows) for name in "ab"]
    with pytest.raises(RecordError, match="same model"):
        pair_of(open_comparison(kept))
    with pytest.raises(RecordError, match="needs two"):
        pair_of(open_comparison(kept[:1]))


def test_models_are_told_apart_by_what_answered(tmp_path: Path) -> None:
    samples: list[Sample] = some_samples(3)
    rows = [answered(sample, [BOX]) for sample in samples]
    kept = [keep(tmp_path / "a", rows), keep(tmp_path / "b", rows, "adapters/tools", "org/model")]
    assert pair_of(open_comparison(kept)) == Pair("base of demo", "tools on org/model")


def test_a_choice_must_be_one(questions: Questions, votes: VoteStore) -> None:
    for choice in ("a", "", None, ["left"], "LEFT"):
        with pytest.raises(RecordError, match="is no choice"):
            votes.cast(ask(questions, votes), choice, "ann")
    assert votes.tally(questions.pair).votes == 0


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (3, 4), (7, 9), (50, 100), (0, 20), (980, 1000)])
def test_the_interval_is_wilsons(successes: int, trials: int) -> None:
    """Its ends are the shares that lie 1.96 of their own standard errors from what was observed."""
    share = successes / trials
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= share <= high <= 1
    for end in (low, high):
        if end not in (0.0, 1.0):
            assert abs(share - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / trials), rel=1e-6)
    assert wilson_interval(trials - successes, trials) == pytest.approx((1 - high, 1 - low))


def test_ties_are_counted_apart() -> None:
    tally = Tally(a=1, b=9, both=30, neither=5, people=2)
    assert (tally.decisive, tally.votes, tally.share_b) == (10, 45, 0.9)
    assert tally.decided and not Tally(4, 6).decided
    assert Tally(both=3).share_b is None and Tally(both=3).interval is None and not Tally(both=3).decided
