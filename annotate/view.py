"""All samples as they stand at one moment, whatever others write meanwhile."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from annotate.items import Item
from annotate.leaks import LeakReport, find_leaks, shared_pictures
from annotate.phrases import clean_text
from annotate.rows import select_items


class View:
    """The samples at one moment; made by `Store.view`."""

    def __init__(self, connection: sqlite3.Connection, pictures_folder: Path) -> None:
        self._connection = connection
        self._pictures_folder = pictures_folder

    def items(self) -> Iterator[Item]:
        """Every sample in import order, streamed."""
        return select_items(self._connection, self._pictures_folder, "ORDER BY s.position")

    def items_by_picture(self) -> Iterator[Item]:
        """Every sample, those of one picture together, streamed."""
        return select_items(self._connection, self._pictures_folder, "ORDER BY s.picture_sha256, s.position")

    def wordings(self) -> Iterator[tuple[str, str, str, str]]:
        """(id, phrase, category, picture) of each sample that is neither rejected nor a placeholder, streamed."""
        rows = self._connection.execute(
            "SELECT id, phrase, category, picture_sha256 FROM samples "
            "WHERE state <> 'rejected' AND placeholder = 0 ORDER BY position"
        )
        return map(tuple, rows)

    def replaced_phrases(self) -> dict[str, frozenset[str]]:
        """For each sample that a person has edited, the phrases that a person took away, be it for a suggestion.

        They are cleaned, as a save cleans them. What was undone counts as if it had never been.
        """
        rows = self._connection.execute(
            "SELECT sample_id, json_group_array(DISTINCT phrase_before) FROM changes "
            "WHERE (origin = 'human' OR batch IS NULL) AND phrase_before <> phrase_after AND undoes IS NULL "
            "AND NOT EXISTS (SELECT 1 FROM changes later WHERE later.undoes = changes.id) GROUP BY sample_id"
        )
        return {sample_id: frozenset(map(clean_text, json.loads(phrases))) for sample_id, phrases in rows}

    def leaks(self, *, by_looks: bool = True) -> LeakReport:
        """Pictures of train that stand in val or test too, as they are or as a copy; `find_leaks` says what
        `by_looks` is."""
        return find_leaks(self._connection, self._pictures_folder, by_looks=by_looks)

    def pictures_of_val_and_test(self) -> frozenset[str]:
        """The pictures, by SHA-256, that stand in both."""
        return frozenset(shared_pictures(self._connection, "val", "test"))
