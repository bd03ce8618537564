"""The samples of a snapshot picture by picture, for formats that have one entry a picture."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from pathlib import Path

from grounding.records import Sample


def by_picture(samples_path: Path) -> Iterator[list[Sample]]:
    """The samples of each picture, in the order in which pictures first occur.

    Memory holds the places of lines in the file and one picture's samples.
    """
    places: dict[str, array[int]] = {}
    with samples_path.open("rb") as file:
        at = 0
        for line in file:
            if line.strip():
                places.setdefault(json.loads(line)["image"], array("q")).append(at)
            at += len(line)
        for lines_at in places.values():
            samples = []
            for at in lines_at:
                file.seek(at)
                samples.append(Sample.from_json(json.loads(file.readline()), samples_path.parent))
            yield samples
