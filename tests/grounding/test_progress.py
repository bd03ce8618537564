"""A line of progress is told no more often than somebody can look."""

from __future__ import annotations

import sys

import pytest

from grounding import progress


@pytest.mark.parametrize(("terminal", "told"), [(True, [0, 1, 2, 3, 4, 5]), (False, [0, 5])])
def test_it_is_rare_where_nobody_looks_and_told_at_the_end(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, told: list[int]
) -> None:
    seconds = iter(range(100))
    monkeypatch.setattr(progress.time, "monotonic", lambda: 0.4 * next(seconds))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    heard: list[int] = []
    tell = progress.Rarely(lambda done, total: heard.append(done), 0.2)
    for done in range(6):
        tell(done, 5)
    tell.catch_up()
    assert heard == told


def test_work_that_is_broken_off_says_how_far_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    heard: list[int] = []
    tell = progress.Rarely(lambda done, total: heard.append(done))
    for done in range(3):
        tell(done, 5)
    tell.catch_up()
    tell.catch_up()
    assert heard == [0, 2]
