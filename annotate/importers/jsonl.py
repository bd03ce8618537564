"""Our own JSONL: a file, or a folder of *.jsonl such as `python -m grounding demo DIR` writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from annotate.importers.splits import split_in
from annotate.items import BadRow
from grounding.errors import RecordError
from grounding.records import SPLITS, Sample

_LINES_LOOKED_AT = 5
_LINE_BYTES_LOOKED_AT = 32 << 20


class Importer:
    """Reads the JSONL of the contract, line by line."""

    name = "jsonl"
    expects = 'a .jsonl file whose lines have "id", "image", "phrase" and "boxes_xyxy_px", or a folder of such files'

    recognise_order = 10

    def recognises(self, source: Path) -> bool:
        return any(_looks_like_samples(file) for file in _files(source))

    def read(self, source: Path, scratch: Path) -> Iterator[Sample | BadRow]:
        files = _files(source)
        if not files:
            raise RecordError(f"{source} holds no .jsonl file. Expected {self.expects}.")
        for file in files:
            yield from _read_file(file)


def _files(source: Path) -> list[Path]:
    """The source's files: train, val and test first, then the others by name."""
    if not source.is_dir():
        return [source]
    rank = {split: number for number, split in enumerate(SPLITS)}
    return sorted(source.glob("*.jsonl"), key=lambda file: (rank.get(file.stem, len(rank)), file.name))


def _looks_like_samples(file: Path) -> bool:
    try:
        with file.open("rb") as lines:
            # A file of another format may be one line of gigabytes.
            looked_at = [lines.readline(_LINE_BYTES_LOOKED_AT) for _ in range(_LINES_LOOKED_AT)]
            rows = [_sample(line, file.parent, "train") for line in looked_at if line.strip()]
    except OSError:
        return False
    return any(isinstance(row, Sample) for row in rows)


def _read_file(file: Path) -> Iterator[Sample | BadRow]:
    split, _ = split_in(file.stem) or ("train", "")  # of lines that name none
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    row = _sample(line, file.parent, split)
                    yield row if isinstance(row, Sample) else BadRow(f"{file.name}, line {number}", row)
    except OSError as error:
        raise RecordError(f"{file} can't be read ({error.strerror or error}).") from error


def _sample(line: bytes, folder: Path, split: str) -> Sample | str:
    """The sample of one line, or the sentence that says why it is none."""
    try:
        record = json.loads(line.decode("utf-8-sig"))
        if not isinstance(record, dict):
            return f"expected a JSON object, found {type(record).__name__}."
        if record.get("split") is None:
            record["split"] = split
        return Sample.from_json(record, folder)
    except RecordError as error:
        return str(error)
    except (ValueError, OverflowError, RecursionError) as error:
        return f"the line is no JSON object in UTF-8 ({error})."
