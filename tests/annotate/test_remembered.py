"""What an import remembers of its source, and that it needs no memory for it."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from annotate.remembered import KeptPicture, Remembered


def test_an_id_is_new_once() -> None:
    with Remembered() as remembered:
        assert [remembered.is_new(sample_id) for sample_id in ("a", "b", "a", "a\ud800", "a\ud800", "a?")] == [
            *(True, True, False),
            *(True, False, True),
        ]


def test_a_picture_is_remembered_with_what_is_wrong_with_it() -> None:
    kept, broken = KeptPicture("ab", "ab/ab.png", (40, 30)), KeptPicture(problem="no picture")
    with Remembered() as remembered:
        assert remembered.picture(Path("1.png")) is None
        remembered.keep(Path("1.png"), kept)
        remembered.keep(Path("2\udcff.png"), broken)
        assert remembered.picture(Path("1.png")) == kept
        assert remembered.picture(Path("2\udcff.png")) == broken
        assert remembered.picture(Path("3.png")) is None


def test_a_hundred_thousand_rows_leave_memory_as_it_was() -> None:
    with Remembered() as remembered:
        tracemalloc.start()
        for number in range(100_000):
            remembered.is_new(f"sample-{number:07d}")
            if number % 8 == 0:
                remembered.keep(Path(f"/source/{number}.jpg"), KeptPicture("a" * 64, "aa/a.jpg", (256, 256)))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most < 1_000_000
