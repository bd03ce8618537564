"""The samples of a scope: next, previous, how many, and all of them. Whatever the filters, no walk through everything.

A category has an index of its own in every queue, so it costs nothing. A person's samples are few enough to look
through, along one index that holds all that a queue asks for. Words are looked up in `phrase_words`: rare ones are
followed to their samples; for common ones the next few thousand of the queue are looked up among the hits.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from annotate.items import Place
from annotate.queues import ORDERS, place_parameters, walk
from annotate.scopes import Scope

# Hits of the words that are followed to their samples rather than met on the queue's way.
_FEW_HITS = 3_000
_WALKED_ROWS = 3_000
# How many samples of a queue, or hits of common words, are looked at to count; behind them it is "at least".
_COUNTED_ROWS = 5_000
_COUNTED_HITS = 10_000


@dataclass(frozen=True)
class _Query:
    """A statement's tables and conditions, with the parameters that they name."""

    tables: str
    where: str
    parameters: dict[str, object]


def neighbour(connection: sqlite3.Connection, scope: Scope, place: Place | None, *, forward: bool) -> str | None:
    """The id of the sample of the scope next to `place`, or None at its end; `place` None starts at the end."""
    leased = _leased_to_others(connection, scope)
    if scope.words and not scope.annotator and _hits_up_to(connection, scope, _FEW_HITS + 1) <= _FEW_HITS:
        found = _nearest(connection, scope, place, leased, forward=forward)
    else:
        found = _nearest_on_the_way(connection, scope, place, leased, forward=forward)
    if found is None:
        return None
    return str(connection.execute("SELECT id FROM samples WHERE position = ?", (found[1],)).fetchone()[0])


def count(connection: sqlite3.Connection, scope: Scope, most: int) -> tuple[int, bool]:
    """How many samples the scope has, those that others have open included; (number, True): that many or more.

    That is `most`, or less where common words are looked for in a large queue.
    """
    query, is_part = query_of(scope), False
    if scope.words and _hits_up_to(connection, scope, _FEW_HITS + 1) > _FEW_HITS:
        way = _way(connection, scope, None, (), forward=True, limit=_COUNTED_ROWS)
        if len(way) < _COUNTED_ROWS:
            found = len(_hits_among(connection, scope, [position for _, position in way]))
            return min(found, most), found > most
        if not scope.annotator:
            is_part = _hits_up_to(connection, scope, _COUNTED_HITS + 1) > _COUNTED_HITS
            query = query_of(scope, most_hits=_COUNTED_HITS)
    sql = f"SELECT COUNT(*) FROM (SELECT 1 FROM {query.tables} WHERE {query.where} LIMIT :limit)"
    found = int(connection.execute(sql, query.parameters | {"limit": most + 1}).fetchone()[0])
    return min(found, most), is_part or found > most


def query_of(scope: Scope, *, most_hits: int = -1) -> _Query:
    """The statement that reads the whole scope along the index of its narrowest filter.

    `most_hits` is how many hits of the words are followed at most where they lead; -1: all.
    """
    order = ORDERS[scope.queue]
    conditions = [order.condition]
    parameters: dict[str, object] = {}
    for column, value in (("split", scope.split), ("category", scope.category), ("edited_by", scope.annotator)):
        if value:
            conditions.append(f"{column} = :{column}")
            parameters[column] = value
    if scope.annotator:
        tables = "samples INDEXED BY samples_of_person"
        conditions.append("edited_by <> ''")
        if scope.words:
            conditions.append("position IN (SELECT rowid FROM phrase_words WHERE phrase_words MATCH :words)")
    elif scope.words:
        hits = "SELECT rowid AS hit FROM phrase_words WHERE phrase_words MATCH :words LIMIT :most_hits"
        tables = f"({hits}) CROSS JOIN samples INDEXED BY samples_of_words ON position = hit"
        parameters["most_hits"] = most_hits
    else:
        tables = f"samples INDEXED BY {order.index}{'_by_category' if scope.category else ''}"
    if scope.words:
        parameters["words"] = match_of(scope)
    return _Query(tables, " AND ".join(conditions), parameters)


def match_of(scope: Scope) -> str:
    """The words as FTS5 takes them: each quoted, so that nothing in it is syntax, and open at its end."""
    return " ".join('"{}"*'.format(word.replace('"', '""')) for word in scope.words)


def _leased_to_others(connection: sqlite3.Connection, scope: Scope) -> list[int]:
    """The positions of the samples that other visitors have open now."""
    if not scope.token or scope.queue == "all":
        return []
    rows = connection.execute(
        "SELECT position FROM leases CROSS JOIN samples ON samples.id = sample_id WHERE until > ? AND token <> ?",
        (time.time(), scope.token),
    )
    return [row[0] for row in rows]


def _hits_up_to(connection: sqlite3.Connection, scope: Scope, limit: int) -> int:
    """How many phrases have the words, counted up to `limit`."""
    sql = "SELECT COUNT(*) FROM (SELECT 1 FROM phrase_words WHERE phrase_words MATCH ? LIMIT ?)"
    return int(connection.execute(sql, (match_of(scope), limit)).fetchone()[0])


def _nearest(
    connection: sqlite3.Connection, scope: Scope, place: Place | None, leased: Sequence[int], *, forward: bool
) -> Place | None:
    """By looking at everything that the narrowest filter lets through."""
    found = _looked_through(connection, scope, query_of(scope), place, leased, forward=forward, limit=1)
    return found[0] if found else None


def _nearest_on_the_way(
    connection: sqlite3.Connection, scope: Scope, place: Place | None, leased: Sequence[int], *, forward: bool
) -> Place | None:
    """By walking the queue, a few thousand samples at most where words are looked for; then through the words' hits."""
    limit = _WALKED_ROWS if scope.words else 1
    way = _way(connection, scope, place, leased, forward=forward, limit=limit)
    hits = _hits_among(connection, scope, [position for _, position in way]) if scope.words else None
    found = next((one for one in way if hits is None or one[1] in hits), None)
    if found is None and len(way) == limit:
        return _nearest(connection, scope, place, leased, forward=forward)
    return found


def _way(
    connection: sqlite3.Connection,
    scope: Scope,
    place: Place | None,
    leased: Sequence[int],
    *,
    forward: bool,
    limit: int,
) -> list[Place]:
    """The next places of the scope, whatever the words; nearest first."""
    if scope.annotator:
        query = query_of(replace(scope, phrase=""))
        return _looked_through(connection, scope, query, place, leased, forward=forward, limit=limit)
    return walk(
        connection,
        scope.queue,
        place,
        split=scope.split,
        category=scope.category,
        passed_over=leased,
        forward=forward,
        limit=limit,
    )


def _looked_through(
    connection: sqlite3.Connection,
    scope: Scope,
    query: _Query,
    place: Place | None,
    leased: Sequence[int],
    *,
    forward: bool,
    limit: int,
) -> list[Place]:
    """The places behind `place` among all that the query gives, sorted."""
    order = ORDERS[scope.queue]
    here = place_parameters(scope.queue, place, forward=forward)
    rows = connection.execute(
        f"SELECT {order.place_sql} FROM {query.tables} WHERE {query.where} AND {order.behind_sql(forward=forward)} "
        "AND position NOT IN (SELECT value FROM json_each(:passed_over)) "
        f"ORDER BY {order.order_sql(forward=forward)} LIMIT :limit",
        query.parameters | here | {"passed_over": json.dumps(list(leased)), "limit": limit},
    )
    return [(row[0], row[1]) for row in rows]


def _hits_among(connection: sqlite3.Connection, scope: Scope, among: Sequence[int]) -> set[int]:
    """Those of the positions whose phrase has the words."""
    if not among:
        return set()
    # The plus keeps SQLite from asking the word index once for each position.
    rows = connection.execute(
        "SELECT rowid FROM phrase_words WHERE phrase_words MATCH :words AND rowid BETWEEN :low AND :high "
        "AND +rowid IN (SELECT value FROM json_each(:among))",
        {"words": match_of(scope), "low": min(among), "high": max(among), "among": json.dumps(list(among))},
    )
    return {row[0] for row in rows}


def nearest_of_picture(connection: sqlite3.Connection, picture_sha256: str, position: int, most: int) -> list[int]:
    """The positions of up to `most` other samples of the picture, the nearest to `position` first."""
    sql = "SELECT position FROM samples WHERE picture_sha256 = ? AND position {} ? ORDER BY position {} LIMIT ?"
    found = [
        row[0]
        for sign, way in (("<", "DESC"), (">", "ASC"))
        for row in connection.execute(sql.format(sign, way), (picture_sha256, position, most))
    ]
    return sorted(found, key=lambda one: abs(one - position))[:most]


def categories(connection: sqlite3.Connection, limit: int) -> list[str]:
    """The first categories by name, one index seek each; samples without one are left aside."""
    return _distinct(connection, "category", "samples INDEXED BY samples_of_split_by_category", "", limit)


def annotators(connection: sqlite3.Connection, limit: int) -> list[str]:
    """The people whose word is the last on some sample, by name, one index seek each."""
    return _distinct(connection, "edited_by", "samples INDEXED BY samples_of_person", "edited_by <> '' AND ", limit)


def _distinct(connection: sqlite3.Connection, column: str, tables: str, condition: str, limit: int) -> list[str]:
    step = f"SELECT MIN({column}) FROM {tables} WHERE {condition}{column} >"
    rows = connection.execute(
        f"WITH RECURSIVE found (name) AS ({step} '' UNION ALL SELECT ({step} found.name) FROM found "
        "WHERE found.name IS NOT NULL) SELECT name FROM found WHERE name IS NOT NULL LIMIT ?",
        (limit,),
    )
    return [row[0] for row in rows]
