"""Rows of Parquet files and of folders that `datasets` has saved, a few at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from annotate.importers.picture_folders import relative_name
from annotate.importers.splits import split_in
from grounding.errors import RecordError
from grounding.records import SPLITS

_ROWS_AT_ONCE = 64
_BYTES_AT_ONCE = 1 << 20
_PARQUET_PLACES = ("*.parquet", "data/*.parquet", "*/*.parquet")


@dataclass(frozen=True)
class Table:
    """One file of rows. `split` is ours, `source_split` the word of the source for it; both empty when unnamed."""

    path: Path
    split: str
    source_split: str


def find_tables(source: Path) -> list[Table]:
    """The tables at the source, train first. Raises `RecordError` when a saved folder names files outside of it."""
    if not source.is_dir():
        return [_table(source, source.stem)] if source.suffix in (".parquet", ".arrow") else []
    if (source / "dataset_dict.json").is_file() or (source / "state.json").is_file():
        found = [table for folder in (source, *sorted(source.iterdir())) for table in _saved_tables(folder)]
    else:
        paths = next((paths for place in _PARQUET_PLACES if (paths := sorted(source.glob(place)))), [])
        found = [_table(path, path.stem, path.parent.name) for path in paths]
    return sorted(found, key=lambda table: SPLITS.index(table.split) if table.split else len(SPLITS))


def _saved_tables(folder: Path) -> list[Table]:
    """What `save_to_disk` has written into this folder: the files that its state.json lists."""
    if not (folder / "state.json").is_file():
        return []
    try:
        state = json.loads((folder / "state.json").read_bytes())
        names = [entry["filename"] for entry in state["_data_files"]]
        split = state.get("_split")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RecordError(
            f"{folder / 'state.json'} is not what `datasets` writes ({error!r}). Save it anew."
        ) from error
    return [_table(folder / relative_name(name), folder.name, str(split)) for name in names]


def _table(path: Path, *names: str) -> Table:
    split, source_split = next((found for name in names if (found := split_in(name))), ("", ""))
    return Table(path, split, source_split)


def columns_of(table: Table) -> frozenset[str]:
    """The names of its columns; empty when it can't be read as a table."""
    try:
        with table.path.open("rb") as file:
            if table.path.suffix == ".parquet":
                return frozenset(pyarrow.parquet.read_schema(file).names)
            return frozenset(_arrow_reader(file).schema.names)
    except (OSError, ValueError, pyarrow.ArrowException):
        return frozenset()


def rows_of(table: Table) -> Iterator[dict[str, Any] | str]:
    """Each row by column names, or the sentence that says why it can't be read. Raises `RecordError` for the file."""
    try:
        for batch in _batches(table.path):
            yield from _records(batch)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise RecordError(f"{table.path} can't be read as a table ({error}). Download or save it anew.") from error


def _batches(path: Path) -> Iterator[pyarrow.RecordBatch]:
    if path.suffix == ".parquet":
        with pyarrow.parquet.ParquetFile(path, buffer_size=_BYTES_AT_ONCE) as file:
            # Asked for all groups at once, pyarrow keeps every one that it has been through.
            for group in range(file.num_row_groups):
                yield from file.iter_batches(_ROWS_AT_ONCE, row_groups=[group])
        return
    with pyarrow.memory_map(str(path)) as file:
        reader = _arrow_reader(file)
        batches = reader if isinstance(reader, pyarrow.RecordBatchStreamReader) else _stored_batches(reader)
        for batch in batches:
            for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
                yield batch.slice(start, _ROWS_AT_ONCE)


def _arrow_reader(file: Any) -> pyarrow.RecordBatchStreamReader | pyarrow.RecordBatchFileReader:
    """`datasets` writes the streaming form; other tools may write the one with an index."""
    start = file.read(6)
    file.seek(0)
    return pyarrow.ipc.open_file(file) if start == b"ARROW1" else pyarrow.ipc.open_stream(file)


def _stored_batches(reader: pyarrow.RecordBatchFileReader) -> Iterator[pyarrow.RecordBatch]:
    return (reader.get_batch(number) for number in range(reader.num_record_batches))


def _records(batch: pyarrow.RecordBatch) -> Iterator[dict[str, Any] | str]:
    try:
        yield from batch.to_pylist()
    except (ValueError, pyarrow.ArrowException) as error:
        if batch.num_rows == 1:
            yield f"the row can't be read ({error})."
            return
        for number in range(batch.num_rows):
            yield from _records(batch.slice(number, 1))
