"""The failed checks of each sample, kept beside it so that they make a queue: `samples.problems`.

`samples.wording` is the phrase as `same_wording` reads it: those of one picture that are equal are found by an index.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from annotate.checks import CODES, CheckProfile, check, profile_named, same_wording
from annotate.chunks import in_chunks, positions_in, row_at
from annotate.items import Item
from annotate.rows import boxes_of
from grounding.database import connect, reading, writing

_PROFILE = "check_profile"
_DEFAULT = "free"
# A placeholder waits in a queue of its own.
_QUIET = ("empty", "placeholder")
_DUPLICATE = "duplicate"
_ALIKE = (
    "FROM samples s INDEXED BY samples_of_wording WHERE picture_sha256 = :picture AND wording = :wording "
    "AND placeholder = 0 AND state <> 'rejected'"
)
_BOXES = "SELECT ordinal, x1_px, y1_px, x2_px, y2_px FROM boxes WHERE sample_id ="


def check_profile(path: Path) -> str:
    """The name of the check profile that this workspace goes by."""
    with reading(path) as connection:
        return kept_profile(connection)


def kept_profile(connection: sqlite3.Connection) -> str:
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (_PROFILE,)).fetchone()
    return _DEFAULT if row is None else str(row[0])


def choose_profile(path: Path, name: str) -> int:
    """Check every phrase anew as this profile says; returns how many samples have a problem now.

    In chunks, so that people can save meanwhile. Raises `StoreError` for an unknown profile.
    """
    profile = profile_named(name)
    with writing(path) as connection:
        connection.execute(
            "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (_PROFILE, profile.name),
        )
    with connect(path) as connection:
        for chunk in in_chunks(connection, positions_in(connection, "samples")):
            for position in chunk:
                refresh(connection, row_at(connection, position), profile)
    with reading(path) as connection:
        return int(connection.execute("SELECT coalesce(sum(problems), 0) FROM tallies").fetchone()[0])


def refresh_reworded(connection: sqlite3.Connection, sample_id: str, wording_before: str) -> None:
    """After a new phrase or new boxes: check the sample, and those of its picture that had or have the same words."""
    profile = profile_named(kept_profile(connection))
    row = _row(connection, sample_id)
    wording = same_wording(row["phrase"])
    if wording != row["wording"]:
        connection.execute("UPDATE samples SET wording = ? WHERE id = ?", (wording, sample_id))
        row = _row(connection, sample_id)
    refresh(connection, row, profile)
    for words in {wording, wording_before} - {""}:
        _refresh_alike(connection, row["picture_sha256"], words)


def duplicate_of(path: Path, sample_id: str, phrase: str) -> str | None:
    """A phrase of another box of the sample's picture that says the same as this one; None when there is none."""
    with reading(path) as connection:
        row = connection.execute("SELECT picture_sha256 FROM samples WHERE id = ?", (sample_id,)).fetchone()
        return None if row is None else _rival(connection, sample_id, row["picture_sha256"], same_wording(phrase))


def is_rival(other: Item, item: Item) -> bool:
    """Whether the phrase of `other`, on the same picture, must tell apart from that of `item`."""
    says_something = not other.placeholder and other.state != "rejected"
    return says_something and other.sample.boxes_xyxy_px != item.sample.boxes_xyxy_px


def problems_alone(phrase: str, profile: CheckProfile) -> str:
    """The codes of a phrase that fails checks by itself, as `samples.problems` has them: "" for a placeholder."""
    codes = [finding.code for finding in check(phrase, profile) if finding.code != "empty"]
    return "" if "placeholder" in codes else " ".join(dict.fromkeys(codes))


def check_imported(connection: sqlite3.Connection, ids: Sequence[str]) -> None:
    """Find those of the samples just put in that share their words with another box of their picture, and those
    others; all at once, as an import has many."""
    marks = ", ".join("?" * len(ids))
    groups = connection.execute(
        f"SELECT DISTINCT picture_sha256, wording FROM samples WHERE id IN ({marks}) AND placeholder = 0 "
        "AND wording <> ''",
        ids,
    ).fetchall()
    if not groups:
        return
    values = ", ".join(["(?, ?)"] * len(groups))
    rows = connection.execute(
        f"WITH words (picture, wording) AS (VALUES {values}) SELECT s.id, s.picture_sha256, s.wording, s.problems "
        "FROM words CROSS JOIN samples s INDEXED BY samples_of_wording "
        "ON s.picture_sha256 = words.picture AND s.wording = words.wording "
        "WHERE s.placeholder = 0 AND s.state <> 'rejected' ORDER BY s.picture_sha256, s.wording",
        [value for group in groups for value in group],
    )
    alike = [list(same) for _, same in groupby(rows, key=lambda row: (row["picture_sha256"], row["wording"]))]
    alike = [same for same in alike if len(same) > 1]
    boxes = boxes_of(connection, [row["id"] for same in alike for row in same])
    connection.executemany(
        "UPDATE samples SET problems = ? WHERE id = ?",
        [
            (_with_duplicate(row["problems"]), row["id"])
            for same in alike
            if len({tuple(boxes.get(row["id"], ())) for row in same}) > 1
            for row in same
            if _DUPLICATE not in row["problems"].split()
        ],
    )


def _with_duplicate(problems: str) -> str:
    return " ".join(sorted([*problems.split(), _DUPLICATE], key=CODES.index))


def _without_duplicate(problems: str) -> str:
    return " ".join(code for code in problems.split() if code != _DUPLICATE)


def refresh(connection: sqlite3.Connection, row: sqlite3.Row, profile: CheckProfile) -> None:
    """Write down which checks this sample fails, where that is new."""
    problems = " ".join(_codes(connection, row, profile))
    if problems != row["problems"]:
        connection.execute("UPDATE samples SET problems = ? WHERE id = ?", (problems, row["id"]))


def _codes(connection: sqlite3.Connection, row: sqlite3.Row, profile: CheckProfile) -> list[str]:
    if row["placeholder"] or not row["phrase"]:
        return []
    rival = _rival(connection, row["id"], row["picture_sha256"], row["wording"])
    findings = check(row["phrase"], profile, () if rival is None else (rival,))
    return list(dict.fromkeys(finding.code for finding in findings if finding.code not in _QUIET))


def _rival(connection: sqlite3.Connection, sample_id: str, picture_sha256: str, wording: str) -> str | None:
    """A phrase of these words on other boxes of the picture than the sample's, however many samples it has."""
    if not wording:
        return None
    found = connection.execute(
        f"SELECT phrase {_ALIKE} AND id <> :id AND ("
        f"EXISTS ({_BOXES} s.id EXCEPT {_BOXES} :id) OR EXISTS ({_BOXES} :id EXCEPT {_BOXES} s.id)) LIMIT 1",
        {"picture": picture_sha256, "wording": wording, "id": sample_id},
    ).fetchone()
    return None if found is None else str(found["phrase"])


def _refresh_alike(connection: sqlite3.Connection, picture_sha256: str, wording: str) -> None:
    """Write down of all samples with these words whether they are duplicates: as soon as two have different boxes,
    each has another with different ones."""
    group = {"picture": picture_sha256, "wording": wording}
    first = connection.execute(f"SELECT id {_ALIKE} LIMIT 1", group).fetchone()
    if first is None:
        return
    duplicates = _rival(connection, first["id"], picture_sha256, wording) is not None
    wrong = connection.execute(
        f"SELECT id, problems {_ALIKE} AND (instr(' ' || problems || ' ', :code) > 0) <> :duplicates",
        group | {"code": f" {_DUPLICATE} ", "duplicates": duplicates},
    ).fetchall()
    change = _with_duplicate if duplicates else _without_duplicate
    connection.executemany(
        "UPDATE samples SET problems = ? WHERE id = ?", [(change(row["problems"]), row["id"]) for row in wrong]
    )


def _row(connection: sqlite3.Connection, sample_id: str) -> sqlite3.Row:
    row: sqlite3.Row = connection.execute("SELECT * FROM samples WHERE id = ?", (sample_id,)).fetchone()
    return row
