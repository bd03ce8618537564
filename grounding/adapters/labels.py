"""What people say of an adapter: its note, and the names it had. Beside adapter.json, which says what was trained.

An evaluation names the adapter by the name it had then, and is tied to the content of adapter.json: so neither a new
name nor a note may change that file, and earlier names are remembered with the time at which each was given up.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from grounding.errors import AdapterError

LABEL = "label.json"
MOST_CHARACTERS = 4000
_FORMAT = "boxwright-label/1"


@dataclass(frozen=True)
class Label:
    """`note` is free text. `names` are the names given up so far, oldest first, each with the time (ISO 8601)."""

    note: str = ""
    names: tuple[tuple[str, str], ...] = ()


def read_label(folder: Path) -> Label:
    """The label of an adapter's folder; an empty one where there is none or it is damaged: it is no part of the
    adapter, so nothing may fail for it."""
    try:
        values = json.loads((folder / LABEL).read_text(encoding="utf-8"))
        names = [(str(entry["name"]), str(entry["until"])) for entry in values["names"]]
        for _, until in names:
            datetime.fromisoformat(until)
        return Label(str(values["note"]), tuple(names))
    except (OSError, ValueError, KeyError, TypeError):
        return Label()


def write_label(folder: Path, label: Label) -> None:
    """Replace the label, whole or not at all. Raises `AdapterError` when the folder can't be written."""
    names = [{"name": name, "until": until} for name, until in label.names]
    text = json.dumps({"format": _FORMAT, "note": label.note, "names": names}, indent=1, ensure_ascii=False)
    partial = folder / f".{LABEL}.{secrets.token_hex(4)}"
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(folder / LABEL)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise AdapterError(
            f"{folder / LABEL} can't be written ({error.strerror or error}). Free some space or give yourself the "
            "right to write there, then try again."
        ) from error


def keep_label(standing: Path, new: Path) -> None:
    """Give the folder that takes an adapter's place what people said of the one before."""
    label = read_label(standing)
    if label != Label():
        write_label(new, label)


def clean_note(text: str) -> str:
    """The note without outer blanks. Raises `AdapterError` for one that is too long or holds half characters."""
    note = text.strip()
    if len(note) > MOST_CHARACTERS:
        raise AdapterError(f"The note has {len(note):,} characters: expected at most {MOST_CHARACTERS:,}. Shorten it.")
    try:
        note.encode("utf-8")
    except UnicodeEncodeError as error:
        raise AdapterError(
            f"The note holds a character that no file can keep ({error.reason}). Type it anew."
        ) from error
    return note


def now() -> str:
    """This moment in UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
