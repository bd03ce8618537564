"""An evaluation that is interrupted goes on where it stopped, and never with answers of other settings."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grounding import evaluation
from grounding.boxes import Box
from grounding.decoding.settings import Decoding
from grounding.errors import AdapterError, Cancelled, WorkspaceError
from grounding.evaluation import Report, evaluate
from grounding.journal import EvaluationSettings, Journal, picture_sha256, settings_of
from grounding.records import Prediction, Sample, Status

SETTINGS = EvaluationSettings("demo", "plain", None, "", "s", "p", conditions=MappingProxyType({"quantize": "none"}))
ROOT = Path(__file__).resolve().parents[2]


def answer(number: int = 0) -> Prediction:
    box = Box(number / 3, 0.1, 10 + number, 10.7)
    return Prediction((box,), Status.OK, f"é {number}\u2028", 1 / 3, 0.1, None, (0.3,))


def samples(count: int = 7) -> list[Sample]:
    return [Sample(f"s{i}", Path(f"/p/{i}.png"), f"mug {i}", (Box(0, 0, 10, 10),)) for i in range(count)]


class Fake:
    """Answers "mug N" with `answer(N)`; breaks off before a call when told to."""

    model_id = "demo"
    profile = SimpleNamespace(name="plain")

    def __init__(self, calls: int = 99, error: BaseException | None = None) -> None:
        self.calls, self.error = calls, error or KeyboardInterrupt()
        self.asked: list[int] = []

    def predict_many(
        self, pairs: Sequence[Any], adapter: str | None = None, *, progress: Any = None, cancelled: Any = None
    ) -> list[Prediction]:
        if not self.calls:
            raise self.error
        self.calls -= 1
        numbers = [int(phrase.split()[1]) for _, phrase in pairs]
        self.asked += numbers
        if progress:
            progress(len(pairs), len(pairs))
        return [replace(answer(number), adapter=adapter) for number in numbers]


@pytest.fixture(autouse=True)
def small_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "SAMPLES_PER_CALL", 2)


def run(log: Path, fake: Fake | None = None, given: Sequence[Sample] | None = None, **options: Any) -> Report:
    predictor: Any = fake or Fake()
    return evaluate(samples() if given is None else given, predictor, options.pop("adapter", None), log=log, **options)


# --- going on ---


def test_with_and_without_a_log_the_report_is_the_same(tmp_path: Path) -> None:
    predictor: Any = Fake()
    logged = run(tmp_path / "log")
    assert replace(logged, settings=None) == evaluate(samples(), predictor)
    assert logged.settings == settings_of(samples(), predictor, None)


@pytest.mark.parametrize("calls", [0, 1, 3])
def test_answers_that_are_there_are_not_asked_again(tmp_path: Path, calls: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "log", Fake(calls))
    rest = Fake()
    told: list[tuple[int, int]] = []
    report = run(tmp_path / "log", rest, progress=lambda done, total: told.append((done, total)))
    assert rest.asked == list(range(2 * calls, 7))
    assert report == run(tmp_path / "whole")
    assert told == [(done, 7) for done in sorted({*range(2 * calls or 2, 7, 2), 7})]


def test_a_finished_log_asks_nothing(tmp_path: Path) -> None:
    report = run(tmp_path / "log")
    content = (tmp_path / "log").read_bytes()
    assert run(tmp_path / "log", Fake(0)) == report
    assert (tmp_path / "log").read_bytes() == content


def test_cancelling_keeps_what_was_done(tmp_path: Path) -> None:
    with pytest.raises(Cancelled, match=r"4 of 7 answers are kept in .*log"):
        run(tmp_path / "log", Fake(2, Cancelled("Stopped after 0 of 2 phrases.")))
    rest = Fake()
    run(tmp_path / "log", rest)
    assert rest.asked == [4, 5, 6]


def test_a_gpu_is_asked_for_larger_batches(tmp_path: Path) -> None:
    fake = Fake(2)
    fake.device = "cuda"  # type: ignore[attr-defined]
    run(tmp_path / "log", fake, samples(129))
    assert fake.calls == 0 and len(fake.asked) == 129


def test_no_samples(tmp_path: Path) -> None:
    assert run(tmp_path / "log", Fake(0), []).rows == ()
    assert not (tmp_path / "log").exists()


def test_killed_in_the_middle_it_loses_one_call_at_most(tmp_path: Path) -> None:
    """A process of its own, ended by SIGKILL while the model answers the third call."""
    code = """
import os, signal, sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from pathlib import Path
import test_journal as t
class Killed(t.Fake):
    def predict_many(self, pairs, *rest, **options):
        if self.calls == 97:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().predict_many(pairs, *rest, **options)
t.evaluation.SAMPLES_PER_CALL = 2
t.run(Path(sys.argv[3]), Killed())
"""
    command = [sys.executable, "-c", code, str(ROOT), str(Path(__file__).parent), str(tmp_path / "log")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    rest = Fake()
    assert run(tmp_path / "log", rest) == run(tmp_path / "whole")
    assert rest.asked == [4, 5, 6]


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_cut_off_anywhere_the_log_is_of_use(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    log = tmp_path_factory.mktemp("cut") / "log"
    whole = run(log)
    content = log.read_bytes()
    length = data.draw(st.integers(0, len(content)))
    log.write_bytes(content[:length])
    rest = Fake()
    assert run(log, rest) == whole
    kept = max(content[:length].count(b"\n") - 1, 0)
    assert rest.asked == list(range(kept, 7))
    assert log.read_bytes() == content, "the half line is gone, not left in the middle"


# --- what is written ---


def test_answers_come_back_exactly(tmp_path: Path) -> None:
    empty = Prediction((), Status.UNREADABLE, "\ud800 \n\x00", None, 0.5, "a")
    given_answers = {3: answer(3), 0: empty}
    Journal(tmp_path / "log", SETTINGS).append(given_answers)
    assert Journal(tmp_path / "log", SETTINGS).read() == given_answers


def test_two_that_write_the_same_log_do_no_harm(tmp_path: Path) -> None:
    first, second = Journal(tmp_path / "log", SETTINGS), Journal(tmp_path / "log", SETTINGS)
    first.append({0: answer(0)})
    second.append({0: answer(9), 1: answer(1)})
    first.append({2: answer(2)})
    assert first.read() == {0: answer(0), 1: answer(1), 2: answer(2)}


def test_every_batch_is_on_the_disk_before_the_next(tmp_path: Path) -> None:
    seen: list[int] = []

    class Looking(Fake):
        def predict_many(self, *pairs: Any, **options: Any) -> list[Prediction]:
            seen.append(len((tmp_path / "log").read_bytes().splitlines()) if (tmp_path / "log").exists() else 0)
            return super().predict_many(*pairs, **options)

    run(tmp_path / "log", Looking())
    assert seen == [0, 3, 5, 7]


# --- other settings ---


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_id": "other"}, "the model is 'demo' there, 'other' here"),
        ({"profile": "fancy"}, "the profile is 'plain' there, 'fancy' here"),
        ({"adapter": "tools"}, "the adapter is none there, 'tools' here"),
        ({"adapter_sha256": "x"}, "the content of the adapter differs"),
        ({"samples_sha256": "x"}, "the list of samples differs"),
        ({"pictures_sha256": "x"}, "the content of the pictures differs"),
        ({"decoding": {"mode": "free"}}, "the mode of decoding is none there, 'free' here"),
        ({"conditions": {"quantize": "4bit"}}, "--quantize is 'none' there, '4bit' here"),
        ({"conditions": {"quantize": "none", "calibration": "ab"}}, "the calibration of the confidence differs"),
        ({"conditions": {"quantize": "none", "model_files": "ab"}}, "the content of the model differs"),
        ({"conditions": {"quantize": "none", "device": "cuda"}}, "the device is none there, 'cuda' here"),
    ],
)
def test_answers_of_other_settings_are_refused(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    Journal(tmp_path / "log", SETTINGS).append({0: answer()})
    with pytest.raises(WorkspaceError) as refused:
        Journal(tmp_path / "log", replace(SETTINGS, **change)).read()
    assert f"log holds answers under other settings: {told}. " in str(refused.value)
    assert "Choose another folder (--out), or delete that file" in str(refused.value)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"given": samples(6)}, id="fewer samples"),
        pytest.param({"given": list(reversed(samples()))}, id="another order"),
        pytest.param({"adapter": "tools"}, id="an adapter"),
        pytest.param({"conditions": {"quantize": "4bit"}}, id="quantised"),
    ],
)
def test_an_evaluation_under_other_settings_asks_nothing(tmp_path: Path, changed: dict[str, Any]) -> None:
    run(tmp_path / "log", given=samples())
    content = (tmp_path / "log").read_bytes()
    other = Fake()
    with pytest.raises(WorkspaceError, match="other settings"):
        run(tmp_path / "log", other, **{"given": samples(), **changed})
    assert (other.asked, (tmp_path / "log").read_bytes()) == ([], content)


def test_a_picture_drawn_anew_is_another_one(tmp_path: Path) -> None:
    predictor: Any = Fake()
    (tmp_path / "a.png").write_bytes(b"one")
    asked = [replace(samples()[0], image=tmp_path / "a.png")]
    before = settings_of(asked, predictor, None)
    assert settings_of(asked, predictor, None) == before
    (tmp_path / "a.png").write_bytes(b"another")
    after = settings_of(asked, predictor, None)
    assert after.samples_sha256 == before.samples_sha256
    assert after.pictures_sha256 != before.pictures_sha256
    assert picture_sha256(tmp_path / "gone.png") is None


def test_another_way_to_decode_gives_other_answers(tmp_path: Path) -> None:
    predictor: Any = Fake()
    run(tmp_path / "log", predictor)
    predictor.decoding = SimpleNamespace(to_json=lambda: {"mode": "free"})
    with pytest.raises(WorkspaceError, match=r"the mode of decoding is none there, 'free' here"):
        run(tmp_path / "log", predictor)


def test_another_scorer_chooses_other_answers(tmp_path: Path) -> None:
    predictor: Any = Fake()
    predictor.decoding = Decoding(samples=3, choose="rerank")
    predictor.scorer = SimpleNamespace(model_id="clip-a")
    run(tmp_path / "log", predictor)
    predictor.scorer = SimpleNamespace(model_id="clip-b")
    with pytest.raises(WorkspaceError, match=r"--rerank is 'clip-a' there, 'clip-b' here"):
        run(tmp_path / "log", predictor)
    predictor.scorer = SimpleNamespace(model_id="clip-a")
    assert run(tmp_path / "log", predictor).settings == settings_of(samples(), predictor, None, {"rerank": "clip-a"})
    predictor.decoding = Decoding()
    assert "rerank" not in settings_of(samples(), predictor, None).conditions, "it was not asked"


def test_an_adapter_trained_anew_is_another_one(tmp_path: Path) -> None:
    predictor: Any = Fake()
    predictor.registry = SimpleNamespace(find=lambda name: SimpleNamespace(path=tmp_path / name))
    (tmp_path / "tools").mkdir()
    seen = []
    for name in ("adapter.json", "adapter_config.json", "adapter_model.safetensors"):
        seen.append(settings_of([], predictor, "tools").adapter_sha256)
        (tmp_path / "tools" / name).write_text("new")
    seen.append(settings_of([], predictor, "tools").adapter_sha256)
    assert len(set(seen)) == 4
    assert settings_of([], predictor, None).adapter_sha256 == ""


def test_an_adapter_that_takes_the_name_of_another_meanwhile_adds_no_answers_to_its(tmp_path: Path) -> None:
    tools = tmp_path / "tools" / "adapter.json"
    tools.parent.mkdir()
    tools.write_text("one")

    class Renamed(Fake):
        def predict_many(self, *pairs: Any, **options: Any) -> list[Prediction]:
            if self.calls == 97:
                tools.write_text("another")
            return super().predict_many(*pairs, **options)

    predictor: Any = Renamed()
    predictor.registry = SimpleNamespace(
        folder=tmp_path / "adapters", find=lambda name: SimpleNamespace(path=tools.parent)
    )
    with pytest.raises(AdapterError, match="Another adapter stands under the name 'tools' by now"):
        run(tmp_path / "log", predictor, adapter="tools")
    assert len((tmp_path / "log").read_bytes().splitlines()) == 1 + 2 * 2, "the batch in which it came is not kept"


# --- damage ---


def spoil(line: int, text: str) -> Callable[[list[str]], list[str]]:
    return lambda lines: [*lines[:line], text, *lines[line + 1 :]]


@pytest.mark.parametrize(
    ("case", "damage", "told"),
    [
        ("no JSON in the middle", spoil(2, "{half"), "is damaged"),
        ("an empty line in the middle", spoil(2, ""), "is damaged"),
        ("no answer in the middle", spoil(2, "{}"), "is damaged"),
        ("a box that is none", spoil(1, '{"sample": 0, "boxes_xyxy_px": [[5, 5, 1, 1]]}'), "is damaged"),
        ("no header", spoil(0, "[]"), "is damaged"),
        ("settings that are a text", spoil(0, '{"format": "boxwright-answers/1", "settings": "s"}'), "is damaged"),
        ("another format", spoil(0, json.dumps({"format": "x/9", "settings": {}})), "has the format 'x/9'"),
    ],
)
def test_a_damaged_log_is_refused(tmp_path: Path, case: str, damage: Any, told: str) -> None:
    run(tmp_path / "log")
    lines = (tmp_path / "log").read_text().splitlines()
    (tmp_path / "log").write_text("\n".join(damage(lines)) + "\n")
    with pytest.raises(WorkspaceError, match=f"log {told}.*choose another folder|log {told}.*Choose another folder"):
        run(tmp_path / "log", Fake(0))


def test_a_log_that_can_not_be_written_or_read(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorkspaceError, match="file/log can't be read"):
        run(tmp_path / "file" / "log", Fake())
    with pytest.raises(WorkspaceError, match="can't be read"):
        run(tmp_path, Fake())
    journal = Journal(tmp_path / "log", SETTINGS)
    journal.append({0: answer()})
    journal.path = tmp_path
    with pytest.raises(WorkspaceError, match=r"Answers can't be kept in .*--out"):
        journal.append({1: answer()})
