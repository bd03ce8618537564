"""The votes of a workspace, in arena.db: who preferred what, and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from sqlite3 import Connection, Row
from typing import TYPE_CHECKING

from grounding.arena.contestants import Pair
from grounding.arena.schema import migrations
from grounding.arena.tally import Tally
from grounding.database import prepare, reading, writing
from grounding.errors import RecordError

if TYPE_CHECKING:
    from grounding.arena.questions import Question

CHOICES = ("left", "right", "both", "neither")
_MOST_NAME_CHARACTERS = 100

Asked = tuple[str, str, str]
"""A question about a pair: (the sample's id, the phrase, the picture's SHA-256)."""


@dataclass(frozen=True)
class Vote:
    """One vote. `left` and `preferred` name a side of the pair, "a" or "b"; `preferred` may be "both" or "neither"."""

    id: int
    at: str
    who: str
    asked: Asked
    left: str
    preferred: str


class VoteStore:
    """What people preferred. Raises `StoreError` where arena.db can't be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        prepare(path, migrations)
        with reading(path) as connection:
            self.secret: bytes = connection.execute("SELECT key FROM secret").fetchone()["key"]

    def cast(self, question: Question, choice: object, who: str) -> Vote | None:
        """Write a vote down; None when this person has judged the question already, in another window or by a second
        click. Raises `RecordError` for a choice that is none of `CHOICES`."""
        if choice not in CHOICES:
            raise RecordError(f"{choice!r:.60} is no choice: expected one of {', '.join(CHOICES)}.")
        preferred = {"left": question.left, "right": question.right}.get(str(choice), str(choice))
        pair, stored = question.pair, _stored_sides(question.pair)
        evaluations = {stored["a"]: question.evaluations[0], stored["b"]: question.evaluations[1]}
        row = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "who": clean_name(who),
            **dict(zip(("first", "second"), pair.sorted_keys, strict=True)),
            **dict(zip(("sample", "phrase", "picture_sha256"), question.asked, strict=True)),
            "first_evaluation": evaluations["first"],
            "second_evaluation": evaluations["second"],
            "left": stored[question.left],
            "preferred": stored.get(preferred, preferred),
        }
        names = ", ".join(row)
        with writing(self.path) as connection:
            done = connection.execute(
                f"INSERT INTO votes ({names}) VALUES ({', '.join('?' * len(row))}) ON CONFLICT DO NOTHING",
                list(row.values()),
            )
            if not done.rowcount:
                return None
            return Vote(int(done.lastrowid or 0), row["at"], row["who"], question.asked, question.left, preferred)

    def undo(self, pair: Pair, who: str, vote_id: object) -> Vote | None:
        """Take back this person's last vote on a pair, if it is the one that was shown (`vote_id`): a second click
        takes nothing more. None when it isn't, or there is none."""
        with writing(self.path) as connection:
            last = _last(connection, pair, clean_name(who))
            if last is None or last.id != vote_id:
                return None
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            connection.execute("UPDATE votes SET undone_at = ? WHERE id = ?", (at, last.id))
            return last

    def last(self, pair: Pair, who: str) -> Vote | None:
        """This person's last vote on a pair that counts."""
        with reading(self.path) as connection:
            return _last(connection, pair, clean_name(who))

    def judged(self, pair: Pair, who: str) -> Mapping[Asked, tuple[bool, int]]:
        """What this person was asked about the pair: (whether a vote counts, how many were taken back)."""
        query = (
            "SELECT sample, phrase, picture_sha256, sum(undone_at IS NULL) AS counting, "
            "sum(undone_at IS NOT NULL) AS undone FROM votes WHERE first = ? AND second = ? AND who = ? "
            "GROUP BY sample, phrase, picture_sha256"
        )
        with reading(self.path) as connection:
            rows = connection.execute(query, (*pair.sorted_keys, clean_name(who))).fetchall()
        return {_asked(row): (row["counting"] > 0, row["undone"]) for row in rows}

    def tally(self, pair: Pair) -> Tally:
        """The votes of everybody on a pair, in either order of the two."""
        query = (
            "SELECT sum(preferred = 'first') AS first, sum(preferred = 'second') AS second, "
            "sum(preferred = 'both') AS both, sum(preferred = 'neither') AS neither, count(DISTINCT who) AS people "
            "FROM votes WHERE first = ? AND second = ? AND undone_at IS NULL"
        )
        with reading(self.path) as connection:
            row = connection.execute(query, pair.sorted_keys).fetchone()
        counts = {name: row[name] or 0 for name in ("first", "second", "both", "neither", "people")}
        stored = _stored_sides(pair)
        return Tally(counts[stored["a"]], counts[stored["b"]], counts["both"], counts["neither"], counts["people"])


def clean_name(who: str) -> str:
    """A person's name on one line, at most 100 characters; "unknown" for none."""
    text = " ".join(str(who).encode("utf-8", "replace").decode().split())
    return text[:_MOST_NAME_CHARACTERS] or "unknown"


def _stored_sides(pair: Pair) -> dict[str, str]:
    """What the database calls a and b."""
    return {"a": "first", "b": "second"} if pair.a == pair.sorted_keys[0] else {"a": "second", "b": "first"}


def _last(connection: Connection, pair: Pair, who: str) -> Vote | None:
    row = connection.execute(
        "SELECT * FROM votes WHERE first = ? AND second = ? AND who = ? AND undone_at IS NULL ORDER BY id DESC LIMIT 1",
        (*pair.sorted_keys, who),
    ).fetchone()
    if row is None:
        return None
    sides = {stored: side for side, stored in _stored_sides(pair).items()}
    preferred = sides.get(row["preferred"], row["preferred"])
    return Vote(row["id"], row["at"], row["who"], _asked(row), sides[row["left"]], preferred)


def _asked(row: Row) -> Asked:
    return row["sample"], row["phrase"], row["picture_sha256"]
