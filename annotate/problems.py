"""The failed checks of each sample, kept beside it so that they make a queue: `samples.problems`.

`samples.wording` is the phrase as `same_wording` reads it: those of one picture that are equal are found by an index.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from annotate.checks import CODES, CheckProfile, check, profile_named, same_wording
from annotate.items import Item
from annotate.rows import BATCH_ROWS, boxes_of
from grounding.database import reading, writing

_PROFILE = "check_profile"
_DEFAULT = "free"
# A placeholder waits in a queue of its own.
_QUIET = ("empty", "placeholder")
_DUPLICATE = "duplicate"
# Enough to find one on another box; a picture on which the same words stand more often is no real one.
_FEW = 20


def check_profile(path: Path) -> str:
    """The name of the check profile that this workspace goes by."""
    with reading(path) as connection:
        return kept_profile(connection)


def kept_profile(connection: sqlite3.Connection) -> str:
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (_PROFILE,)).fetchone()
    return _DEFAULT if row is None else str(row[0])


def choose_profile(path: Path, name: str) -> int:
    """Check every phrase anew as this profile says; returns how many samples have a problem now.

    A batch a transaction, so that people can save meanwhile. Raises `StoreError` for an unknown profile.
    """
    profile = profile_named(name)
    with writing(path) as connection:
        connection.execute(
            "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (_PROFILE, profile.name),
        )
    position = -1
    while True:
        with writing(path) as connection:
            rows = connection.execute(
                "SELECT * FROM samples WHERE position > ? ORDER BY position LIMIT ?", (position, BATCH_ROWS)
            ).fetchall()
            for row in rows:
                refresh(connection, row, profile)
        if not rows:
            break
        position = rows[-1]["position"]
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
        for other in _alike(connection, row["picture_sha256"], words, BATCH_ROWS):
            if other["id"] != sample_id:
                refresh(connection, other, profile)


def is_rival(other: Item, item: Item) -> bool:
    """Whether the phrase of `other`, on the same picture, must tell apart from that of `item`."""
    return _counts(other.placeholder, other.state) and other.sample.boxes_xyxy_px != item.sample.boxes_xyxy_px


def rival_phrases(path: Path, sample_id: str, phrase: str) -> list[str]:
    """The phrases on other boxes of the sample's picture that read the same as `phrase`, however many stand there."""
    with reading(path) as connection:
        return _rivals(connection, _row(connection, sample_id), same_wording(phrase))


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


def refresh(connection: sqlite3.Connection, row: sqlite3.Row, profile: CheckProfile) -> None:
    """Write down which checks this sample fails, where that is new."""
    problems = " ".join(_codes(connection, row, profile))
    if problems != row["problems"]:
        connection.execute("UPDATE samples SET problems = ? WHERE id = ?", (problems, row["id"]))


def _codes(connection: sqlite3.Connection, row: sqlite3.Row, profile: CheckProfile) -> list[str]:
    if row["placeholder"] or not row["phrase"]:
        return []
    findings = check(row["phrase"], profile, _rivals(connection, row, row["wording"]))
    return list(dict.fromkeys(finding.code for finding in findings if finding.code not in _QUIET))


def _rivals(connection: sqlite3.Connection, row: sqlite3.Row, wording: str) -> list[str]:
    """The phrases of this wording on other boxes of the picture than those of the sample in `row`."""
    others = _alike(connection, row["picture_sha256"], wording, _FEW)
    others = [one for one in others if one["id"] != row["id"] and _counts(one["placeholder"], one["state"])]
    if not others:
        return []
    boxes = boxes_of(connection, [row["id"], *(one["id"] for one in others)])
    return [one["phrase"] for one in others if boxes.get(one["id"]) != boxes.get(row["id"])]


def _counts(placeholder: bool, state: str) -> bool:
    """Whether a sample's phrase says anything that another one could be mistaken for."""
    return not placeholder and state != "rejected"


def _alike(connection: sqlite3.Connection, picture_sha256: str, wording: str, most: int) -> list[sqlite3.Row]:
    return connection.execute(
        "SELECT * FROM samples INDEXED BY samples_of_wording WHERE picture_sha256 = ? AND wording = ? LIMIT ?",
        (picture_sha256, wording, most),
    ).fetchall()


def _row(connection: sqlite3.Connection, sample_id: str) -> sqlite3.Row:
    row: sqlite3.Row = connection.execute("SELECT * FROM samples WHERE id = ?", (sample_id,)).fetchone()
    return row
