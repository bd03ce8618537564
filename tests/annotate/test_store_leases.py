"""One page at a time has a sample open, and nobody has to remember to close it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from annotate.leases import Held, Leases
from annotate.store import Store
from grounding.database import connect
from grounding.errors import StoreError

Fill = Callable[..., Store]


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leases(fill: Fill, clock: Clock) -> Leases:
    """Leases on samples a, b and c."""
    return Leases(fill("a", "b", "c").path, clock)


def rows(leases: Leases) -> list[tuple[str, str]]:
    with connect(leases.path) as connection:
        return [tuple(row) for row in connection.execute("SELECT sample_id, token FROM leases ORDER BY sample_id")]


def writes(leases: Leases) -> int:
    """Grows with each commit by anybody else."""
    with connect(leases.path) as connection:
        return int(connection.execute("SELECT until * 1000 FROM leases").fetchone()[0])


def test_the_first_page_has_it_and_the_second_is_told_who(leases: Leases) -> None:
    assert leases.hold("a", "ann", "t1") == Held("ann", True, 1045.0)
    assert leases.hold("a", "bob", "t2") == Held("ann", False, 1045.0)
    assert leases.hold("b", "bob", "t2") == Held("bob", True, 1045.0)


def test_the_same_person_on_another_page_is_another_holder(leases: Leases) -> None:
    leases.hold("a", "ann", "t1")
    assert leases.hold("a", "ann", "t2") == Held("ann", False, 1045.0)


def test_a_heartbeat_writes_only_when_less_than_half_is_left(leases: Leases, clock: Clock) -> None:
    leases.hold("a", "ann", "t1")
    clock.now += 20
    assert leases.hold("a", "ann", "t1").until == 1045.0
    clock.now += 5
    assert leases.hold("a", "ann", "t1").until == 1070.0
    assert writes(leases) == 1_070_000


def test_an_expired_lease_is_free_and_expired_ones_go_away(leases: Leases, clock: Clock) -> None:
    leases.hold("a", "ann", "t1")
    leases.hold("b", "eve", "t3")
    clock.now += 45
    assert leases.hold("a", "bob", "t2") == Held("bob", True, 1090.0)
    assert rows(leases) == [("a", "t2")]


def test_a_page_that_moves_on_lets_go_of_what_it_had(leases: Leases) -> None:
    leases.hold("a", "ann", "t1")
    leases.hold("b", "bob", "t2")
    leases.hold("b", "ann", "t1")
    assert rows(leases) == [("b", "t2")], "it looks at b, which bob has, and no longer at a"


def test_taking_over_tells_the_other_at_the_next_heartbeat(leases: Leases) -> None:
    leases.hold("a", "ann", "t1")
    assert leases.take_over("a", "bob", "t2") == Held("bob", True, 1045.0)
    assert leases.hold("a", "ann", "t1") == Held("bob", False, 1045.0)


def test_release_frees_what_the_page_held_and_nothing_else(leases: Leases) -> None:
    leases.hold("a", "ann", "t1")
    leases.hold("b", "bob", "t2")
    leases.release("t1")
    leases.release("nobody")
    assert rows(leases) == [("b", "t2")]


def test_a_lease_changes_neither_sample_nor_history(leases: Leases, store: Store) -> None:
    before = store.get("a")
    leases.hold("a", "ann", "t1")
    assert store.get("a") == before
    assert store.save("a", "left mug", who="bob", expected_revision=1).revision == 2, "it only advises"


@pytest.mark.parametrize("method", ["hold", "take_over"])
def test_an_unknown_sample_is_a_sentence(method: str, leases: Leases) -> None:
    with pytest.raises(StoreError, match="There is no sample 'zzz'"):
        getattr(leases, method)("zzz", "ann", "t1")


def test_of_many_pages_at_once_exactly_one_holds_it(leases: Leases) -> None:
    for sample_id in "abc":
        together = threading.Barrier(12)

        def ask(number: int, sample_id: str = sample_id, together: threading.Barrier = together) -> Held:
            together.wait()
            return leases.hold(sample_id, f"w{number}", f"{sample_id} t{number}")

        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(ask, range(12)))
        (winner,) = [held for held in answers if held.yours]
        assert {held.by for held in answers} == {winner.by}
