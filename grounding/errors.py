"""Every error that Boxwright raises on purpose.

    BoxwrightError
    ├── PictureError          a file that is no picture, is missing, or is too large to open safely
    ├── BoxError              coordinates that make no box
    ├── RecordError           a sample line that does not follow the contract
    ├── WorkspaceError        a workspace that can't be made, read or written
    ├── StoreError            an annotation that can't be read or saved
    │   └── StaleSaveError    somebody saved the sample since this page showed it
    ├── SnapshotError         a snapshot that is missing, incomplete or teaches nothing
    ├── ModelError            a model that is unknown, missing or broken
    │   └── BusyError         a model that loads, is lent out or answers somebody else: ask again later
    ├── AdapterError          an adapter that is unknown, incomplete or made for another base
    ├── SettingsError         a training setting out of its range
    ├── JobError              a run that can't be started, found or stopped
    └── Cancelled             the person asked for the work to stop

A message names the value, what was expected, and the way out. The command line turns these into exit
status 1 and one sentence; the tabs turn them into `gr.Error` in one place (`grounding.ui.events`).
"""

from __future__ import annotations

from typing import Any


class BoxwrightError(Exception):
    """Base of the tree: catch this to catch every failure that Boxwright explains."""


class PictureError(BoxwrightError):
    """A file that is no picture, is missing, or is too large to open safely."""


class BoxError(BoxwrightError, ValueError):
    """Coordinates that make no box: not finite, or x2 <= x1, or y2 <= y1."""


class RecordError(BoxwrightError, ValueError):
    """A sample line that does not follow the contract."""


class WorkspaceError(BoxwrightError):
    """A workspace that can't be made, read or written."""


class StoreError(BoxwrightError):
    """An annotation that can't be read or saved."""


class StaleSaveError(StoreError):
    """Somebody saved the sample since this page showed it; nothing was overwritten.

    `current` is what stands in the store now (an `annotate` item), so that the page can show both versions.
    """

    def __init__(self, message: str, current: Any = None) -> None:
        super().__init__(message)
        self.current = current


class SnapshotError(BoxwrightError):
    """A snapshot that is missing, incomplete or teaches nothing."""


class ModelError(BoxwrightError):
    """A model that is unknown, missing or broken."""


class BusyError(ModelError):
    """A model that loads, is lent out or answers somebody else: asked again later, it answers."""


class AdapterError(BoxwrightError):
    """An adapter that is unknown, incomplete or made for another base."""


class SettingsError(BoxwrightError, ValueError):
    """A training setting out of its range."""


class JobError(BoxwrightError):
    """A run that can't be started, found or stopped."""


class Cancelled(BoxwrightError):
    """The person asked for the work to stop."""


def first_sentence(error: Exception) -> str:
    """What a library complains of, in one line without its full stop."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if "ignore_mismatched_sizes" in text:  # it goes on to speak of a report in the log
        return "some of its weights have other shapes than its config says"
    return text.rstrip(". ")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a step, an answer, a load or a save failed for lack of memory, of the machine or of the GPU. Only CUDA
    has an error of its own for that; a processor's and an Apple GPU's are told by their words."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    words = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")
    return any(word in str(error).lower() for word in words)
