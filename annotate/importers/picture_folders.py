"""Find the pictures that a source names: beside it, or where COCO's kin keep them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from grounding.errors import PictureError, RecordError
from grounding.pictures import picture_size_wh

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
# What rounding may make of a side when a data set was written; boxes don't suffer from it.
_SLACK_PX = 2


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
        self._sizes_wh: dict[Path, tuple[int, int]] = {}

    def find(self, name: object, annotated_size_wh: tuple[int, int] | None = None) -> Path:
        """Where the picture of this name stands. Raises `RecordError` when it is missing or leads out of the source, or
        has another size than the one that it was annotated in, where the source names that: its boxes would lie
        elsewhere, and many would pass for right."""
        path = self._find(name)
        if annotated_size_wh is not None:
            self._check_size(path, annotated_size_wh)
        return path

    def size_wh(self, path: Path) -> tuple[int, int]:
        """Width and height of a picture in pixels, upright; read once. Raises `PictureError`."""
        if path not in self._sizes_wh:
            self._sizes_wh[path] = picture_size_wh(path)
        return self._sizes_wh[path]

    def _check_size(self, path: Path, annotated_size_wh: tuple[int, int]) -> None:
        try:
            size_wh = self.size_wh(path)
        except PictureError:  # whoever takes it in says so
            return
        if _alike(size_wh, annotated_size_wh):
            return
        is_turned = _alike(size_wh, annotated_size_wh[::-1])
        turned = ", its sides exchanged as by an EXIF entry that turns it" if is_turned else ""
        raise RecordError(
            f"the source names {annotated_size_wh[0]} x {annotated_size_wh[1]} pixels for {path.name}, and it has "
            f"{size_wh[0]} x {size_wh[1]}{turned}: its boxes would lie elsewhere. Put the pictures there that were "
            "annotated; if the source is wrong, take width and height out of it."
        )

    def _find(self, name: object) -> Path:
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


def annotated_size_wh(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """The `width` and `height` in pixels that a source names for a picture; None where it doesn't name both."""
    try:
        width, height = float(entry.get("width") or 0), float(entry.get("height") or 0)
    except (TypeError, ValueError):
        return None
    return (round(width), round(height)) if 1 <= width < 1e6 and 1 <= height < 1e6 else None


def _alike(size_wh: tuple[int, int], other_wh: tuple[int, ...]) -> bool:
    return all(abs(side - other) <= _SLACK_PX for side, other in zip(size_wh, other_wh, strict=True))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False
