"""Progress and pace by person, and that it is read off one index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from annotate import edits, versions
from annotate import store as store_module
from annotate.people import progress, work_sql
from annotate.store import Store
from annotate_samples import PLACEHOLDER
from grounding.boxes import Box
from grounding.database import connect

Fill = Callable[..., Store]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """`clock(seconds)` sets the time, in seconds after 2030-05-01 23:50 UTC."""
    moment = [datetime(2030, 5, 1, 23, 50, tzinfo=UTC)]

    def at(seconds: float) -> None:
        moment[0] = datetime(2030, 5, 1, 23, 50, tzinfo=UTC) + timedelta(seconds=seconds)

    for module in (edits, versions, store_module):
        monkeypatch.setattr(module, "now", lambda: moment[0].isoformat(timespec="milliseconds"))
    return at


def save_at(store: Store, clock: Callable[[float], None], who: str, times: Iterator[float] | list[float]) -> None:
    for seconds in times:
        clock(seconds)
        store.save("a", f"mug {who} {seconds}", who=who, expected_revision=store.get("a").revision)


def test_the_pace_is_the_median_within_sessions(fill: Fill, clock: Callable[[float], None]) -> None:
    store = fill("a")
    save_at(store, clock, "ann", [0, 10, 30, 34, 400, 420])
    save_at(store, clock, "ben", [500])
    ann, ben = progress(store.path)
    assert (ann.who, ann.written, ann.pace_seconds) == ("ann", 6, 15.0)  # 10, 20, 4 and, after a break, 20
    assert (ben.who, ben.written, ben.pace_seconds) == ("ben", 1, None)


def test_people_who_write_in_turns_do_not_shorten_each_others_pace(fill: Fill, clock: Callable[[float], None]) -> None:
    store = fill("a")
    for seconds in range(0, 80, 20):
        save_at(store, clock, "ann", [seconds])
        save_at(store, clock, "ben", [seconds + 1])
    assert [person.pace_seconds for person in progress(store.path)] == [20.0, 20.0]


def test_every_kind_of_work_is_counted_for_the_person(fill: Fill) -> None:
    store = fill("a", "b")
    store.save("a", "mug", who="ann", expected_revision=1)
    store.save("b", "cup", who="ann", expected_revision=1, origin="model", action="accept")
    store.add("a", "vase", [Box(1, 1, 5, 5)], who="ann")
    store.approve("a", who="ben", expected_revision=2)
    store.flag("a", "", who="ben", expected_revision=3)
    store.unflag("a", who="ben", expected_revision=4)
    store.skip("a", who="ben", expected_revision=5)
    store.reject("a", "dark", who="ben", expected_revision=6)
    store.undo("a", who="ben", expected_revision=7)
    ann, ben = progress(store.path)
    assert (ann.written, ann.approved, ann.rejected, ann.flagged, ann.skipped) == (3, 0, 0, 0, 0)
    assert (ben.written, ben.approved, ben.rejected, ben.flagged, ben.skipped) == (0, 1, 1, 1, 1)


def test_work_is_told_by_day_and_since_a_moment(fill: Fill, clock: Callable[[float], None]) -> None:
    store = fill("a")
    save_at(store, clock, "ann", [0, 60, 1000])
    (ann,) = progress(store.path)
    assert ann.per_day == (("2030-05-01", 2), ("2030-05-02", 1))
    assert ann.last_active_at == store.history("a")[-1].at
    (later,) = progress(store.path, datetime(2030, 5, 2, tzinfo=UTC))
    assert (later.written, later.per_day) == (1, (("2030-05-02", 1),))
    assert progress(store.path, datetime(2030, 5, 3, tzinfo=UTC)) == ()


def test_imports_repairs_and_their_undoing_are_nobodys_work(fill: Fill) -> None:
    store = fill("a", phrase=PLACEHOLDER, alternatives=("mug",))
    store.undo_batch(store.repair("ann").batch, "ann")
    assert progress(store.path) == ()
    assert store.annotators() == []


def test_only_the_index_of_what_people_did_is_read(store: Store) -> None:
    with connect(store.path) as connection:
        plan = [row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {work_sql()}", ("",))]
    assert plan == ["SEARCH changes USING INDEX changes_of_people (at>?)"]
