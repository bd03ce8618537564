"""Logging in: who may, how guessing is slowed down, and that the page's functions learn the name."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import subprocess
import sys
import time
from collections.abc import Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

from grounding import passwords
from grounding.passwords import PasswordHash, set_password
from grounding.ui.log_in import LogInDesk, Pace, read_log_in
from grounding.ui.serving import read_flags
from served import ROOT, free_port

Answer = TypeVar("Answer")


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log-in file with ann and ben, hashed at no cost."""
    monkeypatch.setattr(passwords, "_N", 2)
    monkeypatch.setattr(passwords, "_P", 1)
    path = tmp_path / "people"
    set_password(path, "ann", "pass:with:colons")
    set_password(path, "ben", "correct horse")
    return path


class Clock:
    """Time that passes only when somebody waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.waits: list[float] = []
        monkeypatch.setattr(asyncio, "sleep", self.sleep)

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def run(awaitable: Awaitable[Answer]) -> Answer:
    async def waiting() -> Answer:
        return await awaitable

    # In a thread of its own: a browser that another test has open keeps an event loop running in this one.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, waiting()).result()


def test_the_right_password_and_no_other(people: Path) -> None:
    log_in = read_flags(["--auth", str(people)], {}).log_in
    assert log_in is not None
    assert inspect.iscoroutinefunction(log_in), "gradio would stop the page while it checks"
    assert run(log_in("ann", "pass:with:colons"))
    assert run(log_in(" ben ", "correct horse"))
    wrong = [("ann", "pass"), ("ben", "\u00fc"), ("", ""), ("eve", "\0"), ("e" * 101, "x"), ("eve", "x" * 1025)]
    for name, password in wrong:
        assert not run(log_in(name, password))


def test_an_unknown_name_is_hashed_like_a_known_one(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[tuple[int, int, int]] = []
    matches = PasswordHash.matches

    def noted(self: PasswordHash, password: str) -> bool:
        hashed.append((self.n, self.r, self.p))
        return matches(self, password)

    monkeypatch.setattr(PasswordHash, "matches", noted)
    log_in = read_log_in(people)
    assert not run(log_in("ann", "wrong"))
    assert not run(log_in("nobody", "wrong"))
    assert hashed == [(2, 8, 1), (2, 8, 1)]


@pytest.mark.parametrize("name", ["ann", "nobody"])
def test_guessing_gets_slow_but_never_hopeless(name: str, people: Path, clock: Clock) -> None:
    desk = LogInDesk(passwords.read_passwords(people), clock)
    for _ in range(8):
        assert not run(desk.log_in(name, "wrong"))
    assert clock.waits == [0, 0.5, 1, 2, 4, 4, 4, 4]
    assert run(desk.log_in("ben", "correct horse"))
    assert clock.waits[-1] == 0, "another name waits for nobody"


def test_the_right_password_ends_the_waiting(people: Path, clock: Clock) -> None:
    desk = LogInDesk(passwords.read_passwords(people), clock)
    for _ in range(5):
        assert not run(desk.log_in("ann", "wrong"))
    assert run(desk.log_in("ann", "pass:with:colons"))
    assert clock.waits[-1] == 4
    assert run(desk.log_in("ann", "pass:with:colons"))
    assert clock.waits[-1] == 0


def test_a_quarter_of_an_hour_wipes_it_out(people: Path, clock: Clock) -> None:
    desk = LogInDesk(passwords.read_passwords(people), clock)
    for _ in range(6):
        run(desk.log_in("ann", "wrong"))
    clock.now += 901
    clock.waits.clear()
    for _ in range(2):
        run(desk.log_in("ann", "wrong"))
    assert clock.waits == [0, 0.5]


def test_a_burst_at_once_gains_nothing(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    monkeypatch.setattr(PasswordHash, "matches", lambda self, password: bool(checked.append(password)))
    waits: list[float] = []

    async def no_wait(seconds: float) -> None:
        waits.append(seconds)

    async def burst() -> list[bool]:
        desk = LogInDesk(passwords.read_passwords(people), lambda: 1000.0)
        return await asyncio.gather(*(desk.log_in("ann", str(number)) for number in range(1000)))

    monkeypatch.setattr(asyncio, "sleep", no_wait)
    assert not any(run(burst()))
    assert waits == [0, 0.5, 1.5, 3.5, 7.5]
    assert len(checked) == 5


def test_hammering_one_name_leaves_the_others_alone(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hammer() -> bool:
        desk = LogInDesk(passwords.read_passwords(people), lambda: 1000.0)
        guesses = [asyncio.create_task(desk.log_in("ann", str(number))) for number in range(1000)]
        await asyncio.sleep(0.05)
        came_in = await asyncio.wait_for(desk.log_in("ben", "correct horse"), 0.4)
        for guess in guesses:
            guess.cancel()
        return came_in

    assert run(hammer())


def test_guessing_over_many_names_is_slowed_in_total() -> None:
    pace, now, passed = Pace(20, 0.25, 0.25), 0.0, 0
    for _ in range(10_000):
        now += 0.001
        if pace.wait(now) is not None:
            pace.take(now)
            passed += 1
    assert passed <= 20 + (10 + 8) / 0.25 + 2


def test_the_memory_of_names_is_bounded(people: Path, clock: Clock) -> None:
    desk = LogInDesk(passwords.read_passwords(people), clock)
    for number in range(5000):
        desk._pace_of(f"name {number}")
    assert len(desk._of_name) == 4000


def test_the_page_goes_on_while_an_attempt_waits_and_is_checked(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PasswordHash, "matches", lambda self, password: bool(time.sleep(0.3)))

    async def meanwhile() -> int:
        attempt = asyncio.create_task(read_log_in(people)("ann", "wrong"))
        for ticks in itertools.count():
            if attempt.done():
                return ticks
            await asyncio.sleep(0.01)
        raise AssertionError

    assert run(meanwhile()) > 10


def test_a_file_that_others_may_read_is_told(people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read_log_in(people)
    assert capsys.readouterr().err == ""
    people.chmod(0o644)
    read_log_in(people)
    assert f"others on this machine may read the log-in file {people}" in capsys.readouterr().err


SERVED = """
import sys, threading
from pathlib import Path
import gradio as gr
from grounding.ui.log_in import read_log_in
from grounding.ui.serving import serve
from grounding.workspace import Workspace

def who_am_i(request: gr.Request) -> str:
    return f"you are {request.username}"

with gr.Blocks(analytics_enabled=False) as demo:
    told = gr.Textbox()
    gr.Button().click(who_am_i, None, told, api_name="who")
    gr.Button().click(who_am_i, None, told, api_name="who_at_once", queue=False)
log_in = read_log_in(Path(sys.argv[1]))
print(serve(demo, Workspace(Path(sys.argv[2])), host="127.0.0.1", port=int(sys.argv[3]), log_in=log_in), flush=True)
threading.Event().wait()
"""


@pytest.fixture
def served(people: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a page behind a log-in, in a process of its own."""
    command = [sys.executable, "-c", SERVED, str(people), str(tmp_path), str(free_port())]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def test_the_functions_of_the_page_learn_who_logged_in(served: str) -> None:
    with httpx.Client(base_url=served, timeout=20) as client:
        assert client.post("/gradio_api/call/who", json={"data": []}).status_code == 401
        wrong = client.post("/login", data={"username": "ann", "password": "wrong"})
        assert (wrong.status_code, len(wrong.cookies)) == (400, 0)
        client.post("/login", data={"username": "ann", "password": "pass:with:colons"}).raise_for_status()
        for name in ("who", "who_at_once"):
            event = client.post(f"/gradio_api/call/{name}", json={"data": []}).json()["event_id"]
            assert '["you are ann"]' in client.get(f"/gradio_api/call/{name}/{event}").text
