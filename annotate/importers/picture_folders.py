"""Find the pictures that a source names: beside it, or where COCO's kin keep them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath

from grounding.errors import RecordError

_COCO_PARTS = ("train2014", "val2014", "train2017", "val2017")
_PLACES_BELOW = (
    "",
    "images",
    *_COCO_PARTS,
    *(f"images/{part}" for part in _COCO_PARTS),
    "images/mscoco/images/train2014",
    "images/saiapr_tc-12",
    *(f"mscoco/{part}" for part in ("train2014", "images/train2014")),
    *(f"coco/{part}" for part in ("images", *_COCO_PARTS, "images/train2014")),
    "JPEGImages",
)
_MAX_NAME_CHARACTERS = 1000


def relative_name(name: object) -> PurePosixPath:
    """The name of a file inside its folder. Raises `RecordError` for one that leads out of it or is none."""
    if not isinstance(name, str) or not name or len(name) > _MAX_NAME_CHARACTERS or not name.isprintable():
        raise RecordError(f"{str(name)[:80]!r} is no file name. Expected the name of a picture.")
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts or not path.parts:
        raise RecordError(f"the file name {name[:80]!r} leads out of the source. Expected one relative to it.")
    return path


class PictureFolders:
    """The folders in and around `bases` that may hold pictures; remembers what it found."""

    def __init__(self, bases: Iterable[Path]) -> None:
        places = [base.resolve() / place for base in bases for place in _PLACES_BELOW]
        self._folders = [folder for folder in dict.fromkeys(places) if folder.is_dir()]
        self._bases = tuple(bases)
        self._found: dict[str, Path] = {}

    def find(self, name: object) -> Path:
        """Where the picture of this name stands. Raises `RecordError` when it is missing or leads out of the source."""
        if isinstance(name, str) and name in self._found:
            return self._found[name]
        relative = relative_name(name)
        # A name may begin with the folder that the pictures stood in elsewhere.
        shorter = relative.parts[1:] if relative.parts[0] in ("images", *_COCO_PARTS) else ()
        for candidate in (str(relative), *(["/".join(shorter)] if shorter else [])):
            for folder in self._folders:
                if _is_file(folder / candidate):
                    # Pictures mostly stand together: look there first next time.
                    self._folders.remove(folder)
                    self._folders.insert(0, folder)
                    self._found[str(name)] = folder / candidate
                    return folder / candidate
        raise RecordError(
            f"there is no picture {str(name)[:120]!r}. Put the pictures into a folder `images` in {self._bases[0]}."
        )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False
