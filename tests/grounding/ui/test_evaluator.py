"""Evaluations behind the page: answered in turns with whoever asks live, stopped, gone on with, kept as reports."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from grounding.errors import ModelError
from grounding.evaluating import borrowed, worker
from grounding.evaluating.queue import Evaluation, EvaluationState
from grounding.evaluating.selection import Selection
from grounding.evaluating.worker import SAMPLES, STANDS, Evaluator, Work, remove
from grounding.journal import JOURNAL
from grounding.metrics import score
from grounding.records import Sample
from grounding.reports import read_report, read_rows
from grounding.ui.model_service import ModelService
from grounding.ui.sources import Parts

DONE, STOPPED, FAILED, WAITING = (
    EvaluationState.DONE,
    EvaluationState.STOPPED,
    EvaluationState.FAILED,
    EvaluationState.WAITING,
)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop is heard before the next answer, and batches have 4, 8, 16 and 2 samples of 30, however fast this is."""
    monkeypatch.setattr(worker, "_TELL_SECONDS", 0.0)
    monkeypatch.setattr(borrowed, "time", SimpleNamespace(perf_counter=lambda: 0.0))


@pytest.fixture
def evaluator(parts: Parts) -> Iterator[Evaluator]:
    made = Evaluator(Work(parts.workspace, parts.source, parts.models, parts.is_placeholder))
    yield made
    made.stop()


@pytest.fixture
def many(source: Any) -> list[Sample]:
    """Thirty phrases on one picture in the val split."""
    first = source.samples[0]
    source.samples += [replace(first, id=f"v{n}", phrase=f"mug {n}", split="val") for n in range(30)]
    return [s for s in source.samples if s.split == "val"]


def add(evaluator: Evaluator, adapter: str | None = None, selection: Selection | None = None) -> Evaluation:
    added = evaluator.queue.add("demo", "none", adapter, selection or Selection("test"), total=2, left_out=1)
    assert added is not None
    return added


def now(evaluator: Evaluator, one: Evaluation) -> Evaluation:
    return evaluator.queue.get(one.id)


def wait_for(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.005)


def break_off(evaluator: Evaluator, predictor: Any, after: int, how: Callable[[], None]) -> None:
    """Have something happen before the answer number `after`."""
    answer = predictor.predict_many

    def predict_many(pairs: Any, adapter: Any = None, **rest: Any) -> Any:
        if len(predictor.asked) >= after:
            predictor.predict_many = answer
            how()
        return answer(pairs, adapter, **rest)

    predictor.predict_many = predict_many


def test_a_report_is_kept_as_the_command_would_keep_it(
    evaluator: Evaluator, predictor: Any, source: Any, add_adapter: Callable[..., None]
) -> None:
    add_adapter("tools-v1")
    base, adapter = add(evaluator), add(evaluator, "tools-v1")
    assert evaluator.look() and evaluator.look() and not evaluator.look()
    for one, accuracy in ((base, 0.0), (adapter, 1.0)):
        one = now(evaluator, one)
        assert (one.state, one.done, one.total, one.left_out, one.sentence) == (DONE, 2, 2, 1, "")
        folder = evaluator.reports.folder / one.folder
        report = read_report(folder)
        assert report is not None and report.scores.accuracy[0.5] == accuracy
        assert (report.adapter, report.split) == (one.adapter, "test")
        assert report.settings["conditions"] == {"quantize": "none"}
        rows = read_rows(folder)
        assert [row.sample.id for row in rows] == ["s0", "s1"], "no placeholder is asked"
        assert [row.iou for row in rows] == [score(row.sample, row.prediction).iou for row in rows]
        assert {path.name for path in folder.iterdir()} == {"report.json", "report.md", "samples.parquet"}
    assert predictor.asked == [(p, a) for a in (None, "tools-v1") for p in ("the red mug", "the absent dog")]


def test_what_stands_already_is_not_asked_again(evaluator: Evaluator, predictor: Any, source: Any) -> None:
    first = add(evaluator)
    evaluator.look()
    again = add(evaluator)
    evaluator.look()
    assert (now(evaluator, again).state, now(evaluator, again).sentence) == (DONE, STANDS)
    assert now(evaluator, again).folder == now(evaluator, first).folder
    assert len(predictor.asked) == 2
    assert len(list(evaluator.reports.folder.iterdir())) == 1, "no empty folder is left"
    source.samples[0] = replace(source.samples[0], phrase="the blue mug")
    edited = add(evaluator)
    evaluator.look()
    assert now(evaluator, edited).sentence == ""
    assert len(predictor.asked) == 4


def test_a_filtered_one_is_not_taken_for_the_whole_split(evaluator: Evaluator) -> None:
    one = add(evaluator, selection=Selection("test", words="mug"))
    evaluator.look()
    report = read_report(evaluator.reports.folder / now(evaluator, one).folder)
    assert report is not None and report.split == "test: “mug”" and report.scores.count == 1


def test_a_stop_keeps_the_answers_and_going_on_asks_for_the_rest(
    evaluator: Evaluator, predictor: Any, many: list[Sample]
) -> None:
    one = add(evaluator, selection=Selection("val"))
    break_off(evaluator, predictor, 12, lambda: evaluator.queue.stop(one.id))
    evaluator.look()
    stopped = now(evaluator, one)
    assert (stopped.state, stopped.done) == (STOPPED, 12)
    assert stopped.sentence == "Stopped: 12 answers are kept."
    assert not evaluator.look(), "it does not go on by itself"
    evaluator.queue.go_on(one.id)
    evaluator.look()
    assert (now(evaluator, one).state, now(evaluator, one).done) == (DONE, 30)
    assert [phrase for phrase, _ in predictor.asked] == [s.phrase for s in many], "each once"
    assert now(evaluator, one).seconds >= stopped.seconds > 0


def test_only_answers_that_are_kept_are_counted_as_kept(
    evaluator: Evaluator, predictor: Any, many: list[Sample]
) -> None:
    """A stop in the midst of a batch loses what that batch had answered."""
    one = add(evaluator, selection=Selection("val"))
    answer = predictor.predict_many

    def predict_many(pairs: Any, adapter: Any = None, *, progress: Any, **rest: Any) -> Any:
        def told(done: int, total: int) -> None:
            progress(done, total)
            if len(predictor.asked) == 6:  # of 4 and 8
                evaluator.queue.stop(one.id)

        return answer(pairs, adapter, progress=told, **rest)

    predictor.predict_many = predict_many
    evaluator.look()
    stopped = now(evaluator, one)
    assert (stopped.state, stopped.done, stopped.sentence) == (STOPPED, 4, "Stopped: 4 answers are kept.")


def broken_off_with_adapter(
    evaluator: Evaluator, predictor: Any, add_adapter: Callable[..., None], parts: Parts
) -> Evaluation:
    """An evaluation of the adapter tools-v1 that was stopped after 12 answers."""
    from grounding.adapters import AdapterRegistry

    predictor.registry = AdapterRegistry(parts.workspace.adapters)
    add_adapter("tools-v1")
    one = add(evaluator, "tools-v1", Selection("val"))
    break_off(evaluator, predictor, 12, lambda: evaluator.queue.stop(one.id))
    evaluator.look()
    return one


def test_kept_answers_are_counted_where_it_ends_before_another_one(
    evaluator: Evaluator, predictor: Any, many: list[Sample], add_adapter: Callable[..., None], parts: Parts
) -> None:
    """The page asks before it throws them away."""
    one = broken_off_with_adapter(evaluator, predictor, add_adapter, parts)
    folder = parts.workspace.adapters / "tools-v1"
    folder.rename(parts.workspace.root / "away")
    evaluator.queue.go_on(one.id)
    evaluator.look()
    assert (now(evaluator, one).state, now(evaluator, one).done) == (FAILED, 12)
    (parts.workspace.root / "away").rename(folder)
    evaluator.queue.go_on(one.id)
    evaluator.look()
    assert (now(evaluator, one).state, now(evaluator, one).done) == (DONE, 30)
    assert len(predictor.asked) == 30


def test_edits_meanwhile_do_not_part_questions_and_answers(
    evaluator: Evaluator, predictor: Any, source: Any, many: list[Sample]
) -> None:
    one = add(evaluator, selection=Selection("val"))
    break_off(evaluator, predictor, 12, lambda: evaluator.queue.stop(one.id))
    evaluator.look()
    source.samples = [replace(s, phrase=f"{s.phrase} here") for s in source.samples]
    evaluator.queue.go_on(one.id)
    evaluator.look()
    rows = read_rows(evaluator.reports.folder / now(evaluator, one).folder)
    assert [row.sample.phrase for row in rows] == [s.phrase for s in many]
    assert len(predictor.asked) == 30


def test_it_begins_anew_when_the_adapter_is_another_one(
    evaluator: Evaluator, predictor: Any, many: list[Sample], add_adapter: Callable[..., None], parts: Parts
) -> None:
    one = broken_off_with_adapter(evaluator, predictor, add_adapter, parts)
    add_adapter("tools-v1", "2999-01-01T00:00:00+00:00")
    evaluator.queue.go_on(one.id)
    evaluator.look()
    assert now(evaluator, one).state is DONE
    assert now(evaluator, one).sentence.startswith("Begun anew")
    assert len(predictor.asked) == 12 + 30


def test_a_damaged_log_is_begun_anew(evaluator: Evaluator, predictor: Any, many: list[Sample]) -> None:
    one = add(evaluator, selection=Selection("val"))
    break_off(evaluator, predictor, 12, lambda: evaluator.queue.stop(one.id))
    evaluator.look()
    (evaluator.reports.folder / now(evaluator, one).folder / JOURNAL).write_text("no JSON\n")
    evaluator.queue.go_on(one.id)
    evaluator.look()
    assert now(evaluator, one).state is DONE and len(predictor.asked) == 42


def test_what_a_killed_app_left_goes_on_with_the_next(evaluator: Evaluator, predictor: Any, many: list[Sample]) -> None:
    one = add(evaluator, selection=Selection("val"))
    break_off(evaluator, predictor, 12, evaluator.stop)
    evaluator.look()
    assert now(evaluator, one).state is WAITING
    with_lost = Evaluator(evaluator.work)
    assert with_lost.queue.take_next("demo", "none") is not None  # and its process is killed
    with_lost.start()
    try:
        wait_for(lambda: now(evaluator, one).state is DONE)
    finally:
        with_lost.stop()
    assert len(predictor.asked) == 30


def test_it_waits_while_the_model_is_lent_and_goes_on_afterwards(
    evaluator: Evaluator, predictor: Any, many: list[Sample], models: ModelService
) -> None:
    one = add(evaluator, selection=Selection("val"))
    threads: list[threading.Thread] = []

    def lend() -> None:
        threads.append(threading.Thread(target=models.unload))
        threads[0].start()
        time.sleep(0.1)  # it now stands in line

    break_off(evaluator, predictor, 12, lend)
    evaluator.look()
    threads[0].join(10)
    waiting = now(evaluator, one)
    assert (waiting.state, waiting.done) == (WAITING, 28), "the batch that was on its way is kept"
    assert "lent to a training run" in waiting.sentence
    assert not evaluator.look() and now(evaluator, one).state is WAITING
    models.reload()
    models.predictor(10)
    evaluator.look()
    assert now(evaluator, one).state is DONE and len(predictor.asked) == 30


def test_nothing_is_kept_of_a_model_that_goes(evaluator: Evaluator, predictor: Any) -> None:
    service = ModelService("demo", "none", evaluator.work.workspace, load=type(predictor))
    service.start()
    gone = weakref.ref(service.predictor(10))
    borrowing = borrowed.BorrowedPredictor(service)
    assert len(borrowing.predict_many([(Path(), "mug")])) == 1
    service.unload()
    gc.collect()
    assert gone() is None
    for use in (lambda: borrowing.predict_many([(Path(), "mug")]), lambda: borrowing.model_id):
        with pytest.raises(borrowed.ModelAway, match="lent to a training run"):
            use()
    service.start()
    service.predictor(10)
    with pytest.raises(borrowed.ModelAway, match="Another model was loaded"):
        borrowing.predict_many([(Path(), "mug")])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ModelError("Out of memory. Take smaller pictures."), "Out of memory. Take smaller pictures."),
        (RuntimeError("a bug"), "It failed on something Boxwright did not foresee (RuntimeError: a bug)."),
    ],
)
def test_an_error_is_a_sentence_and_may_be_gone_on_with(
    evaluator: Evaluator, predictor: Any, error: Exception, said: str
) -> None:
    one = add(evaluator)
    predictor.error = error
    assert evaluator.look()
    assert now(evaluator, one).state is FAILED and now(evaluator, one).sentence.startswith(said)
    predictor.error = None
    evaluator.queue.go_on(one.id)
    evaluator.look()
    assert now(evaluator, one).state is DONE


def test_an_adapter_that_is_gone_and_samples_that_are_gone_are_sentences(
    evaluator: Evaluator, predictor: Any, source: Any, parts: Parts
) -> None:
    from grounding.adapters import AdapterRegistry

    predictor.registry = AdapterRegistry(parts.workspace.adapters)
    gone = add(evaluator, "gone")
    evaluator.look()
    assert now(evaluator, gone).state is FAILED and "gone" in now(evaluator, gone).sentence
    source.samples = []
    nothing = add(evaluator)
    evaluator.look()
    assert "nothing to score" in now(evaluator, nothing).sentence


def test_a_folder_that_cannot_be_written_is_a_sentence(evaluator: Evaluator) -> None:
    evaluator.reports.folder.parent.mkdir(parents=True, exist_ok=True)
    evaluator.reports.folder.write_text("a file")
    one = add(evaluator)
    evaluator.look()
    assert now(evaluator, one).state is FAILED and "can't be kept in" in now(evaluator, one).sentence


def test_removing_throws_away_answers_but_no_report(evaluator: Evaluator, predictor: Any, many: list[Sample]) -> None:
    done, unfinished = add(evaluator), add(evaluator, selection=Selection("val"))
    evaluator.look()
    break_off(evaluator, predictor, 12, lambda: evaluator.queue.stop(unfinished.id))
    evaluator.look()
    folders = [evaluator.reports.folder / now(evaluator, one).folder for one in (done, unfinished)]
    assert {path.name for path in folders[1].iterdir()} >= {JOURNAL, SAMPLES}
    for one in (done, unfinished):
        remove(evaluator.queue, evaluator.reports, one.id)
    assert [folder.exists() for folder in folders] == [True, False]
    assert evaluator.queue.list() == []


def test_who_asks_live_waits_for_one_batch(predictor: Any, models: ModelService) -> None:
    """A lock that goes to whoever is quickest would mostly go to the batches, one right after the other."""
    batches = 0
    ended = threading.Event()
    answer = predictor.predict_many

    def predict_many(pairs: Any, adapter: Any = None, **rest: Any) -> Any:
        nonlocal batches
        time.sleep(0.01)
        batches += 1
        return answer(pairs, adapter, **rest)

    predictor.predict_many = predict_many
    borrowing = borrowed.BorrowedPredictor(models)

    def evaluate() -> None:
        while not ended.is_set():
            borrowing.predict_many([(Path(), "mug")])

    thread = threading.Thread(target=evaluate)
    thread.start()
    waited = []
    for _ in range(10):
        wait_for(lambda before=batches: batches > before)
        before = batches
        with models.use():
            waited.append(batches - before)
    ended.set()
    thread.join(20)
    assert sorted(waited)[-2] <= 1, waited  # one may be late itself, between its two lines


def test_batches_grow_and_shrink_with_the_time_that_answers_take(
    evaluator: Evaluator, predictor: Any, source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = source.samples[0]
    source.samples += [replace(first, id=f"v{n}", phrase=f"mug {n}", split="val") for n in range(150)]
    sizes: list[int] = []
    seconds = 0.0
    answer = predictor.predict_many

    def predict_many(pairs: Any, adapter: Any = None, **rest: Any) -> Any:
        nonlocal seconds
        sizes.append(len(pairs))
        seconds += len(pairs) * (0.03 if len(sizes) > 5 else 0.001)
        return answer(pairs, adapter, **rest)

    predictor.predict_many = predict_many
    monkeypatch.setattr(borrowed, "time", SimpleNamespace(perf_counter=lambda: seconds))
    add(evaluator, selection=Selection("val"))
    evaluator.look()
    assert sizes[:6] == [4, 8, 16, 32, 40, 40]
    assert sizes[6] == 10 == sum(sizes[6:])


def test_a_bad_picture_is_named_before_anything_is_asked(
    evaluator: Evaluator, predictor: Any, source: Any, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.png"
    Image.new("RGB", (90, 90), "red").save(cut)
    cut.write_bytes(cut.read_bytes()[:60])
    source.samples.append(replace(source.samples[0], id="cut", image=cut))
    predictor.loaded = SimpleNamespace(
        family=SimpleNamespace(check_picture=lambda image: None),
        quantize="none",
        device="cpu",
        model=SimpleNamespace(dtype="float32"),
        fingerprint="",
        calibration=None,
    )
    one = add(evaluator)
    evaluator.look()
    assert now(evaluator, one).state is FAILED and "The sample cut can't be scored" in now(evaluator, one).sentence
    assert predictor.asked == []
