"""Which samples are judged, in which order, and who stands on which side: fixed here, and never sent to a page.

Order and sides follow from the workspace's own secret, the pair, the sample and the person. So a restart, a reload and
a second window ask the same question with the same sides, and nothing has to be remembered but the votes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import numpy as np

from grounding.arena.contestants import Pair, pair_of
from grounding.arena.votes import Asked, VoteStore, clean_name
from grounding.compared import Comparison
from grounding.measures import Flags, set_ious

SAME_ABOVE_IOU = 0.9
"""Answers that overlap by more than this look the same: there is nothing to choose."""


@dataclass(frozen=True)
class Question:
    """One question to one person. `left` says which side of the pair stands on the left, "a" or "b": only `token` and
    what both sides look like may leave the server. `row` is that of the comparison."""

    token: str
    row: int
    left: str
    pair: Pair
    asked: Asked
    evaluations: tuple[str, str]

    @property
    def right(self) -> str:
        return "b" if self.left == "a" else "a"


class Questions:
    """What two evaluations give to judge. `has_picture` says whether the page can show a picture, by its SHA-256.

    Raises `RecordError` where the two can't stand against each other.
    """

    def __init__(self, comparison: Comparison, secret: bytes, has_picture: Callable[[str], bool]) -> None:
        self.comparison = comparison
        self.pair = pair_of(comparison)
        self._secret = secret
        shown = {sha256: bool(sha256) and has_picture(sha256) for sha256 in set(comparison.samples.image_sha256)}
        self._shown = np.array([shown[sha256] for sha256 in comparison.samples.image_sha256], dtype=bool)
        self._shown &= (comparison.samples.image_size_wh > 0).all(axis=1)

    @cached_property
    def same(self) -> Flags:
        """[samples]: both answers look the same."""
        return same_answers(self.comparison)

    @property
    def skipped_same(self) -> int:
        return int((self.same & self._eligible).sum())

    @property
    def without_picture(self) -> int:
        return int((self.comparison.counted & ~self._shown).sum())

    @property
    def seen_in_training(self) -> int:
        return int(self.comparison.seen.sum())

    @property
    def _eligible(self) -> Flags:
        return self.comparison.counted & self._shown

    @cached_property
    def rows(self) -> tuple[int, ...]:
        """The rows to be judged, in the order in which everybody is asked."""
        rows = np.flatnonzero(self._eligible & ~self.same).tolist()
        return tuple(sorted(rows, key=lambda row: self._digest("order", *self.asked(row))))

    def asked(self, row: int) -> Asked:
        samples = self.comparison.samples
        return samples.id[row], samples.phrase[row], samples.image_sha256[row]

    def row_of(self, asked: Asked) -> int | None:
        """The row that asks this; None where these evaluations don't, as their sample was edited since."""
        same_id = np.flatnonzero(self.comparison.samples.id == asked[0]).tolist()
        return next((row for row in same_id if self.asked(row) == asked), None)

    def next(self, votes: VoteStore, who: str) -> Question | None:
        """What this person is asked now; None when all is judged.

        What was taken back comes last, its sides drawn anew: by then the person has seen whose answers they were.
        """
        judged = votes.judged(self.pair, who)
        waiting = [(row, judged.get(self.asked(row), (False, 0))) for row in self.rows]
        left = [(undone, row) for row, (counts, undone) in waiting if not counts]
        if not left:
            return None
        undone, row = min(left, key=lambda one: one[0])
        return self._question(row, clean_name(who), undone)

    def open_count(self, votes: VoteStore, who: str) -> int:
        """How many this person has still to judge."""
        judged = votes.judged(self.pair, who)
        return sum(not judged.get(self.asked(row), (False, 0))[0] for row in self.rows)

    def _question(self, row: int, who: str, undone: int) -> Question:
        about = (*self.asked(row), who, str(undone))
        a, b = self.comparison.sides[:2]
        first = self.pair.sorted_keys[0]
        # Drawn for the pair whichever of the two was chosen first: both orders ask the same.
        first_left = self._digest("side", *about)[0] % 2 == 0
        left = "a" if (self.pair.a == first) == first_left else "b"
        token = self._digest("token", *about).hex()[:32]
        return Question(token, row, left, self.pair, self.asked(row), (a.folder.name, b.folder.name))

    def _digest(self, *about: str) -> bytes:
        parts = [part.encode("utf-8", "backslashreplace") for part in (*self.pair.sorted_keys, *about)]
        return blake2b(b"".join(len(part).to_bytes(8) + part for part in parts), key=self._secret).digest()


def same_answers(comparison: Comparison) -> Flags:
    """[samples]: both sides answered as many boxes, and these overlap by more than `SAME_ABOVE_IOU` (none and none too:
    a page shows no difference)."""
    first, second = (side.answers.boxes for side in comparison.sides[:2])
    return (first.counts == second.counts) & (set_ious(first, second) > SAME_ABOVE_IOU)
