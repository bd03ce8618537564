"""Where a workspace keeps its things. Knows paths only: no database, no model."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from grounding.errors import WorkspaceError
from grounding.pictures import PictureStore

ENVIRONMENT_VARIABLE = "BOXWRIGHT_WORKSPACE"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Workspace:
    """The folder that holds one team's annotations, snapshots, runs, adapters and evaluations."""

    root: Path

    @property
    def annotations_db(self) -> Path:
        return self.root / "annotations.db"

    @property
    def runs_db(self) -> Path:
        return self.root / "runs.db"

    @property
    def arena_db(self) -> Path:
        """What people preferred when they did not know whose answer it was."""
        return self.root / "arena.db"

    @property
    def pictures(self) -> PictureStore:
        return PictureStore(self.root / "images")

    @property
    def uploads(self) -> PictureStore:
        """Pictures that somebody tried in Compare: kept apart from the data set."""
        return PictureStore(self.root / "uploads")

    @property
    def snapshots(self) -> Path:
        return self.root / "snapshots"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def adapters(self) -> Path:
        return self.root / "adapters"

    @property
    def sweeps(self) -> Path:
        """A folder a sweep: its settings, its study and the adapters of its runs."""
        return self.root / "sweeps"

    @property
    def bin(self) -> Path:
        """What was deleted and can be brought back: a folder a kind of thing."""
        return self.root / "bin"

    @property
    def exports(self) -> Path:
        """What was made to be taken elsewhere: adapters as plain folders, merged models."""
        return self.root / "exports"

    @property
    def evaluations(self) -> Path:
        return self.root / "evaluations"

    @property
    def features(self) -> Path:
        """What vision towers made of pictures: may be deleted at any time, and comes back by itself."""
        return self.root / "features"

    @property
    def calibrations(self) -> Path:
        return self.root / "calibrations.json"

    @property
    def compare_models(self) -> Path:
        """Which further models Compare offers."""
        return self.root / "compare-models.json"

    @property
    def exists(self) -> bool:
        return self.annotations_db.is_file()

    def check_writable(self) -> None:
        """Make the folder and prove that a file can be written; raises `WorkspaceError` with the way out."""
        way_out = f"Choose a folder of your own with --workspace DIR or {ENVIRONMENT_VARIABLE}."
        make_folder(self.root, "The workspace", way_out)


def make_folder(folder: Path, what: str, way_out: str) -> None:
    """Make the folder and prove that a file can be written; raises `WorkspaceError`, which `what` begins and `way_out`
    ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except FileExistsError as error:
        raise WorkspaceError(f"{what} {folder} is a file: expected a folder. {way_out}") from error
    except (OSError, ValueError) as error:  # no path may hold a NUL
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise WorkspaceError(f"{what} {folder} can't be written ({reason}). {way_out}") from error


def find_workspace(folder: str | Path | None = None) -> Workspace:
    """The workspace at `folder`, else at $BOXWRIGHT_WORKSPACE, else data/workspace in the repository.

    Raises `WorkspaceError` for a file, and for a path that no folder can have.
    """
    chosen = folder or os.environ.get(ENVIRONMENT_VARIABLE)
    if chosen:
        try:
            root = Path(chosen).expanduser().resolve()
        except (RuntimeError, ValueError) as error:
            raise WorkspaceError(
                f"{str(chosen)!r} can't be a workspace ({error}). Choose a folder with --workspace DIR."
            ) from error
        if root.is_file():
            raise WorkspaceError(f"The workspace {root} is a file: expected a folder. Choose one with --workspace DIR.")
        return Workspace(root)
    return Workspace(Path(__file__).resolve().parent.parent / "data" / "workspace")


def check_name(name: str, what: str) -> str:
    """The name, when it is fit for a folder; raises `WorkspaceError` otherwise."""
    if not _NAME.fullmatch(name):
        raise WorkspaceError(
            f"{name!r} can't name {what}: use 1 to 64 letters, digits, '.', '_' or '-', "
            "beginning with a letter or digit."
        )
    return name
