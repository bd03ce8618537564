"""A report as files: CSV, Parquet, JSON, Markdown with plots, COCO results, a FiftyOne data set."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from grounding import whole
from grounding.compared.coco import write_coco
from grounding.compared.fiftyone import write_fiftyone
from grounding.compared.markdown import report_markdown
from grounding.compared.plots import accuracy_svg, calibration_svg
from grounding.compared.report import Report
from grounding.compared.tables import figure_rows, report_json, sample_table
from grounding.errors import WorkspaceError


@dataclass(frozen=True)
class Exported:
    """What was written: the folder, its files relative to it, and what one has to know about them."""

    folder: Path
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()


def export(report: Report, folder: Path, format: str) -> Exported:
    """Write a report into the new folder `folder`: the samples that pass its filter, and its figures.

    `format` is one of `FORMATS`. Raises `WorkspaceError` for another one, when something stands in `folder`, and when
    it can't be written; then nothing is left behind.
    """
    write = FORMATS.get(format)
    if write is None:
        raise WorkspaceError(f"A comparison can't be exported as {format!r}: expected one of {', '.join(FORMATS)}.")
    with written_whole(folder) as partial:
        notes = write(report, partial)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return Exported(folder, tuple(files), tuple(notes))


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder`, as of `whole.written_whole`.

    Raises `WorkspaceError` when something stands in `folder`, and for what the disk refuses.
    """

    def refused(error: OSError) -> WorkspaceError:
        return WorkspaceError(
            f"The comparison can't be written to {folder} ({error.strerror or error}). Free some space or choose "
            "another folder; nothing of it was left behind."
        )

    with whole.written_whole(folder, lambda: _check_free(folder), refused) as partial:
        partial.mkdir()
        yield partial


def _check_free(folder: Path) -> None:
    try:
        folder.lstat()
        taken = not folder.is_dir() or any(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    except ValueError as error:  # no path may hold a NUL
        raise WorkspaceError(f"{str(folder)!r:.200} can't be written to ({error}). Choose another folder.") from error
    if taken:
        raise WorkspaceError(f"Something stands in {folder} already. Choose another folder, or take it away first.")


def _rows(report: Report) -> np.ndarray:
    return np.flatnonzero(report.listed)


def _write_csv(report: Report, folder: Path) -> Sequence[str]:
    records = sample_table(report.comparison, _rows(report)).to_pylist()
    lists = {name for record in records[:1] for name, value in record.items() if isinstance(value, list)}
    plain = [{k: json.dumps(v) if k in lists else v for k, v in record.items()} for record in records]
    _csv(folder / "samples.csv", plain)
    _csv(folder / "figures.csv", figure_rows(report))
    return ()


def _csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    names = list(rows[0]) if rows else []
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def _write_parquet(report: Report, folder: Path) -> Sequence[str]:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(sample_table(report.comparison, _rows(report)), folder / "samples.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(figure_rows(report)), folder / "figures.parquet")
    return ()


def _write_json(report: Report, folder: Path) -> Sequence[str]:
    whole = {**report_json(report), "samples": sample_table(report.comparison, _rows(report)).to_pylist()}
    (folder / "comparison.json").write_text(json.dumps(whole, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return ()


def _write_markdown(report: Report, folder: Path) -> Sequence[str]:
    plots = {"accuracy.svg": accuracy_svg(report.curves())}
    if any(one.count for one in report.calibrations()):
        plots["calibration.svg"] = calibration_svg(report.calibrations())
    for name, content in plots.items():
        _write_text(folder / name, content)
    _write_text(folder / "report.md", report_markdown(report, list(plots)))
    return ()


def _write_text(path: Path, text: str) -> None:
    """Half characters (lone surrogates), as in the name of an adapter's folder, in their backslash form."""
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


FORMATS: Mapping[str, Callable[[Report, Path], Sequence[str]]] = MappingProxyType(
    {
        "csv": _write_csv,
        "parquet": _write_parquet,
        "json": _write_json,
        "markdown": _write_markdown,
        "coco": write_coco,
        "fiftyone": write_fiftyone,
    }
)
"""What a report can be written as, and who does it: into an empty folder, returning notes."""
