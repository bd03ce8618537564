"""What is said of a worker that ended without saying anything itself."""

from __future__ import annotations

import signal

import pytest

from grounding.jobs import endings
from grounding.jobs.store import RunRecord, RunState


def failed(sentence: str) -> RunRecord:
    moment = "2026-01-01T00:00:00+00:00"
    return RunRecord(
        "id", "mugs", RunState.FAILED, "demo", "none", "/s", {}, moment, moment, None, None, None, False, sentence
    )


@pytest.mark.parametrize(
    ("number", "likely"),
    [
        (signal.SIGKILL, "the system when the memory runs out"),
        (signal.SIGTERM, "the machine was shutting down"),
        (signal.SIGSEGV, "a library crashed"),
        (signal.SIGBUS, "is full"),
        (signal.SIGUSR1, ""),
    ],
)
def test_the_signal_its_likely_reason_and_the_way_out_are_named(number: signal.Signals, likely: str) -> None:
    sentence = endings.of_exit(-number, endings.oom_kills())
    assert f"({number.name})" in sentence and likely in sentence
    assert sentence.endswith("Press Resume to go on.")
    assert endings.is_lost(failed(sentence)), "a sweep goes on with it"


def test_a_kill_that_the_system_has_counted_is_called_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "oom_kills", lambda: 5)
    sentence = endings.of_exit(-signal.SIGKILL, 4)
    assert "(SIGKILL) as the memory had run out" in sentence and "Lower pictures or phrases per step" in sentence
    assert not endings.is_lost(failed(sentence)), "it would happen again"
    assert "as the memory had run out" not in endings.of_exit(-signal.SIGKILL, 5)


def test_a_signal_that_no_name_is_known_for_keeps_its_number() -> None:
    assert "(signal 99)" in endings.of_exit(-99, 0)


def test_an_exit_status_is_no_signal() -> None:
    sentence = endings.of_exit(3, 0)
    assert "exit status 3" in sentence and "log" in sentence
    assert not endings.is_lost(failed(sentence))
