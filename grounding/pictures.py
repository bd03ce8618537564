"""Open pictures safely and keep them by content: one place decides what counts as a picture."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

from grounding.errors import PictureError

MAX_PICTURE_PIXELS = 64_000_000
_SUFFIX_OF_FORMAT = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "BMP": ".bmp", "GIF": ".gif", "TIFF": ".tif"}
_SUFFIX_OF_FORMAT["MPO"] = ".jpg"  # what phones write as JPEG: a JPEG with a depth or brightness map behind it
_SHA256 = re.compile(r"[0-9a-f]{64}")


def open_picture(source: str | Path | Image.Image) -> Image.Image:
    """The picture as RGB, turned upright by its EXIF orientation.

    Raises `PictureError` when the file is missing, is no picture, is cut short, or has more than
    `MAX_PICTURE_PIXELS` pixels. The size is read before any pixel is decoded, so a small file that unpacks
    to gigabytes costs nothing.
    """
    check_type(source)
    if isinstance(source, Image.Image):
        _check_size(source.size, "The picture")
        return _upright_rgb(source, "The picture")
    path = Path(source)
    with _open_header(path) as picture:
        return _upright_rgb(picture, path.name)


def grey_thumbnail(path: str | Path, size_wh: tuple[int, int]) -> Image.Image:
    """The picture in grey and upright, squeezed to exactly `size_wh`; a JPEG is decoded at a fraction of its size.

    Raises `PictureError` like `open_picture`.
    """
    path = Path(path)
    with _open_header(path) as picture:
        # Four times as large, or a copy saved in another size would differ by how it was scaled down.
        picture.draft(None, (4 * max(size_wh), 4 * max(size_wh)))
        return _upright_rgb(picture, path.name).convert("L").resize(size_wh, Image.Resampling.HAMMING)


def check_header(source: str | Path | Image.Image) -> None:
    """Raises `PictureError` as `open_picture` does, as far as a file's beginning shows: nothing is decoded."""
    check_type(source)
    if not isinstance(source, Image.Image):
        _open_header(Path(source)).close()


def check_type(source: object) -> None:
    """Raises `PictureError` for what can't be a picture whatever it holds: an array, bytes, an open file."""
    if not isinstance(source, str | Path | Image.Image):
        raise PictureError(
            f"What was given as a picture is of the type {type(source).__name__}: expected a path or an image of "
            "Pillow (PIL.Image.fromarray makes one of an array)."
        )


def _upright_rgb(picture: Image.Image, name: str) -> Image.Image:
    try:
        upright = ImageOps.exif_transpose(picture)
        if upright.mode in (
            "La",
            "RGBa",
        ):  # colours multiplied by their opacity: Pillow converts these to one mode only
            upright = upright.convert(upright.mode.upper())
        if upright.mode in ("F", "I") or upright.mode.startswith("I;16"):
            upright = _as_8_bits(upright, name)
        elif upright.has_transparency_data:
            # On white, as people see it: under what is transparent there may be anything.
            clear = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
        plain = upright.convert("RGB")
        plain.info.pop("transparency", None)  # or an image processor would blend what has no transparency left
        return plain
    except (OSError, ValueError, SyntaxError, EOFError, AssertionError) as error:  # Pillow asserts on closed files
        raise PictureError(f"{name} is a damaged picture and can't be decoded ({error}). Save it anew.") from error


def _as_8_bits(picture: Image.Image, name: str) -> Image.Image:
    """Greys of 16 or 32 bits, or fractions: Pillow would clip them to 0 and 255, which leaves most black or white.

    What they mean shows in how far they reach: fractions to 1, greys to 255, whole ones to 65535. Greys beyond, or
    below 0, are stretched so that the darkest is black and the lightest white.
    """
    import numpy as np

    greys = picture.convert("I").convert("F") if picture.mode != "F" else picture
    if not np.isfinite(np.asarray(greys)).all():
        raise PictureError(f"{name} holds greys that are no finite numbers. Save it with greys from 0 to 255.")
    extrema: Any = greys.getextrema()
    least, most = extrema
    fractions, black = picture.mode == "F", 0.0
    if picture.mode.startswith("I;16") or (not fractions and least >= 0 and 255 < most <= 65535):
        scale = 1 / 256
    elif least < 0 or most > 255:
        black, scale = least, 255 / max(most - least, 1e-30)
    else:
        scale = 255.0 if fractions and most <= 1 else 1.0
    return greys.point(lambda grey: grey * scale - black * scale).convert("L")


def picture_size_wh(path: str | Path) -> tuple[int, int]:
    """(width, height) in pixels as seen upright, read from the header where it can be. Raises `PictureError`."""
    return _size_and_suffix(Path(path))[0]


def _size_and_suffix(path: Path) -> tuple[tuple[int, int], str]:
    try:
        with _open_header(path) as picture:
            width, height = picture.size
            suffix = _SUFFIX_OF_FORMAT[str(picture.format)]
            # Pillow decodes a PNG for this, as its EXIF may stand behind the pixels.
            turned = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            turned = turned and picture.format != "TIFF"  # whose size Pillow gives as seen upright already
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise PictureError(
            f"{picture_name(path)} is a damaged picture and can't be decoded ({error}). Save it anew."
        ) from error
    return (height, width) if turned else (width, height), suffix


def _open_header(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Pillow's own limit is replaced by ours, which has a message that says what to do.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(path)
            # Or Pillow maps grey pixels into memory in the shape that they are yet to be turned to: jumbled.
            picture.filename = "" if picture.format == "TIFF" else picture.filename
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PictureError(f"There is no picture at {path}.") from error
    except IsADirectoryError as error:
        raise PictureError(f"{path} is a folder: expected a picture.") from error
    except UnidentifiedImageError as error:
        raise PictureError(
            f"{picture_name(path)} is not a picture that can be read. Expected PNG, JPEG, WebP, BMP, GIF or TIFF."
        ) from error
    except Image.DecompressionBombError as error:
        raise PictureError(
            f"{picture_name(path)} has far too many pixels to open safely. "
            f"The limit is {MAX_PICTURE_PIXELS / 1e6:.0f} megapixels: scale the picture down."
        ) from error
    except (OSError, ValueError, SyntaxError) as error:
        raise PictureError(f"{path.name!r:.200} can't be opened as a picture ({_reason(error)}).") from error
    try:
        _check_size(picture.size, picture_name(path))
        if picture.format not in _SUFFIX_OF_FORMAT:
            raise PictureError(
                f"{picture_name(path)} has the format {picture.format}. Expected PNG, JPEG, WebP, BMP, GIF or TIFF."
            )
    except PictureError:
        picture.close()
        raise
    return picture


def _reason(error: Exception) -> str:
    """Without the number and the path that an error of the system carries."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _check_size(size_wh: tuple[int, int], name: str) -> None:
    width, height = size_wh
    if width * height == 0:
        raise PictureError(f"{name} has no pixels ({width} x {height}): expected a picture.")
    if width * height > MAX_PICTURE_PIXELS:
        raise PictureError(
            f"{name} has {width} x {height} pixels = {width * height / 1e6:.0f} megapixels; "
            f"the limit is {MAX_PICTURE_PIXELS / 1e6:.0f}. Scale the picture down."
        )


def picture_name(path: str | Path) -> str:
    """How a sentence begins with a picture: its file, or the first letters of the hash that it is kept under."""
    name = Path(path).name
    return f"The picture {name[:8]}" if is_content_name(Path(path).stem) else name


def is_content_name(stem: str) -> bool:
    """Whether a name is what a workspace calls a picture: the SHA-256 of its content, 64 hexadecimal digits."""
    return _SHA256.fullmatch(stem) is not None


def file_sha256(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, 64 hexadecimal digits. Raises `PictureError` when it can't be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:  # no path may hold a NUL
        raise PictureError(f"There is no readable picture at {str(path)!r:.200} ({_reason(error)}).") from error


class PictureStore:
    """A folder of pictures named by their SHA-256, in 256 sub-folders by the first two digits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, path: str | Path, *, link: bool = False) -> tuple[str, tuple[int, int]]:
        """Keep a copy of the picture; returns its SHA-256 and (width, height) in pixels.

        A picture that already stands is not copied again, unless its file was damaged. `link` makes a hard link where
        the file system can: only for files that nobody will write to again. Raises `PictureError`.
        """
        path = Path(path)
        size_wh, suffix = _size_and_suffix(path)
        sha256 = file_sha256(path)
        target = self.folder / sha256[:2] / f"{sha256}{suffix}"
        if not _has_sha256(target, sha256):
            self._place(path, target, link)
        return sha256, size_wh

    def holds(self, sha256: str) -> bool:
        """Whether the picture with this SHA-256 stands here whole; its file is read."""
        try:
            return _has_sha256(self.path(sha256), sha256)
        except PictureError:
            return False

    @staticmethod
    def _place(path: Path, target: Path, link: bool) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=target.parent, prefix=".partial-")
        os.close(handle)
        try:
            if not (link and _hard_link(path, Path(partial))):
                shutil.copyfile(path, partial)
            Path(partial).replace(target)
        finally:
            Path(partial).unlink(missing_ok=True)

    def path(self, sha256: str) -> Path:
        """Where the picture with this SHA-256 stands. Raises `PictureError` for an unknown or malformed id."""
        if is_content_name(sha256):
            for suffix in dict.fromkeys(_SUFFIX_OF_FORMAT.values()):
                candidate = self.folder / sha256[:2] / f"{sha256}{suffix}"
                if candidate.exists():
                    return candidate
        raise PictureError(f"There is no picture with the id {sha256[:80]!r} in this workspace.")


def _has_sha256(path: Path, sha256: str) -> bool:
    try:
        return file_sha256(path) == sha256
    except PictureError:
        return False


def _hard_link(source: Path, target: Path) -> bool:
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)  # of a link the file itself, or a link would stand here
    except OSError:
        return False
    return True
