"""Find pictures that are copies of each other though their bytes differ: resized, saved anew, cut by a pixel.

Two steps. A hash of 64 bits (dHash: is the picture darker or brighter to the right?) gives candidates without
comparing all pairs. Then their thumbnails are compared, as hashes alone confuse pictures with much empty ground.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from grounding.database import reading, writing
from grounding.errors import PictureError
from grounding.pictures import PictureStore, grey_thumbnail

BITS = 64
# Copies of photographs are at most 6 apart, those of drawn scenes seldom more than this.
MAX_DISTANCE = 8
NOTHING_TO_SEE = 0
_CELL = 4
_THUMBNAIL_WH = (9 * _CELL, 8 * _CELL)
# One grey level of 255 in each pixel of a cell. Less between two cells is noise of the encoder; a picture with fewer
# such steps, or that strays less grey levels from its mean, is one even surface, and even surfaces all look alike.
_LEAST_STEP = 1 * _CELL**2
_FEWEST_STEPS = 4
_LEAST_SPREAD = 2.0
# Difference of two pictures by their own spread: copies stay below 0.15, distinct pictures were never below 0.3. In
# the worst cell copies reach 0.65 (drawings that are cut by a pixel).
_MOST_DIFFERENCE = 0.2
_MOST_CELL_DIFFERENCE = 0.7
_BATCH_PICTURES = 256
_MOST_THREADS = 4
_PAIRS_AT_ONCE = 1 << 20

Progress = Callable[[int, int], None]
Numbers = npt.NDArray[Any]


@dataclass(frozen=True)
class Look:
    """What a picture looks like: its hash as a signed number of 64 bits, and its 36 x 32 grey pixels."""

    dhash: int
    grey: bytes


@dataclass(frozen=True)
class HashReport:
    """`hashed` pictures got a hash; `unreadable` are the SHA-256 of those that are missing or damaged."""

    hashed: int
    unreadable: tuple[str, ...]


def look_at(path: Path) -> Look:
    """Read what the picture looks like; `dhash` is `NOTHING_TO_SEE` for an even surface. Raises `PictureError`."""
    grey = grey_thumbnail(path, _THUMBNAIL_WH).tobytes()
    cells = _cell_sums(grey)
    steps = [cells[row + column] - cells[row + column + 1] for row in range(0, 72, 9) for column in range(8)]
    bits = sum(1 << place for place, step in enumerate(steps) if step > _LEAST_STEP)
    if sum(abs(step) > _LEAST_STEP for step in steps) < _FEWEST_STEPS:
        bits = NOTHING_TO_SEE
    return Look(bits - (1 << BITS) if bits >> (BITS - 1) else bits, grey)


def _cell_sums(levels: Sequence[float]) -> list[float]:
    """The sums of the 9 x 8 cells of 4 x 4 pixels, line by line."""
    width, height = _THUMBNAIL_WH
    sums = []
    for top in range(0, width * height, _CELL * width):
        columns = [sum(levels[top + column : top + _CELL * width : width]) for column in range(width)]
        sums += [sum(columns[left : left + _CELL]) for left in range(0, width, _CELL)]
    return sums


def alike(one: Look, other: Look) -> bool:
    """Whether the thumbnails show the same, all over and in each cell: a scene with one thing moved is another one.

    Brightness over all doesn't count, and pale pictures are measured by what little contrast they have.
    """
    ones, others = _centred(one.grey), _centred(other.grey)
    spread = min(_mean_size(ones), _mean_size(others))
    differences = [a - b for a, b in zip(ones, others, strict=True)]
    if spread < _LEAST_SPREAD or _mean_size(differences) > _MOST_DIFFERENCE * spread:
        return False
    return max(map(abs, _cell_sums(differences))) <= _MOST_CELL_DIFFERENCE * spread * _CELL**2


def _centred(grey: bytes) -> list[float]:
    mean = sum(grey) / len(grey)
    return [level - mean for level in grey]


def _mean_size(values: list[float]) -> float:
    return sum(map(abs, values)) / len(values)


def near_pairs(
    left: Mapping[str, int], right: Mapping[str, int], max_distance: int = MAX_DISTANCE
) -> Iterator[tuple[str, str]]:
    """Every pair (key of `left`, key of `right`) whose hashes differ in at most `max_distance` bits, each pair once.

    Exact, and without comparing all pairs. The 64 bits are cut into `max_distance // 2 + 1` bands. Were each band
    to differ in two bits or more, the whole would differ in at least `2 * (max_distance // 2 + 1)`, which is more
    than `max_distance`. So some band differs in at most one bit: it is found by looking up that band as it is, and
    with each of its bits turned.
    """
    if len(left) > len(right):
        # What is looked up is walked once a bit, what is looked through only sorted once a band.
        yield from ((one, other) for other, one in near_pairs(right, left, max_distance))
        return
    names, others = list(left), list(right)
    asked, known = _unsigned(left), _unsigned(right)
    bands = _bands(max_distance // 2 + 1)
    for number, (shift, mask) in enumerate(bands):
        ours, theirs = asked >> shift & mask, known >> shift & mask
        order = np.argsort(theirs, kind="stable")
        theirs = theirs[order]
        for turned in (0, *(1 << bit for bit in range(mask.bit_length()))):
            for one, found in _equal(ours ^ np.uint64(turned), theirs):
                other = order[found]
                differing = asked[one] ^ known[other]
                near = np.flatnonzero(np.bitwise_count(differing) <= max_distance)
                for shift_before, mask_before in bands[:number]:
                    # Where an earlier band found the pair, it has been told.
                    near = near[np.bitwise_count(differing[near] >> shift_before & mask_before) > 1]
                yield from ((names[i], others[j]) for i, j in zip(one[near], other[near], strict=True))


def _equal(values: Numbers, among: Numbers) -> Iterator[tuple[Numbers, Numbers]]:
    """The indices (in `values`, in the sorted `among`) of every two that are equal, in pieces of bounded size."""
    first, behind = np.searchsorted(among, values, "left"), np.searchsorted(among, values, "right")
    counts = behind - first
    pieces = np.cumsum(counts) // _PAIRS_AT_ONCE
    for piece in np.unique(pieces[counts > 0]):
        at = np.flatnonzero((pieces == piece) & (counts > 0))
        each = counts[at]
        within = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
        yield np.repeat(at, each), np.repeat(first[at], each) + within


def _unsigned(hashes: Mapping[str, int]) -> Numbers:
    return np.fromiter(hashes.values(), dtype=np.int64, count=len(hashes)).astype(np.uint64)


def _bands(count: int) -> list[tuple[int, int]]:
    """(shift, mask) of `count` bands that cover the 64 bits."""
    edges = [BITS * number // count for number in range(count + 1)]
    return [(low, (1 << high - low) - 1) for low, high in pairwise(edges)]


def fill_hashes(path: Path, pictures: PictureStore, progress: Progress | None = None) -> HashReport:
    """Look at every picture of the store at `path` that has no hash yet, in batches that each commit.

    `progress` gets the number of pictures done and of all that had none. Pictures that can't be read keep none.
    Raises `StoreError`.
    """
    total, done, hashed, after = _without_hash(path), 0, 0, ""
    unreadable: list[str] = []
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        while batch := _next_batch(path, after):
            hashes = list(pool.map(_hash_or_none, (pictures.folder / file for _, file in batch)))
            rows = [(dhash, sha256) for dhash, (sha256, _) in zip(hashes, batch, strict=True) if dhash is not None]
            unreadable += [sha256 for dhash, (sha256, _) in zip(hashes, batch, strict=True) if dhash is None]
            with writing(path) as connection:
                connection.executemany("UPDATE pictures SET dhash = ? WHERE sha256 = ?", rows)
            hashed, done, after = hashed + len(rows), done + len(batch), batch[-1][0]
            if progress is not None:
                progress(done, max(done, total))
    return HashReport(hashed, tuple(unreadable))


def _hash_or_none(path: Path) -> int | None:
    try:
        return look_at(path).dhash
    except PictureError:
        return None


def _without_hash(path: Path) -> int:
    with reading(path) as connection:
        return int(connection.execute("SELECT count(*) FROM pictures WHERE dhash IS NULL").fetchone()[0])


def _next_batch(path: Path, after: str) -> list[tuple[str, str]]:
    query = "SELECT sha256, file FROM pictures WHERE dhash IS NULL AND sha256 > ? ORDER BY sha256 LIMIT ?"
    with reading(path) as connection:
        return [tuple(row) for row in connection.execute(query, (after, _BATCH_PICTURES))]
